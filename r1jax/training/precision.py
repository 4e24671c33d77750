"""Parameters in bfloat16: which ones, and updates that are rounded at random so that none is lost.

A bfloat16 number has 8 bits: rounded to the nearest, an update below 1/512 of
its weight is lost every time. Rounded up or down with probabilities that make
it right on average, it is there on average.
"""

import zlib

import jax
import jax.numpy as jnp


def is_vector(path) -> bool:
  """Norms and biases, which the layer axis makes look like matrices."""
  name = path[-1].key
  return name.endswith("norm") or name.endswith("bias")


def rounded(params):
  """Matrices as the nearest bfloat16; norms and biases, a thousandth of all, are float32 copies.

  The router's bias moves in steps that a bfloat16 of its size does not have.
  """
  is_matrix = lambda path, x: x.ndim > 1 and not is_vector(path)
  narrow = lambda path, x: x.astype(jnp.bfloat16) if is_matrix(path, x) else jnp.copy(x)
  return jax.tree_util.tree_map_with_path(narrow, params)


def wide(tree):
  """Floating-point leaves in float32."""
  return jax.tree.map(lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def add(params, updates, step):
  """params + updates, where a bfloat16 parameter's sum is rounded at random.

  The random numbers depend on `step` int32[], the leaf's path and the place in
  the leaf alone: a run that goes on draws the same, and so does every mesh.
  """

  def sum_of(path, x, update):
    if x.dtype != jnp.bfloat16:
      return x + update
    key = jax.random.key(zlib.crc32(jax.tree_util.keystr(path).encode()), impl="threefry2x32")
    return round_at_random(x.astype(jnp.float32) + update, jax.random.fold_in(key, step))

  return jax.tree_util.tree_map_with_path(sum_of, params, updates)


def round_at_random(x, key):
  """float32 -> one of the two nearest bfloat16, with probabilities whose mean is x; a bfloat16 stays what it is.

  A bfloat16 is the upper half of a float32: 16 random bits are added to the
  lower half, which carries into the upper one as often as it should.
  """
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
  noise = jax.random.bits(key, x.shape, jnp.uint16, out_sharding=jax.typeof(x).sharding)
  upper = ((bits + noise.astype(jnp.uint32)) >> 16).astype(jnp.uint16)
  drawn = jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
  return jnp.where(jnp.isfinite(x), drawn, x.astype(jnp.bfloat16))
