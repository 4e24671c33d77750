"""One update: the same on one device and on eight, in one micro-batch and in four, and harmless when not finite."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1jax import config, mesh
from r1jax.rl import grpo
from r1jax.training import optimizer as optimizers, state as states, update as updates
from r1jax.training.checkpoints import Checkpoints
from r1jax.types import Experience, TokenBatch

ROWS, LENGTH = 8, 12
STAGE = config.RL(
  steps=4,
  sampling=config.Sampling(max_prompt=4, max_response=8),
  template=config.Template(text="{question}"),
  rewards=(),
  kl=0.05,
  row_length=LENGTH,
  microbatch_rows=ROWS,
  # A large epsilon keeps Adam's first step, else a sign, from blowing up rounding errors of tiny gradients.
  optimizer=config.Optimizer(learning_rate=1e-2, epsilon=1e-3, clip_norm=0.5),
  checkpoints=config.Checkpoints(every=1),
  preflight=config.Preflight(),
  alarms=config.Alarms(),
)
OPTIMIZER = optimizers.make(STAGE.optimizer, STAGE.steps)


def experience() -> Experience:
  random = np.random.default_rng(9)
  shape = (ROWS, LENGTH)
  size = random.integers(6, LENGTH + 1, (ROWS, 1))
  real = np.arange(LENGTH) < size
  trained = real & (np.arange(LENGTH) >= 3)
  floats = lambda scale: (random.normal(size=shape) * scale).astype(np.float32)
  return Experience(
    batch=TokenBatch(
      tokens=random.integers(0, 24, shape).astype(np.int32) * real,
      positions=np.arange(LENGTH, dtype=np.int32) * real,
      segments=real.astype(np.int32),
      weight=(trained / trained.sum()).astype(np.float32),
    ),
    advantages=floats(1.0) * trained,
    log_probs=-3 + floats(0.3) * trained,
    reference_log_probs=-3 + floats(0.3) * trained,
  )


@pytest.fixture(scope="module")
def model(tiny_model):
  return tiny_model(
    experts=config.Experts(
      routed=8, active=2, shared=1, hidden=16, groups=4, active_groups=2, bias_rate=0.01, balance=0.01
    )
  )


@pytest.fixture(scope="module")
def loss(model):
  return functools.partial(grpo.loss, model, STAGE)


@pytest.fixture(scope="module")
def step(model, loss, random_params):
  """Sums the gradients of `count` micro-batches and updates, on the current mesh: all that came out, as numpy."""

  def make(count=1):
    state = states.create(random_params(model), OPTIMIZER)
    batches = mesh.microbatches(experience(), count)
    total = updates.zeros(state.params, batches[0], loss=loss)
    for batch in batches:
      total = updates.accumulate(state.params, total, batch, loss=loss)
    before = jax.device_get(state.params)
    gradients, (_, load) = jax.device_get(total)
    state, metrics = updates.update(state, batches, loss=loss, optimizer=OPTIMIZER, bias_rate=0.01)
    out = dict(gradients=gradients, load=load, before=before, state=state, metrics=metrics)
    return jax.device_get(out)

  return make


def assert_same_update(found, expected):
  for name, tolerance in (("load", 0), ("metrics", 2e-5), ("gradients", 2e-5), ("state", 2e-4)):
    close = lambda path, a, b: np.testing.assert_allclose(
      a, b, atol=tolerance, err_msg=f"{name}{jax.tree_util.keystr(path)}"
    )
    jax.tree_util.tree_map_with_path(close, found[name], expected[name])


@pytest.fixture(scope="module")
def on_one(step, on_devices):
  with on_devices():
    return step()


SHAPES = [dict(data=8), dict(data=4, expert=2), dict(data=2, expert=2, tensor=2), dict(expert=8)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_gradients_and_update_are_the_same_on_eight_devices(step, on_one, on_devices, shape):
  with on_devices(**shape):
    found = step()
  assert_same_update(found, on_one)


@pytest.mark.parametrize("count", [2, 4])
def test_micro_batches_sum_to_the_whole_batch(step, on_one, count):
  assert_same_update(step(count), on_one)


def test_the_update_is_clipped_adamw_with_decay_on_matrices_alone(on_one):
  rate, clip, decay = 1e-2, STAGE.optimizer.clip_norm, STAGE.optimizer.weight_decay
  norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in jax.tree.leaves(on_one["gradients"])))
  assert on_one["metrics"]["policy/gradient_norm"] == pytest.approx(norm, rel=1e-5) and norm > clip
  params, load = on_one["state"].params, on_one["load"]

  def check(path, before, gradient, after):
    name, g = path[-1].key, gradient * clip / norm
    expected = before - rate * g / (np.abs(g) + 1e-3)  # bias-corrected moments of one step are g and g^2
    if name == "router_bias":
      expected = before + 0.01 * np.sign(load.mean(1, keepdims=True) - load)
    elif not name.endswith("norm"):
      expected = expected - rate * decay * before
    np.testing.assert_allclose(after, expected, atol=1e-5, err_msg=jax.tree_util.keystr(path))

  jax.tree_util.tree_map_with_path(check, on_one["before"], on_one["gradients"], params)
  assert on_one["state"].step == 1 and on_one["metrics"]["policy/skipped"] == 0


def test_every_weight_has_a_gradient_but_the_routers_bias(on_one):
  for path, gradient in jax.tree_util.tree_leaves_with_path(on_one["gradients"]):
    assert gradient.any() == (path[-1].key != "router_bias"), jax.tree_util.keystr(path)


def test_max_violation_is_that_of_the_fullest_expert(on_one):
  load = on_one["load"]
  assert load.sum() == load.shape[0] * 2 * (experience().batch.segments > 0).sum()
  expected = (load.max(1) / load.mean(1) - 1).max()
  assert on_one["metrics"]["expert/max_violation"] == pytest.approx(expected, rel=1e-5)


def test_unused_is_the_share_of_the_experts_of_all_layers_without_a_token():
  state = states.create({"w": jnp.ones((2, 3)), "router_bias": jnp.zeros((2, 4))}, OPTIMIZER)
  load = jnp.array([[3.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
  total = jax.tree.map(jnp.zeros_like, state.params), ({}, load)
  _, metrics = updates.apply(state, total, optimizer=OPTIMIZER, bias_rate=0.01)
  assert metrics["expert/unused"] == 0.25


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(value):
  params = {"w": jnp.ones((2, 3)), "router_bias": jnp.zeros((1, 2))}
  state = states.create(params, OPTIMIZER)
  before = jax.device_get(state)
  gradients = {"w": jnp.ones((2, 3)).at[0, 1].set(value), "router_bias": jnp.zeros((1, 2))}
  total = gradients, ({"policy/loss": jnp.float32(0)}, jnp.array([[3.0, 1.0]]))
  state, metrics = updates.apply(state, total, optimizer=OPTIMIZER, bias_rate=0.01)
  assert metrics["policy/skipped"] == 1 and state.step == 1
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), before.params)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.optimizer), before.optimizer)
  total = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), gradients), total[1]
  state, metrics = updates.apply(state, total, optimizer=OPTIMIZER, bias_rate=0.01)
  assert metrics["policy/skipped"] == 0 and state.step == 2 and (state.params["w"] != 1).any()


def test_an_update_without_micro_batches_only_counts(loss):
  state = states.create({"w": jnp.ones((2, 3))}, OPTIMIZER)
  after, metrics = updates.update(state, [], loss=loss, optimizer=OPTIMIZER, bias_rate=0.01)
  assert after.step == 1 and metrics == {}
  assert after.params is state.params and after.optimizer is state.optimizer


def test_the_learning_rate_warms_up_then_follows_a_cosine_to_its_final_share():
  rate = optimizers.schedule(config.Optimizer(learning_rate=2.0, warmup=10, final_rate=0.1), 110)
  assert [float(rate(i)) for i in (0, 5, 10)] == pytest.approx([0.2, 1.1, 2.0], abs=1e-6)
  assert float(rate(60)) == pytest.approx(1.1, abs=1e-5) and float(rate(110)) == pytest.approx(0.2, abs=1e-5)
  constant = optimizers.schedule(config.Optimizer(learning_rate=2.0), 110)
  assert float(constant(0)) == float(constant(109)) == 2.0


def test_the_state_is_sharded_like_the_parameters(model, random_params, on_devices):
  with on_devices(data=2, expert=2):
    params = random_params(model)
    state = states.create(params, OPTIMIZER)
    moments = optax.tree_utils.tree_get(state.optimizer, "mu")
    jax.tree.map(lambda p, m: np.testing.assert_(p.sharding.spec == m.sharding.spec), params, moments)


@pytest.mark.parametrize("shape", [dict(), dict(data=2, expert=2)], ids=str)
def test_moments_on_the_host_change_nothing_and_stay_there(model, loss, random_params, on_devices, tmp_path, shape):
  rules = [optimizers.make(dataclasses.replace(STAGE.optimizer, offload=offload), 4) for offload in (False, True)]
  found = []
  with on_devices(**shape):
    batches = mesh.microbatches(experience(), 1)
    for rule in rules:
      state = states.create(random_params(model), rule)
      for _ in range(2):
        state, _ = updates.update(state, batches, loss=loss, optimizer=rule, bias_rate=0.01)
      found.append(jax.device_get(state))
    kinds = {x.sharding.memory_kind for x in jax.tree.leaves(state.optimizer) if x.ndim}
    abstract = states.abstract_state(states.abstract_params(model), rules[1])
    assert kinds == {"pinned_host"} == {x.sharding.memory_kind for x in jax.tree.leaves(abstract.optimizer) if x.ndim}
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
      checkpoints.save_if_due(2, 2, states.saved(state), {})
    new = states.create(random_params(model), rules[1])
    with Checkpoints(tmp_path, 1, 1) as checkpoints:
      resumed, _, _ = states.resume(checkpoints, new)
    assert kinds == {x.sharding.memory_kind for x in jax.tree.leaves(resumed.optimizer) if x.ndim}
    found.append(jax.device_get(resumed))
  for other in found[1:]:
    jax.tree.map(np.testing.assert_array_equal, other, found[0])
