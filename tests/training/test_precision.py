"""Parameters and moments in bfloat16: rounding that is right on average, masters that lose nothing, and what it costs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np
import pytest

from r1jax import config, mesh
from r1jax.models.scoring import next_token_loss
from r1jax.training import optimizer as optimizers, precision, state as states, update as updates
from r1jax.types import TokenBatch

MODES = ("float32", "masters", "stochastic")
BFLOAT16 = jnp.bfloat16


def optimizer(**fields) -> config.Optimizer:
  # A large epsilon keeps Adam's first steps, else signs, from blowing up rounding errors of tiny gradients.
  made = config.Optimizer(**(dict(learning_rate=1e-2, epsilon=1e-3, clip_norm=0.5) | fields))
  made.validate("stage")
  return made


def batch(seed=0, rows=8, length=12) -> TokenBatch:
  """Tokens whose successor is their successor modulo 24, mostly: there is something to learn."""
  random = np.random.default_rng(seed)
  tokens = (random.integers(0, 24, (rows, 1)) + np.arange(length)) % 24
  tokens = np.where(random.random(tokens.shape) < 0.1, 0, tokens).astype(np.int32)
  ones = np.ones_like(tokens)
  positions = np.broadcast_to(np.arange(length, dtype=np.int32), tokens.shape)
  return TokenBatch(tokens, positions, ones, (positions > 0) / np.float32(rows * (length - 1)))


@pytest.fixture(scope="module")
def model(tiny_model, grouped_query):
  return tiny_model(layers=2, attention=grouped_query, experts=None, dense_layers=0)


def train(model, setting, params, steps=3, state=None):
  """Makes `steps` updates on the current mesh: the state, and the loss of each."""
  rule, loss, losses = rule_of(setting), loss_of(model), []
  state = states.create(params, rule, setting.parameters) if state is None else state
  for step in range(int(state.step), int(state.step) + steps):
    state, metrics = updates.update(state, mesh.microbatches(batch(step), 1), loss=loss, optimizer=rule, bias_rate=0.01)
    losses.append(float(metrics["policy/loss"]))
  return state, losses


@functools.cache  # what is compiled for one is used by all
def loss_of(model):
  return functools.partial(next_token_loss, model)


@functools.cache
def rule_of(setting):
  return optimizers.make(setting, 100)


def assert_equal(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(jax.device_get(found)), jax.tree.leaves(jax.device_get(expected)), strict=True):
    assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


# ---- rounding at random


def neighbours(x):
  """The bfloat16 towards zero and the next one away from it, as float32, by cutting bits in numpy."""
  bits = np.float32(x).view(np.uint32) & np.uint32(0xFFFF0000)
  return bits.view(np.float32), (bits + np.uint32(0x10000)).view(np.float32)


def numbers():
  random = np.random.default_rng(3)
  drawn = random.normal(size=200) * 10.0 ** random.integers(-20, 20, 200)
  between = [1 + 2**-8 + 2**-20, 2 - 2**-20, -(1 - 2**-12), 2**-126 * 1.001, 3e-39, 1e30, -1e-30]
  return np.array([*drawn, *between], np.float32)


def test_rounding_at_random_gives_one_of_the_two_neighbours_and_is_right_on_average():
  x, draws = numbers(), 4096
  found = np.asarray(precision.round_at_random(jnp.broadcast_to(x, (draws, x.size)), jax.random.key(1)))
  assert found.dtype == BFLOAT16
  found = found.astype(np.float64)
  low, high = (n.astype(np.float64) for n in neighbours(x))
  assert ((found == low) | (found == high)).all()
  share = (x - low) / (high - low)
  error = np.sqrt(share * (1 - share) / draws)
  off = np.abs(((found - low) / (high - low)).mean(0) - share) / np.maximum(error, 1e-9)
  assert off.max() < 4.5  # standard errors; 1 in 700 that one of the 207 is further off
  assert abs((off**2).mean() - 1) < 0.4


def test_numbers_that_bfloat16_has_and_those_without_end_stay_what_they_are():
  x = jnp.array([0.0, -0.0, 1.0, -2.5, 2.0**-130, 3.0e38, jnp.inf, -jnp.inf, jnp.nan], BFLOAT16)
  for seed in range(20):
    found = precision.round_at_random(x.astype(jnp.float32), jax.random.key(seed))
    assert np.asarray(found).view(np.uint16).tolist() == np.asarray(x).view(np.uint16).tolist()


def test_updates_too_small_for_bfloat16_move_the_parameter_on_average():
  size, steps, small = 20_000, 50, -1e-4  # an update of a fortieth of the distance to the next number below
  add = jax.jit(lambda p, step: precision.add(p, {"w": jnp.full(size, small)}, step))
  params = {"w": jnp.ones(size, BFLOAT16)}
  lost = jnp.ones(size, BFLOAT16)
  for step in range(steps):
    params = add(params, jnp.int32(step))
    lost = (lost + small).astype(BFLOAT16)
  assert (lost == 1).all()
  moved = np.asarray(params["w"], np.float64) - 1
  assert abs(moved.mean() - steps * small) < 4 * moved.std() / np.sqrt(size)
  assert moved.std() > 0


def test_the_rounding_differs_by_step_and_path_and_by_nothing_else(on_devices):
  random = np.random.default_rng(0)
  p, u = (random.normal(size=(3, 8, 16)).astype(np.float32) * scale for scale in (1, 1e-4))

  def add(step, spec):
    at = NamedSharding(jax.sharding.get_mesh(), spec)
    params = {name: jax.device_put(jnp.asarray(p, BFLOAT16), at) for name in ("a", "b")}
    return jax.device_get(jax.jit(precision.add)(params, {n: jax.device_put(u, at) for n in params}, jnp.int32(step)))

  first = add(4, P())
  assert_equal(add(4, P()), first)
  assert (first["a"] != first["b"]).any() and (add(5, P())["a"] != first["a"]).any()
  for shape, spec in ((dict(data=4), P(None, "data")), (dict(data=2, tensor=2), P(None, "tensor", "data"))):
    with on_devices(**shape):
      assert_equal(add(4, spec), first)


# ---- training


@pytest.mark.parametrize("mode", MODES)
def test_the_state_takes_the_bytes_that_its_docstring_says(model, random_params, mode):
  line = next(line for line in states.__doc__.splitlines() if line.strip().startswith(f'"{mode}"'))
  params, masters, moments, together, moments16, together16 = (0 if n == "-" else int(n) for n in line.split()[1:])

  def a_weight(tree):
    """Bytes of a matrix's weight."""
    return sum(x.nbytes for x in matrices(tree)) / count

  matrices = lambda tree: [
    x for path, x in jax.tree_util.tree_leaves_with_path(tree) if jax.tree_util.keystr(path).endswith("['gate']")
  ]
  count = sum(x.size for x in matrices(random_params(model)))
  for kept, expected, whole in (("float32", moments, together), ("bfloat16", moments16, together16)):
    setting = optimizer(parameters=mode, moments=kept)
    state = states.create(random_params(model), rule_of(setting), mode)
    found = [a_weight(x) for x in (state.params, state.masters or {}, state.optimizer)]
    assert found == [params, masters, expected] and sum(found) == whole
    abstract = states.abstract_state(states.abstract_params(model), rule_of(setting), mode)
    same = lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype)
    assert all(jax.tree.leaves(jax.tree.map(same, abstract, state)))


