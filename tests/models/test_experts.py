"""Experts against one token at a time; routing and balance against the equations."""

import dataclasses
import functools

import jax
from jax.experimental.pallas.ops.tpu.megablox import gmm
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import config, mesh
from r1jax.mesh import to_global
from r1jax.models import experts as ex, products, transformer
from r1jax.training.update import move_bias

GROUPED = config.Experts(
  routed=8, active=3, shared=1, hidden=16, groups=4, active_groups=2, route_scale=2.5, balance=0.01
)
ROWS, LENGTH, WIDTH = 4, 6, 32
random = np.random.default_rng(1)
x = random.normal(size=(ROWS, LENGTH, WIDTH)).astype(np.float32)
valid = np.arange(LENGTH) < np.array([6, 4, 5, 1])[:, None]
draw = lambda *shape: (random.normal(size=shape) * shape[-2] ** -0.5).astype(np.float32)
weights = {
  "router": draw(WIDTH, 8),
  "router_bias": (0.3 * random.normal(size=8)).astype(np.float32),
  "gate": draw(8, WIDTH, 16),
  "up": draw(8, WIDTH, 16),
  "down": draw(8, 16, WIDTH),
  "shared": {"gate": draw(WIDTH, 16), "up": draw(WIDTH, 16), "down": draw(16, WIDTH)},
}
sigmoid = lambda z: 1 / (1 + np.exp(-z))


def slow_choice(biased, e):
  """Group by group, the best two; then expert by expert: the definition, for one token."""
  size = e.routed // e.groups
  strength = [sum(sorted(biased[g * size : (g + 1) * size])[-2:]) for g in range(e.groups)]
  groups = sorted(range(e.groups), key=lambda g: -strength[g])[: e.active_groups]
  allowed = [i for i in range(e.routed) if i // size in groups]
  return sorted(allowed, key=lambda i: -biased[i])[: e.active]


def slow_feed_forward(row, gate, up, down):
  z = row @ gate
  return (z * sigmoid(z) * (row @ up)) @ down


def slow_experts(x, weights, e):
  """DeepSeek-V3 eq. 12-16 for one token at a time, float64."""
  y = np.zeros(x.shape)
  for b, t in np.ndindex(x.shape[:2]):
    row = x[b, t].astype(np.float64)
    score = sigmoid(row @ weights["router"])
    chosen = slow_choice(score + weights["router_bias"], e)
    for i in chosen:
      share = score[i] / score[chosen].sum() * e.route_scale
      y[b, t] += share * slow_feed_forward(row, *(weights[name][i] for name in ("gate", "up", "down")))
    y[b, t] += slow_feed_forward(row, *(weights["shared"][name] for name in ("gate", "up", "down")))
  return y


@pytest.fixture
def run(tiny_model):
  """Experts on the current mesh, jitted: weights, x -> y, load, balance; and x on that mesh."""

  def make(e=GROUPED):
    module = ex.Experts(tiny_model(experts=e))
    real = to_global(valid)

    @jax.jit
    def forward(weights, x):
      y, routed = module.apply({"params": weights}, x, real)
      return y, routed.load, routed.balance

    return forward, to_global(x)

  return make


def interpret_the_kernel(monkeypatch):
  """Runs the TPU's kernel here, on matrices far smaller than its tiles have to be there."""
  monkeypatch.setattr(products, "LANES", 8)
  monkeypatch.setattr(products, "_kernel", lambda: functools.partial(gmm, interpret=True))


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_experts_match_one_token_at_a_time_by_the_products_of_every_platform(run, monkeypatch, platform):
  monkeypatch.setattr(mesh, "platform", lambda: platform)
  interpret_the_kernel(monkeypatch)
  module, rows = run()
  y, load, _ = module(weights, rows)
  np.testing.assert_allclose(y, slow_experts(x, weights, GROUPED), atol=2e-5)
  assert load.sum() == valid.sum() * GROUPED.active


@pytest.mark.parametrize(
  "width, hidden, side", [(7168, 1024, 1024), (2048, 1408, 512), (256, 128, 128), (900, 700, 256)]
)
def test_tiles_are_long_and_fill_up_little(width, hidden, side):
  assert products._side(width, hidden, 1024) == side


def test_the_products_of_every_platform_have_the_same_gradient(run, monkeypatch):
  interpret_the_kernel(monkeypatch)
  gradients = []
  for platform in ("cpu", "gpu", "tpu"):
    monkeypatch.setattr(mesh, "platform", lambda: platform)
    module, rows = run()
    gradients.append(jax.grad(lambda w: (module(w, rows)[0] ** 2).sum())(weights))
  jax.tree.map(lambda a, *others: [np.testing.assert_allclose(a, b, atol=1e-4) for b in others], *gradients)


def test_the_gradient_matches_finite_differences_of_the_slow_version(run):
  module, rows = run()
  direction = jax.tree.map(lambda w: random.normal(size=w.shape) * 1e-6, weights)
  direction["router_bias"] *= 0
  target = random.normal(size=x.shape)
  gradient = jax.grad(lambda w: (module(w, rows)[0] * target.astype(np.float32)).sum())(weights)
  up, down = (
    (slow_experts(x, jax.tree.map(lambda w, d: w + sign * d, weights, direction), GROUPED) * target).sum()
    for sign in (1, -1)
  )
  along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (np.asarray(g, np.float64) * d).sum(), gradient, direction)))
  assert along == pytest.approx((up - down) / 2, rel=1e-3)


