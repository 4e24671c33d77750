"""Actors: devices that sample while the learner trains; in step they change nothing, ahead they are corrected."""

import dataclasses
import json
import threading
import time

import jax
import numpy as np
import pytest

from r1jax import config, mesh, pipeline
from r1jax.models.scoring import token_log_probs
from r1jax.processes import Stop
from r1jax.stages import rl
from r1jax.stages.actors import Actors, Drawn, catch_up
from r1jax.training import state as states
from r1jax.training.checkpoints import Checkpoints
from r1jax.types import Experience, TokenBatch
from tests.experiments import small


def experiment(actors: config.Mesh | None, staleness: int = 0) -> config.Experiment:
  """Eight rollouts, with a checkpoint after every fourth."""
  made = small.get_config()
  base, zero = made.stages
  gentle = config.Optimizer(learning_rate=2e-2, epsilon=1e-2, weight_decay=0.0)
  zero = dataclasses.replace(
    zero, steps=16, optimizer=gentle, staleness=staleness, checkpoints=config.Checkpoints(every=8)
  )
  made = dataclasses.replace(made, stages=(base, zero), mesh=config.Mesh(data=4), actors=actors)
  made.validate()
  return made


def execute(made: config.Experiment, workdir):
  devices = jax.devices()[:4] if made.actors is None else jax.devices()
  with jax.set_mesh(mesh.make(made.mesh, devices[:4])):
    pipeline.execute(made, workdir)


def params(workdir):
  with Checkpoints(workdir / "zero/checkpoints", 1, 1000) as checkpoints:
    return jax.device_get(checkpoints.restore_params(states.abstract_params(small.get_config().model)))


def log(workdir) -> list[dict]:
  return [json.loads(line) for line in (workdir / "zero/metrics.jsonl").read_text().splitlines()]


def responses(workdir) -> list[str]:
  files = sorted((workdir / "zero/rollouts").glob("*.jsonl"))
  return [json.loads(line)["response"] for file in files for line in file.read_text().splitlines()]


ACTORS = config.Mesh(data=2, expert=2)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("actors") / "together"
  execute(experiment(None), workdir)
  return workdir


def test_actors_that_wait_for_the_newest_weights_change_nothing(together):
  workdir = together.with_name("apart")
  execute(experiment(ACTORS), workdir)
  assert responses(workdir) == responses(together)
  # float32 sums in the order of the actors' mesh, through 16 updates
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params(workdir), params(together))
  assert {row["rollout/behind"] for row in log(workdir)} == {0}


def test_actors_ahead_are_behind_but_not_across_a_checkpoint_and_a_killed_run_draws_the_same(together, monkeypatch):
  whole, killed = together.with_name("ahead"), together.with_name("killed")
  made = experiment(ACTORS, staleness=1)
  execute(made, whole)
  behind = [row["rollout/behind"] for row in log(whole)][::2]
  assert behind == [0, 2, 2, 2, 0, 2, 2, 2]
  assert all(np.isfinite(row["policy/loss"]) for row in log(whole))

  watch = rl.Watch.rollout

  def cut(self, step, *rest):
    if step == 12:
      raise KeyboardInterrupt
    return watch(self, step, *rest)

  monkeypatch.setattr(rl.Watch, "rollout", cut)
  with pytest.raises(KeyboardInterrupt):
    execute(made, killed)
  monkeypatch.undo()
  execute(made, killed)
  jax.tree.map(np.testing.assert_array_equal, params(killed), params(whole))


def test_catching_up_is_truncated_importance_sampling(tiny_model, random_params):
  c, random = tiny_model(), np.random.default_rng(3)
  shape, weights = (4, 8), random_params(tiny_model())
  tokens = random.integers(0, c.vocab, shape).astype(np.int32)
  ones = np.ones(shape, np.int32)
  trained = (np.arange(8) > 2) * np.ones(shape, np.float32) / 20
  batch = TokenBatch(tokens, np.tile(np.arange(8, dtype=np.int32), (4, 1)), ones, trained)
  now = np.asarray(token_log_probs(c, weights, mesh.to_global(batch))[0])
  drawn = (now + random.normal(size=shape)).astype(np.float32)
  advantages = random.normal(size=shape).astype(np.float32)
  before = mesh.to_global(Experience(batch, advantages, drawn, drawn))
  (after,) = catch_up(c, weights, [before], 1.5)
  np.testing.assert_allclose(after.log_probs, now, atol=1e-5)
  expected = advantages * np.where(trained > 0, np.minimum(np.exp(now - drawn), 1.5), 1)
  np.testing.assert_allclose(after.advantages, expected, rtol=1e-4)


class Counting:
  """Batches that are numbers."""

  def __init__(self):
    self.count = 0

  def __next__(self):
    self.count += 1
    return self.count - 1

  def get_state(self):
    return self.count


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_rollouts_come_in_order_no_more_behind_than_allowed(staleness):
  stage = dataclasses.replace(experiment(ACTORS).stage("zero"), staleness=staleness)
  draw = lambda problems, step, policy: Drawn(problems, policy, step, [], 0.0)
  with Actors(stage, Counting(), draw, Stop()) as actors:
    for step in range(0, 16, 2):
      drawn = actors.next(step, step)
      assert (drawn.prompts, drawn.texts) == (step // 2, step)
      assert drawn.behind == step - drawn.rollouts == min(2 * staleness, step % 8)
      if step % 8 == 6:
        assert actors.place() == step // 2 + 1  # nothing is begun that a checkpoint would not know of


def test_a_rollout_that_is_to_stop_leaves_the_batches_where_it_began():
  stage = dataclasses.replace(experiment(ACTORS).stage("zero"), staleness=2)
  stops = lambda problems, step, policy: None if step >= 4 else Drawn(problems, policy, step, [], 0.0)
  with Actors(stage, Counting(), stops, Stop()) as actors:
    actors.next(0, 0), actors.next(2, 2)
    assert actors.next(4, 4) is None and actors.place() == 2


def test_an_error_ends_the_rollout_under_way_at_its_next_part():
  stage, stop, under_way, parts = experiment(ACTORS, staleness=1).stage("zero"), Stop(), threading.Event(), []

  def draw(problems, step, policy):
    while step and len(parts) < 1000 and not stop.asked():  # as `roll_out` does
      under_way.set()
      parts.append(time.sleep(0.01))
    return Drawn(problems, policy, step, [], 0.0)

  with pytest.raises(ZeroDivisionError), Actors(stage, Counting(), draw, stop) as actors:
    actors.next(0, 0)
    assert under_way.wait(30)
    raise ZeroDivisionError
  assert len(parts) < 100


@pytest.mark.parametrize(
  "change, sentence",
  [
    (dict(actors=None), "zero: staleness=1 needs devices that sample while others train"),
    (dict(actors=config.Mesh(data=3)), "evaluation on actors: problems_at_once = 4 cannot be split"),
    (dict(actors=config.Mesh(data=0)), "data=0"),
  ],
)
def test_actors_that_cannot_be_are_one_sentence(change, sentence):
  made = dataclasses.replace(experiment(ACTORS, staleness=1), **change)
  with pytest.raises(ValueError, match=sentence):
    made.validate()
