"""LoRA: against weights merged in numpy and gradients by the chain rule; stages killed and not; what it keeps in memory."""

import dataclasses
import functools
import json
import math

import jax
from jax.extend.core import jaxprs_in_params
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np
import orbax.checkpoint as ocp
import pytest

from r1jax import config, mesh, pipeline
from r1jax.data import problems as data
from r1jax.data.tokenizer import Tokenizer
from r1jax.models import transformer
from r1jax.models.layer import Adapted
from r1jax.models.scoring import next_token_loss
from r1jax.stages import rl, sft
from r1jax.stages.run import Run
from r1jax.training import lora, optimizer as optimizers, state as states, update as updates
from r1jax.training.checkpoints import Checkpoints, params_sha256
from r1jax.types import TokenBatch
from tests.experiments import small
from tests.test_sft import Sums, stage as sft_stage

LORA = config.Lora(rank=3, alpha=12.0, targets=("attention", "feed_forward", "experts"))
SETTING = config.Optimizer(learning_rate=1e-2, epsilon=1e-3, weight_decay=0.0)
RULE = optimizers.make(SETTING, 4)


@functools.cache  # what is compiled for one is used by all
def loss_of(model):
  return functools.partial(next_token_loss, model)


def batch() -> TokenBatch:
  random = np.random.default_rng(1)
  tokens = random.integers(0, 24, (8, 12)).astype(np.int32)
  positions = np.broadcast_to(np.arange(12, dtype=np.int32), tokens.shape)
  return TokenBatch(tokens, positions, np.ones_like(tokens), (positions > 0) / np.float32(8 * 11))


@pytest.fixture(scope="module")
def models(tiny_model, grouped_query):
  """Latent attention with a compressed query and experts; a dense model with biases."""
  moe = tiny_model(layers=2, dense_layers=0, experts=config.Experts(routed=4, active=2, shared=1, hidden=16))
  return {"moe": moe, "dense": tiny_model(attention=grouped_query, experts=None, dense_layers=0, layers=2, tied=True)}


@pytest.fixture(scope="module")
def adapted(random_params):
  """Parameters with adapters that are not at their start: B is drawn, too."""

  def make(model, settings=LORA):
    params = lora.add(random_params(model), settings, 7)

    def stir(path, w):
      if not isinstance(w, Adapted):
        return w
      values = mesh.create(f"stir{path}", w.b.shape, 0.05, 0.0, w.b.sharding)
      return w.replace(b=values)

    return jax.tree_util.tree_map_with_path(stir, params, is_leaf=lambda x: isinstance(x, Adapted))

  return make


def written_out(params, scale):
  """W + scale A B by a loop over layers (and experts), in float64."""

  def merged(w):
    if not isinstance(w, Adapted):
      return np.asarray(w)
    value, a, b = (np.asarray(x, np.float64) for x in (w.value, w.a, w.b))
    out = value.copy()
    for place in np.ndindex(value.shape[:-2]):
      out[place] += scale * a[place] @ b[place]
    return out.astype(np.float32)

  return jax.tree.map(merged, params, is_leaf=lambda x: isinstance(x, Adapted))


def logits(model, params):
  tokens, positions, segments = mesh.to_global((batch().tokens, batch().positions, batch().segments))

  @jax.jit
  def run(params):
    return transformer.logits(model, params, transformer.apply(model, params, tokens, positions, segments).hidden)

  return np.asarray(run(params))


def assert_equal(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(jax.device_get(found)), jax.tree.leaves(jax.device_get(expected)), strict=True):
    assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


def names(tree):
  return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


# ---- the function and its gradient


@pytest.mark.parametrize("name", ["moe", "dense"])
def test_adapters_add_their_scaled_product_to_the_weights(models, adapted, name):
  model, params = models[name], adapted(models[name])
  expected = written_out(params, 12.0 / 3)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), lora.merge(params), expected)
  plain = logits(model, jax.tree.map(jnp.asarray, expected))
  np.testing.assert_allclose(logits(model, params), plain, atol=2e-5)
  np.testing.assert_allclose(logits(model, lora.merge(params)), plain, atol=2e-5)
  assert np.abs(plain - logits(model, base_of(params))).max() > 0.1


def base_of(params):
  plain = lambda x: x.value if isinstance(x, Adapted) else x
  return jax.tree.map(plain, params, is_leaf=lambda x: isinstance(x, Adapted))