def test_group_limited_routing_matches_a_slow_loop_even_for_negative_scores():
  scores = random.normal(size=(1, 500, 8)).astype(np.float32)
  bias = np.full(8, -2.0, np.float32)  # a ruled out group masked with 0 would win
  chosen = np.asarray(ex.choose(jnp.array(scores), jnp.array(bias), GROUPED))[0]
  for t in range(500):
    assert sorted(chosen[t]) == sorted(slow_choice(scores[0, t] + bias, GROUPED))


def test_the_bias_chooses_experts_but_is_not_in_their_gates():
  bias = np.zeros(8, np.float32)
  bias[5] = 10.0
  routed = ex.route(jnp.array(x), weights["router"], jnp.array(bias), jnp.array(valid), GROUPED)
  assert (routed.expert == 5).any(-1).all()
  scores = sigmoid(x.astype(np.float64) @ weights["router"])
  picked = np.take_along_axis(scores, np.asarray(routed.expert), -1)
  np.testing.assert_allclose(routed.gate, 2.5 * picked / picked.sum(-1, keepdims=True), rtol=1e-5)


LIMITED = config.Experts(  # DeepSeek-V2
  routed=8, active=3, shared=1, hidden=16, groups=4, active_groups=2, group_score="max", scoring="softmax",
  normalize=False, route_scale=16.0, bias_rate=0.0,
)  # fmt: skip


