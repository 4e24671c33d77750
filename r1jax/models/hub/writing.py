"""Our stacked weights written as a published checkpoint, one published tensor at a time."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import shutil
from typing import Any
import warnings

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import ml_dtypes
import numpy as np

from r1jax import config
from r1jax.models.hub import description, names, tensors

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
SHARD = 5_000_000_000  # bytes of one file, at most, unless one tensor is larger


def save_params(
  folder: str | os.PathLike,
  c: config.Model,
  params: Any,
  published: dict[str, Any] | None = None,
  dtype: str = "bfloat16",
  max_shard_bytes: int = SHARD,
):
  """Writes config.json and the weights (safetensors, with an index where there are several files) into `folder`.

  Every process calls it; process 0 writes. Rounding to `dtype` is the only change of a value, so what was loaded from a
  checkpoint of that dtype comes out bit by bit. The router's selection bias is always float32, as published.

  Args:
    folder: created where missing; see `whole` for one that appears at once.
    c: the model of the parameters.
    params: as transformer.declare(c) has them, of any dtype, on any mesh.
    published: the config.json the model came from; None makes one from `c`.
    dtype: "bfloat16" or "float32".
    max_shard_bytes: of one file.

  Raises:
    ValueError: the model is none that a published architecture computes, or `published` describes another.
  """
  if dtype not in DTYPES:
    raise ValueError(f"dtype={dtype!r} must be 'float32' or 'bfloat16'.")
  c, fields = _fields(c, published, dtype)
  table = names.table(c, fields.get("rope_interleave") is not False)
  plans = distribute(table, DTYPES[dtype], max_shard_bytes)
  folder, writes = pathlib.Path(folder), jax.process_index() == 0
  if writes:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
  for file, plan in plans.items():
    arrays = ((name, gather(table[name], params).astype(dtype)) for name, (dtype, _) in plan.items())
    if writes:
      tensors.write(folder / file, plan, arrays)
    else:
      for _ in arrays:  # takes part in the gathering
        pass
  if writes and len(plans) > 1:
    size = sum(math.prod(shape) * dtype.itemsize for plan in plans.values() for dtype, shape in plan.values())
    places = {name: file for file, plan in plans.items() for name in plan}
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    (folder / tensors.INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _fields(c: config.Model, theirs: dict[str, Any] | None, dtype: str) -> tuple[config.Model, dict[str, Any]]:
  """The model that is written and its config.json."""
  architecture = description.architecture_of(c) if theirs is None else theirs["architectures"][0]
  if c.mtp and architecture != "DeepseekV3ForCausalLM":
    warnings.warn(f"{architecture} has no place for the multi-token prediction layer: it is left out.", stacklevel=3)
    c = dataclasses.replace(c, mtp=0)
  return c, description.describe(c, dtype) if theirs is None else description.changed(theirs, c, dtype)


def distribute(table, dtype: np.dtype, limit: int) -> dict[str, dict[str, tuple[np.dtype, tuple[int, ...]]]]:
  """File -> tensor -> dtype and shape, in the order of the table."""
  files, filled = [{}], 0
  for name, tensor in table.items():
    kind = DTYPES["float32"] if name.endswith("e_score_correction_bias") else dtype
    size = math.prod(tensor.shape) * kind.itemsize
    if files[-1] and filled + size > limit:
      files.append({})
      filled = 0
    files[-1][name] = kind, tensor.shape
    filled += size
  if len(files) == 1:
    return {tensors.SINGLE: files[0]}
  return {f"model-{i:05d}-of-{len(files):05d}.safetensors": plan for i, plan in enumerate(files, 1)}


def gather(tensor: names.Published, params: Any) -> np.ndarray:
  """One published tensor from the parameters (or their gradient), on the host of every process."""
  out = None
  for piece in tensor.pieces:
    leaf = functools.reduce(lambda tree, name: tree[name], piece.path, params)
    part = _part(leaf, piece.place)
    part = part.T if piece.transposed else part
    if piece.rows is None:
      out = part
      continue
    out = np.empty(tensor.shape, part.dtype) if out is None else out
    out[piece.rows] = part
  assert out.shape == tensor.shape, (tensor, out.shape)
  return out


def _part(leaf: jax.Array, place: tuple[int, ...]) -> np.ndarray:
  """leaf[place] on the host, whatever mesh the leaf is on."""
  if not isinstance(leaf, jax.Array):
    return np.asarray(leaf)[place]
  if not leaf.is_fully_addressable:
    return np.asarray(_from_all_hosts(leaf, place).addressable_data(0))
  out = np.empty(leaf.shape[len(place) :], leaf.dtype)
  seen = set()
  for shard in leaf.addressable_shards:
    ranges = tuple(i.indices(n)[:2] for i, n in zip(shard.index, leaf.shape))
    inside = all(start <= i < stop for i, (start, stop) in zip(place, ranges))
    if ranges in seen or not inside:
      continue
    seen.add(ranges)
    rest = tuple(slice(*r) for r in ranges[len(place) :])
    out[rest] = _at(shard.data, tuple(i - start for i, (start, _) in zip(place, ranges)))
  return out


@jax.jit
def _index(x, place):
  for i in place:
    x = jax.lax.dynamic_index_in_dim(x, i, keepdims=False)
  return x


def _at(x: jax.Array, place: tuple[int, ...]) -> np.ndarray:
  if x.device.platform == "cpu":
    return np.asarray(x)[place]  # a view
  with jax.set_mesh(None):
    return np.asarray(_index(x, place))


@functools.partial(jax.jit, static_argnums=2)
def _whole(leaf, place, spec: P):
  """leaf[place] on every device: the devices that hold the place send it, as bits, and the others zeros."""
  rank = len(place)

  def each(leaf, place):
    mine = True
    for axes, i in zip(spec, place):
      size = leaf.shape[0]
      i = i - (jax.lax.axis_index(axes) * size if axes else 0)
      mine &= (0 <= i) & (i < size)
      leaf = jax.lax.dynamic_index_in_dim(leaf, jnp.clip(i, 0, size - 1), keepdims=False)
    bits = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}")
    split = tuple(axes for axes in spec[:rank] if axes)
    bits = jax.lax.psum(jnp.where(mine, bits, 0), split) if split else bits
    for axis, axes in enumerate(spec[rank:]):
      if axes:
        bits = jax.lax.all_gather(bits, axes, axis=axis, tiled=True)
    return jax.lax.bitcast_convert_type(bits, leaf.dtype)

  return jax.shard_map(each, in_specs=(spec, P()), out_specs=P(), check_vma=False)(leaf, place)


def _from_all_hosts(leaf: jax.Array, place: tuple[int, ...]) -> jax.Array:
  spec = leaf.sharding.spec
  spec = P(*spec, *(None,) * (leaf.ndim - len(spec)))
  with jax.set_mesh(leaf.sharding.mesh):
    return _whole(leaf, tuple(jnp.int32(i) for i in place), spec)


@contextlib.contextmanager
def whole(folder: str | os.PathLike):
  """A folder to write into that gets its name when everything in it is there; after a failure nothing is left.

  Every process enters; on process 0 alone the folder is made and named.

  Raises:
    ValueError: there already is something of that name.
  """
  folder = pathlib.Path(folder)
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise ValueError(f"{folder} already exists; name a folder that does not, or remove it first.")
  partial = folder.with_name(f".{folder.name}.partial")
  first = jax.process_index() == 0
  if first:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
  try:
    yield partial
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f"written {folder}")
    if first:
      os.replace(partial, folder)
  finally:
    if first:
      shutil.rmtree(partial, ignore_errors=True)
