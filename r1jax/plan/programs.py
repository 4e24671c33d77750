"""The jitted functions that the stages of a run execute, with the shapes that they are called with.

They are those of training itself, from the same config; no weight is made and no data read. The current mesh may be one
that exists nowhere.
"""

from collections.abc import Iterator
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P

from r1jax import config, mesh
from r1jax.models import reward_head, scoring
from r1jax.models.experts import route_dtype
from r1jax.models.layer import Adapted
from r1jax.report import dry_run
from r1jax.rl import grpo
from r1jax.rl.sampling import prefill, sample
from r1jax.stages.rl import reference_log_probs
from r1jax.training import lora, optimizer as optimizers, state as states, update
from r1jax.types import Experience, TokenBatch

FEWER_ROWS = "fewer rows in a micro-batch, shorter rows, model.remat='full', or more chips"
FEWER_PROMPTS = "fewer prompts in a call (prompts_at_once, problems_at_once), shorter responses, or more chips"
SMALLER_STATE = "more chips, optimizer.parameters='stochastic', optimizer.moments='bfloat16', or lora"


@dataclasses.dataclass(frozen=True)
class Program:
  """A jitted function of training with the shapes it is called with, and what else is in memory meanwhile."""

  name: str
  function: Any
  args: dict[str, Any]  # trees of shapes by what they are, in the order of the call
  options: dict[str, Any]
  beside: dict[str, Any]  # trees of shapes that are no arguments, by what they are
  remedy: str  # what to change where it does not fit
  tokens: int  # that one call reads or, at most, draws, on all chips
  cache: Any = None  # shapes of the KV cache at its longest
  rounds: int = 1  # of the experts' exchange when all are equally loaded

  def held(self) -> dict[str, int]:
    """Bytes of a chip by what they are for, of all arguments and what stays beside them."""
    found = {"parameters": 0, "optimizer": 0, "gradients": 0}
    for name, tree in (*self.args.items(), *self.beside.items()):
      parts = {name: tree}
      if isinstance(tree, states.TrainState):
        parts = {"parameters": tree.params, "optimizer": (tree.step, tree.optimizer, tree.masters)}
      for part, shapes in parts.items():
        found[part] = found.get(part, 0) + dry_run.device_bytes(shapes)
    return {name: size for name, size in found.items() if size}

  def placed(self) -> tuple:
    """The arguments with whatever has no sharding copied to every device of the current mesh."""
    return tuple(map(placed, self.args.values()))


def here():
  """The current mesh, of devices or abstract."""
  found = jax.sharding.get_mesh()
  return jax.sharding.get_abstract_mesh() if found.empty else found


def placed(tree):
  """The shapes with whatever has no sharding copied to every device of the current mesh."""

  def place(x):
    spec = x.sharding.spec if isinstance(x.sharding, NamedSharding) else ()
    at = NamedSharding(here(), P(*spec[: len(x.shape)]))
    return jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=at.with_memory_kind("pinned_host") if dry_run.on_host(x) else at
    )

  return jax.tree.map(place, tree)


def programs(experiment: config.Experiment, stage: config.Stage) -> Iterator[Program]:
  """What a stage executes on the devices, beside small things."""
  experts = experiment.model_of(stage).experts
  rounds = math.ceil(1 / experts.exchange) if experts and experts.exchange else 1
  for program in _programs(experiment, stage):
    yield dataclasses.replace(program, rounds=rounds)


