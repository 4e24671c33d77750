"""FLOPs and collectives of a jaxpr against counts by hand, XLA's own, and the weights of a model."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P, reshard
import pytest

from r1jax import config, mesh
from r1jax.models import scoring
from r1jax.plan import arithmetic
from r1jax.plan.programs import batch
from r1jax.report import dry_run
from r1jax.training import state as states

ROWS, LENGTH = 8, 64
MODEL = config.Model(
  vocab=256,
  width=128,
  layers=4,
  hidden=256,
  attention=config.GroupedQueryAttention(heads=4, kv_heads=2, head=32),
  remat="none",
)


@pytest.fixture(autouse=True)
def one_device():
  """In place of the mesh of every test: those of this file exist nowhere."""


def on(data=1, expert=1, tensor=1):
  """A mesh that exists nowhere."""
  return jax.sharding.use_abstract_mesh(mesh.abstract(config.Mesh(data=data, expert=expert, tensor=tensor)))


def traced(function, *args):
  shape = dict(jax.sharding.get_abstract_mesh().shape)
  return arithmetic.count(jax.make_jaxpr(function)(*args).jaxpr, shape, grouped=True)


def counted(model, gradient=False):
  """The cost of the loss, or of its gradient, on the current mesh."""
  loss = lambda params, rows: scoring.next_token_loss(model, params, rows)[0]
  return traced(jax.value_and_grad(loss) if gradient else loss, states.abstract_params(model), batch(ROWS, LENGTH))[0]


def forward_flops(c: config.Model) -> tuple[int, int]:
  """FLOPs of the blocks and of the head, from the equations; attention in two spans, each over the keys to its end."""
  a, tokens = c.attention, ROWS * LENGTH
  projections = c.width * a.head * (2 * a.heads + 2 * a.kv_heads)
  block = 2 * tokens * (projections + 3 * c.width * c.hidden)
  pairs = sum(32 * end for end in (32, 64))
  block += 2 * ROWS * 2 * pairs * a.heads * a.head
  return c.layers * block, 2 * tokens * c.width * c.vocab


def test_flops_of_a_forward_pass_are_those_of_its_equations():
  with on():
    assert counted(MODEL).flops == sum(forward_flops(MODEL))


def test_a_gradient_costs_three_times_the_forward_pass_and_remat_a_fourth():
  block, head = forward_flops(MODEL)
  last = MODEL.layers * 2 * ROWS * LENGTH * MODEL.width * MODEL.hidden  # nobody needs a block's last product again
  with on():
    assert counted(MODEL, gradient=True).flops == 3 * block + 4 * head  # logits are always computed again
    remat = dataclasses.replace(MODEL, remat="full")
    assert counted(remat, gradient=True).flops == 4 * block - last + 4 * head


def test_a_gradient_costs_six_flops_a_weight_and_token_where_attention_is_short():
  model = dataclasses.replace(MODEL, width=512, hidden=2048, attention=dataclasses.replace(MODEL.attention, head=128))
  with on():
    weights = dry_run.parameters(model).total - 2 * model.vocab * model.width - 9 * model.width
    found = counted(model, gradient=True).flops - 4 * 2 * ROWS * LENGTH * model.width * model.vocab
  assert 1 < found / (6 * weights * ROWS * LENGTH) < 1.02  # on top: attention over 64 tokens


def test_flops_of_a_model_without_scans_are_those_that_xla_counts():
  model = dataclasses.replace(MODEL, unroll=True, width=256, activations="float32")
  with jax.set_mesh(mesh.make(config.Mesh(), jax.devices()[:1])):
    loss = lambda params, rows: scoring.next_token_loss(model, params, rows)[0]
    args = states.abstract_params(model), batch(ROWS, LENGTH)
    found = traced(jax.value_and_grad(loss), *args)[0].flops
    theirs = jax.jit(jax.value_and_grad(loss)).lower(*args).cost_analysis()["flops"]
  # XLA adds elementwise operations: 1.5 % of the products here.
  assert 1 < theirs / found < 1.03


def test_layers_in_a_scan_cost_as_much_as_laid_out():
  with on(2, 2, 2):
    scanned, laid_out = (counted(dataclasses.replace(MODEL, unroll=u), gradient=True) for u in (False, True))
  assert scanned == laid_out


def test_chips_share_the_flops():
  with on():
    whole = counted(MODEL, gradient=True).flops
  with on(2, 2, 2):
    assert counted(MODEL, gradient=True).flops == whole / 8


def test_a_grouped_product_counts_each_row_once_or_once_for_every_expert(tiny_model):
  x, w = jax.ShapeDtypeStruct((96, 16), jnp.float32), jax.ShapeDtypeStruct((8, 16, 32), jnp.float32)
  sizes = jax.ShapeDtypeStruct((8,), jnp.int32)
  forward = lambda x, w, sizes: jax.lax.ragged_dot(x, w, sizes).sum()
  for grouped, times in ((True, 1), (False, 8)):
    of = lambda f: arithmetic.count(jax.make_jaxpr(f)(x, w, sizes).jaxpr, {}, grouped)[0].flops
    assert of(forward) == times * 2 * 96 * 16 * 32
    assert of(jax.grad(forward, argnums=(0, 1))) == 3 * times * 2 * 96 * 16 * 32


def test_a_loop_on_top_is_given_apart_and_one_deeper_counts_once():
  w = jax.ShapeDtypeStruct((16, 16), jnp.float32)

  def multiply(x, n):
    return jax.lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] @ s[1]), (0, x))[1]

  product = 2 * 16**3
  cost, loops = arithmetic.count(jax.make_jaxpr(lambda x, n: multiply(x @ x, n))(w, 3).jaxpr, {}, True)
  assert cost.flops == product and [each.flops for each in loops] == [product]
  nested = lambda x, n: jax.lax.scan(lambda x, _: (multiply(x, n), None), x, None, length=5)[0]
  cost, loops = arithmetic.count(jax.make_jaxpr(nested)(w, 3).jaxpr, {}, True)
  assert cost.flops == 5 * product and loops == []


def test_bytes_of_a_product_are_its_operands_and_result_and_a_weight_has_the_width_it_is_kept_in():
  w, x = jax.ShapeDtypeStruct((32, 64), jnp.float32), jax.ShapeDtypeStruct((8, 32), jnp.bfloat16)
  cost, _ = arithmetic.count(jax.make_jaxpr(lambda w, x: x @ w.astype(jnp.bfloat16))(w, x).jaxpr, {}, True)
  assert cost.hbm_bytes == 4 * 32 * 64 + 2 * 8 * 32 + 2 * 8 * 64


def shaped(spec, *shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(jax.sharding.get_abstract_mesh(), spec))


def exchanged(function, *args):
  return {kind: (c.count, c.bytes, c.wire) for kind, c in traced(function, *args)[0].collectives.items() if c.count}


def test_each_collective_is_seen_with_its_bytes():
  with on(data=4, tensor=2):
    x, w = shaped(P("data", None), 64, 32), shaped(P("data", "tensor"), 32, 48)
    size = 4 * 32 * 24  # of the weight on a chip when it is gathered
    gathered = lambda w: reshard(w, P(None, "tensor"))
    assert exchanged(gathered, w) == {"all-gather": (1, size, size * 3 / 4)}
    assert exchanged(lambda w: reshard(w, P(("data",), None)), w) == {"all-gather": (1, 4 * 8 * 48, 4 * 8 * 24)}
    assert exchanged(lambda x: reshard(x, P(("data", "tensor"), None)), x) == {}  # each keeps its part
    moved = lambda w: reshard(w, P("tensor", "data"))
    assert "all-to-all" in exchanged(moved, w)
    total = lambda x: jnp.einsum("bi,bj->ij", x, x, out_sharding=P(None, None))
    assert exchanged(total, x) == {"all-reduce": (1, 4 * 32 * 32, 2 * 4 * 32 * 32 * 3 / 4)}
    part = 4 * 32 * 8
    kept = lambda x: reshard(total(x).astype(jnp.float32), P("data", None))
    assert exchanged(kept, x) == {"reduce-scatter": (1, part, 3 * part)}
    assert exchanged(lambda x: x.sum(0), x) == {"all-reduce": (1, 4 * 32, 2 * 4 * 32 * 3 / 4)}


def test_collectives_of_a_layer_are_a_gather_of_each_weight_and_the_exchange_of_its_experts(tiny_model):
  def of_a_layer(gradient):
    with on(data=2, expert=2, tensor=2):
      more, less = (counted(tiny_model(layers=n, remat="full"), gradient).collectives for n in (4, 3))
    return {kind: more[kind].count - less[kind].count for kind in more}

  weights = 6 + 1 + 3 + 3  # of attention, router, experts and shared expert; each split over data
  forward, both = of_a_layer(gradient=False), of_a_layer(gradient=True)
  tokens = 2 + 1  # split over tensor: compressed queries, latents; and what goes to the experts
  results = 3  # whose gradients are: of attention, routed and shared experts; the compiler makes one of the last two
  gathered = weights + tokens
  assert (forward["all-gather"], both["all-gather"]) == (gathered, 2 * gathered + results)
  # Out: tokens and expert numbers; back: results. Backward: all three again, since the gates' gradient needs the
  # results, and the gradients of results and of tokens.
  assert (forward["all-to-all"], both["all-to-all"]) == (3, 3 + 5)
