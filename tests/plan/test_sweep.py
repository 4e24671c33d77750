"""Which meshes are looked at, and how they are ranked."""

import dataclasses
import types

import jax
import pytest

from configs import models
from r1jax import config
from r1jax.plan import cost, figures as of, hardware, sweep
from tests.experiments import small


@pytest.fixture(autouse=True)
def one_device():
  """In place of the mesh of every test: a sweep makes its own."""


def test_every_factorisation_is_a_shape_once():
  found = sweep.shapes(12)
  assert len(found) == len(set(found)) == 18  # 2 * 2 * 3 in three places: 6 ways for the twos, 3 for the three
  assert all(each.data * each.expert * each.tensor == 12 for each in found)


def test_a_mesh_must_divide_heads_experts_and_weights(tiny_model, grouped_query):
  model = tiny_model()  # 4 heads, 8 experts of width 16, width 32, vocabulary of 24
  assert sweep.divides(model, config.Mesh(data=2, expert=4, tensor=4))
  assert not sweep.divides(model, config.Mesh(expert=3))
  assert not sweep.divides(model, config.Mesh(expert=16))
  assert not sweep.divides(model, config.Mesh(data=64))
  assert not sweep.divides(model, config.Mesh(tensor=8))
  dense = tiny_model(attention=grouped_query, experts=None)  # 4 heads, 2 key heads
  assert sweep.divides(dense, config.Mesh(tensor=2)) and not sweep.divides(dense, config.Mesh(tensor=4))
  assert sweep.divides(models.deepseek_v3_671b(), config.Mesh(data=32, expert=16, tensor=2))


def test_rows_are_halved_and_doubled_where_the_stage_allows_it():
  base, zero = small.get_config().stages
  assert [each.microbatch_rows for each in sweep.with_rows(zero)] == [2, 4, 8]
  assert [sweep.rows_of(each) for each in sweep.with_rows(base)] == [2, 4]  # of 4 rows in all
  with pytest.raises(ValueError, match="--sweep needs a stage that trains"):
    sweep.with_rows(config.Stage(name="asks"))


@pytest.fixture
def made_up(monkeypatch):
  """Figures made up of the mesh, in place of traced and compiled ones: more tensor is faster, and takes more memory."""

  def figures(program, machine):
    shape = jax.sharding.get_abstract_mesh().shape
    rows = program.tokens if program.name == "gradient" else 0
    time = 1 / shape["tensor"] - rows / 1000
    phase = of.Phase("whole", cost.Cost(), time + (0.5 if machine.devices else 0), "compute")
    size = dict(arguments=100 * shape["tensor"] + rows, beside=0, temporaries=0, program=0, cache=0, held={})
    made = dict(estimated=not machine.devices, asked=not machine.devices, compile_seconds=0)
    return of.Figures(**size, **made, tokens=1, phases=(phase,), remedy="")

  def programs(experiment, stage):
    yield types.SimpleNamespace(name="rollout", tokens=1)
    yield types.SimpleNamespace(name="gradient", tokens=stage.microbatch_rows)

  monkeypatch.setattr(sweep, "figures", figures)
  monkeypatch.setattr(sweep, "programs", programs)


def test_candidates_are_ranked_by_time_and_what_does_not_fit_comes_last(made_up):
  experiment, machine = small.get_config(), hardware.machine("h100:4")
  machine = dataclasses.replace(machine, chip=dataclasses.replace(machine.chip, hbm=150))
  found = sweep.sweep(experiment, experiment.stage("zero"), machine, best=2)
  shapes = [(each.mesh.data, each.mesh.expert, each.mesh.tensor, each.rows) for each in found]
  assert shapes[0] == (4, 1, 1, 8) and set(shapes[1:3]) == {(2, 2, 1, 8), (1, 4, 1, 8)}
  assert all(rows % (data * expert) == 0 for data, expert, _, rows in shapes)
  fits = [each.peak <= 150 for each in found]
  assert fits == sorted(fits, reverse=True) and [each.mesh.tensor == 1 for each in found] == fits
  for part in (found[: sum(fits)], found[sum(fits) :]):
    assert [each.seconds for each in part] == sorted(each.seconds for each in part)
  told = sweep.as_json(found, machine)
  assert (
    told[0]["mesh"] == {"data": 4, "expert": 1, "tensor": 1, "gather": False}
    and told[0]["fits"]
    and not told[-1]["fits"]
  )


def test_the_best_are_compiled_and_come_first(made_up):
  machine = hardware.machine("local")
  machine = dataclasses.replace(machine, devices=machine.devices[:2], count=2, chip=hardware.CHIPS["v5e"])
  found = sweep.sweep(small.get_config(), small.get_config().stages[1], machine, best=2)
  assert [each.figures["gradient"].estimated for each in found] == [False] * 2 + [True] * (len(found) - 2)
  assert found[0].mesh.tensor == 2 and len({(each.mesh, each.rows) for each in found}) == len(found)


def test_chips_that_nothing_divides_are_told():
  with pytest.raises(ValueError, match="no mesh of 7 chips divides"):
    sweep.sweep(small.get_config(), small.get_config().stages[1], hardware.machine("h100:7"), best=0)