@pytest.fixture(scope="module")
def with_experts(tiny_model, grouped_query):
  experts = config.Experts(routed=4, active=2, shared=1, hidden=16, bias_rate=0.01)
  return tiny_model(layers=1, dense_layers=0, attention=grouped_query, experts=experts)


def test_norms_and_biases_stay_float32(with_experts, random_params):
  state = states.create(random_params(with_experts), rule_of(optimizer()), "stochastic")
  kept = {path[-1].key for path, x in jax.tree_util.tree_leaves_with_path(state.params) if x.dtype == jnp.float32}
  assert kept == {"norm", "attention_norm", "feed_forward_norm", "query_bias", "key_bias", "value_bias", "router_bias"}


def test_masters_are_what_a_float32_optimizer_makes_of_gradients_at_rounded_weights(with_experts, random_params):
  setting = optimizer(parameters="masters", weight_decay=0.2)
  state, _ = train(with_experts, setting, random_params(with_experts), 4)
  slow = slow_masters(with_experts, setting, random_params(with_experts), 4)
  off = distance(state.masters, slow)
  # A number whose last bits differ may be rounded to another bfloat16, a 256th away, and change the next gradient.
  assert off.max() < setting.learning_rate / 256 and (off > 2e-6).mean() < 0.01
  other, _ = train(with_experts, optimizer(weight_decay=0.2), random_params(with_experts), 4)
  assert (distance(other.params, slow) > 2e-6).mean() > 0.5
  assert_equal(state.params, nearest(state.masters))


def distance(params, others):
  """Absolute difference of every number."""
  return np.concatenate([np.abs(a - b).ravel() for a, b in zip(*map(jax.tree.leaves, (params, others)))])


