"""Decoding against a cache equals the full forward pass."""

import dataclasses

import jax
import numpy as np
import pytest

from r1jax.mesh import to_global
from r1jax.models import functions, transformer
from r1jax.models.scoring import next_token_loss
from r1jax.plan.liveness import temporaries
from r1jax.rl.sampling import prefill
from r1jax.types import TokenBatch

LENGTHS, GROUP, STEPS, WIDTH = np.array([3, 7, 1]), 2, 4, 8
random = np.random.default_rng(3)


def full_logits(c, params, rows):
  """Each row on its own, unpadded but for its tail, through the whole model."""
  size = max(map(len, rows))
  tokens = np.stack([np.pad(r, (0, size - len(r))) for r in rows]).astype(np.int32)
  segments = np.stack([np.arange(size) < len(r) for r in rows]).astype(np.int32)
  positions = np.tile(np.arange(size, dtype=np.int32), (len(rows), 1))
  out = jax.jit(transformer.apply, static_argnums=0)(c, params, tokens, positions, segments)
  return np.asarray(transformer.logits(c, params, out.hidden))


@pytest.mark.parametrize("kind", ["latent", "latent unrolled", "grouped-query", "grouped-query unrolled"])
def test_cached_decode_matches_full_forward_for_ragged_prompts(tiny_model, grouped_query, random_params, kind):
  c = tiny_model(unroll="unrolled" in kind)
  if kind.startswith("grouped"):
    c = dataclasses.replace(c, attention=grouped_query)
  params = random_params(c)
  prompts = random.integers(0, c.vocab, (len(LENGTHS), WIDTH)).astype(np.int32)  # padding is junk, too
  drawn = random.integers(0, c.vocab, (len(LENGTHS), GROUP, STEPS)).astype(np.int32)
  rows = [np.concatenate([prompts[p, : LENGTHS[p]], drawn[p, g]]) for p, g in np.ndindex(len(LENGTHS), GROUP)]
  expected = full_logits(c, params, rows).reshape(len(LENGTHS), GROUP, -1, c.vocab)

  logits, cache = jax.jit(prefill, static_argnums=(0, 4, 5))(c, params, prompts, LENGTHS, GROUP, STEPS + 2)
  step = jax.jit(transformer.apply, static_argnums=0)
  for i in range(STEPS):
    for p, length in enumerate(LENGTHS):
      np.testing.assert_allclose(logits[p], expected[p, :, length - 1 + i], atol=2e-5)
    cache = cache.replace(index=np.int32(i))
    positions = np.broadcast_to(LENGTHS[:, None] + i, (len(LENGTHS), GROUP)).astype(np.int32)
    out = step(c, params, drawn[:, :, i], positions, np.ones_like(positions), cache)
    logits, cache = transformer.logits(c, params, out.hidden), out.memory


def test_a_tied_head_is_the_embedding(tiny_model, random_params):
  c = tiny_model(tied=True, experts=None)
  params = random_params(c)
  assert "head" not in params
  hidden = random.normal(size=(1, 2, c.width)).astype(np.float32)
  expected = hidden @ np.asarray(params["embedding"]).T
  np.testing.assert_allclose(transformer.logits(c, params, hidden), expected, atol=1e-5)


def test_long_rows_have_the_same_loss_and_gradient_on_four_devices(
  tiny_model, grouped_query, random_params, on_devices, monkeypatch
):
  monkeypatch.setattr(functions, "QUERIES", 12)  # a span of 32 queries in blocks
  c = tiny_model(layers=1, attention=grouped_query, experts=None, dense_layers=0)
  tokens = random.integers(0, c.vocab, (4, 70)).astype(np.int32)
  segments = np.sort(random.integers(1, 4, (4, 70)), axis=1).astype(np.int32)
  batch = TokenBatch(
    tokens, np.tile(np.arange(70, dtype=np.int32), (4, 1)), segments, np.full((4, 70), 0.01, np.float32)
  )

  def gradient():
    loss = jax.jit(jax.value_and_grad(lambda params, batch: next_token_loss(c, params, batch)[0]))
    return jax.device_get(loss(random_params(c), to_global(batch)))

  expected = gradient()
  with on_devices(data=2, tensor=2):
    found = gradient()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize("kind", ["latent, experts", "grouped-query, dense"])
def test_tokens_split_over_tensor_between_products_give_the_same_in_less_memory(
  tiny_model, grouped_query, random_params, on_devices, monkeypatch, kind
):
  c = tiny_model(remat="full", mtp=1)
  if kind == "grouped-query, dense":
    c = tiny_model(layers=3, attention=grouped_query, experts=None, dense_layers=0, remat="full")
  tokens = random.integers(0, c.vocab, (2, 64)).astype(np.int32)
  segments = np.sort(random.integers(1, 4, (2, 64)), axis=1).astype(np.int32)
  weight = np.full((2, 64), 0.01, np.float32)
  batch = TokenBatch(tokens, np.tile(np.arange(64, dtype=np.int32), (2, 1)), segments, weight)

  def gradient():
    with on_devices(data=2, tensor=2):
      loss = lambda params, batch: next_token_loss(c, params, batch, 0.3 * bool(c.mtp))[0]
      params, rows = random_params(c), to_global(batch)
      traced = jax.jit(jax.value_and_grad(loss)).trace(params, rows)
      sizes = dict(jax.sharding.get_abstract_mesh().shape)
      return jax.device_get(traced.lower().compile()(params, rows)), temporaries(traced.jaxpr.jaxpr, sizes)

  split, memory = gradient()
  monkeypatch.setattr(functions, "tokens_axis", lambda length: None)
  whole, memory_whole = gradient()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), split, whole)
  kept = c.layers * 64 * c.width * 4  # the input of every layer, of one row on each chip
  assert memory_whole - memory > 0.4 * kept
