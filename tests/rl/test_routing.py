"""Routing replay: routes are recorded where they belong, and what goes through them is what the equations say."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from r1jax import config
from r1jax.mesh import to_global, to_local
from r1jax.models import scoring, transformer
from r1jax.rl import grpo, sampling as s
from r1jax.rl.advantages import group_advantages, make_experience
from r1jax.training import update as updates
from r1jax.types import Prompts

ENDS, PAD, GROUP, LIMIT = (2, 7), 0, 2, 8
SAMPLING = config.Sampling(temperature=0.8, max_prompt=6, max_response=LIMIT, chunk=4)
EXPERTS = config.Experts(routed=8, active=2, shared=1, hidden=16, groups=4, active_groups=2, route_scale=2.5)
random = np.random.default_rng(4)
tokens = random.integers(3, 24, (4, 6)).astype(np.int32)
lengths = np.array([6, 2, 4, 1], np.int32)
rows = np.array([5, 0, 9, 3], np.int32)
STAGE = config.RL(
  steps=1,
  group_size=GROUP,
  batch_size=8,
  rollout_size=8,
  sampling=SAMPLING,
  template=config.Template(text="{question}"),
  rewards=(),
  kl=0.0,
  row_length=32,
  microbatch_rows=4,
  optimizer=config.Optimizer(learning_rate=1e-3),
  checkpoints=config.Checkpoints(every=1),
  preflight=config.Preflight(),
  alarms=config.Alarms(),
)
LATENT = config.LatentAttention(heads=4, latent_rank=16, nope_head=8, rope_head=4, value_head=8)
KINDS = {"scanned": dict(), "unrolled": dict(unroll=True, remat="full", attention=LATENT)}


@pytest.fixture(scope="module")
def make_model(tiny_model, grouped_query):
  return lambda **fields: tiny_model(**(dict(experts=EXPERTS, attention=grouped_query) | fields))


def sharpened(params):
  """Larger logits: rows that end early, and probabilities worth comparing."""
  return params | {"head": params["head"] * 3}


def perturbed(params):
  """Another router: most tokens would now choose other experts."""
  experts = params["blocks"]["experts"]
  moved = {"router": experts["router"][:, ::-1], "router_bias": -experts["router_bias"]}
  return params | {"blocks": params["blocks"] | {"experts": experts | moved}}


def run(c, params, record=True, sampling=SAMPLING):
  inputs = to_global((tokens, lengths, rows))
  options = dict(c=c, sampling=sampling, group_size=GROUP, ends=ENDS, pad=PAD, record_routes=record)
  return to_local(s.sample(params, *inputs, jax.random.key(0), **options))


@pytest.fixture(scope="module")
def moved(make_model, random_params, on_devices):
  """A model, the router's weights turned round since its rollouts, and the experience made of those."""
  c = make_model()
  with on_devices():
    params = sharpened(random_params(c))
    return c, perturbed(params), experience_of(run(c, params))


def experience_of(out):
  """All rollouts in one micro-batch of 4 packed rows, with advantages that differ."""
  prompts = Prompts(tokens, lengths, rows, ())
  advantages = group_advantages(np.arange(8).reshape(4, 2) ** 1.5)
  (experience,) = make_experience(prompts, out, advantages, np.arange(8), STAGE)
  return experience


def sequences(batch):
  """(row, where) of every packed sequence."""
  for row in range(len(batch.segments)):
    for segment in range(1, batch.segments[row].max() + 1):
      yield row, np.flatnonzero(batch.segments[row] == segment)


# ---- the sampler


@pytest.mark.parametrize("kind", [*KINDS, "speculative"])
def test_recorded_routes_are_those_of_a_forward_pass_over_the_whole_rows(make_model, random_params, kind):
  c = make_model(**KINDS.get(kind, dict(mtp=1)))
  params = sharpened(random_params(c))
  out = run(c, params, sampling=dataclasses.replace(SAMPLING, speculate=kind == "speculative"))
  assert out.routes.dtype == out.prompt_routes.dtype == np.uint8
  layers = c.layers - c.dense_layers
  assert out.routes.shape == (4, GROUP, LIMIT, layers, 2) and out.prompt_routes.shape == (4, 6, layers, 2)
  experience = experience_of(out)
  batch, given = jax.device_get((experience.batch, experience.routes))
  forward = jax.jit(functools.partial(transformer.apply, c, record=True))
  own = np.asarray(forward(params, *to_global((batch.tokens, batch.positions, batch.segments))).routes)
  assert len(list(sequences(batch))) == 4 * GROUP
  for row, where in sequences(batch):
    np.testing.assert_array_equal(np.sort(given[row, where[:-1]]), np.sort(own[row, where[:-1]]))
    assert (given[row, where[-1]] == -1).all()
  assert (given[batch.segments == 0] == -1).all()


