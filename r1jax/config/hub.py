"""A published checkpoint as the model of an experiment."""

import re

from r1jax.config.base import config

WRITTEN = re.compile(r"""hub\((?P<q>["'])(?P<name>.+?)(?P=q)(?:,\s*revision=(?P<r>["'])(?P<revision>.*?)(?P=r))?\)""")


@config
class Hub:
  """Stands where a Model stands: its config.json says what it is, and its weights are what training begins with.

  Before a run begins it becomes the Model of its config.json, which keeps it as `published`.
  """

  name: str  # "Qwen/Qwen2.5-1.5B" on the hub, or a folder (with a "/" at its end, where it could be either)
  revision: str = ""  # a commit, tag or branch of the hub; "": the newest. The run keeps the commit that this was
  mtp: bool = False  # whether to take a multi-token prediction layer along
  activations: str = "bfloat16"  # these are as in Model
  unroll: bool = False
  remat: str = "full"
  head_chunk: int = 2048

  @property
  def layout(self) -> dict:
    """The fields of Model that no config.json says."""
    return {name: getattr(self, name) for name in ("activations", "unroll", "remat", "head_chunk")}


def hub(name: str, revision: str = "", **layout) -> Hub:
  """`model=hub("Qwen/Qwen2.5-1.5B")` in an experiment; `layout` are further fields of Hub."""
  return Hub(name=name, revision=revision, **layout)


def parse_hub(text: str) -> Hub:
  """The Hub that a command line writes; ValueError where it is none."""
  match = WRITTEN.fullmatch(text.strip())
  if not match:
    raise ValueError(f"""{text!r} names no published model; write hub("owner/name"), or hub("...", revision="...").""")
  return Hub(name=match["name"], revision=match["revision"] or "")