def test_every_matrix_of_the_targets_has_an_adapter_and_nothing_else(models, random_params):
  found = {}
  for name, model in models.items():
    for target in LORA.targets[: 3 if model.experts else 2]:
      tree = lora.trained(lora.add(random_params(model), dataclasses.replace(LORA, targets=(target,)), 0))
      found[name, target] = {n.removesuffix("['a']") for n in names(tree) if n.endswith("['a']")}
  attention = lambda weights, blocks: {f"['{b}']['attention']['{w}']" for b in blocks for w in weights}
  expected = attention(("query_down", "query_up", "kv_down", "key_up", "value_up", "out"), ("blocks",))
  assert found["moe", "attention"] == expected
  gates = ("gate", "up", "down")
  assert found["moe", "experts"] == {f"['blocks']['experts']['{w}']" for w in gates}
  assert found["moe", "feed_forward"] == {f"['blocks']['experts']['shared']['{w}']" for w in gates}
  assert found["dense", "feed_forward"] == {f"['dense_blocks']['feed_forward']['{w}']" for w in gates}
  assert found["dense", "attention"] == attention(("query", "key", "value", "out"), ("dense_blocks",))
  with pytest.raises(ValueError, match=r"lora.targets=\('experts',\) names no weight of this model"):
    lora.add(random_params(models["dense"]), dataclasses.replace(LORA, targets=("experts",)), 0)


def test_a_new_adapter_changes_no_bit(models, random_params):
  params = random_params(models["moe"])
  assert_equal(lora.merge(lora.add(params, LORA, 3)), params)


@pytest.mark.parametrize("name", ["moe", "dense"])
def test_the_gradient_of_the_adapters_follows_from_that_of_the_weights(models, adapted, name):
  model, params = models[name], adapted(models[name])
  loss = loss_of(model)
  (part,) = mesh.microbatches(batch(), 1)
  found = jax.device_get(updates.accumulate(params, updates.zeros(params, part, loss=loss), part, loss=loss)[0])
  merged = jax.tree.map(jnp.asarray, written_out(params, 4.0))
  whole = jax.device_get(jax.jit(jax.grad(loss, has_aux=True))(merged, part)[0])

  def chain(w, g):
    """dA = s dW B^T, dB = s A^T dW."""
    a, b, g = (np.asarray(x, np.float64) for x in (w.a, w.b, g))
    return {"a": 4.0 * g @ b.swapaxes(-1, -2), "b": 4.0 * a.swapaxes(-1, -2) @ g}

  checked = 0
  for path, w in jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda x: isinstance(x, Adapted)):
    if isinstance(w, Adapted):
      at = lambda tree: functools.reduce(lambda t, key: t[key.key], path, tree)
      for key, expected in chain(w, at(whole)).items():
        np.testing.assert_allclose(at(found)[key], expected, atol=2e-6, rtol=2e-4, err_msg=f"{path}{key}")
        assert expected.any()
        checked += 1
  assert checked == len(jax.tree.leaves(found)) and checked >= 14


def test_an_update_is_the_same_on_four_devices_and_moves_the_adapters_alone(models, adapted, on_devices):
  model = models["moe"]
  loss = loss_of(model)

  def step():
    params = adapted(model)
    start, rounds = jax.device_get(params), mesh.microbatches(batch(), 2)
    state = states.create(params, RULE)  # takes adapters that are there already
    state, metrics = updates.update(state, rounds, loss=loss, optimizer=RULE, bias_rate=0.01)
    assert_equal(base_of(state.params), base_of(start))
    for path, w in jax.tree_util.tree_leaves_with_path(state.params, is_leaf=lambda x: isinstance(x, Adapted)):
      if isinstance(w, Adapted):
        spec = (*w.value.sharding.spec, None, None)[: w.value.ndim]
        assert w.a.sharding.is_equivalent_to(NamedSharding(w.a.sharding.mesh, P(*spec[:-1], None)), w.a.ndim), path
        assert w.b.sharding.is_equivalent_to(NamedSharding(w.b.sharding.mesh, P(*spec[:-2], None, spec[-1])), w.b.ndim)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), lora.trained(state.params), lora.trained(start))
    assert all(jax.tree.leaves(moved))
    return jax.device_get((lora.merge(state.params), metrics))

  expected = step()
  with on_devices(expert=2, tensor=2):
    found = step()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), found, expected)  # as in test_update


def test_frozen_weights_are_kept_in_bfloat16_with_masters(models, random_params):
  model = models["dense"]
  state = states.create(random_params(model), RULE, "masters", LORA)
  kept = {path[-1].key: x.dtype for path, x in jax.tree_util.tree_leaves_with_path(base_of(state.params))}
  assert kept["query"] == kept["gate"] == kept["embedding"] == jnp.bfloat16 and kept["norm"] == jnp.float32
  assert state.masters is None
  assert {x.dtype for x in jax.tree.leaves(lora.trained(state.params))} == {jnp.dtype("float32")}
  left = states.result(state)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8), left, random_params(model))
  assert {x.dtype for x in jax.tree.leaves(left)} == {jnp.dtype("float32")}


