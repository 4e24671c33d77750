"""Latent and grouped-query attention: over whole rows, and one token at a time against a cache.

While decoding, the G completions of a prompt ride on the time axis: a step has
x[b, g, d], and `jax.vmap` over g attends to the prompt's cache, which the group
shares, and to the completion's own. Where completions differ in length
(speculative decoding), a step may have w tokens of each, x[b, g * w, d].

Einsum letters: b batch, t query time, s key time, g group, n heads, h head,
r latent, k key heads, m query heads per key head, v value width.
"""

from flax import linen as nn, struct
import jax
from jax.experimental.layout import Layout, with_layout_constraint
import jax.numpy as jnp

from r1jax import mesh
from r1jax.models import functions as f
from r1jax.models.layer import Layer


@struct.dataclass
class Cache:
  """What attention keeps while a group of completions is drawn.

  An entry is [k, h]: the latent and the rotary key (k = 1), or a key and its value beside it, split over `tensor`.
  """

  prompt: jax.Array  # [layers, b, s, k, h], shared by the group
  lengths: jax.Array  # int32[b], tokens of each prompt
  own: jax.Array  # [layers, b, g, u, k, h], of the tokens drawn so far
  index: jax.Array  # int32[], how many those are; or int32[b, g], of each completion
  view: int | None = struct.field(pytree_node=False, default=None)  # of how many there is more to read; None: of all u

  def write(self, layer, entry):
    """Stores entry[b, g * w, k, h] of the newest tokens, the first at `index`; returns the new cache.

    w = 1 where all completions have one index; a completion whose tokens do not
    all fit is left as it is.
    """
    own = self._with_each(layer, entry) if self.index.ndim else self._with_all(layer, entry)
    if mesh.platform() == "tpu" and self.view is not None and own.shape[4] == 1:
      # In a loop the compiler lays latents out for writing one token, and would transpose all of them to read them.
      own = with_layout_constraint(own, Layout(major_to_minor=(0, 1, 2, 4, 3, 5)))
    return self.replace(own=own)

  def _with_all(self, layer, entry):
    entry = entry[None, :, :, None].astype(self.own.dtype)
    zero = jnp.int32(0)
    return jax.lax.dynamic_update_slice(self.own, entry, (layer, zero, zero, self.index, zero, zero))

  def _with_each(self, layer, entry):
    at = jnp.stack([jnp.full_like(self.index, layer), self.index], axis=-1)
    entry = split_newest(entry, self.own.shape[2]).astype(self.own.dtype)
    return jax.lax.scatter(self.own, at, entry, _OF_EACH, indices_are_sorted=True, unique_indices=True, mode="drop")

  def read(self, layer):
    """Of a layer: entries [b, s, k, h] of the prompts, and [b, g, u, k, h] of the completions, or as many as `view`."""
    take = lambda x, shape: jax.lax.dynamic_slice(x, (layer, *(0,) * len(shape)), (1, *shape))[0]
    _, b, g, u, *entry = self.own.shape
    return take(self.prompt, self.prompt.shape[1:]), take(self.own, (b, g, self.view or u, *entry))


# updates[b, g, w, k, h] at (layer, u) of operand[layers, b, g, u, k, h]: each in its own place, and nothing is moved
_OF_EACH = jax.lax.ScatterDimensionNumbers(
  update_window_dims=(2, 3, 4),
  inserted_window_dims=(0,),
  scatter_dims_to_operand_dims=(0, 3),
  operand_batching_dims=(1, 2),
  scatter_indices_batching_dims=(0, 1),
)


