"""What the plan compiles is what training runs, and what it adds up is what is there."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import config, mesh, pipeline
from r1jax.plan import programs as plan
from r1jax.report import dry_run
from r1jax.stages import evaluate, rl
from r1jax.training import lora, optimizer as optimizers, state as states, update
from r1jax.types import Experience, TokenBatch
from tests.experiments import small

LORA = config.Lora(rank=2)


def programs(experiment, name):
  stage = experiment.stage(name)
  return {program.name: program for program in plan.programs(experiment, stage)}


def tokens(rows, length):
  integers = np.ones((rows, length), np.int32)
  return mesh.to_global(TokenBatch(integers, integers, integers, np.ones((rows, length), np.float32)))


@pytest.mark.parametrize("adapters", [None, LORA], ids=["all", "lora"])
@pytest.mark.parametrize("parameters", ["float32", "masters"])
def test_the_programs_are_those_that_training_calls_with_its_arrays(parameters, adapters):
  experiment = small.get_config()
  stage = dataclasses.replace(
    experiment.stage("zero"),
    lora=adapters,
    optimizer=dataclasses.replace(experiment.stage("zero").optimizer, parameters=parameters),
  )
  experiment = dataclasses.replace(experiment, stages=(experiment.stages[0], stage))
  found = programs(experiment, "zero")
  model, optimizer = experiment.model, optimizers.make(stage.optimizer, stage.steps)
  state = states.create(states.init_params(model, 0), optimizer, parameters, adapters)
  batch = tokens(stage.microbatch_rows, stage.row_length)
  experience = Experience(batch, batch.weight, batch.weight, batch.weight)
  loss = rl.make_train(model, stage, optimizer).keywords["loss"]
  total = update.zeros(state.params, experience, loss=loss)
  trained = state.replace(params=lora.trained(state.params))
  policy = lora.merge(state.params, model.activations)
  prompts = stage.rollout_size // stage.group_size
  drawn = np.zeros((prompts, stage.sampling.max_prompt), np.int32), *[np.ones(prompts, np.int32)] * 2
  calls = {
    "rollout": (policy, *mesh.to_global(drawn), jax.random.key(0)),
    "reference": (state.params, batch),
    "gradient": (state.params, total, experience),
    "update": (trained, total),
  }
  for name, args in calls.items():
    assert jax.tree.map(shape, plan.placed(args)) == jax.tree.map(shape, found[name].placed()), name
  reference = jax.tree.map(jnp.copy, lora.trained(state.params))
  live = {id(x): x.nbytes for x in jax.tree.leaves((policy, state, reference))}  # an array in two trees counts once
  rollout = found["rollout"]
  assert dry_run.device_bytes((rollout.args["parameters"], rollout.beside)) == sum(live.values())


def shape(x):
  spec = list(getattr(x.sharding, "spec", ()))
  while spec and spec[-1] is None:  # P("data", None) is P("data")
    spec.pop()
  return x.shape, x.dtype, tuple(spec)


def alike(options):
  """Options of a call that can be compared: a partial by its parts, and what only counts when it runs left out."""
  parts = lambda x: (x.func, x.args, x.keywords) if isinstance(x, functools.partial) else x
  return {name: parts(x) for name, x in options.items() if name not in ("optimizer", "ends", "pad")}


def test_every_program_is_called_by_a_real_run_with_these_shapes_and_options(tmp_path, monkeypatch):
  experiment = small.get_config()
  zero = dataclasses.replace(experiment.stage("zero"), steps=2, evaluate_every=2, curve_samples=8, reference_every=2)
  experiment = dataclasses.replace(experiment, stages=(experiment.stages[0], zero))
  expected = [each for stage in experiment.stages for each in plan.programs(experiment, stage)]
  calls = []

  def record(module, name):
    function = getattr(module, name)

    def call(*args, **options):
      calls.append((function, jax.tree.map(shape, plan.placed(args)), alike(options)))
      return function(*args, **options)

    monkeypatch.setattr(module, name, call)

  for module, name in ((evaluate, "sample"), (rl, "reference_log_probs"), (update, "accumulate"), (update, "apply")):
    record(module, name)
  pipeline.execute(experiment, tmp_path / "run")
  assert {program.name for program in expected} == {"rollout", "curve", "reference", "gradient", "update", "exam"}
  for program in expected:
    wanted = program.function, jax.tree.map(shape, program.placed()), alike(program.options)
    assert wanted in calls, program.name