# ---- stages


class Killed(Exception):
  pass


@pytest.fixture(scope="module")
def new_run(tmp_path_factory):
  """Makes a run of a stage, of a small dense model, in a folder of its own."""
  attention = config.GroupedQueryAttention(heads=4, kv_heads=2, head=8)
  model = dataclasses.replace(small.model(), attention=attention, experts=None, dense_layers=0, unroll=False)
  small_run = dataclasses.replace(small.get_config(), model=model)
  documents = data.documents(small_run.playground, small.TEMPLATE, 0)
  tokenizer = Tokenizer.train([*documents, *(row["prompt"] + row["completion"] for row in Sums().open(None))], 320)
  held_out = data.held_out_problems(small_run)

  def make(stage):
    experiment = dataclasses.replace(small_run, stages=(small.base(), stage))
    run = Run(experiment=experiment, workdir=tmp_path_factory.mktemp("run"), tokenizer=tokenizer, held_out=held_out)
    if isinstance(stage, config.RL):
      pipeline.check_stage(stage, run)
    return run

  return make


def lines(path):
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


def in_checkpoint(folder, step):
  """What a checkpoint's state consists of: the top names, and how many numbers each holds."""
  tree = ocp.PyTreeCheckpointHandler().metadata(folder / "checkpoints" / str(step) / "state").tree
  return {name: sum(math.prod(x.shape) for x in jax.tree.leaves(part)) for name, part in tree.items()}


def check_left(run, name, model, made, start):
  """The finished stage's checkpoint is of plain parameters, those not adapted bit for bit where it began."""
  with Checkpoints(run.folder(name) / "checkpoints", 1, 1000) as checkpoints:
    assert_equal(checkpoints.restore_params(states.abstract_params(model)), made)
  frozen = [
    (found, begun)
    for (path, found), begun in zip(jax.tree_util.tree_leaves_with_path(made), jax.tree.leaves(start))
    if lora.target(path) not in ("attention", "feed_forward")
  ]
  assert_equal(*map(list, zip(*frozen)))
  assert params_sha256(made) != params_sha256(start)


def test_sft_killed_in_an_update_ends_as_if_it_had_not_been_and_saves_adapters_alone(
  new_run, random_params, monkeypatch
):
  stage = sft_stage(lora=config.Lora(rank=4), checkpoints=config.Checkpoints(every=2))
  whole, run, calls = new_run(stage), new_run(stage), []
  model = whole.experiment.model
  expected = sft.run(stage, whole, random_params(model))
  check_left(whole, "sft", model, expected, random_params(model))

  def fails(*args, **kwargs):
    calls.append(args)
    if len(calls) == 4:
      raise Killed
    return updates.update(*args, **kwargs)

  monkeypatch.setattr(sft, "update", fails)
  with pytest.raises(Killed):
    sft.run(stage, run, random_params(model))
  held = in_checkpoint(run.folder("sft"), 2)
  assert set(held) == {"step", "optimizer", "adapters"}
  assert held["optimizer"] == 2 * held["adapters"] + 2  # two moments, and two counts
  assert_equal(sft.run(stage, run, random_params(model)), expected)
  assert_equal(sft.run(stage, run, random_params(model)), expected)  # nothing is left to do
  assert len(calls) == 4 + len(lines(whole.folder("sft") / "metrics.jsonl")) - 2
  assert lines(whole.folder("sft") / "metrics.jsonl") == lines(run.folder("sft") / "metrics.jsonl")
  rows = lines(run.folder("sft") / "metrics.jsonl")
  assert rows[-1]["policy/loss"] < rows[0]["policy/loss"]


def test_rl_killed_in_a_rollout_ends_as_if_it_had_not_been_and_has_no_second_copy_of_the_weights(
  new_run, random_params, monkeypatch
):
  stage = dataclasses.replace(
    small.zero(), lora=config.Lora(rank=4), steps=8, reference_every=4, evaluate_every=0, kl=0.1
  )
  whole, run = new_run(stage), new_run(stage)
  model = whole.experiment.model
  expected = rl.run(stage, whole, random_params(model))
  check_left(whole, "zero", model, expected, random_params(model))
  roll_out, calls = rl.roll_out, []

  def fails(*args, **kwargs):
    calls.append(args)
    if len(calls) == 4:  # behind the checkpoint of step 6, whose reference is that of step 4
      raise Killed
    return roll_out(*args, **kwargs)

  monkeypatch.setattr(rl, "roll_out", fails)
  with pytest.raises(Killed):
    rl.run(stage, run, random_params(model))
  held = in_checkpoint(run.folder("zero"), 6)
  assert set(held) == {"step", "optimizer", "adapters", "reference"}
  assert held["reference"] == held["adapters"] and held["optimizer"] == 2 * held["adapters"] + 2
  assert_equal(rl.run(stage, run, random_params(model)), expected)
  rows = lines(run.folder("zero") / "metrics.jsonl")
  assert rows == lines(whole.folder("zero") / "metrics.jsonl")
  assert abs(rows[0]["policy/kl"]) < 1e-9 < rows[-1]["policy/kl"]  # the reference is the weights without adapters
  assert max(rows[i]["policy/sampler_mismatch"] for i in (0, 2)) < 1e-4  # the rollout is of the adapted weights


