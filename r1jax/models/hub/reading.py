"""Published tensors streamed into stacked weights that lie on the mesh, a chunk of one tensor at a time.

Every device's shard of a weight is created once and filled in place (the write
gives its buffer back to XLA); a process reads of a tensor what its own devices
keep. On the host there is never more than one chunk, so what loading takes
beyond the weights themselves does not grow with the model.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from r1jax import config, mesh
from r1jax.models import transformer
from r1jax.models.hub import names, published, tensors
from r1jax.models.hub.fields import CONFIG, Fields, read_fields
from r1jax.models.layer import Named

CHUNK = 32 << 20  # bytes of a tensor, as stored, that are on the host at one time
MOST_NAMED = 20  # tensors in one error
FP8 = "F8_E4M3"
SCALE = "_scale_inv"  # multiplies, in spite of its name


def load_params(folder: str | pathlib.Path, c: config.Model, dtype: str = "float32"):
  """The parameters of a published checkpoint on the current mesh, as transformer.declare lays them out.

  fp8 weights are float32(weight) * scale of their block, then rounded to `dtype`. A tied checkpoint's own copy of the
  head is not read; the multi-token prediction layer is, where model.mtp = 1, and its copies of embedding and head must
  be equal to the main ones. Nothing is read of a checkpoint that does not fit.

  Args:
    folder: config.json and safetensors files.
    c: the model, as published.read_config(folder) gives it.
    dtype: "float32" or "bfloat16", of all weights but the router's selection bias, whose steps bfloat16 would lose.

  Raises:
    ValueError: missing, extra or misshapen tensors, all of them in one sentence; damaged or pickled files.
  """
  if dtype not in ("float32", "bfloat16"):
    raise ValueError(f"dtype={dtype!r} must be 'float32' or 'bfloat16'.")
  folder = pathlib.Path(folder)
  values = read_fields(folder)
  block = published.block_shape(Fields(values, folder / CONFIG))
  stored = tensors.listing(folder)
  table = names.table(c, values.get("rope_interleave") is not False)
  _check(folder, table, stored, block, _skipped(c, values))
  here = jax.sharding.get_mesh()
  leaves, structure = jax.tree.flatten_with_path(transformer.declare(c), is_leaf=lambda x: isinstance(x, Named))
  with jax.set_mesh(None):  # shards are filled device by device
    filled = {}
    for keys, weight in leaves:
      path = tuple(key.key for key in keys)
      filled[path] = _Weight(weight, here, jnp.float32 if path[-1] == "router_bias" else jnp.dtype(dtype))
    for name in sorted(table, key=lambda name: stored[name][:2]):  # in the order of the files
      tensor = _Tensor(stored[name], stored.get(name + SCALE), block)
      if table[name].copy_of:
        _check_copy(folder, name, tensor, table[name].copy_of, stored)
        continue
      for piece in table[name].pieces:
        filled[piece.path].fill(tensor, piece)
  return jax.tree.unflatten(structure, [weight.array() for weight in filled.values()])


# ---- what a checkpoint must hold


def _skipped(c: config.Model, values: dict) -> tuple[str, ...]:
  """Beginnings of names that may be there and are not read: the layers of multi-token prediction, unless wanted."""
  count = values.get("num_nextn_predict_layers") or 0
  return tuple(f"model.layers.{c.layers + i}." for i in range(c.mtp, count))


def _check(folder, table, stored, block, skipped):
  """Raises one ValueError that names every tensor that is missing, extra, or not as the config says."""
  expected = set(table)
  for name, tensor in stored.items():
    if name in table and tensor.code == FP8 and table[name].quantizable and block:
      expected.add(name + SCALE)
  ignorable = lambda name: (
    name.endswith("rotary_emb.inv_freq")
    or name.startswith(skipped)
    or (name == "lm_head.weight" and name not in expected)  # of a tied model
  )
  wrong = [f"{name} is missing" for name in sorted(expected - stored.keys())]
  wrong += [f"{name} is extra" for name in sorted(stored.keys() - expected) if not ignorable(name)]
  for name in sorted(expected & stored.keys()):
    wrong += _misfit(name, table, stored[name], block)
  if wrong:
    more = f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
    raise ValueError(
      f"{folder} does not hold the model of its config.json ({len(wrong)} tensors differ): "
      f"{'; '.join(wrong[:MOST_NAMED])}{more}."
    )


def _misfit(name, table, tensor, block) -> list[str]:
  if name in table:
    shape, codes = table[name].shape, set(tensors.DTYPES)
    if not (table[name].quantizable and block):
      codes.remove(FP8)
  else:
    shape, codes = names.scale_shape(table[name.removesuffix(SCALE)].shape, block), {"F32", "BF16"}
  if tensor.shape != shape:
    return [f"{name} has shape {list(tensor.shape)}, not {list(shape)}"]
  return [] if tensor.code in codes else [f"{name} is stored as {tensor.code}, which is not supported for it"]


def _check_copy(folder, name, tensor, source, stored):
  """A tensor that repeats another must do so byte for byte."""
  other = stored[source]
  step = max(1, CHUNK // tensor.row_bytes)
  for start in range(0, other.shape[0], step):
    rows = slice(start, start + step)
    if other.code != tensor.stored.code or tensor.stored.read(rows).tobytes() != other.read(rows).tobytes():
      raise ValueError(
        f"{folder}: {name} differs from {source}, which the multi-token prediction layer shares in r1jax; load it "
        "with mtp=False."
      )


# ---- filling


class _Tensor(NamedTuple):
  """A published tensor as it is stored."""

  stored: tensors.Stored
  scale: tensors.Stored | None  # of its blocks, where it is fp8
  block: tuple[int, int] | None

  @property
  def row_bytes(self) -> int:
    return self.stored.dtype.itemsize * int(np.prod(self.stored.shape[1:]))

  def rows(self, wanted: np.ndarray, columns: slice) -> tuple:
    """These rows of it, as stored, and of fp8 the scales and the block of each row and column."""
    first = int(wanted.min())
    part = self.stored.read(slice(first, int(wanted.max()) + 1), columns)
    if not np.array_equal(wanted, np.arange(first, first + len(part))):
      part = part[wanted - first]
    if self.scale is None:
      return (part,)
    column = np.arange(*columns.indices(self.stored.shape[1]), dtype=np.int32)
    scale = self.scale.read().astype(np.float32)
    return part, scale, (wanted // self.block[0]).astype(np.int32), column // np.int32(self.block[1])


class _Weight:
  """One of our weights while it is filled: a buffer on every device of this process."""

  def __init__(self, declared: Named, here: jax.sharding.Mesh, dtype):
    self.shape = declared.value.shape
    self.sharding = NamedSharding(here, mesh.spec(declared.names))
    self.places = {}  # where a shard lies in the weight -> devices that hold it
    self.shards = {}
    for device, index in self.sharding.addressable_devices_indices_map(self.shape).items():
      ranges = tuple(slice(*i.indices(n)[:2]) for i, n in zip(index, self.shape))
      self.places.setdefault(tuple((i.start, i.stop) for i in ranges), []).append(device)
      self.shards[device] = jnp.zeros([i.stop - i.start for i in ranges], dtype, device=device)

  def fill(self, tensor: _Tensor, piece: names.Piece):
    """Writes a piece of a published tensor into every shard that keeps some of it."""
    lead = len(piece.place)
    for ranges, devices in self.places.items():
      place = [i - start for i, (start, _) in zip(piece.place, ranges)]
      if any(not 0 <= i < stop - start for i, (start, stop) in zip(place, ranges)):
        continue
      ours = ranges[lead:]
      out, rest = (ours[-1], ours[:-1]) if piece.transposed else (ours[0], ours[1:])
      columns = slice(*rest[0]) if rest else slice(None)
      wanted = np.arange(*out) if piece.rows is None else piece.rows[slice(*out)]
      step = max(1, CHUNK // tensor.row_bytes)
      for start in range(0, len(wanted), step):
        part = tensor.rows(wanted[start : start + step], columns)
        corner = (0,) * len(rest) + (start,) if piece.transposed else (start,) + (0,) * len(rest)
        for device in devices:
          here = jax.device_put(part, device)
          self.shards[device] = _write(self.shards[device], (*place, *corner), *here, transposed=piece.transposed)
        jax.block_until_ready([self.shards[device] for device in devices])  # or chunks would queue up

  def array(self) -> jax.Array:
    return jax.make_array_from_single_device_arrays(self.shape, self.sharding, list(self.shards.values()))


@functools.partial(jax.jit, donate_argnums=0, static_argnames="transposed")
def _write(shard, corner, part, scale=None, row_block=None, column_block=None, *, transposed):
  """`shard` with part[rows, columns] (transposed) at `corner`; of fp8 each value times the scale of its block."""
  if scale is not None:
    part = part.astype(jnp.float32) * scale[row_block][:, column_block]
  part = (part.T if transposed else part).astype(shard.dtype)
  return jax.lax.dynamic_update_slice(shard, part.reshape((1,) * (shard.ndim - part.ndim) + part.shape), corner)
