"""Multi-token prediction against DeepSeek-V3 eq. 21-25 written out, one sequence at a time."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P, reshard
import numpy as np
import pytest

from r1jax import config
from r1jax.data.packing import lay_out, pack
from r1jax.mesh import BATCH, microbatches, to_global
from r1jax.models import mtp, scoring, transformer
from r1jax.rl.sampling import empty_cache
from r1jax.training import optimizer as optimizers, state as states
from r1jax.training.update import update
from r1jax.types import TokenBatch

LENGTHS, ROW = (6, 9, 2, 1, 5, 3), 12  # sequences of one and two tokens have nothing to draft
random = np.random.default_rng(14)
sequences = [random.integers(0, 4, n) for n in LENGTHS]
# Losses are masked as in SFT: a prompt in front, of which some is drafted from.
weights = [(np.arange(n) >= n // 3) * random.random(n).astype(np.float32) / 9 for n in LENGTHS]


def rows_of(placing, sequences=sequences, weights=weights) -> TokenBatch:
  tokens, positions, segments, (weight,) = lay_out(
    sequences, placing, placing.rows, ROW, [w[None] for w in weights], count=1
  )
  return TokenBatch(tokens, positions, segments, weight)


packed, alone = rows_of(pack(LENGTHS, ROW)), rows_of(pack([ROW] * len(LENGTHS), ROW))


@pytest.fixture
def dense(tiny_model, grouped_query):
  return tiny_model(mtp=1, layers=1, attention=grouped_query, experts=None)


@pytest.fixture
def mixture(tiny_model):
  return tiny_model(
    mtp=1, layers=1, dense_layers=0, experts=config.Experts(routed=8, active=2, shared=1, hidden=16, balance=0.05)
  )


def rms(x, scale):
  return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def log_softmax(z):
  return z - z.max(-1, keepdims=True) - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))


def slow_block(x, w, c):
  """A dense block with grouped-query attention for one sequence x[t, d], one head at a time, float64."""
  a, t = c.attention, len(x)
  turned = np.exp(1j * np.arange(t)[:, None] * c.rope_theta ** (-2 * np.arange(a.head // 2) / a.head))

  def turn(y):  # pairs (i, i + half) as complex numbers
    z = (y[:, : a.head // 2] + 1j * y[:, a.head // 2 :]) * turned
    return np.concatenate([z.real, z.imag], -1)

  h, p, heads = rms(x, w["attention_norm"]), w["attention"], []
  part = lambda name, i: (h @ p[name] + p[f"{name}_bias"])[:, i * a.head : (i + 1) * a.head]
  for n in range(a.heads):
    k = n // (a.heads // a.kv_heads)
    scores = turn(part("query", n)) @ turn(part("key", k)).T / np.sqrt(a.head)
    heads.append(np.exp(log_softmax(np.where(np.tri(t, dtype=bool), scores, -np.inf))) @ part("value", k))
  x = x + np.concatenate(heads, -1) @ p["out"]
  h, p = rms(x, w["feed_forward_norm"]), w["feed_forward"]
  gate = h @ p["gate"]
  return x + (gate / (1 + np.exp(-gate)) * (h @ p["up"])) @ p["down"]


def slow_losses(params, c):
  """Of all sequences: the main loss, the draft's, and the weight of its hits."""
  layer = lambda tree, i: jax.tree.map(lambda w: w[i], tree)
  main, drafted, hits = 0.0, 0.0, 0.0
  for tokens, weight in zip(sequences, weights):
    x = params["embedding"][tokens]
    for i in range(c.layers):
      x = slow_block(x, layer(params["dense_blocks"], i), c)
    hidden = rms(x, params["norm"])
    guess = log_softmax(hidden @ params["head"].T)
    main -= sum(weight[i + 1] * guess[i, tokens[i + 1]] for i in range(len(tokens) - 1))
    if len(tokens) < 3:
      continue
    m = params["mtp"]
    # eq. 21 for slots 1..T-1 with the embedding of the next token, in the order of the released weights
    next_token = rms(params["embedding"][tokens[1:]], m["embed_norm"])
    x = np.concatenate([next_token, rms(hidden[:-1], m["hidden_norm"])], -1) @ m["project"]
    x = slow_block(x, layer(m["block"], 0), c)  # eq. 22
    guess = log_softmax(rms(x, m["norm"]) @ params["head"].T)  # eq. 23
    for i in range(len(tokens) - 2):  # eq. 24
      drafted -= weight[i + 2] * guess[i, tokens[i + 2]]
      hits += weight[i + 2] * (guess[i].argmax() == tokens[i + 2])
  return np.array([main, drafted, hits])


def assert_close(found, expected, tolerance=2e-5):
  def close(path, a, b):
    np.testing.assert_allclose(a, b, atol=tolerance, err_msg=jax.tree_util.keystr(path))

  jax.tree_util.tree_map_with_path(close, found, expected)


