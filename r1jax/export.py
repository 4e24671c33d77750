"""python -m r1jax.export runs/r1_tiny/all_scenarios exported

Writes a finished stage as a folder of the hub that transformers and vLLM load:
safetensors, config.json, generation_config.json, tokenizer and chat template.
"""

import argparse
import pathlib
import sys

from r1jax.errors import told


def main(args: list[str] | None = None) -> int:
  """Returns the exit code; a user's mistake is one sentence on stderr and 2."""
  parser = argparse.ArgumentParser(prog="python -m r1jax.export", description=__doc__.split("\n\n")[1])
  parser.add_argument("stage", help="folder of a finished stage that writes, as in runs/<run>/<stage>")
  parser.add_argument("folder", help="what is written; must not exist")
  parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the weights")
  parser.add_argument("--shard_gb", type=float, default=5.0, help="size of one file, at most")
  options = parser.parse_args(args)

  def run():
    written = export(options.stage, options.folder, options.dtype, int(options.shard_gb * 1e9))
    print(f"{written} holds {options.stage}.")
    return 0

  return told("r1jax.export", run)


def export(stage: str, folder: str, dtype: str = "bfloat16", max_shard_bytes: int = 5_000_000_000) -> pathlib.Path:
  """Writes the newest checkpoint of a finished stage; the folder appears whole or not at all.

  Raises:
    ValueError: no such stage, `folder` exists, or a model that no published architecture computes.
  """
  from r1jax import config, finished

  found = finished.read(stage)  # a mistake is told before jax is started
  if pathlib.Path(folder).exists():
    raise ValueError(f"{folder} exists already; name a new folder.")
  import jax

  from r1jax import mesh, published
  from r1jax.models import hub

  origin = published.folder_of(found.model, weights=False) if found.model.published else None
  generation = hub.read_generation(origin) if origin else {}
  with jax.set_mesh(mesh.make(config.Mesh(data=len(jax.local_devices())), jax.local_devices())):
    loaded = hub.Loaded(
      config=found.model,
      params=found.params(),
      tokenizer=found.tokenizer,
      generation=generation | {"eos_token_id": list(found.prompter.ends)},  # a base learns to end as a chat does
      published=hub.read_fields(origin) if origin else None,
    )
    return hub.save(folder, loaded, dtype, max_shard_bytes, asked(found))


def asked(stage) -> dict[str, bytes]:
  """Files beside a stage's tokenizer that say how it was trained to be asked."""
  from r1jax import config
  from r1jax.data import tokenizer_json
  from r1jax.data.tokenizer import Tokenizer

  if isinstance(stage.tokenizer, Tokenizer):  # ours, which nobody else reads
    return tokenizer_json.files(stage.tokenizer, stage.template)
  if isinstance(stage.template, config.Template):  # not the published one
    return {"chat_template.jinja": tokenizer_json.jinja(stage.template).encode()}
  return {}


if __name__ == "__main__":
  sys.exit(main())
