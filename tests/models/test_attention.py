"""Latent attention against its equations with expanded keys, and its absorbed form against both."""

import jax
import jax.numpy as jnp
import numpy as np

from r1jax import config
from r1jax.mesh import to_global
from r1jax.models import functions as f
from r1jax.models.attention import Cache, GroupedQueryAttention, LatentAttention

LENGTH, PROMPT = 9, 5
random = np.random.default_rng(2)
x = random.normal(size=(2, LENGTH, 32)).astype(np.float32)
positions = np.tile(np.arange(LENGTH, dtype=np.int32), (2, 1))


def slow_latent_attention(x, w, c):
  """DeepSeek-V3 eq. 1-11 for one row: keys and values expanded, one query and one head at a time, float64."""
  a, half = c.attention, c.attention.rope_head // 2
  norm = lambda y, scale: y / np.sqrt((y * y).mean(-1, keepdims=True) + c.norm_epsilon) * scale
  angle = np.arange(len(x))[:, None] * c.rope_theta ** (-2 * np.arange(half) / a.rope_head)

  def turn(y):  # [t, p]: pairs (i, i + half) as complex numbers
    z = (y[:, :half] + 1j * y[:, half:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], -1)

  x = x.astype(np.float64)
  query = (norm(x @ w["query_down"], w["query_norm"]) @ w["query_up"]).reshape(len(x), a.heads, -1)
  latent, key_rope = np.split(x @ w["kv_down"], [a.latent_rank], -1)
  latent, key_rope = norm(latent, w["kv_norm"]), turn(key_rope)
  key = (latent @ w["key_up"]).reshape(len(x), a.heads, a.nope_head)
  value = (latent @ w["value_up"]).reshape(len(x), a.heads, a.value_head)
  out = np.zeros((len(x), a.heads, a.value_head))
  for n in range(a.heads):
    query_rope = turn(query[:, n, a.nope_head :])
    for t in range(len(x)):
      scores = key[: t + 1, n] @ query[t, n, : a.nope_head] + key_rope[: t + 1] @ query_rope[t]
      scores = np.exp(scores / np.sqrt(a.nope_head + a.rope_head))
      out[t, n] = scores / scores.sum() @ value[: t + 1, n]
  return out.reshape(len(x), -1) @ w["out"]


def setup(tiny_model, random_params):
  c = tiny_model()
  params = jax.tree.map(lambda p: p[1], random_params(c)["blocks"]["attention"])  # a layer of its own, unstacked
  module = LatentAttention(c)
  run = jax.jit(lambda *args: module.apply({"params": params}, *args))
  return c, jax.device_get(params), run


def test_latent_attention_matches_its_equations_with_expanded_keys(tiny_model, random_params):
  c, w, run = setup(tiny_model, random_params)
  y, entry = run(x, positions, np.ones_like(positions), None, 0)
  assert entry.shape == (2, LENGTH, 1, c.attention.latent_rank + c.attention.rope_head)
  for b in range(2):
    np.testing.assert_allclose(y[b], slow_latent_attention(x[b], w, c), atol=1e-5)


def test_the_absorbed_form_matches_expanded_keys_token_by_token(tiny_model, random_params):
  c, w, run = setup(tiny_model, random_params)
  _, entry = run(x, positions, np.ones_like(positions), None, 0)
  entry = np.array(entry)
  entry[:, PROMPT:] = 1e3  # what lies behind the prompt must not be read
  own = np.zeros((1, 2, 1, LENGTH - PROMPT + 2, *entry.shape[2:]), np.float32)
  cache = Cache(to_global(entry[None], 1), jnp.full(2, PROMPT), to_global(own, 1), jnp.int32(0))
  expected = np.stack([slow_latent_attention(row, w, c) for row in x])
  for t in range(PROMPT, LENGTH):
    cache = cache.replace(index=jnp.int32(t - PROMPT))
    at = np.full((2, 1), t, np.int32)
    y, cache = run(x[:, t : t + 1], at, np.ones_like(at), cache, 0)
    np.testing.assert_allclose(y[:, 0], expected[:, t], atol=1e-5)


def test_normed_heads_match_a_loop_over_queries(tiny_model, random_params):
  """Qwen3: every query and key head has RMS 1 times a scale before it is rotated."""
  a = config.GroupedQueryAttention(heads=4, kv_heads=2, head=6, qk_norm=True)
  c = tiny_model(attention=a, experts=None, norm_epsilon=1e-3)
  w = jax.device_get(jax.tree.map(lambda p: p[1], random_params(c)["dense_blocks"]["attention"]))
  y, _ = jax.jit(GroupedQueryAttention(c).apply)({"params": w}, x, positions, np.ones_like(positions), None, 0)
  norm = lambda y, scale: y / np.sqrt((y * y).mean(-1, keepdims=True) + 1e-3) * scale
  angle = np.arange(LENGTH)[:, None] * c.rope_theta ** (-2 * np.arange(3) / 6)

  def turn(y):  # [t, h]
    z = (y[:, :3] + 1j * y[:, 3:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], -1)

  for b in range(2):
    row, out = x[b].astype(np.float64), np.zeros((LENGTH, 4, 6))
    query, key, value = ((row @ w[name]).reshape(LENGTH, -1, 6) for name in ("query", "key", "value"))
    for n in range(4):
      q, k = turn(norm(query[:, n], w["query_norm"])), turn(norm(key[:, n // 2], w["key_norm"]))
      for t in range(LENGTH):
        scores = np.exp(k[: t + 1] @ q[t] / np.sqrt(6))
        out[t, n] = scores / scores.sum() @ value[: t + 1, n // 2]
    np.testing.assert_allclose(y[b], out.reshape(LENGTH, -1) @ w["out"], atol=1e-5)


def test_a_row_without_any_visible_key_is_finite():
  y = f.attend(*(jnp.ones((1, 3, 2, 4)) for _ in range(3)), jnp.zeros((1, 3), jnp.int32), 1.0)
  assert np.isfinite(y).all()