def slow_softmax(row, e):
  """Scores of one token, and who is chosen: groups by their best, then experts by their own."""
  z = np.exp(row.astype(np.float64) @ weights["router"])
  scores, size = z / z.sum(), e.routed // e.groups
  groups = sorted(range(e.groups), key=lambda g: -max(scores[g * size : (g + 1) * size]))[: e.active_groups]
  allowed = [i for i in range(e.routed) if i // size in groups]
  return scores, sorted(allowed, key=lambda i: -scores[i])[: e.active]


@pytest.mark.parametrize("normalize", [False, True])
def test_softmax_gates_are_limited_to_groups_by_their_best_and_normalised_where_told(normalize):
  e = dataclasses.replace(LIMITED, normalize=normalize)
  routed = ex.route(jnp.array(x), weights["router"], 0.0, jnp.array(valid), e)
  for b, t in np.ndindex(x.shape[:2]):
    scores, chosen = slow_softmax(x[b, t], e)
    np.testing.assert_array_equal(routed.expert[b, t], chosen)
    total = scores[chosen].sum() if normalize else 1.0
    np.testing.assert_allclose(routed.gate[b, t], 16.0 * scores[chosen] / total, rtol=1e-5)


def test_the_balance_of_softmax_gates_counts_who_was_chosen():
  routed = ex.route(jnp.array(x), weights["router"], 0.0, jnp.array(valid), LIMITED)
  for b in range(ROWS):
    rows = [slow_softmax(row, LIMITED) for row in x[b, valid[b]]]
    times = np.array([sum(i in chosen for _, chosen in rows) for i in range(8)])
    share = np.mean([scores for scores, _ in rows], axis=0)
    assert routed.balance[b] == pytest.approx((8 / (3 * len(rows)) * times * share).sum(), rel=1e-5)


def test_masking_groups_with_minus_infinity_or_with_0_is_the_same_for_softmax_scores():
  scores = random.dirichlet(np.full(8, 0.3), size=(1, 500)).astype(np.float32)
  e = dataclasses.replace(LIMITED, active=2)
  chosen = np.asarray(ex.choose(jnp.array(scores), 0.0, e))[0]
  for t in range(500):
    groups = np.argsort(-scores[0, t].reshape(4, 2).max(1), kind="stable")[:2]
    masked = np.where(np.isin(np.arange(8) // 2, groups), scores[0, t], 0.0)
    np.testing.assert_array_equal(chosen[t], np.argsort(-masked, kind="stable")[:2])


def test_softmax_gates_have_no_selection_bias(tiny_model):
  assert "router_bias" not in transformer.declare(tiny_model(experts=LIMITED))["blocks"]["experts"]
  assert "router_bias" in transformer.declare(tiny_model(experts=GROUPED))["blocks"]["experts"]
  with pytest.raises(ValueError, match=r"bias_rate=0.001 has no bias to move where scoring='softmax'; set it to 0"):
    dataclasses.replace(LIMITED, bias_rate=0.001).validate()


def test_the_bias_has_no_gradient():
  def value(bias):
    routed = ex.route(jnp.array(x), weights["router"], bias, jnp.array(valid), GROUPED)
    return (routed.gate**2).sum() + routed.balance.sum() + routed.load.sum()

  assert not jax.grad(value)(jnp.array(weights["router_bias"])).any()


def test_the_bias_falls_for_an_overloaded_expert_and_rises_for_an_idle_one():
  params = {"router": jnp.ones((1, 2, 3)), "router_bias": jnp.zeros((1, 3))}
  moved = move_bias(params, jnp.array([[9.0, 3.0, 0.0]]), 0.01)
  np.testing.assert_allclose(moved["router_bias"], [[-0.01, 0.01, 0.01]], rtol=1e-6)
  np.testing.assert_array_equal(moved["router"], params["router"])
  even = move_bias(params, jnp.array([[4.0, 4.0, 4.0]]), 0.01)
  assert not even["router_bias"].any()


def test_the_balance_loss_follows_its_equations_over_real_tokens_alone():
  routed = ex.route(jnp.array(x), weights["router"], weights["router_bias"], jnp.array(valid), GROUPED)
  for b in range(ROWS):
    scores = sigmoid(x[b, valid[b]].astype(np.float64) @ weights["router"])
    tokens, expected = len(scores), 0.0
    for i in range(8):
      times = sum(i in np.argsort(-s)[: GROUPED.active] for s in scores)  # eq. 18: by score, without the bias
      f = 8 / (GROUPED.active * tokens) * times
      p = sum(s[i] / s.sum() for s in scores) / tokens
      expected += f * p
    assert routed.balance[b] == pytest.approx(expected, rel=1e-5)


def test_padding_is_not_in_the_load():
  routed = ex.route(jnp.array(x), weights["router"], weights["router_bias"], jnp.array(valid), GROUPED)
  counted = np.zeros(8)
  for b, t in zip(*np.nonzero(valid)):
    counted[np.asarray(routed.expert)[b, t]] += 1
  np.testing.assert_array_equal(routed.load, counted)


def slow_ragged_all_to_all(operand, output, sent_from, sent, sent_to, got, *, axis_name):
  """What the TPU does: every row of everybody looked at. NaN where senders and receivers do not agree."""
  rows, *offsets = (jax.lax.all_gather(x, axis_name) for x in (operand, sent_from, sent, sent_to))
  me, number = jax.lax.axis_index(axis_name), jnp.arange(len(operand))
  for origin in range(len(got)):
    first, size, place = (x[origin, me] for x in offsets)
    mine = (number >= first) & (number < first + size)
    output = output.at[jnp.where(mine, place + number - first, len(output))].set(rows[origin], mode="drop")
    output = jnp.where((size == got[origin]) & (place + size <= len(output)), output, jnp.nan)
  return output


@pytest.fixture(params=["even", "ragged"])
def way(request, monkeypatch):
  """How rows are exchanged and multiplied: as everywhere, or as on a TPU, whose collective the CPU lacks."""
  if request.param == "ragged":
    monkeypatch.setattr(mesh, "platform", lambda: "tpu")
    monkeypatch.setattr(jax.lax, "ragged_all_to_all", slow_ragged_all_to_all)
    interpret_the_kernel(monkeypatch)


@pytest.mark.parametrize("slack", [0.1, 0.7, 8.0])  # many rounds, a few, one
def test_experts_on_four_devices_match_one_token_at_a_time_in_any_number_of_rounds(run, on_devices, slack, way):
  e = config.Experts(
    routed=8, active=3, shared=1, hidden=16, groups=4, active_groups=2, route_scale=2.5, exchange=slack
  )
  with on_devices(expert=4):
    module, rows = run(e)
    y, _, _ = module(weights, rows)
  np.testing.assert_allclose(y, slow_experts(x, weights, e), atol=2e-5)


@pytest.mark.parametrize("shape", [dict(expert=4), dict(expert=2, tensor=2), dict(data=2, expert=2)])
@pytest.mark.parametrize("slack", [0.1, 1.1])
def test_many_rounds_of_exchange_have_the_gradient_of_one_device(run, on_devices, shape, slack, way):
  e = config.Experts(
    routed=8, active=3, shared=1, hidden=16, groups=4, active_groups=2, route_scale=2.5, exchange=slack
  )

  def gradient():
    module, rows = run(e)
    return jax.grad(lambda *args: (module(*args)[0] ** 2).sum(), argnums=(0, 1))(weights, rows)

  expected = gradient()
  with on_devices(**shape):
    found = gradient()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-4), found, expected)


@pytest.mark.parametrize("shape", [{}, dict(expert=2)])
def test_tokens_in_parts_have_the_results_and_the_gradient_of_all_at_once(run, on_devices, monkeypatch, shape):
  def results():
    with on_devices(**shape):
      module, rows = run()
      square = lambda *args: (module(*args)[0] ** 2).sum()
      return module(weights, rows)[0], jax.grad(square, argnums=(0, 1))(weights, rows)

  expected = results()
  monkeypatch.setattr(ex, "ASSIGNED", 15)  # parts of five tokens with three experts each, the last one filled up
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), results(), expected)


