"""Speculative draws: exactly the distribution of the plain sampler, exactly its log-probs, for any split of the batch."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from r1jax import config
from r1jax.data.packing import lay_out, pack
from r1jax.mesh import to_global, to_local
from r1jax.models import mtp, scoring, transformer
from r1jax.rl import sampling as s, speculative
from r1jax.types import TokenBatch

ENDS, PAD, GROUP, LIMIT = (12, 17), 0, 3, 10
SAMPLING = config.Sampling(
  temperature=0.7, top_p=0.9, top_k=9, max_prompt=6, max_response=LIMIT, chunk=5, speculate=True
)
random = np.random.default_rng(8)
tokens = random.integers(3, 24, (4, 6)).astype(np.int32)
lengths = np.array([6, 2, 4, 1], np.int32)
rows = np.array([5, 0, 9, 3], np.int32)


def slow_distribution(logits, sampling):
  """One row, float64: temperature, the best k, then the shortest prefix of the sorted rest with mass top_p."""
  z = logits.astype(np.float64) / sampling.temperature
  p = np.exp(z - z.max())
  order = np.argsort(-p, kind="stable")
  if sampling.top_k:
    p[order[sampling.top_k :]] = 0
  p /= p.sum()
  before = np.cumsum(p[order]) - p[order]
  p[order[before >= sampling.top_p - 1e-7]] = 0
  return p / p.sum()


@functools.partial(jax.jit, static_argnames=("c", "sampling", "group"))
def draw(params, tokens, lengths, rows, key, *, c, sampling, group):
  return speculative.sample(c, params, tokens, lengths, s.streams(key, rows, group), sampling, ENDS, PAD)


@pytest.fixture(scope="module")
def model(tiny_model):
  return tiny_model(mtp=1, layers=1, dense_layers=0)


@pytest.fixture
def params(model, random_params):
  return likely_drafts(random_params(model))


def likely_drafts(params):
  """Five tokens are likely, two ends among them: rows end early, and drafts are often right and often wrong."""
  return params | {"head": params["head"] * jnp.where(jnp.arange(24) % 5 == 2, 4, 0.3)[:, None]}


def run(model, params, which=slice(None), sampling=SAMPLING, seed=0):
  """Rollouts, drafts accepted and made of prompts `which` on the current mesh, as numpy."""
  inputs = to_global((tokens[which], lengths[which], rows[which]))
  return to_local(draw(params, *inputs, jax.random.key(seed), c=model, sampling=sampling, group=GROUP))


def same_draws(a, b):
  np.testing.assert_array_equal(a.tokens, b.tokens)
  np.testing.assert_array_equal(a.lengths, b.lengths)
  np.testing.assert_array_equal(a.ended, b.ended)
  np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)
  np.testing.assert_allclose(a.draw_log_probs, b.draw_log_probs, atol=1e-5)


def packed(out):
  """All prompts with their completions in packed rows, and where each lies."""
  sequences = [
    np.concatenate([tokens[p, : lengths[p]], out.tokens[p, g, : out.lengths[p, g]]]) for p, g in np.ndindex(4, GROUP)
  ]
  placing = pack([len(x) for x in sequences], 32)
  ids, positions, segments, _ = lay_out(sequences, placing, placing.rows, 32)
  return TokenBatch(ids, positions, segments, np.ones(ids.shape, np.float32)), placing


# ---- the rule


def test_a_draft_and_its_correction_together_have_the_distribution_that_is_wanted():
  p, q = random.dirichlet(np.full(6, 0.5), (2, 40)).astype(np.float32)
  p[:20, 1] = 0  # outside of the nucleus of p, of q, of both
  q[10:30, 3:5] = 0
  p, q = (jnp.array(x / x.sum(-1, keepdims=True)) for x in (p, q))
  uniform = (np.arange(1000, dtype=np.float32) + 0.5) / 1000
  wide = lambda x: jnp.broadcast_to(x, (40, 6, 1000, *x.shape[3:]))
  token = wide(jnp.arange(6)[:, None])
  stays = speculative.accept(wide(p[:, None, None]), wide(q[:, None, None]), token, wide(uniform)).mean(-1)
  kept = np.asarray(q * stays, np.float64)
  rest = np.asarray(speculative.residual(p, q), np.float64)
  drawn = kept + (1 - kept.sum(-1, keepdims=True)) * rest / rest.sum(-1, keepdims=True)
  np.testing.assert_allclose(drawn, p, atol=2e-3)  # the grid of random numbers is that fine


def test_where_the_draft_is_the_distribution_itself_it_always_stays():
  p = jnp.array(random.dirichlet(np.ones(6), 5).astype(np.float32))
  assert speculative.accept(p, p, jnp.arange(5), jnp.full(5, 1 - 2**-24)).all()
  np.testing.assert_array_equal(speculative.residual(p, p), p)  # and nothing is ever drawn from an empty rest


SMALL = config.Model(
  vocab=5, width=16, layers=1, hidden=16, mtp=1, activations="float32", remat="none",
  attention=config.GroupedQueryAttention(heads=2, kv_heads=1, head=8, bias=True),
)  # fmt: skip


@pytest.mark.parametrize("fields", [dict(), dict(temperature=0.6, top_p=0.85), dict(temperature=1.5, top_k=3)], ids=str)
def test_all_sequences_have_the_frequencies_of_their_exact_probabilities(random_params, fields):
  limit, count = 4, 10_000
  sampling = config.Sampling(max_prompt=3, max_response=limit, chunk=limit, speculate=True, **fields)
  params = random_params(SMALL, 3)
  prompts, sizes = np.array([[3, 1, 4], [1, 0, 0]], np.int32), np.array([3, 1], np.int32)
  inputs = to_global((prompts, sizes, np.arange(2, dtype=np.int32)))
  out, accepted, drafts = to_local(draw(params, *inputs, jax.random.key(1), c=SMALL, sampling=sampling, group=count))
  assert 0.2 < accepted.sum() / drafts.sum() < 0.9  # both ways are gone
  for row in range(2):
    exact = probabilities(params, prompts[row, : sizes[row]], limit, sampling)
    assert sum(exact.values()) == pytest.approx(1, abs=1e-5)
    drawn = [tuple(t[:n]) for t, n in zip(out.tokens[row].tolist(), out.lengths[row])]
    seen = {sequence: drawn.count(sequence) for sequence in set(drawn)}
    assert seen.keys() <= exact.keys()
    # Sequences expected less than ten times are counted as one.
    rare = [sequence for sequence, p in exact.items() if p * count < 10]
    cells = [(seen.get(x, 0), p * count) for x, p in exact.items() if p * count >= 10]
    if rare:
      cells.append((sum(seen.get(x, 0) for x in rare), max(sum(exact[x] for x in rare) * count, 1e-3)))
    distance = sum((found - expected) ** 2 / expected for found, expected in cells)
    assert distance < stats.chi2.ppf(0.999, len(cells) - 1), (distance, len(cells))


def probabilities(params, prompt, limit, sampling) -> dict[tuple[int, ...], float]:
  """Of every completion that ends, or has `limit` tokens, from forward passes over whole rows."""
  chances, finished = {(): 1.0}, {}
  forward = jax.jit(transformer.apply, static_argnums=0)
  for step in range(limit):
    ids = np.array([[*prompt, *sequence] for sequence in chances], np.int32)
    at = np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1))
    hidden = forward(SMALL, params, ids, at, np.ones_like(at)).hidden
    logits = np.asarray(transformer.logits(SMALL, params, hidden[:, -1:]))[:, 0]
    longer = {}
    for (sequence, chance), row in zip(chances.items(), logits):
      for token, p in enumerate(slow_distribution(row, sampling)):
        if p > 0:
          into = finished if token in ENDS or step == limit - 1 else longer
          into[(*sequence, token)] = chance * p
    chances = longer
  return finished


# ---- the sampler


@pytest.fixture(scope="module")
def dense(tiny_model, grouped_query):
  return tiny_model(mtp=1, layers=1, attention=grouped_query, experts=None)


@pytest.mark.parametrize("kind", ["mixture", "dense"])
def test_nearly_greedy_draws_are_those_of_the_plain_sampler(model, dense, random_params, kind):
  c = model if kind == "mixture" else dense
  sampling = dataclasses.replace(SAMPLING, temperature=1e-4, chunk=LIMIT)
  params = likely_drafts(random_params(c))
  found, accepted, drafts = run(c, params, sampling=sampling)
  inputs, plain = to_global((tokens, lengths, rows)), dataclasses.replace(sampling, speculate=False)
  out = s.sample(params, *inputs, jax.random.key(0), c=c, sampling=plain, group_size=GROUP, ends=ENDS, pad=PAD)
  same_draws(found, to_local(out))
  expected = expected_drafts(c, params, found)
  np.testing.assert_array_equal(accepted, expected[0])
  np.testing.assert_array_equal(drafts, expected[1])
  assert 0 < accepted.sum() < drafts.sum()


def expected_drafts(c, params, out):
  """How many greedy drafts are right and made, from one pass of model and layer over the whole rows."""
  batch, placing = packed(out)
  following = np.pad(batch.tokens[:, 1:], ((0, 0), (0, 1)))

  @jax.jit
  def guesses(params):
    hidden = transformer.apply(c, params, batch.tokens, batch.positions, batch.segments).hidden
    drafted = mtp.apply(c, params, hidden, following, batch.positions, batch.segments).hidden
    return transformer.logits(c, params, drafted).argmax(-1)

  best = np.asarray(guesses(params))
  accepted, drafts = np.zeros((2, 4, GROUP), int)
  for i, (p, g) in enumerate(np.ndindex(4, GROUP)):
    row, first = placing.row[i], placing.offset[i] + lengths[p]  # where token 0 of the completion lies
    n = 1
    while n < out.lengths[p, g]:
      right = best[row, first + n - 2] == out.tokens[p, g, n]
      drafts[p, g] += 1
      accepted[p, g] += right
      n += 1 + right
  return accepted, drafts


def test_rows_stop_after_the_end_token_and_are_padded_behind(model, params):
  out, accepted, drafts = run(model, params)
  assert out.ended.any() and not out.ended.all()
  assert (accepted <= drafts).all() and 0 < accepted.sum() < drafts.sum()
  for p, g in np.ndindex(4, GROUP):
    n, drawn = out.lengths[p, g], out.tokens[p, g]
    ended = np.isin(drawn, ENDS)
    assert out.ended[p, g] == ended.any()
    assert n == (ended.argmax() + 1 if out.ended[p, g] else LIMIT)
    assert 1 + drafts[p, g] <= n <= 1 + drafts[p, g] + accepted[p, g]
    assert (drawn[n:] == PAD).all()
    assert not out.log_probs[p, g, n:].any() and not out.draw_log_probs[p, g, n:].any()
    assert (out.log_probs[p, g, :n] < 0).all()


def test_recorded_log_probs_are_those_of_the_trainer_and_of_the_distribution_drawn_from(model, params):
  out, *_ = run(model, params)
  batch, placing = packed(out)

  @jax.jit
  def score(params):
    values, _, output = scoring.token_log_probs(model, params, batch)
    return values, transformer.logits(model, params, output.hidden)

  values, logits = jax.device_get(score(params))
  for i, (p, g) in enumerate(np.ndindex(4, GROUP)):
    row, start, n = placing.row[i], placing.offset[i] + lengths[p], out.lengths[p, g]
    np.testing.assert_allclose(out.log_probs[p, g, :n], values[row, start : start + n], atol=2e-5)
    for t in range(n):
      chances = slow_distribution(logits[row, start + t - 1], SAMPLING)
      assert out.draw_log_probs[p, g, t] == pytest.approx(np.log(chances[out.tokens[p, g, t]]), abs=1e-4)


def test_draws_are_the_same_for_any_split_of_the_batch_and_any_growth_of_the_cache(model, params):
  whole, *_ = run(model, params)
  sampling = dataclasses.replace(SAMPLING, chunk=LIMIT)
  parts = [run(model, params, which, sampling)[0] for which in (slice(0, 2), slice(2, 4))]
  same_draws(whole, jax.tree.map(lambda *x: np.concatenate(x), *parts))
  assert not np.array_equal(whole.tokens, run(model, params, seed=1)[0].tokens)


@pytest.mark.parametrize("kind", ["mixture", "dense"])
def test_draws_are_the_same_on_four_devices(model, dense, random_params, on_devices, kind):
  c, shape = (model, dict(expert=2, tensor=2)) if kind == "mixture" else (dense, dict(data=2, tensor=2))
  expected = run(c, likely_drafts(random_params(c)))
  with on_devices(**shape):
    found = run(c, likely_drafts(random_params(c)))
  same_draws(found[0], expected[0])
  np.testing.assert_array_equal(found[1:], expected[1:])


def test_the_sampler_speculates_where_it_is_asked_to_with_the_random_streams_it_has(model, monkeypatch):
  monkeypatch.setattr(speculative, "sample", lambda *args: (args, None, None))
  key = jax.random.key(5)
  found = s.sample.__wrapped__(
    "weights", tokens, lengths, rows, key, c=model, sampling=SAMPLING, group_size=GROUP, ends=ENDS, pad=PAD
  )
  expected = jax.random.fold_in(jax.random.fold_in(key, rows[2]), 1)
  assert found[0] is model and found[1] == "weights" and found[5:] == (SAMPLING, ENDS, PAD, False)
  assert found[4].shape == (4, GROUP) and found[4][2, 1] == expected


def test_a_model_without_the_layer_cannot_speculate(tiny_model, random_params):
  c = tiny_model()
  with pytest.raises(ValueError, match=r"sampling.speculate=True needs .*; set model.mtp=1 or speculate=False"):
    run(c, random_params(c))
