"""Memory and time that loading a published checkpoint takes beyond its weights.

  python benchmarks/load_checkpoint.py --gigabytes=4

Writes a checkpoint with random weights, Qwen2.5-1.5B with as many layers as fill
the size in bfloat16, to a temporary folder; loads it in a process of its own on
one CPU device, as float32, and prints the seconds and the peak of memory above
what the process had before and the arrays themselves.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
GB = 1e9
BLOCK = 1 << 24  # random numbers that are repeated over all tensors


def write(folder: pathlib.Path, gigabytes: float):
  """The checkpoint in `folder`, in files of at most 1 GB."""
  import ml_dtypes
  import numpy as np

  from configs import models
  from r1jax.models.hub import description, names, tensors, writing

  c = dataclasses.replace(models.published("Qwen/Qwen2.5-1.5B"), layers=1)
  count = lambda: sum(int(np.prod(t.shape)) for t in names.table(c).values())
  one = count()
  c.layers = 2
  each = count() - one
  c.layers = max(1, round((gigabytes * GB / 2 - (one - each)) / each))
  table = names.table(c)
  block = (np.random.default_rng(0).standard_normal(BLOCK, np.float32) * 0.02).astype(ml_dtypes.bfloat16)
  draw = lambda shape: np.resize(block, shape)
  plans = writing.distribute(table, block.dtype, int(GB))
  for file, plan in plans.items():
    tensors.write(folder / file, plan, ((name, draw(shape)) for name, (_, shape) in plan.items()))
  places = {name: file for file, plan in plans.items() for name in plan}
  (folder / tensors.INDEX).write_text(json.dumps({"weight_map": places}))
  (folder / "config.json").write_text(json.dumps(description.describe(c)))
  return c.layers, max(int(np.prod(t.shape)) * 2 for t in table.values())


def status(field: str) -> int:
  """A figure of this process in bytes: VmRSS (now) or VmHWM (the most there was)."""
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def load(folder: pathlib.Path):
  """Loads and prints what it took."""
  import jax

  from r1jax import config, mesh
  from r1jax.models import hub

  jax.config.update("jax_platforms", "cpu")
  with jax.set_mesh(mesh.make(config.Mesh(), jax.devices()[:1])):
    c = hub.read_config(folder)
    before, start = status("VmRSS"), time.perf_counter()
    params = jax.block_until_ready(hub.load_params(folder, c))
    seconds, peak = time.perf_counter() - start, status("VmHWM")
  arrays = sum(x.nbytes for x in jax.tree.leaves(params))
  print(f"weights in float32   {arrays / GB:8.2f} GB")
  print(f"peak above them      {(peak - before - arrays) / GB:8.2f} GB")
  print(f"time                 {seconds:8.1f} s")


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the checkpoint")
  parser.add_argument("--folder", help="load the checkpoint in this folder instead")
  arguments = parser.parse_args()
  if arguments.folder:
    load(pathlib.Path(arguments.folder))
    return
  with tempfile.TemporaryDirectory() as folder:
    layers, largest = write(pathlib.Path(folder), arguments.gigabytes)
    size = sum(file.stat().st_size for file in pathlib.Path(folder).iterdir())
    print(f"checkpoint           {size / GB:8.2f} GB in bfloat16, {layers} layers")
    print(f"largest tensor       {largest / GB:8.2f} GB as stored", flush=True)
    subprocess.run([sys.executable, __file__, f"--folder={folder}"], check=True, cwd=ROOT)


if __name__ == "__main__":
  sys.path.insert(0, str(ROOT))
  main()