def _programs(experiment: config.Experiment, stage: config.Stage) -> Iterator[Program]:
  model = experiment.model_of(stage)
  params = states.abstract_params(model)
  if isinstance(stage, config.RL):
    yield from rl(experiment, stage, model, params)
  elif isinstance(stage, (config.SFT, config.Pretrain)):
    loss = functools.partial(scoring.next_token_loss, model, mtp_weight=stage.mtp_weight)
    adapters = getattr(stage, "lora", None)
    rows = batch(stage.rows // stage.microbatches, stage.length)
    yield from training(model, stage, state_of(stage, params, adapters), loss, rows)
  elif isinstance(stage, config.RewardModel):
    loss = functools.partial(reward_head.LOSSES[stage.loss], model)
    state = state_of(stage, states.abstract_params(model, reward_head.declare), None)
    yield from training(model, stage, state, loss, batch_of_responses(stage))
  else:
    policy, beside, _ = for_sampling(experiment, model, params)
    yield sampling(model, policy, stage.sampling, stage.prompts_at_once, stage.samples, beside, "sample")
  exams = exams_of(experiment) if stage.makes == "policy" else {}
  policy, beside, _ = for_sampling(experiment, model, params)
  for name, (drawn, group) in exams.items():  # when the training state is gone
    yield sampling(model, policy, drawn, experiment.evaluation.problems_at_once, group, beside, name)


def for_sampling(experiment: config.Experiment, model: config.Model, params) -> tuple[Any, dict, Iterator[Program]]:
  """The weights that sampling reads, those of training that stay beside a copy of them, and what makes the copy."""
  if not experiment.mesh.gather:
    return params, {}, ()
  make, options = states.for_sampling, {"c": model}
  remedy = "mesh.gather=false, more tensor or expert shards"
  copy = Program("layout", make, {"parameters": params}, options, {}, remedy, 0)
  return jax.eval_shape(functools.partial(make, **options), placed(params)), {"parameters": params}, (copy,)


def exams_of(experiment: config.Experiment) -> dict[str, tuple[config.Sampling, int]]:
  """Sampling and completions per call of every exam; of those that are sampled alike, the first."""
  e = experiment.evaluation
  exams = {"exam": (e.sampling, e.group(e.samples))}
  exams |= {each.name: (each.sampling, e.group(each.samples)) for each in e.benchmarks}
  found = {}
  for name, drawn in exams.items():
    if drawn not in found.values():
      found[name] = drawn
  return found


def state_of(stage, params, adapters) -> states.TrainState:
  optimizer = optimizers.make(stage.optimizer, 1)  # the state is as large for any number of steps
  return states.abstract_state(params, optimizer, stage.optimizer.parameters, adapters)


def rl(experiment, stage, model, params) -> Iterator[Program]:
  """Rollout, learning curve, reference and update of an RL stage."""
  state = state_of(stage, params, stage.lora)
  critics = {name for _, what, name in stage.needs() if what == "reward model"}
  judges = [states.abstract_params(experiment.model_of(experiment.stage(n)), reward_head.declare) for n in critics]
  kept = {"reward models": judges, "reference": lora.trained(state.params) if stage.kl else None}
  policy, frozen = state.params, None
  if stage.lora:
    policy = jax.eval_shape(lambda w: lora.merge(w, model.activations), state.params)
    is_adapted = lambda x: isinstance(x, Adapted)  # the other weights are the policy's, too
    frozen = jax.tree.map(lambda x: x if is_adapted(x) else None, state.params, is_leaf=is_adapted)
  policy, trained, copies = for_sampling(experiment, model, policy)
  beside = {"state": state.replace(params=frozen), **kept}
  for copy in copies:
    yield dataclasses.replace(copy, beside=beside)
  beside |= trained
  prompts, records = stage.prompts_at_once or stage.rollout_size // stage.group_size, stage.routing_replay
  yield sampling(model, policy, stage.sampling, prompts, stage.group_size, beside, "rollout", records)
  if stage.evaluate_every:
    e = experiment.evaluation
    yield sampling(model, policy, e.sampling, e.problems_at_once, e.group(stage.curve_samples), beside, "curve")
  if stage.kl:
    tokens = batch(stage.microbatch_rows, stage.row_length)
    args = {"parameters": state.params, "batch": tokens}
    beside = {"state": state.replace(params=None), **kept}
    yield Program("reference", reference_log_probs, args, {"c": model}, beside, FEWER_ROWS, tokens.tokens.size)
  loss = functools.partial(grpo.loss, model, stage)
  yield from training(model, stage, state, loss, batch_of_experience(model, stage), kept)


def training(model, stage, state, loss, rows, kept=None) -> Iterator[Program]:
  """The gradient of a micro-batch and the update."""
  kept = kept or {}
  optimizer = optimizers.make(stage.optimizer, getattr(stage, "steps", 1000))
  total = jax.eval_shape(functools.partial(update.zeros, loss=loss), state.params, rows)
  args = {"parameters": state.params, "gradients": total, "batch": rows}
  beside = {"state": state.replace(params=None), **kept}
  tokens = max(x.size for x in jax.tree.leaves(rows))
  yield Program("gradient", update.accumulate, args, {"loss": loss}, beside, FEWER_ROWS, tokens)
  args = {"state": state.replace(params=lora.trained(state.params)), "gradients": total}
  frozen = state.params if lora.is_adapted(state.params) else None
  rate = stage.bias_rate(model) if isinstance(stage, config.RL) else model.bias_rate
  options = {"optimizer": optimizer, "bias_rate": rate}
  yield Program("update", update.apply, args, options, {"parameters": frozen, **kept}, SMALLER_STATE, 0)


def sampling(model, params, drawn: config.Sampling, prompts: int, group: int, beside, name: str, records=False):
  """A call that draws `group` completions of each of `prompts`."""
  tokens, lengths = on_batch(jnp.int32, prompts, drawn.max_prompt), on_batch(jnp.int32, prompts)
  key = jax.eval_shape(lambda: jax.random.key(0))
  options = dict(c=model, sampling=drawn, group_size=group, ends=(0,), pad=0, record_routes=records)
  args = {"parameters": params, "tokens": tokens, "lengths": lengths, "rows": lengths, "key": key}
  make = lambda *prompts: prefill(model, *prompts, group, drawn.max_response)[1]
  cache = jax.eval_shape(make, placed(params), tokens, lengths)
  entries = cache.prompt, cache.own
  if drawn.speculate:  # with that of the drafting layer, which is like the others
    entries = *entries, *(jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype, sharding=x.sharding) for x in entries)
  return Program(name, sample, args, options, beside, FEWER_PROMPTS, prompts * group * drawn.max_response, entries)


# ---- shapes


def on_batch(dtype, *shape: int):
  """An array whose rows are split over the batch axes of the current mesh."""
  return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(here(), mesh.batch_spec(1)))  # as mesh.to_global


def batch(rows: int, length: int):
  integers, floats = on_batch(jnp.int32, rows, length), on_batch(jnp.float32, rows, length)
  return TokenBatch(integers, integers, integers, floats)


def batch_of_experience(model: config.Model, stage: config.RL):
  tokens, routes = batch(stage.microbatch_rows, stage.row_length), None
  if stage.routing_replay:
    shape = model.layers - model.dense_layers, model.experts.active
    signed = jnp.promote_types(route_dtype(model.experts), jnp.int8)  # -1 is for the router's own choice
    routes = on_batch(signed, stage.microbatch_rows, stage.row_length, *shape)
  return Experience(tokens, tokens.weight, tokens.weight, tokens.weight, routes)


def batch_of_responses(stage: config.RewardModel):
  rows, k = stage.rows // stage.microbatches, 2 if stage.loss == "pairwise" else 1
  weight = on_batch(jnp.float32, rows)
  tokens = on_batch(jnp.int32, rows, k, stage.length)
  return reward_head.Responses(tokens, on_batch(jnp.int32, rows, k), weight, weight)