def test_the_loss_of_packed_rows_and_its_gradient_follow_the_equations(dense, random_params):
  """The gradient of every weight along a random direction; the draft's share reaches all that made it."""
  params = random_params(dense)
  params["head"] *= 1 + 3 * (np.arange(24) < 4)[:, None]  # the tokens of the sequences are likely
  fast = jax.jit(jax.value_and_grad(lambda p: scoring.next_token_loss(dense, p, packed, 0.3), has_aux=True))
  (loss, (metrics, load)), gradients = jax.device_get(fast(params))
  exact = jax.tree.map(lambda x: x.astype(np.float64), jax.device_get(params))
  main, drafted, hits = slow_losses(exact, dense)
  assert load.size == 0 and hits > 0
  found = [loss, metrics["policy/loss"], metrics["mtp/loss"], metrics["mtp/accepted"]]
  np.testing.assert_allclose(found, [main + 0.3 * drafted, main, drafted, hits], atol=2e-5)

  leaves, structure = jax.tree_util.tree_flatten_with_path(exact)
  for i, (path, weight) in enumerate(leaves):
    direction = random.normal(size=weight.shape)
    direction *= 1e-5 / np.linalg.norm(direction)
    others = [x for _, x in leaves]
    moved = lambda sign: jax.tree.unflatten(structure, [*others[:i], weight + sign * direction, *others[i + 1 :]])
    main, drafted, _ = (slow_losses(moved(1), dense) - slow_losses(moved(-1), dense)) / 2e-5
    along = (jax.tree.leaves(gradients)[i].astype(np.float64) * direction).sum() / 1e-5
    name = jax.tree_util.keystr(path)
    assert along == pytest.approx(main + 0.3 * drafted, abs=2e-5), name
    assert abs(drafted) > 1e-4 or "key_bias" in name, name  # which moves all scores of a query nearly alike


def test_packed_rows_have_the_draft_of_sequences_alone(mixture, random_params):
  c = dataclasses.replace(mixture, experts=dataclasses.replace(mixture.experts, balance=0.0))  # counts rows
  params = random_params(c)
  loss = jax.jit(lambda p, batch: scoring.next_token_loss(c, p, batch, 0.3))
  assert packed.tokens.shape != alone.tokens.shape
  assert_close(loss(params, packed), loss(params, alone))


def test_load_and_balance_of_the_layer_count_as_those_of_a_block(mixture, random_params):
  c, batch = mixture, alone
  params = random_params(c)
  loss, (metrics, load) = jax.jit(lambda p: scoring.next_token_loss(c, p, batch, 0.3))(params)
  assert load.shape == (2, 8) and load[0].sum() == 2 * sum(LENGTHS)
  assert load[-1].sum() == 2 * (sum(LENGTHS) - len(LENGTHS))  # a slot needs a next token

  norm = lambda x, scale: x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale

  @jax.jit
  def parts(params):
    out = transformer.apply(c, params, batch.tokens, batch.positions, batch.segments)
    m, balance, counted = params["mtp"], 0.0, 0.0
    block = nn.scan(transformer.Block, length=1, variable_axes={"params": 0}, in_axes=(0, nn.broadcast, nn.broadcast))(
      c
    )
    for row, n in enumerate(LENGTHS):
      balance += out.balance[row] * batch.weight[row].sum()
      if n == 1:
        continue
      x = norm(params["embedding"][batch.tokens[row, 1:n]], m["embed_norm"])
      x = jnp.concatenate([x, norm(out.hidden[row, : n - 1], m["hidden_norm"])], -1) @ m["project"]
      at = jnp.arange(n - 1)[None]
      _, (_, routed) = block.apply(
        {"params": m["block"]}, (reshard(x[None], P(BATCH)), None), jnp.arange(1), at, at * 0 + 1
      )
      balance, counted = balance + routed.balance[0, 0] * batch.weight[row].sum(), counted + routed.load[0]
    return balance, counted

  balance, counted = parts(jax.device_get(params))
  np.testing.assert_array_equal(load[-1], counted)
  drafted = metrics["policy/loss"] + 0.3 * metrics["mtp/loss"]
  assert float(loss - drafted) == pytest.approx(0.05 * float(balance), abs=1e-6) and balance > 0