def test_recording_draws_the_same_and_is_nothing_where_it_is_off(make_model, random_params):
  c = make_model()
  params = sharpened(random_params(c))
  off, on = run(c, params, record=False), run(c, params)
  assert off.routes is None and off.prompt_routes is None
  jax.tree.map(np.testing.assert_array_equal, off, on.replace(routes=None, prompt_routes=None))
  assert experience_of(off).routes is None


# ---- the trainer


@functools.partial(jax.jit, static_argnums=0)
def score(c, params, batch, routes):
  values, _, out = scoring.token_log_probs(c, params, batch, routes)
  return values, out


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_weights_that_sampled_replay_changes_nothing(make_model, random_params, kind):
  c = make_model(**KINDS[kind])
  params = sharpened(random_params(c))
  experience = experience_of(run(c, params))
  (replayed, out), (plain, ordinary) = (score(c, params, experience.batch, x) for x in (experience.routes, None))
  assert ordinary.agreement is None and (np.asarray(out.agreement) == 1).all()
  np.testing.assert_allclose(replayed, plain, atol=1e-6)  # the experts of a token may be summed in another order
  np.testing.assert_array_equal(out.load, ordinary.load)
  drawn = np.asarray(experience.batch.weight) > 0
  np.testing.assert_allclose(np.asarray(replayed)[drawn], np.asarray(experience.log_probs)[drawn], atol=2e-5)


def test_in_bfloat16_where_some_routes_differ_replay_brings_sampler_and_trainer_closer(make_model, random_params):
  experts = config.Experts(routed=64, active=6, shared=1, hidden=16)
  c = make_model(width=64, layers=7, experts=experts, activations="bfloat16")
  params = sharpened(random_params(c))
  experience = experience_of(run(c, params))
  drawn = np.asarray(experience.batch.weight) > 0
  replayed, own = (score(c, params, experience.batch, routes) for routes in (experience.routes, None))
  off = lambda values: np.abs(np.asarray(values) - np.asarray(experience.log_probs))[drawn].mean()
  assert 0.95 < replayed[1].agreement.mean() < 0.9999
  assert off(replayed[0]) < 0.6 * off(own[0])  # what is left is the rounding of the products


def test_with_another_router_log_probs_load_and_agreement_are_those_of_the_given_experts(moved):
  c, params, experience = moved
  values, out = jax.device_get(score(c, params, experience.batch, experience.routes))
  plain, _ = jax.device_get(score(c, params, experience.batch, None))
  batch, routes = jax.device_get((experience.batch, experience.routes))
  weights = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(params))
  load, shares = np.zeros((2, 8)), []
  for row, where in sequences(batch):
    expected, taken, agreement = slow_log_probs(weights, batch.tokens[row, where], routes[row, where])
    np.testing.assert_allclose(values[row, where[1:]], expected, atol=2e-5)
    assert np.abs(plain[row, where[1:]] - expected).max() > 1e-3  # what the router chooses now is another network
    np.testing.assert_allclose(out.agreement[row, where], agreement, atol=1e-6)
    shares += agreement.tolist()
    for layer, experts in zip((0, 1), taken):
      np.add.at(load[layer], experts.reshape(-1), 1)
  np.testing.assert_array_equal(out.load, load)
  assert 0.1 < np.mean(shares) < 0.9


def test_the_gradient_is_that_of_the_given_experts_through_the_current_gates(moved):
  c, params, experience = moved
  batch, routes = jax.device_get((experience.batch, experience.routes))
  factor = np.where(batch.weight > 0, random.normal(size=batch.weight.shape), 0)

  @jax.jit
  def gradient(params):
    value = lambda params: (scoring.token_log_probs(c, params, experience.batch, experience.routes)[0] * factor).sum()
    return jax.grad(value)(params)

  found = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(gradient(params)))
  assert np.abs(found["blocks"]["experts"]["router"]).max() > 1e-3
  assert not found["blocks"]["experts"]["router_bias"].any()
  weights = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(params))

  def slow(weights):
    return sum(
      (slow_log_probs(weights, batch.tokens[row, where], routes[row, where])[0] * factor[row, where[1:]]).sum()
      for row, where in sequences(batch)
    )

  def along(direction):
    up, down = (slow(jax.tree.map(lambda w, d: w + sign * d, weights, direction)) for sign in (1e-6, -1e-6))
    expected = (up - down) / 2e-6
    products = jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), found, direction))
    assert sum(products) == pytest.approx(expected, rel=1e-3)

  nothing = jax.tree.map(np.zeros_like, weights)
  router = {"router": random.normal(size=weights["blocks"]["experts"]["router"].shape)}
  along(nothing | {"blocks": nothing["blocks"] | {"experts": nothing["blocks"]["experts"] | router}})
  everything = jax.tree.map(lambda w: random.normal(size=w.shape), weights)
  everything["blocks"]["experts"]["router_bias"] *= 0  # it chooses for the last token of a sequence
  along(everything)


