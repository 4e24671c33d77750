"""The sampler against the trainer and a sort; the same draws however the batch is split."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from r1jax import config
from r1jax.data.packing import lay_out, pack
from r1jax.mesh import to_global, to_local
from r1jax.models import scoring, transformer
from r1jax.rl import sampling as s
from r1jax.training import state as states
from r1jax.types import TokenBatch

ENDS, PAD, GROUP, LIMIT = (2, 7), 0, 3, 10
SAMPLING = config.Sampling(temperature=0.7, top_p=0.9, top_k=9, max_prompt=6, max_response=LIMIT, chunk=4)
random = np.random.default_rng(8)
tokens = random.integers(3, 24, (4, 6)).astype(np.int32)
lengths = np.array([6, 2, 4, 1], np.int32)
rows = np.array([5, 0, 9, 3], np.int32)


def slow_distribution(logits, sampling):
  """One row, float64: temperature, the best k, then the shortest prefix of the sorted rest with mass top_p."""
  z = logits.astype(np.float64) / sampling.temperature
  p = np.exp(z - z.max())
  p /= p.sum()
  order = np.argsort(-p, kind="stable")
  if sampling.top_k:
    p[order[sampling.top_k :]] = 0
    p /= p.sum()
  mass, kept = 0.0, []
  for i in order:
    kept.append(i)
    mass += p[i]
    if mass >= sampling.top_p - 1e-7:
      break
  out = np.zeros_like(p)
  out[kept] = p[kept]
  return out / out.sum()


@pytest.mark.parametrize(
  "fields",
  [
    dict(),
    dict(temperature=0.6),
    dict(top_k=5),
    dict(top_k=1),
    dict(top_k=1000),
    dict(top_p=0.95),
    dict(top_p=0.01),
    dict(temperature=1.7, top_k=20, top_p=0.8),
  ],
  ids=str,
)
def test_the_distribution_matches_a_sort(fields):
  sampling = config.Sampling(max_prompt=1, max_response=1, **fields)
  logits = random.normal(size=(20, 50)).astype(np.float32) * 3
  found = s.draw_distribution(jnp.array(logits), sampling)
  for row in range(20):
    np.testing.assert_allclose(found[row], slow_distribution(logits[row], sampling), atol=1e-6)


def test_draws_have_the_frequencies_of_the_distribution():
  count, sampling = 20_000, config.Sampling(temperature=0.8, top_k=12, max_prompt=1, max_response=1)
  logits = random.normal(size=30).astype(np.float32)
  uniform = jax.random.uniform(jax.random.key(0), (1, count))
  token, log_prob, draw_log_prob = jax.device_get(
    jax.jit(s.draw, static_argnums=2)(jnp.broadcast_to(jnp.array(logits), (1, count, 30)), uniform, sampling)
  )
  p = slow_distribution(logits, sampling)
  seen = np.bincount(token[0], minlength=30)
  assert not seen[p == 0].any()
  kept = p > 0
  distance = ((seen - count * p)[kept] ** 2 / (count * p[kept])).sum()
  assert distance < stats.chi2.ppf(0.999, kept.sum() - 1)
  np.testing.assert_allclose(draw_log_prob[0], np.log(p[token[0]]), atol=1e-5)
  plain = logits - np.log(np.exp(logits.astype(np.float64)).sum())
  np.testing.assert_allclose(log_prob[0], plain[token[0]], atol=1e-5)


def test_a_draw_never_leaves_the_kept_tokens_at_either_end():
  sampling = config.Sampling(top_k=3, max_prompt=1, max_response=1)
  logits = jnp.array([-9.0, 1.0, -9.0, 2.0, 1.5, -9.0])[None, None]
  ends = [int(s.draw(logits, jnp.array([[u]]), sampling)[0][0, 0]) for u in (0.0, 1 - 2**-24)]
  assert ends == [1, 4]


@pytest.fixture(scope="module")
def model(tiny_model):
  return tiny_model()


def run(model, params, which=slice(None), seed=0):
  """Samples from prompts `which` on the current mesh; numpy rollouts."""
  inputs = to_global((tokens[which], lengths[which], rows[which]))
  key = jax.random.key(seed)
  out = s.sample(params, *inputs, key, c=model, sampling=SAMPLING, group_size=GROUP, ends=ENDS, pad=PAD)
  return to_local(out)


def sharpened(params):
  """Larger logits: rows that end early, and probabilities worth comparing."""
  return params | {"head": params["head"] * 3}


@pytest.fixture
def params(model, random_params):
  return sharpened(random_params(model))


def same_draws(a, b):
  np.testing.assert_array_equal(a.tokens, b.tokens)
  np.testing.assert_array_equal(a.lengths, b.lengths)
  np.testing.assert_array_equal(a.ended, b.ended)
  np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)
  np.testing.assert_allclose(a.draw_log_probs, b.draw_log_probs, atol=1e-5)


def test_rows_stop_after_the_end_token_and_are_padded_behind(model, params):
  out = run(model, params)
  assert out.ended.any() and not out.ended.all()
  for p, g in np.ndindex(4, GROUP):
    n = out.lengths[p, g]
    drawn = out.tokens[p, g]
    ended = np.isin(drawn, ENDS)
    assert out.ended[p, g] == ended.any()
    assert n == (ended.argmax() + 1 if out.ended[p, g] else LIMIT)
    assert (drawn[n:] == PAD).all()
    assert not out.log_probs[p, g, n:].any() and not out.draw_log_probs[p, g, n:].any()
    assert (out.log_probs[p, g, :n] < 0).all()


def test_recorded_log_probs_are_those_of_the_trainer_and_of_the_distribution_drawn_from(model, params):
  out = run(model, params)
  sequences = [
    np.concatenate([tokens[p, : lengths[p]], out.tokens[p, g, : out.lengths[p, g]]]) for p, g in np.ndindex(4, GROUP)
  ]
  placing = pack([len(x) for x in sequences], 32)
  ids, positions, segments, _ = lay_out(sequences, placing, placing.rows, 32)
  batch = TokenBatch(ids, positions, segments, np.ones(ids.shape, np.float32))

  @jax.jit
  def score(params, batch):
    values, _, out = scoring.token_log_probs(model, params, batch)
    return values, transformer.logits(model, params, out.hidden)

  values, logits = jax.device_get(score(params, batch))
  for i, (p, g) in enumerate(np.ndindex(4, GROUP)):
    row, start, n = placing.row[i], placing.offset[i] + lengths[p], out.lengths[p, g]
    np.testing.assert_allclose(out.log_probs[p, g, :n], values[row, start : start + n], atol=2e-5)
    for t in range(n):
      chances = slow_distribution(logits[row, start + t - 1], SAMPLING)
      assert out.draw_log_probs[p, g, t] == pytest.approx(np.log(chances[out.tokens[p, g, t]]), abs=1e-4)


def test_the_same_key_draws_the_same_and_another_key_draws_others(model, params):
  same_draws(run(model, params), run(model, params))
  assert not np.array_equal(run(model, params).tokens, run(model, params, seed=1).tokens)


def test_the_completions_of_a_group_differ(model, params):
  out = run(model, params)
  assert all(len({x.tobytes() for x in group}) > 1 for group in out.tokens)


def test_draws_are_the_same_for_any_split_of_the_batch(model, params):
  whole = run(model, params)
  parts = [run(model, params, which) for which in (slice(0, 2), slice(2, 4))]
  same_draws(whole, jax.tree.map(lambda *x: np.concatenate(x), *parts))


SHAPES = [dict(data=8), dict(data=4, expert=2), dict(data=2, expert=2, tensor=2), dict(expert=8)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_draws_are_the_same_on_eight_devices(model, params, random_params, on_devices, shape):
  twice = np.arange(8) % 4
  expected = run(model, params, twice)
  with on_devices(**shape):
    found = run(model, sharpened(random_params(model)), twice)
  same_draws(found, expected)


@pytest.mark.parametrize("activations", ["float32", "bfloat16"])
def test_weights_gathered_for_sampling_draw_bit_for_bit_the_same(model, random_params, on_devices, activations):
  c, twice = dataclasses.replace(model, activations=activations), np.arange(8) % 4
  with on_devices(data=2, expert=2, tensor=2):
    params = sharpened(random_params(c))
    expected = run(c, params, twice)
    gathered = states.for_sampling(params, c=c)
    found = run(c, gathered, twice)
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  specs = {str(x.sharding.spec) for x in jax.tree.leaves(gathered)}
  assert not any("data" in spec for spec in specs) and any("tensor" in spec for spec in specs)
  blocks = gathered["blocks"]["experts"]
  assert blocks["gate"].dtype == activations and blocks["router"].dtype == "float32"


def test_grouped_query_attention_draws_the_same_on_four_devices(model, grouped_query, random_params, on_devices):
  c = dataclasses.replace(model, attention=grouped_query, experts=None)
  expected = run(c, sharpened(random_params(c)))
  with on_devices(data=2, tensor=2):
    found = run(c, sharpened(random_params(c)))
  same_draws(found, expected)