def nearest(params):
  """Matrices rounded to the nearest bfloat16, written out."""
  vector = lambda path: path[-1].key.endswith(("norm", "bias"))
  return jax.tree_util.tree_map_with_path(
    lambda path, x: jnp.asarray(x) if vector(path) else jnp.asarray(x).astype(BFLOAT16), params
  )


def slow_masters(model, setting, params, steps):
  """AdamW in numpy and float64, on gradients of a float32 function at rounded weights that are rounded themselves."""
  back = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float32), tree)
  gradient = jax.jit(jax.grad(lambda p, b: next_token_loss(model, p, b), has_aux=True))
  masters = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  first = second = jax.tree.map(np.zeros_like, masters)
  for step in range(steps):
    g, (_, load) = gradient(back(nearest(masters)), mesh.to_global(batch(step)))
    g = jax.tree.map(lambda x: np.asarray(x, np.float64), back(nearest(g)))
    norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(g)))
    g = jax.tree.map(lambda x: x * min(1, setting.clip_norm / norm), g)
    first = jax.tree.map(lambda m, x: setting.beta1 * m + (1 - setting.beta1) * x, first, g)
    second = jax.tree.map(lambda v, x: setting.beta2 * v + (1 - setting.beta2) * x**2, second, g)

    def moved(path, w, m, v):
      name = path[-1].key
      if name == "router_bias":
        mean = load.mean(1, keepdims=True)
        return w + 0.01 * np.sign(mean - load)
      m, v = m / (1 - setting.beta1 ** (step + 1)), v / (1 - setting.beta2 ** (step + 1))
      decay = 0 if name.endswith(("norm", "bias")) else setting.weight_decay
      return w - setting.learning_rate * (m / (np.sqrt(v) + setting.epsilon) + decay * w)

    masters = jax.tree_util.tree_map_with_path(moved, masters, first, second)
  return masters


@pytest.mark.parametrize("mode", ["float32", "stochastic"])
def test_gradients_of_micro_batches_add_up_in_float32(model, random_params, mode):
  state = states.create(random_params(model), rule_of(optimizer()), mode)
  loss = loss_of(model)
  parts = mesh.microbatches(batch(), 4)
  total = updates.zeros(state.params, parts[0], loss=loss)
  assert {x.dtype for x in jax.tree.leaves(total)} == {jnp.dtype("float32")}
  one = [updates.accumulate(state.params, jax.tree.map(jnp.copy, total), part, loss=loss)[0] for part in parts]
  for part in parts:
    total = updates.accumulate(state.params, total, part, loss=loss)
  expected = jax.tree.map(lambda *xs: np.sum(np.array(xs, np.float64), axis=0), *one)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9), total[0], expected)


@pytest.mark.parametrize("parameters, moments", [("masters", "bfloat16"), ("stochastic", "float32")])
def test_a_state_saved_and_restored_goes_on_as_if_it_had_not_been(model, random_params, parameters, moments):
  setting = optimizer(parameters=parameters, moments=moments)
  whole, _ = train(model, setting, random_params(model), 4)
  half, _ = train(model, setting, random_params(model), 2)
  held = jax.device_get(states.saved(half))  # bytes of a checkpoint
  assert (parameters == "masters") == ({x.dtype for x in jax.tree.leaves(held["params"])} == {np.dtype("float32")})
  new = states.create(random_params(model, 5), rule_of(setting), parameters)
  again = states.restored(jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), held, states.saved(new)), new)
  again, _ = train(model, setting, None, 2, again)
  assert_equal(again, whole)
  assert {x.dtype for x in jax.tree.leaves(states.result(again))} == {jnp.dtype("float32")}


class OneCheckpoint:
  """What `resume` takes: one state on disk."""

  def __init__(self, held=None):
    self.held = held

  def steps(self):
    return [] if self.held is None else [2]

  def restore_latest(self, wanted):
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), self.held)
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), wanted)
    return 2, jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), self.held, wanted), {"batches": 7}


@pytest.mark.parametrize("parameters", ["float32", "masters", "stochastic"])
def test_a_resumed_run_gives_its_own_state_up_before_it_reads_the_one_on_disk(model, random_params, parameters):
  setting = optimizer(parameters=parameters)
  half, _ = train(model, setting, random_params(model), 2)
  held = jax.device_get(states.saved(half) | {"reference": half.params})
  new = states.create(random_params(model, 5), rule_of(setting), parameters)
  assert states.resume(OneCheckpoint(), new) is None and not jax.tree.leaves(new.params)[0].is_deleted()
  arrays = jax.tree.leaves(new)
  found, beside, extras = states.resume(OneCheckpoint(held), new, reference=states.like(new.params))
  assert all(x.is_deleted() for x in arrays) and extras == {"batches": 7}
  assert_equal(found, half)
  assert_equal(beside["reference"], half.params)


