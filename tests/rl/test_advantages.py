"""Group advantages and the micro-batches made of them."""

import jax
import numpy as np
import pytest

from r1jax import config
from r1jax.rl.advantages import group_advantages, make_experience, split_minibatches
from r1jax.types import Prompts, Rollouts


def make_stage(**fields):
  defaults = dict(
    steps=1,
    group_size=2,
    batch_size=2,
    rollout_size=2,
    sampling=config.Sampling(max_prompt=3, max_response=4),
    template=config.Template(text="{question}"),
    rewards=(),
    row_length=8,
    microbatch_rows=1,
    optimizer=config.Optimizer(learning_rate=1e-3),
    checkpoints=config.Checkpoints(every=1),
    preflight=config.Preflight(),
    alarms=config.Alarms(),
  )
  return config.RL(**(defaults | fields))


PROMPTS = Prompts(np.array([[1, 2, 3], [4, 5, 0]]), np.array([3, 2]), np.arange(2), ())
ROLLOUTS = Rollouts(
  tokens=np.array([[[6, 7, 0, 0], [8, 9, 10, 11]], [[12, 0, 0, 0], [13, 14, 15, 0]]]),
  lengths=np.array([[2, 4], [1, 3]]),
  ended=None,
  log_probs=-np.arange(16, dtype=np.float32).reshape(2, 2, 4),
  draw_log_probs=None,
)


def test_advantages_are_standardised_within_the_group():
  found = group_advantages([[1, 0, 0, 0], [2, 2, 0, 0]])
  np.testing.assert_allclose(found.values, [[3**0.5, *[-(3**-0.5)] * 3], [1, 1, -1, -1]], rtol=1e-6)
  centred = group_advantages([[1, 0, 0, 0]], normalize_std=False)
  np.testing.assert_allclose(centred.values, [[0.75, -0.25, -0.25, -0.25]], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])  # three times 0.1 has a spread of 1e-17 in floating point
def test_a_group_with_equal_rewards_is_dead(value):
  found = group_advantages([[value] * 3, [0, 1, 1]])
  assert found.alive.tolist() == [False, True]
  assert not found.values[0].any() and np.isfinite(found.values).all()


def test_minibatches_split_all_rollouts_and_depend_on_the_seed_alone():
  parts = split_minibatches(12, 3, seed=4)
  assert sorted(np.concatenate(parts)) == list(range(12)) and {len(p) for p in parts} == {4}
  np.testing.assert_array_equal(parts, split_minibatches(12, 3, seed=4))
  assert not np.array_equal(parts, split_minibatches(12, 3, seed=5))


def test_experience_holds_each_completion_after_its_prompt():
  microbatches = make_experience(PROMPTS, ROLLOUTS, group_advantages([[0, 1], [3, 1]]), np.arange(4), make_stage())
  found = {}
  for m in jax.device_get(microbatches):
    for row in range(len(m.batch.tokens)):
      for segment in range(1, m.batch.segments[row].max() + 1):
        at = m.batch.segments[row] == segment
        assert m.batch.positions[row, at].tolist() == list(range(at.sum()))
        found[tuple(m.batch.tokens[row, at].tolist())] = (
          m.batch.weight[row, at],
          m.advantages[row, at],
          m.log_probs[row, at],
        )
  assert set(found) == {(1, 2, 3, 6, 7), (1, 2, 3, 8, 9, 10, 11), (4, 5, 12), (4, 5, 13, 14, 15)}
  weight, advantage, log_probs = found[(4, 5, 13, 14, 15)]
  np.testing.assert_allclose(weight, [0, 0, *[1 / 12] * 3], rtol=1e-6)
  np.testing.assert_allclose(advantage, [0, 0, -1, -1, -1], rtol=1e-6)
  np.testing.assert_allclose(log_probs, [0, 0, -12, -13, -14])


def test_dead_groups_leave_the_batch_and_its_denominator():
  stage = make_stage()
  (batch,) = make_experience(PROMPTS, ROLLOUTS, group_advantages([[1, 1], [0, 1]]), np.arange(4), stage)
  assert batch.batch.weight.sum() == pytest.approx(1.0)
  assert not np.isin(np.asarray(batch.batch.tokens), [1, 6, 8]).any()


def test_a_batch_of_dead_groups_alone_has_no_micro_batches():
  assert make_experience(PROMPTS, ROLLOUTS, group_advantages([[1, 1], [0, 0]]), np.arange(4), make_stage()) == []


@pytest.mark.parametrize("recorded, wider", [(np.uint8, np.int16), (np.uint16, np.int32)])
def test_routes_lie_where_their_tokens_are_and_the_last_token_of_a_sequence_has_none(recorded, wider):
  of_token = lambda tokens: np.stack([tokens, tokens + 240], -1)[..., None].astype(recorded)  # two layers, one expert
  rollouts = ROLLOUTS.replace(routes=of_token(ROLLOUTS.tokens), prompt_routes=of_token(PROMPTS.tokens))
  microbatches = make_experience(PROMPTS, rollouts, group_advantages([[0, 1], [3, 1]]), np.arange(4), make_stage())
  for m in jax.device_get(microbatches):
    assert m.routes.dtype == wider and m.routes.shape == (*m.batch.tokens.shape, 2, 1)
    following = np.pad(m.batch.segments[:, 1:], ((0, 0), (0, 1)))
    inside = (m.batch.segments > 0) & (m.batch.segments == following)
    np.testing.assert_array_equal(m.routes[inside], of_token(m.batch.tokens[inside]))
    assert (m.routes[~inside] == -1).all()