def test_loss_gradient_and_load_of_replayed_routes_are_the_same_on_eight_devices(make_model, random_params, on_devices):
  c = make_model(remat="full")
  loss = functools.partial(grpo.loss, c, STAGE)

  def accumulated():
    params = sharpened(random_params(c))
    out = run(c, params)
    params, experience = perturbed(params), experience_of(out)
    total = updates.zeros(params, experience, loss=loss)
    return out, jax.device_get(updates.accumulate(params, total, experience, loss=loss))

  out, (gradients, (metrics, load)) = accumulated()
  assert 0.1 < metrics["expert/agreement"] / metrics["policy/weight"] < 0.9
  with on_devices(data=2, expert=2, tensor=2):
    found_out, (found, (found_metrics, found_load)) = accumulated()
  np.testing.assert_array_equal(found_out.tokens, out.tokens)
  np.testing.assert_array_equal(found_load, load)
  close = lambda atol: functools.partial(np.testing.assert_allclose, atol=atol)
  jax.tree.map(close(2e-5), found_metrics, metrics)
  jax.tree.map(close(5e-5), found, gradients)


def test_the_agreement_in_the_metrics_is_that_of_the_tokens_before_the_trained_ones(moved):
  c, params, experience = moved
  agreement = np.asarray(score(c, params, experience.batch, experience.routes)[1].agreement)
  weight = np.asarray(experience.batch.weight)
  expected = sum(weight[row, t] * agreement[row, t - 1] for row, t in zip(*np.nonzero(weight)))
  _, (metrics, _) = jax.jit(functools.partial(grpo.loss, c, STAGE))(params, experience)
  assert metrics["expert/agreement"] == pytest.approx(expected, abs=1e-5)


# ---- the transformer with grouped-query attention, one token at a time, float64

sigmoid = lambda z: 1 / (1 + np.exp(-z))


def norm(x, scale):
  return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def swiglu(x, w):
  z = x @ w["gate"]
  return (z * sigmoid(z) * (x @ w["up"])) @ w["down"]


def turned(x, position):
  half = x.shape[-1] // 2
  angle = position * 10_000.0 ** (-np.arange(half) / half)
  a, b = x[..., :half], x[..., half:]
  return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)


def slow_attention(x, w):
  """4 heads of 8 that share 2 keys and values: x[t, d] -> [t, d]."""
  query, key, value = (x @ w[name] + w[f"{name}_bias"] for name in ("query", "key", "value"))
  query, key, value = query.reshape(-1, 4, 8), key.reshape(-1, 2, 8), value.reshape(-1, 2, 8)
  query, key = (np.stack([turned(row, t) for t, row in enumerate(each)]) for each in (query, key))
  y = np.zeros(query.shape)
  for t, head in np.ndindex(query.shape[:2]):
    scores = key[: t + 1, head // 2] @ query[t, head] * 8**-0.5
    chances = np.exp(scores - scores.max())
    y[t, head] = chances / chances.sum() @ value[: t + 1, head // 2]
  return y.reshape(len(x), -1) @ w["out"]


def slow_choice(biased):
  """The best 2 of the 2 groups of 2 with the largest sums."""
  groups = np.argsort(-biased.reshape(4, 2).sum(1))[:2]
  allowed = np.where(np.isin(np.arange(8) // 2, groups), biased, -np.inf)
  return np.argsort(-allowed)[:2]


def slow_experts(x, w, given):
  """x[t, d] through the given experts [t, k], its own where they are -1: y, those taken, how many it would choose."""
  y, taken, agreed = swiglu(x, w["shared"]), np.array(given), np.zeros(len(x))
  for t, row in enumerate(x):
    scores = sigmoid(row @ w["router"])
    own = slow_choice(scores + w["router_bias"])
    if given[t, 0] == -1:
      taken[t] = own
    agreed[t] = np.isin(taken[t], own).mean()
    for i in taken[t]:
      gate = scores[i] / scores[taken[t]].sum() * EXPERTS.route_scale
      y[t] += gate * swiglu(row, {name: w[name][i] for name in ("gate", "up", "down")})
  return y, taken, agreed


def slow_log_probs(weights, ids, routes):
  """Log-probs of ids[1:], the experts taken [layers][t, k] and the share of them that would be chosen, [t]."""
  x, taken, agreed = weights["embedding"][ids], [], []
  layers = [jax.tree.map(lambda w: w[0], weights["dense_blocks"])]
  layers += [jax.tree.map(lambda w, i=i: w[i], weights["blocks"]) for i in range(2)]
  for number, w in enumerate(layers):
    x = x + slow_attention(norm(x, w["attention_norm"]), w["attention"])
    h = norm(x, w["feed_forward_norm"])
    if number == 0:
      x = x + swiglu(h, w["feed_forward"])
      continue
    y, experts, share = slow_experts(h, w["experts"], routes[:, number - 1])
    x, taken, agreed = x + y, [*taken, experts], [*agreed, share]
  z = norm(x, weights["norm"]) @ weights["head"].T
  chances = z - np.log(np.exp(z).sum(-1, keepdims=True))
  return chances[np.arange(len(ids) - 1), ids[1:]], taken, np.mean(agreed, axis=0)