def test_given_experts_have_the_gates_of_the_current_router_and_none_given_are_chosen():
  given = np.stack([random.permutation(8)[:3] for _ in range(ROWS * LENGTH)]).reshape(ROWS, LENGTH, 3).astype(np.int16)
  given[0] = -1
  for e in (GROUPED, LIMITED):
    bias = weights["router_bias"] if e is GROUPED else 0.0
    own, routed = (ex.route(jnp.array(x), weights["router"], bias, jnp.array(valid), e, g) for g in (None, given))
    np.testing.assert_array_equal(routed.expert[0], own.expert[0])
    np.testing.assert_array_equal(routed.expert[1:], given[1:])
    logits = x.astype(np.float64) @ weights["router"]
    scores = sigmoid(logits) if e is GROUPED else np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    picked = np.take_along_axis(scores, np.asarray(routed.expert), -1)
    total = picked.sum(-1, keepdims=True) if e.normalize else 1.0
    np.testing.assert_allclose(routed.gate, e.route_scale * picked / total, rtol=1e-5)
    counted = np.bincount(np.asarray(routed.expert)[valid].reshape(-1), minlength=8)
    np.testing.assert_array_equal(routed.load, counted)
    for b, t in np.ndindex(ROWS, LENGTH):
      same = set(np.asarray(routed.expert[b, t]).tolist()) & set(np.asarray(own.expert[b, t]).tolist())
      assert routed.agreement[b, t] == pytest.approx(len(same) / 3)
    assert own.agreement is None


@pytest.mark.parametrize("count, dtype", [(1, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_routes_are_recorded_in_the_smallest_integers_that_number_the_experts(count, dtype):
  assert ex.route_dtype(dataclasses.replace(GROUPED, routed=count)) == dtype