@pytest.mark.parametrize("parameters", ["masters", "stochastic"])
def test_an_update_is_the_same_on_four_devices(model, random_params, on_devices, parameters):
  setting = optimizer(parameters=parameters)
  expected = jax.device_get(train(model, setting, random_params(model), 1)[0])
  with on_devices(data=2, tensor=2):
    state, _ = train(model, setting, random_params(model), 1)
    specs = lambda tree: [x.sharding.spec for x in jax.tree.leaves(tree)]
    assert specs(state.masters or state.params) == specs(state.params)
    found = jax.device_get(state)
  close = functools.partial(np.testing.assert_allclose, atol=2e-5)  # sums in another order
  jax.tree.map(close, found.masters, expected.masters)
  # Where the last bits of an update differ, so may its rounding: to the other neighbour, in one of some thousands.
  a, b = (np.concatenate([x.astype(np.float32).ravel() for x in jax.tree.leaves(s.params)]) for s in (found, expected))
  np.testing.assert_allclose(a, b, rtol=2**-7, atol=2e-5)
  assert (np.abs(a - b) > 2e-5).mean() < 2e-3


def test_every_kind_of_parameters_and_moments_learns_alike(model, random_params):
  kinds = [*((parameters, "float32") for parameters in MODES), ("stochastic", "bfloat16")]
  curves = {
    kind: np.array(train(model, optimizer(parameters=kind[0], moments=kind[1]), random_params(model), 60)[1])
    for kind in kinds
  }
  expected = curves["float32", "float32"]
  assert expected[-10:].mean() < 0.5 * expected[0]
  for kind, curve in curves.items():
    print(kind, curve[::10].round(3), curve[-10:].mean().round(4))
    np.testing.assert_allclose(curve[-10:].mean(), expected[-10:].mean(), rtol=0.05, err_msg=str(kind))


def test_a_next_stage_starts_from_masters_that_their_roundings_have_lost(model, random_params):
  state, _ = train(model, optimizer(parameters="masters"), random_params(model), 2)
  left = states.result(state)
  assert_equal(left, state.masters)
  assert any((a != b.astype(jnp.float32)).any() for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(state.params)))


# ---- the config


@pytest.mark.parametrize(
  "fields, told",
  [
    (dict(parameters="bfloat16"), "stage: optimizer.parameters='bfloat16' must be one of 'float32', 'masters', 'stoch"),
    (dict(moments="float16"), "stage: optimizer.moments='float16' must be one of 'float32', 'bfloat16'"),
    (dict(moments="bfloat16", beta2=0.999), r"optimizer.beta2=0.999 .* lower it to 0.99, or set moments='float32'"),
  ],
)
def test_what_cannot_be_is_told(fields, told):
  with pytest.raises(ValueError, match=told):
    optimizer(**fields)


def test_bfloat16_moments_fall_again_with_the_betas_that_are_allowed():
  for beta in (0.9, 0.95, 0.99):
    rule = optimizers.make(dataclasses.replace(optimizer(moments="bfloat16"), beta1=beta, beta2=beta), 10)
    state = rule.init({"w": jnp.zeros((2, 2))})
    for gradient in (1.0, *[0.0] * 600):
      _, state = jax.jit(rule.update)({"w": jnp.full((2, 2), gradient)}, state, {"w": jnp.zeros((2, 2))})
    assert max(float(x.max()) for x in jax.tree.leaves(state) if x.ndim) < 0.01 * (1 - beta)


def test_bfloat16_moments_are_rounded_between_updates_and_nowhere_else():
  setting = optimizer(moments="bfloat16", weight_decay=0.0, clip_norm=1e9)
  rule, (b1, b2) = rule_of(setting), (setting.beta1, setting.beta2)
  params = {"w": jnp.zeros((64, 8))}
  state, first, second = rule.init(params), np.zeros((64, 8)), np.zeros((64, 8))
  random = np.random.default_rng(2)
  for step in range(1, 5):
    g = random.normal(size=(64, 8)).astype(np.float32)
    updates_, state = jax.jit(rule.update)({"w": g}, state, params)
    first, second = b1 * first + (1 - b1) * g, b2 * second + (1 - b2) * g.astype(np.float64) ** 2
    expected = -setting.learning_rate * first / (1 - b1**step)
    expected /= np.sqrt(second / (1 - b2**step)) + setting.epsilon
    np.testing.assert_allclose(updates_["w"], expected, rtol=2e-5)
    first, second = (np.asarray(jnp.asarray(x, jnp.float32).astype(BFLOAT16), np.float64) for x in (first, second))
