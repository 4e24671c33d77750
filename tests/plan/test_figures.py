"""The figures add up, are those of what runs, and are told as they are."""

import dataclasses
import math

import jax
import pytest

from r1jax import config
from r1jax.plan import cost, figures as of, hardware, show
from r1jax.training import state as states
from tests.experiments import small


@pytest.fixture(autouse=True)
def one_device():
  """In place of the mesh of every test: a plan makes its own."""


@pytest.fixture
def one_cpu():
  machine = hardware.machine("local")
  return dataclasses.replace(machine, devices=machine.devices[:1], count=1)


def test_figures_add_up_and_the_verdict_names_what_binds(one_cpu, on_devices):
  experiment = small.get_config()
  figures = of.plan(experiment, one_cpu, stages=("base",))
  assert set(figures) == {"base/gradient", "base/update", "base/exam"}
  found = figures["base/update"]
  with on_devices():
    params = sum(x.nbytes for x in jax.tree.leaves(states.init_params(experiment.model, 0)))
  assert 4 * params <= found.arguments <= 4 * params + 1000  # parameters, two moments and gradients
  assert found.held["parameters"] == params and params <= found.held["gradients"] <= params + 100
  assert 2 * params <= found.held["optimizer"] <= 2 * params + 100
  assert found.peak == found.arguments + found.beside + found.temporaries + found.program
  largest = max(figures, key=lambda name: figures[name].peak)
  peak = figures[largest].peak
  assert show.verdict(figures, peak).startswith(f"Fits: {largest} needs the most")
  told = show.verdict(figures, peak - 10**7)
  assert told.startswith(f"Does not fit: {largest} needs") and "0.0 more than there are" in told
  assert figures[largest].remedy in told


def test_what_is_held_is_all_arguments_and_what_stays_beside(one_cpu):
  figures = of.plan(small.get_config(), one_cpu, stages=("zero",), names=("update", "rollout"))
  for name, each in figures.items():
    unused = sum(each.held.values()) - each.arguments - each.beside  # what a program does not read is not passed
    assert 0 <= unused <= 2048, name


def test_a_program_of_two_stages_is_compiled_once(one_cpu):
  experiment = small.get_config()
  zero = experiment.stage("zero")
  again = dataclasses.replace(zero, name="again", start_from="zero", rewards=zero.rewards[:1])
  experiment = dataclasses.replace(experiment, stages=(experiment.stages[0], zero, again))
  figures = of.plan(experiment, one_cpu, ("zero", "again"), ("reference", "update"))
  for name in ("reference", "update"):
    assert figures[f"zero/{name}"].compile_seconds == figures[f"again/{name}"].compile_seconds > 0


def test_a_rollout_is_its_prefill_and_every_step_with_the_cache_it_has(one_cpu):
  experiment = small.get_config()
  zero = experiment.stage("zero")
  drawn = dataclasses.replace(zero.sampling, chunk=2, max_response=12)  # caches of 2, 4, 8, 12 tokens
  zero = dataclasses.replace(zero, sampling=drawn)
  experiment = dataclasses.replace(experiment, stages=(experiment.stages[0], zero))
  found = of.plan(experiment, one_cpu, ("zero",), ("rollout",))["zero/rollout"]
  whole, prefill, step = found.phases
  assert (whole.name, prefill.name, step.name) == ("whole", "prefill", "a step")
  a, p, g = experiment.model.attention, zero.rollout_size // zero.group_size, zero.group_size
  # A step's scores and sums over one more token of every completion's own cache, in both layers.
  a_token = 2 * 2 * p * g * a.heads * (a.latent_rank + a.rope_head + a.latent_rank)
  shorter = 2 * (12 - 2) + 2 * (12 - 4) + 4 * (12 - 8)  # tokens fewer that the steps before the last cache read
  assert whole.cost.flops == prefill.cost.flops + 12 * step.cost.flops - shorter * a_token
  assert found.tokens == p * g * 12
  cache = 2 * 4 * p * (24 + g * 12) * (a.latent_rank + a.rope_head)
  assert found.cache == cache


