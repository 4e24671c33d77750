"""The rollouts of a stage in their order; on devices of their own, some are drawn while the learner trains."""

import collections
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1jax import config
from r1jax.models.scoring import token_log_probs
from r1jax.processes import Stop
from r1jax.types import Experience, Prompts, Rollouts


class Drawn(NamedTuple):
  """A rollout whose rewards are under way."""

  prompts: Prompts
  rollouts: Rollouts  # numpy leaves
  texts: list[list[str]]  # [p][g]
  scores: list  # a Future of Rewards per part, in order; none where another process scores them
  seconds: float  # that drawing it took
  behind: int = 0  # updates that the policy has made since


class Actors:
  """Draws rollouts in their order, `stage.staleness` of them ahead of the one that is asked for.

  A rollout is drawn with the weights of the moment it is begun. None is begun
  before a checkpoint that comes before it: a run that goes on from one draws
  the same as a run that was never cut off.

  Args:
    batches: what is asked, saved and continued by `place`.
    draw: (problems, step, policy) -> Drawn, or None where the run is to stop.
    stop: what `draw` asks for that; told when an error ends the run, for a rollout may take long.
  """

  def __init__(self, stage: config.RL, batches, draw: Callable, stop: Stop):
    self._stage, self._batches, self._draw, self._stop = stage, batches, draw, stop
    self._updates = stage.rollout_size // stage.batch_size
    self._begun = collections.deque()  # (step, step of the weights, where the batches were, what gives it)
    self._pool = ThreadPoolExecutor(1, "actors") if stage.staleness else None

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if self._pool:
      if kind is not None:
        self._stop.note()
      self._pool.shutdown(cancel_futures=True)  # and waits: its devices are free for the next run

  def place(self):
    """Where the batches were before the first rollout that was not handed out yet."""
    return self._begun[0][2] if self._begun else self._batches.get_state()

  def next(self, step: int, policy) -> Drawn | None:
    """The rollout of update `step`; those that may follow it are begun with `policy`. None: the run is to stop."""
    stage, updates = self._stage, self._updates
    due = (step // stage.checkpoints.every + 1) * stage.checkpoints.every
    end = min(step + stage.staleness * updates + 1, due, stage.steps)
    for later in range(self._begun[-1][0] + updates if self._begun else step, end, updates):
      place = self._batches.get_state()
      self._begun.append((later, step, place, self._begin(next(self._batches), later, policy)))
    _, drawn_at, _, result = self._begun[0]
    drawn = result()
    if drawn is None:
      return None
    self._begun.popleft()
    return drawn._replace(behind=step - drawn_at)

  def _begin(self, problems, step: int, policy):
    draw = functools.partial(self._draw, problems, step, policy)
    if self._pool is None:
      return draw
    here = jax.sharding.get_mesh()  # which a thread does not inherit

    def on_this_mesh():
      with jax.set_mesh(here):
        return draw()

    return self._pool.submit(on_this_mesh).result


@functools.partial(jax.jit, static_argnames=("c", "cap"))
def _catch_up(params, experience: Experience, *, c: config.Model, cap: float) -> Experience:
  now = token_log_probs(c, params, experience.batch, experience.routes)[0]
  trained = experience.batch.weight > 0
  weight = jnp.minimum(jnp.exp(jnp.where(trained, now - experience.log_probs, 0.0)), cap)
  return experience.replace(log_probs=now, advantages=experience.advantages * weight)


def catch_up(c: config.Model, params, experience: list[Experience], cap: float) -> list[Experience]:
  """Experience of older weights as `params` see it: truncated importance sampling.

  The log-probs become those of `params`, the policy that the clipped ratio
  starts from; every token's advantage is multiplied by min(p_now / p_drawn, cap).
  """
  return [_catch_up(params, part, c=c, cap=cap) for part in experience]