def split_newest(x, group: int):
  """[b, g * w, ...] -> [b, g, w, ...]."""
  return x.reshape(x.shape[0], group, x.shape[1] // group, *x.shape[2:])


def attend_cached(query, prompt_key, prompt_value, own_key, own_value, lengths, index, scale):
  """One token of one completion per prompt: query [b,k,m,h] -> [b,k,m,v].

  prompt_key [b,s,k,h] counts up to lengths[b]; own_key [b,u,k,h] up to and
  including `index`, int32[] or int32[b,1,1,1].
  """
  shared = jnp.einsum("bkmh,bskh->bkms", query, prompt_key)
  own = jnp.einsum("bkmh,bukh->bkmu", query, own_key)
  in_prompt = jnp.arange(prompt_key.shape[1]) < lengths[:, None]
  in_own = jnp.arange(own_key.shape[1]) <= index
  shared = jnp.where(in_prompt[:, None, None], shared.astype(jnp.float32) * scale, f.MASKED)
  own = jnp.where(in_own, own.astype(jnp.float32) * scale, f.MASKED)
  peak = jnp.maximum(shared.max(-1, keepdims=True), own.max(-1, keepdims=True))
  shared, own = jnp.exp(shared - peak), jnp.exp(own - peak)
  norm = shared.sum(-1, keepdims=True) + own.sum(-1, keepdims=True)
  dtype = prompt_value.dtype
  y = jnp.einsum("bkms,bskv->bkmv", (shared / norm).astype(dtype), prompt_value)
  return y + jnp.einsum("bkmu,bukv->bkmv", (own / norm).astype(dtype), own_value)


_attend_one_each = jax.vmap(attend_cached, in_axes=(1, None, None, 1, 1, None, None, None), out_axes=1)
_attend_newest = jax.vmap(attend_cached, in_axes=(1, None, None, None, None, None, 1, None), out_axes=1)
_attend_some_each = jax.vmap(_attend_newest, in_axes=(1, None, None, 1, 1, None, 1, None), out_axes=1)


def attend_group(query, prompt_key, prompt_value, own_key, own_value, lengths, index, scale):
  """The newest tokens of every completion: query [b,g*w,k,m,h], own_key [b,g,u,k,h] -> [b,g*w,k,m,v].

  `index` is that of the cache, which holds their keys and values already.
  """
  if index.ndim == 0:
    return _attend_one_each(query, prompt_key, prompt_value, own_key, own_value, lengths, index, scale)
  query = split_newest(query, own_key.shape[1])
  index = index[..., None] + jnp.arange(query.shape[2])
  index = index[..., None, None, None]  # one for each [k, m, u] of a row's scores
  y = _attend_some_each(query, prompt_key, prompt_value, own_key, own_value, lengths, index, scale)
  return y.reshape(y.shape[0], y.shape[1] * y.shape[2], *y.shape[3:])


LATENT_EPSILON = 1e-6  # of the norms on the compressed query and latent: fixed in DeepSeek's code, whatever the model's


class LatentAttention(Layer):
  """DeepSeek-V3 eq. 1-11; the absorbed form while decoding, keys and values expanded otherwise."""

  def query(self, x):
    """x[b, t, d] -> the queries [b, t, n, h] of whole rows, heads split."""
    c, a = self.cfg, self.cfg.attention
    width = a.heads * (a.nope_head + a.rope_head)
    if a.query_rank:
      down = self.weight("query_down", (c.width, a.query_rank), ("embed", None), c.width)
      up = self.weight("query_up", (a.query_rank, width), ("rank", "heads"), a.query_rank)
      x = f.rms_norm(f.linear(x, down), self.norm("query_norm", a.query_rank), LATENT_EPSILON)
    else:
      up = self.weight("query", (c.width, width), ("embed", "heads"), c.width)
    return f.split_heads(f.linear(f.split_tokens(x, None), up, "tensor"), a.heads)

  @nn.compact
  def __call__(self, x, positions, segments, cache, layer):
    """x[b, t, d] -> y[b, t, d], tokens split as those of x, and the cache or this row's entries [b, t, 1, r + p]."""
    c, a, tokens = self.cfg, self.cfg.attention, f.tokens_of(x)
    frequencies = f.rotary_frequencies(a.rope_head, c.rope_theta, c.rope_scaling)
    scale = f.attention_scale(a.nope_head + a.rope_head, c.rope_scaling)
    nope, rope = jnp.split(self.query(x), [a.nope_head], axis=-1)
    rope = f.rotate(rope, positions, frequencies, c.rope_scaling)
    down = self.weight("kv_down", (c.width, a.latent_rank + a.rope_head), ("embed", None), c.width)
    latent, key_rope = jnp.split(f.split_tokens(f.linear(x, down), None), [a.latent_rank], axis=-1)
    latent = f.rms_norm(latent, self.norm("kv_norm", a.latent_rank), LATENT_EPSILON)
    key_rope = f.rotate(key_rope, positions, frequencies, c.rope_scaling)
    key_up = self.weight("key_up", (a.latent_rank, a.heads * a.nope_head), ("rank", "heads"), a.latent_rank)
    value_up = self.weight("value_up", (a.latent_rank, a.heads * a.value_head), ("rank", "heads"), a.latent_rank)
    out = self.weight("out", (a.heads * a.value_head, c.width), ("heads", "embed"), a.heads * a.value_head)
    entry = jnp.concatenate([latent, key_rope], axis=-1)[:, :, None]

    if cache is not None:
      cache = cache.write(layer, entry)
      prompt, own = cache.read(layer)
      key_up = f.split_weight(key_up, a.heads, x.dtype)
      value_up = f.split_weight(value_up, a.heads, x.dtype)
      query = jnp.concatenate([jnp.einsum("bgnh,rnh->bgnr", nope, key_up), rope], axis=-1)[:, :, None]
      r = a.latent_rank
      y = attend_group(query, prompt, prompt[..., :r], own, own[..., :r], cache.lengths, cache.index, scale)
      y = jnp.einsum("bgnr,rnv->bgnv", y[:, :, 0], value_up)
      return f.linear(f.join_heads(y), out), cache

    key = f.split_heads(f.linear(latent, key_up, "tensor"), a.heads)
    value = f.split_heads(f.linear(latent, value_up, "tensor"), a.heads)
    key_rope = jnp.broadcast_to(key_rope[:, :, None], rope.shape, out_sharding=jax.typeof(rope).sharding.spec)
    key = jnp.concatenate([key, key_rope], axis=-1)
    query = jnp.concatenate([nope, rope], axis=-1)
    y = f.attend(query, key, value, segments, scale)
    return f.split_tokens(f.linear(f.join_heads(y), out), tokens), entry


class GroupedQueryAttention(Layer):
  """Several query heads share a key and value head (Qwen2, Qwen3, Llama 3)."""

  @nn.compact
  def __call__(self, x, positions, segments, cache, layer):
    """x[b, t, d] -> y[b, t, d], tokens split as those of x, and the cache or this row's entries [b, t, k, 2h].

    An entry is the keys, and the values beside them.
    """
    c, a, tokens = self.cfg, self.cfg.attention, f.tokens_of(x)
    x = f.split_tokens(x, None)
    frequencies = f.rotary_frequencies(a.head, c.rope_theta, c.rope_scaling)
    scale = f.attention_scale(a.head, c.rope_scaling)

    def project(name, heads):
      y = f.linear(x, self.weight(name, (c.width, heads * a.head), ("embed", "heads"), c.width), "tensor")
      if a.bias:
        y = y + self.weight(f"{name}_bias", (heads * a.head,), ("heads",)).astype(y.dtype)
      return f.split_heads(y, heads)

    query, key, value = project("query", a.heads), project("key", a.kv_heads), project("value", a.kv_heads)
    if a.qk_norm:
      query = f.rms_norm(query, self.norm("query_norm", a.head), c.norm_epsilon)
      key = f.rms_norm(key, self.norm("key_norm", a.head), c.norm_epsilon)
    query = f.rotate(query, positions, frequencies, c.rope_scaling)
    key = f.rotate(key, positions, frequencies, c.rope_scaling)
    out = self.weight("out", (a.heads * a.head, c.width), ("heads", "embed"), a.heads * a.head)
    entry = jnp.concatenate([key, value], axis=-1)

    if cache is not None:
      cache = cache.write(layer, entry)
      prompt, own = cache.read(layer)
      query = f.group_heads(query, a.kv_heads)
      (prompt_key, prompt_value), (own_key, own_value) = (jnp.split(x, 2, axis=-1) for x in (prompt, own))
      y = attend_group(query, prompt_key, prompt_value, own_key, own_value, cache.lengths, cache.index, scale)
      return f.linear(f.join_heads(f.ungroup_heads(y)), out), cache

    y = f.attend(query, key, value, segments, scale)
    return f.split_tokens(f.linear(f.join_heads(y), out), tokens), entry