def test_gpus_are_planned_for_by_arithmetic_within_a_factor_of_what_is_compiled(one_cpu):
  experiment = small.get_config()
  chosen = ("zero",), ("rollout", "gradient", "update")
  paper, made = of.plan(experiment, hardware.machine("h100:1"), *chosen), of.plan(experiment, one_cpu, *chosen)
  assert all(each.estimated for each in paper.values()) and not any(each.estimated for each in made.values())
  for name, each in paper.items():
    assert each.held == made[name].held and each.cache == made[name].cache
    assert abs(each.arguments - made[name].arguments) <= 2048
    if not name.endswith("update"):  # where buffers are donated and little is left
      assert 0.5 < each.temporaries / made[name].temporaries < 2.5, name


def test_a_program_that_the_compiler_gives_up_on_has_the_size_that_it_tells(one_cpu, monkeypatch):
  told = "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
  told += "temporaries (28.50G) exceeds available HBM (15.75G)."

  def give_up(*_):
    raise jax.errors.JaxRuntimeError(told)

  monkeypatch.setattr(jax.stages.Lowered, "compile", give_up)
  found = of.plan(small.get_config(), one_cpu, ("base",), ("gradient",))["base/gradient"]
  assert found.temporaries == 28.5 * 2**30 and found.arguments > 0 and found.estimated
  told = "INTERNAL: something else"
  with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
    of.plan(small.get_config(), one_cpu, ("base",), ("gradient",))


def test_the_least_time_is_that_of_the_limit_that_binds():
  chip = hardware.Chip(hbm=1, flops=10.0, hbm_bandwidth=5.0, link_bandwidth=2.0)
  gather = {"all-gather": cost.traffic("all-gather", 8, 4)}
  assert cost.seconds(cost.Cost(20.0, 5.0, gather), chip) == (3.0, "interconnect")
  assert cost.seconds(cost.Cost(50.0, 5.0, gather), chip) == (5.0, "compute")
  assert cost.seconds(cost.Cost(20.0, 50.0, gather), chip) == (10.0, "memory")


def test_what_a_ring_sends():
  assert cost.traffic("all-gather", 80, 8).wire == 70
  assert cost.traffic("reduce-scatter", 10, 8).wire == 70
  assert cost.traffic("all-reduce", 80, 8).wire == 140
  assert cost.traffic("all-to-all", 80, 8).wire == 70
  assert cost.traffic("all-gather", 80, 1) == cost.Traffic()


def test_json_has_the_figures_of_every_function_and_tables_stay_narrow(one_cpu):
  import rich.console

  figures = of.plan(small.get_config(), hardware.machine("h200:1"), ("zero",), ("rollout", "update"))
  found = show.as_json(figures, hardware.machine("h200:1"))
  assert found["fits"] is True and found["chips"] == 1 and found["topology"] == "h200:1"
  each = found["functions"]["zero/rollout"]
  assert {"peak_bytes", "flops", "hbm_bytes", "collectives", "seconds", "bound", "estimated"} <= each.keys()
  assert each["phases"].keys() == {"prefill", "a step"} and each["bound"] in ("compute", "memory", "interconnect")
  console = rich.console.Console(width=140, record=True, file=open("/dev/null", "w"))
  for table in show.tables(figures, hardware.machine("h200:1")):
    console.print(table)
  assert "…" not in console.export_text()
  unknown = show.as_json(of.plan(small.get_config(), one_cpu, ("base",), ("update",)), one_cpu)
  assert unknown["functions"]["base/update"]["seconds"] is None  # a CPU's peaks are not in the table
  assert all(not math.isnan(f.whole.cost.flops) for f in figures.values())


def test_a_mesh_that_does_not_have_the_gpus_is_told():
  experiment = dataclasses.replace(small.get_config(), mesh=config.Mesh(data=2))
  with pytest.raises(ValueError, match=r"needs 2 devices, but h100:8 has 8; set --config.mesh.data=8"):
    of.plan(experiment, hardware.machine("h100:8"))


@pytest.mark.parametrize("topology", ["v99:2x2", "v5e", "h100"])
def test_a_machine_that_is_not_known_is_told(topology):
  with pytest.raises(ValueError, match=rf"--topology={topology} must be local or one of v4, v5e"):
    hardware.machine(topology)


def test_a_number_of_gpus_must_be_one_and_nodes_are_told():
  with pytest.raises(ValueError, match="must give the number of GPUs, as h100:8"):
    hardware.machine("h100:2x4")
  assert "more than the 8 of a node" in hardware.machine("h200:16").notes[0]
  assert hardware.machine("h200:8").notes == ()
