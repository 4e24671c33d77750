"""Rotary positions in a config.json: both forms of it <-> config.Yarn, config.Llama3Rope.

Older files have "rope_theta" and "rope_scaling" (whose kind is "type" or
"rope_type"), newer ones "rope_parameters" with all of it.
"""

import dataclasses
from typing import Any

from r1jax import config


def read(fields, deepseek: bool) -> tuple[float, config.Yarn | config.Llama3Rope | None]:
  """rope_theta and the context extension of published.Fields; an unknown kind or part is a ValueError."""
  new, old, theta = (fields.take(name, None) for name in ("rope_parameters", "rope_scaling", "rope_theta"))
  name = "rope_parameters" if new else "rope_scaling"
  rope = Rope(fields, name, dict(new or old or {}))
  theta = rope.take("rope_theta", theta or 10_000.0)
  kind = rope.take("type", "default")
  kind = rope.take("rope_type", kind)
  if rope.take("partial_rotary_factor", 1) != 1:
    raise fields.unsupported(name, "heads are rotated whole")
  longest = fields.take("max_position_embeddings", None)
  length = rope.take("original_max_position_embeddings", longest)
  if kind == "default":
    scaling = None
  elif kind == "llama3":
    scaling = config.Llama3Rope(
      factor=rope.take("factor"),
      original_length=length,
      low_freq_factor=rope.take("low_freq_factor"),
      high_freq_factor=rope.take("high_freq_factor"),
    )
  elif kind == "yarn":
    scaling = _yarn(rope, length, deepseek)
  else:
    raise fields.unsupported(name, 'the kinds that are: "default", "yarn", "llama3"')
  if scaling and length is None:
    raise ValueError(f"{fields.path}: {name} has no 'original_max_position_embeddings'.")
  if rope.values:
    raise fields.unsupported(name, f"what {sorted(rope.values)[0]!r} does to the positions is not known here")
  return float(theta), scaling


class Rope:
  """The parts of the positions' field; all of them matter, so none may be left in the end."""

  def __init__(self, fields, name: str, values: dict[str, Any]):
    self.fields, self.name, self.values = fields, name, values

  def take(self, part: str, *default):
    value = self.values.pop(part, None)
    if value is None and not default:
      raise ValueError(f"{self.fields.path}: {self.name} has no {part!r}.")
    return default[0] if value is None else value


def _yarn(rope: Rope, length: int | None, deepseek: bool) -> config.Yarn:
  """DeepSeek scales its scores by mscale_all_dim, others only lengthen rotated queries and keys."""
  mscale, all_dim = rope.take("mscale", 0), rope.take("mscale_all_dim", 0)
  if bool(mscale) != bool(all_dim) and (mscale, all_dim) != (1, 0):
    raise rope.fields.unsupported(rope.name, "mscale and mscale_all_dim are either both given or both absent")
  found = config.Yarn(
    factor=rope.take("factor"),
    original_length=length,
    beta_fast=rope.take("beta_fast", 32.0),
    beta_slow=rope.take("beta_slow", 1.0),
    mscale=mscale or 1.0,
    mscale_all_dim=all_dim,
    attention_factor=rope.take("attention_factor", None),
    truncate=rope.take("truncate", True),
  )
  if all_dim and not deepseek:
    found.attention_factor = found.rotated_length()
    found.mscale, found.mscale_all_dim = 1.0, 0
  return found


def plain(c: config.Model) -> config.Yarn | config.Llama3Rope | None:
  """The context extension with one number for what YaRN does to scores where heads are rotated whole.

  There a factor on the scores is the square of one on queries and keys.
  """
  yarn = c.rope_scaling
  if not isinstance(yarn, config.Yarn) or isinstance(c.attention, config.LatentAttention):
    return yarn
  factor = yarn.rotated_length() * yarn.score_factor() ** 0.5
  return dataclasses.replace(yarn, mscale=1.0, mscale_all_dim=0.0, attention_factor=factor)


def write(c: config.Model) -> dict[str, Any]:
  """The fields of the older form, which every version of transformers and vLLM reads."""
  scaling = c.rope_scaling
  if scaling is None:
    return {"rope_theta": c.rope_theta, "rope_scaling": None}
  out = {"factor": scaling.factor, "original_max_position_embeddings": scaling.original_length}
  if isinstance(scaling, config.Llama3Rope):
    out |= {"rope_type": "llama3"}
    out |= {name: getattr(scaling, name) for name in ("low_freq_factor", "high_freq_factor")}
    return {"rope_theta": c.rope_theta, "rope_scaling": out}
  out |= {"rope_type": "yarn", "beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
  if not scaling.truncate:
    out["truncate"] = False
  if scaling.mscale_all_dim and isinstance(c.attention, config.LatentAttention):
    out |= {"mscale": scaling.mscale, "mscale_all_dim": scaling.mscale_all_dim}
  length = plain(c).rotated_length()
  if length != dataclasses.replace(scaling, attention_factor=None, **_read_as(out)).rotated_length():
    out["attention_factor"] = length
  return {"rope_theta": c.rope_theta, "rope_scaling": out}


def _read_as(out: dict[str, Any]) -> dict[str, float]:
  """What mscale and mscale_all_dim are taken for by whoever reads these fields."""
  return {"mscale": out.get("mscale", 1.0), "mscale_all_dim": out.get("mscale_all_dim", 0.0)}
