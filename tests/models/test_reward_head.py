"""The reward model's head and losses against responses scored one at a time, without padding, in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import mesh
from r1jax.models import reward_head, transformer
from r1jax.training import state as states
from r1jax.training.update import accumulate, zeros

LENGTHS = np.array([[5, 12], [12, 5], [5, 5], [12, 12]], np.int32)  # two lengths: each is compiled apart
SAFE = np.array([1, 0, 1, 0], np.float32)
TOLERANCE = 1e-5  # of the largest number: float32 sums in another order


@pytest.fixture(scope="module")
def model(tiny_model):
  return tiny_model(layers=2, dense_layers=1)


def close(found, expected):
  expected = np.asarray(expected)
  np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * max(np.abs(expected).max(), 1e-3))


def drawn(model, random_params):
  """Parameters with a head that is not 0."""
  params = reward_head.add(model, random_params(model))
  head = np.random.default_rng(1).normal(size=model.width).astype(np.float32)
  return {**params, reward_head.NAME: jax.device_put(head, params[reward_head.NAME].sharding)}


def rows(k):
  """Four rows of k responses; what stands behind a response is noise that must not matter."""
  tokens = np.random.default_rng(0).integers(1, 24, (4, 2, 12)).astype(np.int32)
  weight = np.array([0.4, 0.3, 0.2, 0.1], np.float32)
  return reward_head.Responses(tokens[:, :k], LENGTHS[:, :k], SAFE, weight)


@functools.partial(jax.jit, static_argnames="model")
def one_at_a_time(model, params, ids, by_score, by_balance):
  """The score of one response alone, its balance, and their gradients, summed with these factors."""

  def score(params):
    policy = {name: value for name, value in params.items() if name != "reward_head"}
    positions = jnp.arange(ids.shape[1])[None]
    out = transformer.apply(model, policy, ids, positions, jnp.ones_like(ids))
    return (out.hidden[:, -1] * params["reward_head"]).sum(), out.balance.sum()

  found, pull = jax.vjp(score, params)
  return found, pull((by_score, by_balance))[0]


def score_of(model, params, tokens, length):
  return [float(x) for x in one_at_a_time(model, params, tokens[None, :length], 0.0, 0.0)[0]]


def slow_loss(model, params, batch):
  """(loss without balance, gradient): the formulas written out, the chain rule by hand."""
  total, gradients = 0.0, jax.tree.map(np.zeros_like, jax.device_get(params))
  for tokens, lengths, safe, weight in zip(batch.tokens, batch.lengths, batch.safe, batch.weight):
    scores = np.array([score_of(model, params, x, n)[0] for x, n in zip(tokens, lengths)])
    if len(scores) == 2:
      wrong = 1 / (1 + np.exp(scores[0] - scores[1]))  # probability of the wrong order
      total, by_score = total - weight * np.log(1 - wrong), [-weight * wrong, weight * wrong]
    else:
      p = 1 / (1 + np.exp(-scores[0]))
      total, by_score = total - weight * (safe * np.log(p) + (1 - safe) * np.log(1 - p)), [weight * (p - safe)]
    by_balance = model.experts.balance * weight / len(scores)
    for x, n, factor in zip(tokens, lengths, by_score):
      _, more = one_at_a_time(model, params, x[None, :n], float(factor), float(by_balance))
      gradients = jax.tree.map(np.add, gradients, jax.device_get(more))
  return total, gradients


def gradient(model, kind, random_params, microbatches):
  params = drawn(model, random_params)
  loss = functools.partial(reward_head.LOSSES[kind], model)
  parts = mesh.microbatches(rows(2 if kind == "pairwise" else 1), microbatches)
  total = zeros(params, parts[0], loss=loss)
  for part in parts:
    total = accumulate(params, total, part, loss=loss)
  return jax.device_get(total)


@pytest.mark.parametrize(
  "kind, microbatches, devices", [("pairwise", 1, 1), ("pairwise", 2, 1), ("pairwise", 1, 4), ("pointwise", 1, 1)]
)
def test_loss_and_gradient_are_those_of_responses_one_at_a_time(
  model, random_params, on_devices, kind, microbatches, devices
):
  expected, gradients = slow_loss(model, drawn(model, random_params), rows(2 if kind == "pairwise" else 1))
  with on_devices(**(dict(data=2, expert=2) if devices == 4 else {})):
    found, (metrics, _) = gradient(model, kind, random_params, microbatches)
  assert float(metrics["reward_model/loss"]) == pytest.approx(expected, rel=1e-5)
  jax.tree.map(close, found, gradients)
  assert np.abs(gradients["reward_head"]).max() > 0.1


def test_the_accuracy_counts_pairs_in_order_and_halves_ties(model, random_params):
  params, batch = drawn(model, random_params), rows(2)
  scores = [[score_of(model, params, x, n)[0] for x, n in zip(*row)] for row in zip(batch.tokens, LENGTHS)]
  loss = jax.jit(functools.partial(reward_head.pairwise_loss, model))
  _, (metrics, _) = loss(params, batch)
  expected = sum(w * (a > b) for w, (a, b) in zip(batch.weight, scores))
  assert float(metrics["reward_model/accuracy"]) == pytest.approx(float(expected))
  fresh = {**params, "reward_head": jnp.zeros_like(params["reward_head"])}
  _, (metrics, _) = loss(fresh, batch)
  assert float(metrics["reward_model/accuracy"]) == pytest.approx(0.5)
  assert float(metrics["reward_model/loss"]) == pytest.approx(np.log(2), abs=1e-6)


def test_scores_stand_at_every_token_and_that_of_a_sequence_at_its_end(model, random_params):
  params, batch = drawn(model, random_params), rows(2)
  ends = jax.jit(lambda *x: reward_head.end_scores(model, *x)[0])(params, batch.tokens, batch.lengths)
  ends, flat, last = np.asarray(ends).reshape(8), batch.tokens.reshape(8, 12), LENGTHS.reshape(8)
  positions = np.broadcast_to(np.arange(12, dtype=np.int32), (8, 12))
  segments = (positions < last[:, None]).astype(np.int32)
  everywhere = jax.jit(functools.partial(reward_head.scores, model))(params, flat, positions, segments)
  close(ends, np.asarray(everywhere)[np.arange(8), last - 1])
  close(ends, [score_of(model, params, x, n)[0] for x, n in zip(flat, last)])


def test_the_declared_weights_are_the_policys_and_the_head_on_every_mesh(model, on_devices):
  with on_devices(data=2, expert=2):
    params = states.init_params(model, 0, reward_head.declare)
    policy = states.init_params(model, 0)
    like = states.abstract_params(model, reward_head.declare)
    assert not np.asarray(params.pop(reward_head.NAME)).any()
    assert like.pop(reward_head.NAME).shape == (model.width,)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), jax.device_get(policy))
    jax.tree.map(lambda a, b: a.sharding == b.sharding or pytest.fail("sharding"), params, like)
