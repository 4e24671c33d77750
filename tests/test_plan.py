"""What the plan compiles is what training runs, and what it adds up is what is there."""

import dataclasses
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import config, mesh, pipeline, plan
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
    assert jax.tree.map(shape, plan.placed(args)) == jax.tree.map(shape, plan.placed(found[name].args)), name
  reference = jax.tree.map(jnp.copy, lora.trained(state.params))
  live = {id(x): x.nbytes for x in jax.tree.leaves((policy, state, reference))}  # an array in two trees counts once
  rollout = found["rollout"]
  assert plan.device_bytes(rollout.args[0]) + plan.device_bytes(rollout.beside) == sum(live.values())


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
    wanted = program.function, jax.tree.map(shape, plan.placed(program.args)), alike(program.options)
    assert wanted in calls, program.name


def test_figures_add_up_and_the_verdict_names_what_binds():
  experiment = small.get_config()
  figures, remedies = plan.plan(experiment, jax.devices()[:1], only=("base",))
  assert set(figures) == {"base/gradient", "base/update", "base/exam"}
  found = figures["base/update"]
  params = sum(x.nbytes for x in jax.tree.leaves(states.init_params(experiment.model, 0)))
  assert 4 * params <= found.arguments <= 4 * params + 1000  # parameters, two moments and gradients
  assert found.peak == found.arguments + found.beside + found.temporaries + found.program
  largest = max(figures, key=lambda name: figures[name].peak)
  peak = figures[largest].peak
  assert plan.verdict(figures, remedies, peak).startswith(f"Fits: {largest} needs the most")
  told = plan.verdict(figures, remedies, peak - 10**7)
  assert (
    told.startswith(f"Does not fit: {largest} needs")
    and "0.0 more than there are" in told
    and remedies[largest] in told
  )


def test_a_program_of_two_stages_is_compiled_once(monkeypatch):
  experiment = small.get_config()
  zero = experiment.stage("zero")
  again = dataclasses.replace(zero, name="again", start_from="zero", rewards=zero.rewards[:1])
  experiment = dataclasses.replace(experiment, stages=(experiment.stages[0], zero, again))
  figures, _ = plan.plan(experiment, jax.devices()[:1], only=("zero", "again"))
  for name in ("rollout", "reference", "update", "exam"):
    assert figures[f"zero/{name}"].seconds == figures[f"again/{name}"].seconds


def test_the_command_line_prints_json_and_refuses_a_machine_it_does_not_know():
  command = [sys.executable, "-m", "r1jax.plan", "--config=tests/experiments/small.py", "--stages=base"]
  done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300)
  found = json.loads(done.stdout)
  assert found["fits"] is True and found["chips"] == 1 and "peak_bytes" in found["functions"]["base/gradient"]
  done = subprocess.run([*command, "--topology=v99:2x2"], capture_output=True, text=True, timeout=300)
  assert done.returncode == 2 and "--topology=v99:2x2 must be local or one of v4, v5e" in done.stderr
  assert "Traceback" not in done.stderr
