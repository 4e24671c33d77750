"""The experts' products on one device: rows sorted by expert, so that each meets its own expert's weights alone."""

import jax
import jax.numpy as jnp
import numpy as np

from r1jax import mesh


def integer_zeros(tree):
  """The cotangents of integers."""
  return jax.tree.map(lambda x: np.zeros(x.shape, jax.dtypes.float0), tree)


@jax.custom_vjp
def permute(x, source, target):
  """Rows of x[n, d] in the order `source`[m], whose value n means an empty (zero) row.

  `target`[n, k] lists where each row went (m: nowhere). Forward and backward
  are both gathers: a scatter costs XLA's CPU backend many times as much.
  """
  return jnp.concatenate([x, jnp.zeros_like(x[:1])])[source]


def _permute_forward(x, source, target):
  return permute(x, source, target), (source, target)


def _permute_backward(saved, gradient):
  source, target = saved
  padded = jnp.concatenate([gradient, jnp.zeros_like(gradient[:1])])
  return padded[target].sum(1), *integer_zeros((source, target))


permute.defvjp(_permute_forward, _permute_backward)


def grouped_order(expert, experts, block):
  """Where the rows of n assignments go when sorted by expert, every expert's rows padded to blocks.

  expert: int32[n], `experts` marks an assignment to nobody here. Returns source
  int32[m] (n: empty), target int32[n] (m: nowhere), sizes int32[experts] (rows
  per expert, padding included) and the expert of each block.
  """
  n = expert.shape[0]
  m = -(-(n + experts * (block - 1)) // block) * block if block > 1 else n
  order = jnp.argsort(expert, stable=True)
  counts = (expert[:, None] == jnp.arange(experts)).sum(0)
  starts = jnp.cumsum(counts) - counts
  sizes = (counts + block - 1) // block * block
  ends = jnp.cumsum(sizes)
  row = jnp.arange(m)
  owner = jnp.minimum((row[:, None] >= ends).sum(1), experts - 1)
  rank = row - (ends - sizes)[owner]
  filled = (rank < counts[owner]) & (row < ends[-1])
  source = jnp.where(filled, order[jnp.minimum(starts[owner] + rank, n - 1)], n)
  place = jnp.argsort(order)  # rank of each assignment in sorted order
  here = jnp.minimum(expert, experts - 1)
  target = jnp.where(expert < experts, place - starts[here] + (ends - sizes)[here], m)
  return source, target, sizes, owner[::block]


def _block_products(x, gate, up, down, owner, sizes):
  """Every block of rows times its own expert's weights.

  XLA's CPU ragged_dot costs as much as all experts on all rows.
  """
  del sizes
  blocks = x.reshape(owner.shape[0], -1, x.shape[-1])
  y = jnp.einsum("ntd,ndf->ntf", blocks, gate[owner])
  y = jax.nn.silu(y) * jnp.einsum("ntd,ndf->ntf", blocks, up[owner])
  return jnp.einsum("ntf,nfd->ntd", y, down[owner]).reshape(x.shape)


def _ragged_products(x, gate, up, down, owner, sizes):
  del owner
  y = jax.nn.silu(jax.lax.ragged_dot(x, gate, sizes)) * jax.lax.ragged_dot(x, up, sizes)
  return jax.lax.ragged_dot(y, down, sizes)


LANES = 128  # a TPU's kernel multiplies tiles whose sides are multiples of it


def _kernel_products(x, gate, up, down, owner, sizes):
  """Each row times its own expert's weights by the TPU's kernel of jax (`megablox`).

  XLA has one of its own for ragged_dot on v5p alone; on other TPUs it multiplies every row by all experts.
  """
  del owner
  gmm, rows, (experts, *sides) = _kernel(), len(x), gate.shape
  tile = 512 if rows >= 512 * experts else 128
  tiling = tile, *(_side(*sides, 2048 // x.dtype.itemsize),) * 2
  x = jnp.pad(x, ((0, -rows % tile), (0, 0)))
  sizes = sizes.at[0].add(sizes.sum() == 0)  # a shard may have nothing in a round, and a kernel wants a row: a zero one
  y = jax.nn.silu(gmm(x, gate, sizes, x.dtype, tiling)) * gmm(x, up, sizes, x.dtype, tiling)
  return gmm(y, down, sizes, x.dtype, tiling)[:rows]


def _side(width: int, hidden: int, most: int) -> int:
  """The longest side of a tile, up to `most`, that fills up the matrices by a tenth more than the shortest at most."""
  filled = lambda side: -(-width // side) * side * -(-hidden // side) * side
  sides = range(LANES, min(most, width, hidden) + 1, LANES)
  return max(side for side in sides if filled(side) <= 1.1 * filled(LANES))


def _kernel():
  """Looked for where it is needed: it is experimental, and only a TPU runs it."""
  from jax.experimental.pallas.ops.tpu.megablox import gmm

  return gmm


def feed_forward(x, expert, gate, up, down):
  """Each row through its own experts: x[n, d], expert int32[n, k] (e: nobody) -> [n, k, d].

  Weights are [e, d, f], [e, d, f], [e, f, d]; all on this device.
  """
  (n, k), experts = expert.shape, gate.shape[0]
  block, products = 1, _ragged_products
  if mesh.platform() == "cpu":  # blocks about half as long as the mean group keep the padding small
    block, products = min(max(8, 1 << (n * k // experts).bit_length() >> 2), 128), _block_products
  elif mesh.platform() == "tpu" and min(gate.shape[1:]) >= LANES:
    products = _kernel_products
  source, target, sizes, owner = grouped_order(expert.reshape(-1), experts, block)
  rows = permute(x, jnp.where(source < n * k, source // k, n), target.reshape(n, k))
  gate, up, down = (w.astype(x.dtype) for w in (gate, up, down))
  y = products(rows, gate, up, down, owner, sizes.astype(jnp.int32))
  return permute(y, target, source[:, None]).reshape(n, k, x.shape[-1])
