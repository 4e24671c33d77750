"""Causal attention by the TPU's kernel, in which no score leaves the chip's own memory.

It is that of jax (`splash_attention`): forward and backward go over the keys block by block and leave out the blocks
above the diagonal, so memory grows with the length and not its square, and so does what the compiler has to look at.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from r1jax import mesh

LANES = 128  # a length must be a multiple of it
BLOCK = 512  # queries and keys that meet at one time, at most


def applies(length: int) -> bool:
  """Whether rows of this many tokens can go through the kernel on the current mesh."""
  return mesh.platform() == "tpu" and length % LANES == 0


def attend(query, key, value, segments, scale, interpret=False):
  """Causal attention within segments: query [b,t,n,h], key [b,t,k,h], value [b,t,k,v] -> [b,t,n,v].

  n is a multiple of k. Every chip takes its own rows and heads.

  Args:
    segments: int32[b, t].
    scale: of the scores; the kernel has none, so the query is multiplied by it and rounded once more.
    interpret: run the kernel without a TPU, slowly.
  """
  splash = _library()[0]
  heads = P(mesh.BATCH, None, "tensor", None)

  @functools.partial(jax.shard_map, in_specs=(heads,) * 3 + (P(mesh.BATCH),), out_specs=heads, check_vma=False)
  def of_chip(query, key, value, segments):
    kernel = _kernel(query.shape[2], query.shape[1], interpret)
    one_row = lambda q, k, v, s: kernel(q, k, v, segment_ids=splash.SegmentIds(q=s, kv=s))
    by_head = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
    return jnp.swapaxes(jax.vmap(one_row)(*by_head, segments), 1, 2)

  scaled = (query.astype(jnp.float32) * scale).astype(query.dtype)
  return of_chip(scaled, key, value, segments)


def _library():
  """Kernels and masks, looked for where they are needed: they are experimental, and only a TPU runs them."""
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

  return splash_attention_kernel, splash_attention_mask


def _kernel(heads: int, length: int, interpret: bool):
  splash, masks = _library()
  block = next(b for b in (BLOCK, 384, 256, LANES) if length % b == 0)
  sizes = splash.BlockSizes(*(block,) * 8)
  mask = masks.MultiHeadMask([masks.CausalMask((length, length))] * heads)
  return splash.make_splash_mha(mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)
