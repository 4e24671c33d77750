"""Rewards whose values come with the responses (a reward model's), alone and in tables, gates and clips."""

import types

import numpy as np
import pytest

from r1jax.rewards import ByDomain, Clipped, Format, Gated, Preference, Scorer
from r1jax.rewards.compose import given

HELPFUL, SAFE = Preference(stage="helpful_rm", name="helpful", weight=0.5), Preference(stage="safety_rm", name="safe")
DOMAINS = ("writing", "harm", "math")
WELL, ILL = "<think>a</think><answer>b</answer>", "b"


def score(rewards, columns, responses=(WELL,) * 3):
  problems = [types.SimpleNamespace(id=d, domain=d, columns={}) for d in DOMAINS]
  with Scorer(rewards, None) as scorer:
    return scorer.score(problems, list(responses), given={k: np.array(v, np.float32) for k, v in columns.items()})


def test_a_given_value_is_weighted_where_its_reward_applies_and_nothing_is_called():
  table = ByDomain({"writing": (HELPFUL,), "harm": (SAFE,)})
  found = score((table, Format()), {"helpful": [1.5, np.nan, np.nan], "safe": [np.nan, 0.25, np.nan]})
  np.testing.assert_allclose(found.total, [0.5 * 1.5 + 1, 0.25 + 1, 1])
  np.testing.assert_array_equal(found.columns["helpful"], [1.5, np.nan, np.nan])
  assert found.summary()["reward/safe"] == 0.25 and not found.failures


def test_gates_and_clips_stand_around_it_as_around_any_reward():
  gated = Gated(Clipped(HELPFUL, -1.0, 1.0), gate=Format())
  found = score(gated, {"helpful": [3.0, -2.0, 0.5]}, (WELL, WELL, ILL))
  np.testing.assert_allclose(found.total, [0.5, -0.5, 0.0])
  assert found.statuses["helpful"][2] == "gate closed"


def test_it_may_be_a_gate_itself():
  found = score(Gated(Format(), gate=SAFE, threshold=0.5), {"safe": [0.9, 0.4, 0.5]})
  np.testing.assert_allclose(found.total, [1, 0, 1])


def test_all_given_rewards_of_a_composition_are_found_with_their_rows():
  table = ByDomain({"writing": (Gated(Clipped(HELPFUL, 0, 1), gate=SAFE, threshold=0.5),)}, other=(Format(),))
  found = given((table,))
  assert [reward.name for _, reward in found] == ["helpful", "safe"]
  assert all(leaf.applies("writing") and not leaf.applies("math") for leaf, _ in found)
  assert given((Format(),)) == [] and HELPFUL.takes() == [("reward model", "helpful_rm")]


def test_a_value_that_was_not_given_is_an_error_and_not_a_zero():
  with pytest.raises(ValueError, match="'helpful' is that of a reward model, which only an RL stage asks"):
    score(HELPFUL, {})
  with pytest.raises(ValueError, match="'helpful' gave nan"):
    score(HELPFUL, {"helpful": [1.0, np.nan, 1.0]})
