"""Collectives read from HLO text: one written by hand, and programs compiled for eight CPU devices."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import pytest

from r1jax.models import scoring
from r1jax.plan import hlo
from r1jax.plan.programs import batch
from r1jax.training import state as states

# What the TPU's compiler writes, shortened: a gather spread over two fusions, a reduce-scatter in a fusion, loops that
# the condition counts to 3 (in it one of unknown length, as that of the experts' exchange), and one of unknown length.
TEXT = """HloModule jit_f, is_scheduled=true

%gather_start (p: bf16[8,4]) -> bf16[16,4] {
  %p = bf16[8,4]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[16,4]{1,0:T(8,128)(2,1)S(1)} all-gather(%p), channel_id=7, replica_groups=[8,2]<=[16], dimensions={0}, frontend_attributes={chain_id="3"}
}

%gather_done (p.1: bf16[8,4]) -> bf16[16,4] {
  %p.1 = bf16[8,4]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[16,4]{1,0} all-gather(%p.1), channel_id=7, replica_groups=[8,2]<=[16], dimensions={0}, frontend_attributes={chain_id="3"}
}

%all-reduce-scatter.1 (p.2: f32[16]) -> f32[4] {
  %p.2 = f32[16]{0} parameter(0)
  %all-reduce.1 = f32[16]{0} all-reduce(%p.2), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  ROOT %slice = f32[4]{0} dynamic-slice(%all-reduce.1, %i), dynamic_slice_sizes={4}
}

%exchange_body (s.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s.1 = (s32[], f32[8]{0}) parameter(0)
  ROOT %all-to-all.1 = (f32[8]{0}, f32[8]{0}) all-to-all(%s.1), channel_id=1, replica_groups={{0,1},{2,3}}, dimensions={0}
}

%exchange_condition (s.2: (s32[], f32[8])) -> pred[] {
  %s.2 = (s32[], f32[8]{0}) parameter(0)
  %i.2 = s32[] get-tuple-element(%s.2), index=0
  %n.2 = s32[] get-tuple-element(%s.2), index=1
  ROOT %lt.2 = pred[] compare(%i.2, %n.2), direction=LT
}

%layer_body (s.3: (s32[], /*index=1*/f32[8])) -> (s32[], f32[8]) {
  %s.3 = (s32[]{:T(128)}, /*index=1*/f32[8]{0:T(128)S(1)}) parameter(0)
  %start = bf16[16,4]{1,0} fusion(%s.3), kind=kCustom, calls=%gather_start
  %done = bf16[16,4]{1,0} fusion(%start), kind=kCustom, calls=%gather_done
  %scattered = f32[4]{0} fusion(%done), kind=kCustom, calls=%all-reduce-scatter.1
  %alone = f32[8]{0} all-reduce(%s.3), channel_id=2, replica_groups={{0},{1}}, to_apply=%add
  ROOT %while.1 = (s32[], f32[8]{0}) while(%s.3), condition=%exchange_condition, body=%exchange_body
}

%layer_condition (s.4: (s32[], f32[8])) -> pred[] {
  %s.4 = (s32[], f32[8]{0}) parameter(0)
  %three = s32[]{:T(128)} constant(3), metadata={op_name="lt"}
  %i.4 = s32[]{:T(128)} get-tuple-element(%s.4), index=0
  ROOT %lt.4 = pred[]{:T(512)} compare(%i.4, %three), direction=LT
}

ENTRY %main (p.5: f32[8]) -> f32[8] {
  %p.5 = f32[8]{0} parameter(0)
  %reduced = (f32[8]{0}, bf16[8]{0}) all-reduce(%p.5, %p.5), channel_id=3, replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([4,2]T(1,0)) {'axis_1'}, to_apply=%add
  %begun = (f32[8]{0}, f32[32]{0}) all-gather-start(%p.5), channel_id=4, replica_groups={{0,1,2,3}}, dimensions={0}
  %ended = f32[32]{0} all-gather-done(%begun)
  %layers = (s32[], f32[8]{0}) while(%p.5), condition=%layer_condition, body=%layer_body
  ROOT %steps = (s32[], f32[8]{0}) while(%layers), condition=%exchange_condition, body=%exchange_body
}
"""


def test_collectives_count_as_often_as_they_run_and_a_loop_of_unknown_length_on_top_is_apart():
  cost, loops = hlo.collectives(TEXT)
  found = {kind: (each.count, each.bytes, each.wire) for kind, each in cost.collectives.items()}
  assert found == {
    "all-gather": (3 + 1, 3 * 128 + 128, 3 * 128 / 2 + 128 * 3 / 4),
    "all-reduce": (1, 32 + 16, 2 * 48 * 3 / 4),
    "reduce-scatter": (3, 3 * 16, 3 * 16 * 3),
    "all-to-all": (3, 3 * 64, 3 * 32),
  }
  assert [each.collectives["all-to-all"].count for each in loops] == [1]
  turn = hlo.per_turn(TEXT)["layer_body"].collectives
  assert {kind: each.count for kind, each in turn.items()} == {"all-gather": 1, "reduce-scatter": 1}


def test_groups_in_a_form_that_is_not_known_are_told():
  with pytest.raises(ValueError, match="the groups of reduced are written in a form"):
    hlo.collectives(TEXT.replace("replica_groups=mesh['axis_0'=2,'axis_1'=4]", "replica_groups=anew"))


def test_a_compiled_scan_counts_its_collectives_as_often_as_it_turns(on_devices):
  with on_devices(data=8):
    put = lambda spec, *shape: jax.ShapeDtypeStruct(
      shape, jnp.float32, sharding=NamedSharding(jax.sharding.get_mesh(), spec)
    )
    weights, x = put(P(None, "data", None), 5, 64, 64), put(P("data", None), 16, 64)

    def run(weights, x):
      gather = lambda w: jax.sharding.reshard(w, P(None, None))
      return jax.lax.scan(lambda x, w: (jnp.tanh(x @ gather(w)), None), x, weights)[0]

    cost, loops = hlo.collectives(jax.jit(run).lower(weights, x).compile().as_text())
  assert {kind: (each.count, each.bytes) for kind, each in cost.collectives.items()} == {
    "all-gather": (5, 5 * 4 * 64 * 64)
  }
  assert loops == []


def test_a_layer_gathers_each_weight_once_a_pass_and_exchanges_tokens_as_designed(on_devices, tiny_model):
  # Two layers with experts in a scan, every axis split; the TPU's compiler is held to the same in test_tpu.py.
  with on_devices(data=2, expert=2, tensor=2):
    model = tiny_model(remat="full")
    loss = lambda params, rows: scoring.next_token_loss(model, params, rows)[0]
    args = states.abstract_params(model), batch(8, 32)
    text = jax.jit(jax.value_and_grad(loss)).lower(*args).compile().as_text()
  turns = [turn.collectives for turn in hlo.per_turn(text).values()]
  assert sorted(turn["all-to-all"].count for turn in turns if "all-to-all" in turn) == [3, 5]
  # 6 of attention, the router, 3 of the experts, 3 of the shared expert; 3 of tokens that are split over tensor, and
  # backward of the gradients of 3 results; and, on CPU, the scores for both top-k.
  assert [turn["all-gather"].count for turn in turns if "all-gather" in turn] == [13 + 3 + 2, 13 + 3 + 3 + 2]