# ---- memory


def qwen_1_5b(**fields) -> config.Model:
  """Qwen2.5-1.5B's shapes."""
  attention = config.GroupedQueryAttention(heads=12, kv_heads=2, head=128, bias=True)
  shape = dict(vocab=151_936, width=1536, layers=28, hidden=8960, attention=attention, tied=True, head_chunk=512)
  return config.Model(**(shape | fields))


@pytest.fixture(scope="module")
def abstract_step():
  """(state, total, micro-batch, loss) of shapes for Qwen2.5-1.5B: two rows of 2,048 tokens."""

  def make(parameters="float32", adapters=None, remat="full"):
    model = qwen_1_5b(remat=remat)
    loss = functools.partial(next_token_loss, model)
    state = states.abstract_state(states.abstract_params(model), RULE, parameters, adapters)
    at = NamedSharding(jax.sharding.get_mesh(), P(mesh.BATCH, None))
    integers, weight = (jax.ShapeDtypeStruct((2, 2048), t, sharding=at) for t in (jnp.int32, jnp.float32))
    rows = TokenBatch(integers, integers, integers, weight)
    return state, jax.eval_shape(functools.partial(updates.zeros, loss=loss), state.params, rows), rows, loss

  return make


def size(tree) -> float:
  """GiB."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) / 2**30


def test_the_memory_of_qwen_1_5b_with_and_without_adapters(abstract_step):
  kept = {}
  for parameters, adapters in (("float32", None), ("float32", config.Lora()), ("masters", config.Lora())):
    state, total, _, _ = abstract_step(parameters, adapters)
    kept[parameters, adapters is not None] = [size(x) for x in (state.params, state.optimizer, total[0])]
  expected = {  # GiB of parameters, moments, gradients
    ("float32", False): [5.75, 11.50, 5.75],
    ("float32", True): [5.82, 0.14, 0.07],
    ("masters", True): [2.94, 0.14, 0.07],
  }
  assert kept == {key: pytest.approx(value, abs=0.005) for key, value in expected.items()}


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_no_array_as_large_as_a_weight_of_all_layers_is_made_with_adapters(abstract_step, remat):
  """Neither its gradient nor its merged values, kept for the backward pass."""
  state, *program = abstract_step("float32", config.Lora(), remat)
  leaves = jax.tree.leaves(state.params, is_leaf=lambda x: isinstance(x, Adapted))
  stacked = {w.value.shape for w in leaves if isinstance(w, Adapted)}
  assert len(stacked) == 4 and all(shape[0] == 28 for shape in stacked)
  assert not stacked & made_shapes(state, *program)
  assert stacked <= made_shapes(*abstract_step(remat=remat))


def made_shapes(state, total, rows, loss) -> set:
  """Shapes of all that adding up a micro-batch's gradients makes, also inside its loops."""

  def walk(jaxpr):
    for equation in jaxpr.eqns:
      yield from (v.aval.shape for v in equation.outvars)
      for inner in jaxprs_in_params(equation.params):
        yield from walk(inner)

  step = functools.partial(updates.accumulate, loss=loss)
  return set(walk(jax.make_jaxpr(step)(state.params, total, rows).jaxpr))


# ---- the config


@pytest.mark.parametrize(
  "fields, told",
  [
    (dict(rank=0), "sft: lora.rank=0 must be at least 1"),
    (dict(alpha=0.0), "sft: lora.alpha=0.0 must be above 0"),
    (dict(targets=("mlp",)), "sft: lora.targets=.*mlp.* must be some of 'attention', 'feed_forward', 'experts'"),
    (dict(targets=()), "sft: lora.targets=.* must be some of"),
  ],
)
def test_what_cannot_be_is_told(fields, told):
  with pytest.raises(ValueError, match=told):
    sft_stage(lora=config.Lora(**fields))


def test_adapters_are_not_rounded_at_random():
  with pytest.raises(ValueError, match=r"optimizer.parameters='stochastic' has nothing to round with lora"):
    sft_stage(lora=config.Lora(), optimizer=config.Optimizer(learning_rate=1e-3, parameters="stochastic"))