@pytest.mark.parametrize("mtp_weight", [0.3, 0.0])
def test_an_update_moves_the_layers_selection_bias_by_its_own_load_where_it_took_part(
  tiny_model, random_params, mtp_weight
):
  c = tiny_model(
    mtp=1, layers=3, dense_layers=1, experts=config.Experts(routed=8, active=2, shared=1, hidden=16, bias_rate=0.01)
  )
  rule = optimizers.make(config.Optimizer(learning_rate=0.0, weight_decay=0.0), 1)
  loss = functools.partial(scoring.next_token_loss, c, mtp_weight=mtp_weight)
  (part,) = microbatches(alone, 1)
  load = jax.device_get(jax.jit(loss)(random_params(c), part)[1][1])
  before = jax.device_get(random_params(c))
  state, _ = update(states.create(random_params(c), rule), [part], loss=loss, optimizer=rule, bias_rate=c.bias_rate)
  bias = lambda params: params["experts"]["router_bias"]
  moved = lambda name: bias(name(jax.device_get(state.params))) - bias(name(before))
  expected = 0.01 * np.sign(load.mean(1, keepdims=True) - load)
  np.testing.assert_allclose(moved(lambda p: p["blocks"]), expected[:2], atol=1e-7)
  of_layer = moved(lambda p: p["mtp"]["block"])
  assert of_layer.shape == (1, 8) and len(load) == (3 if mtp_weight else 2)
  np.testing.assert_allclose(of_layer, expected[2:] if mtp_weight else np.zeros((1, 8)), atol=1e-7)


def test_without_a_weight_the_layer_is_not_there(mixture, random_params):
  """The program is the same, so all numbers are."""
  params, without = random_params(mixture), dataclasses.replace(mixture, mtp=0)
  rest = {name: value for name, value in params.items() if name != "mtp"}
  assert jax.tree.map(jnp.shape, rest) == jax.tree.map(jnp.shape, random_params(without))
  all_weights = jax.make_jaxpr(lambda p: scoring.next_token_loss(mixture, p | {"mtp": params["mtp"]}, packed))(rest)
  assert str(all_weights) == str(jax.make_jaxpr(lambda p: scoring.next_token_loss(without, p, packed))(rest))
  with pytest.raises(ValueError, match=r"mtp_weight=0.3 needs a model with a layer to train; set model.mtp=1"):
    scoring.next_token_loss(without, rest, packed, 0.3)


def test_the_layers_weights_have_the_shapes_of_the_released_ones(mixture, random_params):
  declared, d = random_params(mixture)["mtp"], mixture.width
  assert {name: declared[name].shape for name in declared if name != "block"} == {
    "embed_norm": (d,), "hidden_norm": (d,), "project": (2 * d, d), "norm": (d,)
  }  # fmt: skip
  shapes = jax.tree.map(lambda w: w.shape[1:], random_params(mixture)["blocks"])
  assert jax.tree.map(lambda w: w.shape, declared["block"]) == jax.tree.map(
    lambda s: (1, *s), shapes, is_leaf=lambda s: isinstance(s, tuple)
  )


def test_the_loss_and_its_gradient_are_the_same_on_four_devices(mixture, random_params, on_devices):
  batch = jax.tree.map(lambda x: np.concatenate([x, np.zeros_like(x[:2])]), alone)

  def run():
    loss = lambda p, batch: scoring.next_token_loss(mixture, p, batch, 0.3)
    return jax.device_get(jax.jit(jax.value_and_grad(loss, has_aux=True))(random_params(mixture), to_global(batch)))

  expected = run()
  with on_devices(expert=2, tensor=2):
    found = run()
  assert_close(found, expected)


def test_drafts_against_a_cache_are_those_of_the_whole_row(mixture, dense, random_params):
  """Slots one or two at a time, each row at its own pace; a wrong second one is overwritten by the next step."""
  for c in (mixture, dense):
    check_cached(c, random_params(c))


def check_cached(c, params):
  lengths, total = np.array([3, 1]), 9  # slots of the prompts, and of whole rows
  hidden = random.normal(size=(2, total, c.width)).astype(np.float32)
  following = random.integers(0, c.vocab, (2, total)).astype(np.int32)
  positions = np.tile(np.arange(total, dtype=np.int32), (2, 1))
  layer = jax.jit(mtp.apply, static_argnums=0)
  whole = lambda c, params, hidden, *args: layer(c, params, to_global(hidden), *args)
  expected = np.asarray(whole(c, params, hidden, following, positions, np.ones_like(positions)).hidden)

  real = (positions < lengths[:, None])[:, :3].astype(np.int32)
  prompt = whole(c, params, hidden[:, :3], following[:, :3], positions[:, :3], real)
  cache, done = empty_cache(prompt.memory, jnp.array(lengths), 1, 6), np.zeros((2, 1), np.int32)
  for count in np.array([[2, 1], [1, 1], [2, 2]]):  # slots of each row that are right
    at = (lengths[:, None] + done + np.arange(2)).astype(np.int32)
    tokens = np.take_along_axis(following, at, 1)
    tokens[count == 1, 1] += 1
    taken = np.take_along_axis(hidden, at[..., None], 1)
    out = whole(c, params, taken, tokens % c.vocab, at, np.ones_like(at), cache.replace(index=jnp.array(done)))
    cache, done = out.memory, done + count[:, None].astype(np.int32)
    for row in range(2):
      right = slice(0, count[row])
      np.testing.assert_allclose(np.asarray(out.hidden)[row, right], expected[row, at[row, right]], atol=2e-5)
