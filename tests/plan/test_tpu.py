"""What the TPU's compiler makes of the programs; libtpu is there without a TPU."""

import functools
import re

import jax
from jax.experimental import topologies
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import pytest

from configs import meshes
from r1jax import config, mesh
from r1jax.models import products, scoring
from r1jax.plan import figures, hardware, hlo
from r1jax.plan.programs import batch, placed, sampling
from r1jax.training import state as states, update

pytest.importorskip("libtpu")

MODEL = config.Model(
  vocab=512,
  width=256,
  layers=4,
  dense_layers=1,
  hidden=512,
  attention=config.LatentAttention(heads=4, query_rank=64, latent_rank=128, nope_head=32, rope_head=16, value_head=32),
  experts=config.Experts(routed=8, active=2, shared=1, hidden=256),
)
SHAPE = config.Mesh(data=2, expert=4, tensor=2)


@pytest.fixture(autouse=True)
def one_device():
  """In place of the mesh of every test: those of this file are of chips that are not here."""


@pytest.fixture(scope="module")
def program():
  """The gradient of three scanned layers with experts, compiled for 16 chips."""
  machine = hardware.machine("v5e:4x4")
  with jax.set_mesh(mesh.make(SHAPE, list(machine.devices))):
    loss = functools.partial(scoring.next_token_loss, MODEL)
    params, rows = states.abstract_params(MODEL), batch(16, 256)
    total = jax.eval_shape(functools.partial(update.zeros, loss=loss), params, rows)
    traced = update.accumulate.trace(*map(placed, (params, total, rows)), loss=loss)
    return traced, traced.lower().compile()


@pytest.fixture(scope="module")
def text(program):
  return program[1].as_text()


def test_a_layer_exchanges_what_the_design_says(text):
  turns = [each.collectives for each in hlo.per_turn(text).values()]
  exchanges = sorted(turn["all-to-all"].count for turn in turns if "all-to-all" in turn)
  forward, backward = (turn for turn in turns if "all-gather" in turn)
  assert exchanges == [2, 4]  # docs/plan.md says what each is
  weights = 6 + 1 + 3 + 3  # of attention, router, experts and shared expert: gathered in both passes, with remat
  tokens = 2 + 1  # compressed queries, latents; and what goes to the experts
  assert forward["all-gather"].count == weights + tokens
  assert backward["all-gather"].count == weights + tokens + 2  # the gradients of the two results
  assert forward["reduce-scatter"].count == 3  # attention, routed and shared experts
  assert backward["reduce-scatter"].count == 9


def test_weights_are_gathered_in_bfloat16_and_of_activations_the_tokens_split_over_tensor_alone(text):
  m, a, e = MODEL, MODEL.attention, MODEL.experts
  ranks = a.query_rank * a.heads * (a.nope_head + a.rope_head)
  ranks += a.latent_rank * a.heads * (a.nope_head + a.value_head)
  attention = (ranks + a.heads * a.value_head * m.width) // 2 + m.width * (a.query_rank + a.latent_rank + a.rope_head)
  experts = 3 * m.width * e.hidden // 2 * (e.routed // 4 + e.shared)
  router = m.width * e.routed * 4
  weights = 2 * (attention + experts) + router
  on_chip = 16 // 8 * 256  # tokens of the rows of a chip, in bfloat16
  tokens = 2 * on_chip * (a.query_rank + a.latent_rank + a.rope_head + m.width)
  results = 2 * on_chip * 2 * m.width
  gathered = [t.collectives["all-gather"].bytes for t in hlo.per_turn(text).values() if "all-gather" in t.collectives]
  assert gathered == [weights + tokens, weights + tokens + results]


def test_attention_is_the_kernel_of_the_chip(text):
  assert "splash_mha_fwd" in text and "splash_mha_dkv" in text and "splash_mha_dq" in text


@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
@pytest.mark.parametrize(
  "width, hidden, dtype",
  [(7168, 1024, jnp.bfloat16), (2048, 1408, jnp.bfloat16), (7168, 1024, jnp.float32)],  # of DeepSeek-V3, of V2-Lite
)
def test_the_experts_products_and_their_gradient_compile_for_every_tpu(topology, width, hidden, dtype):
  tokens, active, experts = 512, 8, 4
  with jax.set_mesh(mesh.make(config.Mesh(), hardware.pod(topology)[:1])):
    shaped = lambda shape, dtype=dtype: placed(jax.ShapeDtypeStruct(shape, dtype))

    def gradient(x, expert, *weights):
      value = lambda x, *weights: products.feed_forward(x, expert, *weights).astype(jnp.float32).sum()
      return jax.grad(value, (0, 1, 2, 3))(x, *weights)

    up, down = shaped((experts, width, hidden)), shaped((experts, hidden, width))
    program = jax.jit(jax.shard_map(gradient, in_specs=P(), out_specs=P(), check_vma=False))
    made = program.lower(shaped((tokens, width)), shaped((tokens, active), jnp.int32), up, up, down).compile()
  once = 2 * tokens * active * width * hidden * 3
  assert made.cost_analysis()["flops"] < 3.1 * once  # and not times the experts


def test_a_step_of_decoding_reads_the_latents_of_a_chips_one_prompt_as_they_lie():  # of several: copied once
  with jax.set_mesh(mesh.make(config.Mesh(data=4), list(hardware.pod("v5e:2x2")))):
    drawn = config.Sampling(max_prompt=128, max_response=1024, chunk=1024)
    program = sampling(MODEL, placed(states.abstract_params(MODEL)), drawn, 4, 16, {}, "rollout")
    text = program.function.lower(*program.placed(), **program.options).compile().as_text()
  copied = re.findall(r"= bf16\[(?:\d+,)*16,1024,(?:\d+,)*144\]\S* (copy|transpose)\(", text)
  assert "dynamic-update-slice" in text and not copied


def test_temporaries_by_arithmetic_are_near_those_that_are_compiled(program):
  traced, compiled = program
  sizes = {"data": SHAPE.data, "expert": SHAPE.expert, "tensor": SHAPE.tensor}
  paper = figures.temporaries(traced, sizes, has_products=True)
  found = compiled.memory_analysis()
  temporaries = found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
  assert 0.8 < paper / temporaries < 1.8  # inside the range that docs/plan.md gives


def test_the_mesh_of_the_671b_lies_on_its_slice_and_no_host_holds_rows_of_two_parts():
  devices = list(topologies.get_topology_desc(platform="tpu", topology_name="v5p:8x8x16").devices)
  made = mesh.make(meshes.v5p_1024(), devices)
  assert made.devices.shape == (8, 64, 2)
  hosts = [process for part in mesh._holders(made) for process in part]
  assert sorted(hosts) == list(range(256))
  wide = mesh.make(config.Mesh(data=8, expert=16, tensor=8), devices)  # a row of tensor is two hosts or more
  assert {len(part) for part in mesh._holders(wide)} == {4}
