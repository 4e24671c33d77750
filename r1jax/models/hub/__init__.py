"""Published checkpoints in and out: Qwen2, Qwen3, Qwen3-MoE, Llama 3, DeepSeek-V2, DeepSeek-V3 and R1.

  from r1jax.models import hub
  loaded = hub.load("Qwen/Qwen2.5-1.5B")  # or a folder
  logits = loaded.apply(loaded.params, tokens)
  hub.save("mine", loaded)

  published.py    config.json (fields.py) -> config.Model;  rope.py its rotary positions
  description.py  config.Model -> config.json
  names.py        the table from our weights to published tensors
  tensors.py      safetensors files
  reading.py      tensors -> parameters on the mesh;  writing.py the way back
  source.py       folders and the hub
  folder.py       all of it together

What needs no jax (reading a config) does not import it.
"""

import importlib

_PLACES = {
  "load": "folder",
  "save": "folder",
  "Loaded": "folder",
  "load_params": "reading",
  "save_params": "writing",
  "describe": "description",
  "read_config": "published",
  "read_fields": "fields",
  "read_generation": "fields",
  "resolve": "source",
  "commit": "source",
  "fingerprint": "source",
}
__all__ = list(_PLACES)


def __getattr__(name: str):
  if name not in _PLACES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
