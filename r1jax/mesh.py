"""Mesh axes, the one table from logical to mesh axes, and state created already sharded.

Axes: `data` splits the batch and the weights (FSDP); `expert` splits the
experts, and the batch outside them; `tensor` splits heads, feed-forward width
and vocabulary, and between the products of a block the tokens of rows. All axes
are Explicit: a wrong sharding is an error at trace time, on one CPU as on a pod.
"""

import functools
import hashlib
import math
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import numpy as np

from r1jax import config, processes

AXES = ("data", "expert", "tensor")
BATCH = ("data", "expert")  # mesh axes of a batch dimension

# Logical axis of a weight -> mesh axes that hold it. A name that is not here is not split.
MESH_AXES = {
  "embed": ("data", "expert"),  # FSDP of weights that every device uses
  "expert_embed": "data",  # FSDP of weights already split by expert
  "rank": "data",  # FSDP along a compressed width, too narrow for both axes of a pod
  "expert": "expert",
  "heads": "tensor",
  "hidden": "tensor",
  "vocab": "tensor",
}
FSDP = ("embed", "expert_embed", "rank")  # gathered before use


def make(mesh: config.Mesh, devices=None) -> jax.sharding.Mesh:
  """Makes the mesh of `devices` (all of them by default); a wrong product is a ValueError."""
  devices = jax.devices() if devices is None else devices
  check(mesh, len(devices), "there are")
  types = (AxisType.Explicit,) * 3
  try:
    return jax.make_mesh(mesh.shape, AXES, devices=devices, axis_types=types)
  except NotImplementedError:  # no axis of the mesh is whole axes of the slice's torus, as 64 in 8 x 8 x 16
    laid_out = mesh_utils.create_device_mesh(mesh.shape, devices, allow_split_physical_axes=True)
    return jax.sharding.Mesh(laid_out, AXES, axis_types=types)


def check(mesh: config.Mesh, count: int, has: str):
  """Raises a ValueError unless the mesh is of `count` devices. has: "there are", or who has so many."""
  if (needed := math.prod(mesh.shape)) != count:
    raise ValueError(
      f"mesh data={mesh.data} x expert={mesh.expert} x tensor={mesh.tensor} needs {needed} devices, but {has} {count}; "
      f"set --config.mesh.data={count} or another split of them."
    )


def abstract(mesh: config.Mesh, platform: str | None = None) -> jax.sharding.AbstractMesh:
  """A mesh that exists nowhere: enough to trace for. platform: "cpu", "tpu" or "gpu"; None: of whatever."""
  device = None
  if platform:
    device = jax.sharding.AbstractDevice(device_kind=platform, num_cores=None, platform=platform)
  return jax.sharding.AbstractMesh(mesh.shape, AXES, axis_types=(AxisType.Explicit,) * 3, abstract_device=device)


def platform() -> str | None:
  """What the devices of the current mesh are: "cpu", "tpu" or "gpu"; None for a mesh that exists nowhere."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return device and device.platform


def learner(experiment: config.Experiment) -> jax.sharding.Mesh:
  """The mesh that trains: of all devices, or of those before the actors'."""
  devices, wanted = jax.devices(), experiment.actors
  apart = math.prod(wanted.shape) if wanted else 0
  if apart >= len(devices):
    raise ValueError(f"actors takes {apart} of {len(devices)} devices, and the learner needs some; give it fewer.")
  return make(experiment.mesh, devices[: len(devices) - apart])


def actors(experiment: config.Experiment) -> jax.sharding.Mesh | None:
  """The mesh that samples, of the last devices; None where the learner's does.

  Raises:
    ValueError: there are several processes, which would need actors in each of them.
  """
  if experiment.actors is None:
    return None
  if jax.process_count() > 1:
    raise ValueError(
      f"actors sample beside the learner in one process, and there are {jax.process_count()}; leave actors out, or "
      "run on one host."
    )
  wanted = experiment.actors
  return make(wanted, jax.devices()[-math.prod(wanted.shape) :])


def spec(names) -> P:
  """The PartitionSpec of a weight with these logical axis names."""
  return P(*(MESH_AXES.get(name) for name in names))


def used_spec(names) -> P:
  """The PartitionSpec a weight has while it is used: FSDP shards gathered, experts and heads still split."""
  return P(*(None if name in FSDP else MESH_AXES.get(name) for name in names))


def batch_spec(rank: int) -> P:
  """Splits the first of `rank` dimensions over the batch axes."""
  return P(BATCH, *(None,) * (rank - 1))


def batch_shards() -> int:
  """Number of shards of a batch dimension on the current mesh."""
  shape = jax.sharding.get_abstract_mesh().shape
  return shape["data"] * shape["expert"]


