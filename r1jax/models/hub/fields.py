"""The JSON files beside the weights of a published checkpoint, and the fields of config.json one by one."""

import json
import os
import pathlib
from typing import Any
import warnings

CONFIG, GENERATION = "config.json", "generation_config.json"
# Fields that change nothing in what a model computes, or only in training it elsewhere.
IGNORED = frozenset(
  """
  architectures auto_map model_type _name_or_path name_or_path transformers_version torch_dtype dtype unsloth_version
  unsloth_fixed bos_token_id eos_token_id pad_token_id tokenizer_class initializer_range use_cache return_dict
  output_attentions output_hidden_states output_router_logits attention_dropout max_position_embeddings
  max_window_layers sliding_window router_aux_loss_coef aux_loss_alpha seq_aux pretraining_tp ep_size
""".split()
)


class Fields:
  """The fields of a config.json; what nobody takes is told in the end."""

  def __init__(self, values: dict[str, Any], path: str | pathlib.Path):
    self.values, self.path, self.taken = values, path, set(IGNORED)

  def take(self, name: str, *default):
    """The value of a field, `default` where it is absent or null; without a default it must be there."""
    self.taken.add(name)
    value = self.values.get(name)
    if value is None and not default:
      raise ValueError(f"{self.path}: the field {name!r} is missing.")
    return default[0] if value is None else value

  def only(self, name: str, *allowed):
    """Raises where a field that is there has another value than those allowed."""
    self.taken.add(name)
    if name in self.values and self.values[name] not in allowed:
      raise self.unsupported(name, f"only {json.dumps(allowed[0])} is")

  def unsupported(self, name: str, why: str) -> ValueError:
    return ValueError(f"{self.path}: {name}={json.dumps(self.values[name])[:200]} is not supported; {why}.")

  def warn_of_the_rest(self):
    left = {k: v for k, v in self.values.items() if k not in self.taken and v not in (None, False, [], {}, "")}
    if left:
      named = ", ".join(f"{name}={json.dumps(value)[:40]}" for name, value in left.items())
      warnings.warn(f"{self.path}: fields that r1jax does not know are ignored: {named}.", stacklevel=3)


def read_fields(folder: str | os.PathLike) -> dict[str, Any]:
  """config.json of a folder as it stands; a missing or broken one is a ValueError."""
  return _read(pathlib.Path(folder) / CONFIG)


def read_generation(folder: str | os.PathLike) -> dict[str, Any]:
  """generation_config.json of a folder as it stands, {} where there is none; a broken one is a ValueError."""
  path = pathlib.Path(folder) / GENERATION
  return _read(path) if path.is_file() else {}


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    values = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} cannot be read ({error}); name the folder of a published checkpoint.") from error
  if not isinstance(values, dict):
    raise ValueError(f"{path} holds no fields; name the folder of a published checkpoint.")
  return values
