"""The mathematics of a transformer block, on arrays: norm, rotary positions, linear maps, attention.

Einsum letters: b batch, t query time, s key time, d model, n heads, h head,
r latent, m query heads per key head, f hidden.
"""

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P, reshard
import numpy as np

from r1jax import config
from r1jax.mesh import BATCH
from r1jax.models import flash

QUERIES = 512  # whose scores exist at one time in attention over whole rows
MASKED = -1e30  # a score that softmax turns into exactly 0; finite, so an empty row stays free of NaN


def rms_norm(x, scale, epsilon):
  """x / rms(x) * scale over the last axis, in float32: [..., d] -> [..., d] of x's dtype."""
  y = x.astype(jnp.float32)
  y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
  return (y * scale).astype(x.dtype)


def tokens_axis(length: int) -> str | None:
  """The mesh axis that splits the tokens of rows between the products of a block; None where it does not divide them.

  Norms, residuals and what the backward pass keeps of a block are a part of each row on every chip of `tensor`
  (sequence parallelism, arXiv:2205.05198), and what was an all-reduce is a gather before and a scatter behind.
  """
  tensor = jax.sharding.get_abstract_mesh().shape["tensor"]
  return "tensor" if tensor > 1 and length % tensor == 0 else None


def tokens_of(x) -> str | None:
  """The mesh axis that splits the tokens of x[b, t, d]; None: rows are whole."""
  return jax.typeof(x).sharding.spec[1]


def split_tokens(x, axis: str | None):
  """x[b, t, d] with its tokens split over a mesh axis; None: whole rows. A sum over that axis is scattered so."""
  return reshard(x, P(BATCH, axis, None))


def linear(x, weight, split=None):
  """x[b, t, d] times weight[d, f] -> [b, t, f], tokens split as those of x.

  `split` is the mesh axis the result's last axis is split over; when the
  contracted axis is split instead, the partial products are summed.
  Whole rows are flattened to two axes: XLA's CPU products are a quarter faster so.
  """
  b, t, d = x.shape
  _, tokens, contracted = jax.typeof(x).sharding.spec
  if tokens:
    return jnp.einsum("btd,df->btf", x, weight.astype(x.dtype), out_sharding=P(BATCH, tokens, split))
  flat = jax.lax.reshape(x, (b * t, d), out_sharding=P(BATCH, contracted))
  y = jnp.einsum("td,df->tf", flat, weight.astype(x.dtype), out_sharding=P(BATCH, split))
  return jax.lax.reshape(y, (b, t, weight.shape[1]), out_sharding=P(BATCH, None, split))


def swiglu(x, gate, up, down):
  """silu(x gate) * (x up) down: [b, t, d] -> [b, t, d]; gate and up apart are faster than one fused product."""
  y = jax.nn.silu(linear(x, gate, "tensor")) * linear(x, up, "tensor")
  return linear(y, down)