def to_global(tree, axis: int = 0):
  """Puts this process's rows (numpy, leading `axis` = rows) on the mesh as one global array each."""
  mesh = jax.sharding.get_mesh()

  def put(x):
    sharding = NamedSharding(mesh, P(*(None,) * axis, BATCH))
    return jax.make_array_from_process_local_data(sharding, np.asarray(x))

  return jax.tree.map(put, tree)


def to_local(tree):
  """This process's rows of global arrays split over their first dimension, as numpy."""

  def get(x):
    if x.is_fully_addressable:
      return np.asarray(x)
    shards = {s.index[0].start or 0: s.data for s in x.addressable_shards}  # replicas hold equal rows
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])

  return jax.tree.map(get, tree)


# ---- processes


@functools.lru_cache
def _holders(mesh: jax.sharding.Mesh) -> tuple[tuple[int, ...], ...]:
  """The processes that hold each of the equal parts of a batch, by part."""
  shards, rows = mesh.shape["data"] * mesh.shape["expert"], {}
  for device, (part,) in NamedSharding(mesh, P(BATCH)).devices_indices_map((shards,)).items():
    rows.setdefault(device.process_index, set()).add(part.start or 0)
  return holders(rows, shards)


def holders(rows: dict[int, set[int]], shards: int) -> tuple[tuple[int, ...], ...]:
  """The processes of each part, from the shards of a batch that each process has on its devices."""
  parts = {}
  for process in sorted(rows):
    parts.setdefault(tuple(sorted(rows[process])), []).append(process)
  if sum(map(len, parts)) != shards or len(set(map(len, parts))) > 1:
    raise ValueError(
      f"the mesh's data x expert = {shards} shards cannot be split over {len(rows)} processes: two of them share some "
      "rows and not others; make mesh.tensor a multiple or a divisor of the devices of a process."
    )
  return tuple(tuple(parts[part]) for part in sorted(parts))


def part() -> tuple[int, int]:
  """(index, count) of the part of every batch that this process holds.

  The parts, in their order, are the batch, whatever the number of processes;
  where `tensor` spans processes, those along it hold the same part.
  """
  if jax.process_count() == 1:
    return 0, 1
  holders = _holders(jax.sharding.get_mesh())
  return next(i for i, held_by in enumerate(holders) if jax.process_index() in held_by), len(holders)


def speaks() -> bool:
  """Whether this process is the first of those that hold its part: of several, one writes it."""
  return jax.process_count() == 1 or _holders(jax.sharding.get_mesh())[part()[0]][0] == jax.process_index()


def of_parts(value: Any) -> list:
  """The JSON values of the parts of a batch, in their order; of processes that hold the same part, the first's."""
  if jax.process_count() == 1:
    return [value]
  found = processes.gather(value)
  return [found[held_by[0]] for held_by in _holders(jax.sharding.get_mesh())]


def total(values: np.ndarray, reduce=np.sum) -> np.ndarray:
  """Reduces a small numpy array over the parts of a batch (itself where there is one process)."""
  if jax.process_count() == 1:
    return np.asarray(values)
  from jax.experimental import multihost_utils

  found = multihost_utils.process_allgather(np.asarray(values))
  return reduce(found[[held_by[0] for held_by in _holders(jax.sharding.get_mesh())]], axis=0)


def create(path: str, shape, std: float, mean: float, sharding) -> jax.Array:
  """One float32 weight drawn on the host, each device's shard on its own: nothing to compile.

  Every matrix (the last two dimensions) has its own counter-based generator,
  seeded by `path` and its place, so the values do not depend on the mesh.
  """
  matrix = shape[-2:]

  def draw(index):
    if std == 0:
      return np.full([len(range(*i.indices(n))) for i, n in zip(index, shape)], mean, np.float32)
    lead = [range(*i.indices(n)) for i, n in zip(index[:-2], shape[:-2])]
    out = np.empty([len(r) for r in lead] + [len(range(*i.indices(n))) for i, n in zip(index[-2:], matrix)], np.float32)
    for place in np.ndindex(*(len(r) for r in lead)):
      name = f"{path}{[r[p] for r, p in zip(lead, place)]}"
      seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
      values = np.random.Generator(np.random.Philox(seed)).standard_normal(matrix, np.float32)
      out[place] = values[index[-2:]] * std + mean
    return out

  return jax.make_array_from_callback(shape, sharding, draw)


def process_rows(rows: int) -> int:
  """This process's share of `rows`, which the batch shards must divide."""
  shards = batch_shards()
  if rows % shards:
    raise ValueError(
      f"{rows} rows cannot be split over the mesh's data x expert = {shards} shards; use a multiple of {shards}."
    )
  return rows // part()[1]


def microbatches(tree, count: int) -> list:
  """Splits this process's rows (numpy) into `count` equal micro-batches and puts each on the mesh."""
  part = lambda i: jax.tree.map(lambda x: x[i * (len(x) // count) : (i + 1) * (len(x) // count)], tree)
  return [to_global(part(i)) for i in range(count)]