def split_heads(x, heads):
  """[b, t, n*h] -> [b, t, n, h], heads split over `tensor`."""
  b, t, width = x.shape
  return jax.lax.reshape(x, (b, t, heads, width // heads), out_sharding=P(BATCH, None, "tensor", None))


def join_heads(x):
  """[b, t, n, h] -> [b, t, n*h]."""
  b, t, n, h = x.shape
  return jax.lax.reshape(x, (b, t, n * h), out_sharding=P(BATCH, None, "tensor"))


def group_heads(x, groups):
  """[b, t, n, h] -> [b, t, k, m, h], m query heads per key head; key heads split over `tensor`."""
  b, t, n, h = x.shape
  return jax.lax.reshape(x, (b, t, groups, n // groups, h), out_sharding=P(BATCH, None, "tensor", None, None))


def ungroup_heads(x):
  """[b, t, k, m, h] -> [b, t, n, h]."""
  b, t, k, m, h = x.shape
  return jax.lax.reshape(x, (b, t, k * m, h), out_sharding=P(BATCH, None, "tensor", None))


RopeScaling = config.Yarn | config.Llama3Rope | None


def rotary_frequencies(width: int, theta: float, scaling: RopeScaling) -> np.ndarray:
  """Angle per position of each rotary pair, float32[width / 2], slowed as the context extension says."""
  base = theta ** -(np.arange(0, width, 2) / width)
  if scaling is None:
    return base.astype(np.float32)
  slow = (
    _slowed_by_yarn(width, theta, scaling) if isinstance(scaling, config.Yarn) else _slowed_by_llama3(base, scaling)
  )
  return (base / scaling.factor * slow + base * (1 - slow)).astype(np.float32)


def _slowed_by_yarn(width: int, theta: float, yarn: config.Yarn):
  """How much of the factor each pair gets, 0 to 1: a ramp over the pair's number (DeepSeek-V3 section 4.3)."""

  def pair_of(rotations):  # index of the pair that turns this often within the original length
    return width * math.log(yarn.original_length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

  low, high = pair_of(yarn.beta_fast), pair_of(yarn.beta_slow)
  if yarn.truncate:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, width - 1)
  return np.clip((np.arange(width // 2) - low) / max(high - low, 0.001), 0, 1)


def _slowed_by_llama3(base, rope: config.Llama3Rope):
  """How much of the factor each pair gets, 0 to 1: a ramp over its turns within the original length."""
  turns = rope.original_length * base / (2 * math.pi)
  return np.clip((rope.high_freq_factor - turns) / (rope.high_freq_factor - rope.low_freq_factor), 0, 1)


def attention_scale(width: int, scaling: RopeScaling) -> float:
  """width^-0.5, times YaRN's temperature squared (0.1 mscale_all_dim ln factor + 1)^2."""
  return width**-0.5 * (scaling.score_factor() if isinstance(scaling, config.Yarn) else 1.0)


def rotate(x, positions, frequencies, scaling: RopeScaling = None):
  """Turns pairs (i, i + half) of the last axis by their position's angle.

  x: [b, t, ..., p] with positions int32[b, t]. YaRN may lengthen what is turned; DeepSeek's does not.
  """
  angle = positions[..., None].astype(jnp.float32) * frequencies
  angle = jnp.expand_dims(angle, range(2, x.ndim - 1))
  scale = scaling.rotated_length() if isinstance(scaling, config.Yarn) else 1.0
  cos, sin = jnp.cos(angle) * scale, jnp.sin(angle) * scale
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return turned.astype(x.dtype)


def attend(query, key, value, segments, scale):
  """Causal attention within segments: query [b,t,n,h], key [b,s,k,h], value [b,s,k,v] -> [b,t,n,v], s = t.

  n is a multiple of k (grouped-query). Queries go in at most 8 spans, each
  against the keys up to its own end: half the scores of a full square. The
  scores of QUERIES queries exist at one time, and the backward pass of a longer
  span computes them again, so memory grows with the length and not its square.
  On a TPU a kernel does it, where it can.
  """
  if flash.applies(query.shape[1]):
    return flash.attend(query, key, value, segments, scale)
  t, query = query.shape[1], group_heads(query, key.shape[2])
  span = max(32, -(-t // 8))
  out = []
  for start in range(0, t, span):
    end = min(start + span, t)
    queries = query[:, start:end], segments[:, start:end], jnp.arange(start, end)
    out.append(_attend_span(*queries, key[:, :end], value[:, :end], segments[:, :end], scale))
  return ungroup_heads(jnp.concatenate(out, axis=1))


def _attend_span(query, segment, position, key, value, segments, scale):
  """Attention of query [b,t,k,m,h] at position int32[t] to key [b,s,k,h] from 0 on, where segment [b,t] agrees."""

  def attend(query, segment, position):
    seen = segment[:, :, None] == segments[:, None]
    seen &= position[:, None] >= jnp.arange(key.shape[1])
    scores = jnp.einsum("btkmh,bskh->bkmts", query, key)
    scores = jnp.where(seen[:, None, None], scores.astype(jnp.float32) * scale, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bkmts,bskv->btkmv", weights, value)

  t = query.shape[1]
  if t <= QUERIES:
    return attend(query, segment, position)
  cut = t - t % QUERIES
  split = lambda x: jnp.moveaxis(x[:, :cut].reshape(x.shape[0], -1, QUERIES, *x.shape[2:]), 1, 0)
  blocks = split(query), split(segment), position[:cut].reshape(-1, QUERIES)
  out = jnp.moveaxis(jax.lax.map(jax.checkpoint(lambda block: attend(*block)), blocks), 0, 1)
  out = out.reshape(out.shape[0], cut, *out.shape[3:])
  if cut == t:
    return out
  return jnp.concatenate([out, attend(query[:, cut:], segment[:, cut:], position[cut:])], axis=1)


def split_weight(weight, heads, dtype):
  """[r, n*h] -> [r, n, h], heads split over `tensor`."""
  r, width = weight.shape
  return jax.lax.reshape(weight, (r, heads, width // heads), out_sharding=P(None, "tensor", None)).astype(dtype)
