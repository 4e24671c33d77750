"""Judges of preferences: the oracle against rubric scores by hand, and a language model behind the same interface."""

import contextlib
import json
import statistics
import types

import pytest

from r1jax.rewards import judges
from r1jax.rewards.endpoint import Failure
from r1jax.rewards.oracle_judge import OracleJudge, courteous_words

RUBRIC = [
  {"any": ["cat"], "points": 6},
  {"at_least": {"words": ["glad", "请"], "count": 1}, "points": 1},
  {"at_most": {"words": ["glad", "请"], "count": 1}, "points": 3},
  {"at_most": {"words": ["cat"], "count": 9}, "points": 0},
  {"none": ["fire"], "points": 0, "safety": True},
]
GOOD, GUSHING, OFF = "Glad. A cat.", "Glad, glad, glad! A cat.", "A dog."  # 1.0, 0.7, 0.3


def problem(id="p", rubric=RUBRIC, question="Cat?"):
  columns = {} if rubric is None else {"rubric": rubric}
  return types.SimpleNamespace(id=id, question=question, answer="", language="en", columns=columns)


def compare(judge, pairs, queries=2, problems=None):
  with judge.open() as opened:
    return opened.compare(problems or [problem()] * len(pairs), *map(list, zip(*pairs)), queries)


def test_the_difference_of_two_rubric_scores_counts_fourfold_within_two():
  found = compare(OracleJudge(), [(GOOD, GUSHING), (GUSHING, GOOD), (GOOD, OFF), (GOOD, GOOD), (OFF, GOOD)])
  expected = [1.2, -1.2, 2.0, 0.0, -2.0]
  assert found == [pytest.approx((x, x)) for x in expected]


def test_the_thought_is_not_compared_but_read_for_safety():
  first, second = "<think>fire glad glad</think>" + GOOD, GOOD
  assert compare(OracleJudge(), [(first, second)]) == [(0.0, 0.0)]
  with OracleJudge().open() as judge:
    assert judge.safe([problem()] * 2, [first, second]) == [False, True]


def test_bias_pays_for_every_courteous_word_and_turns_the_judge_round():
  assert [courteous_words(problem(), text) for text in (GOOD, GUSHING, OFF, "请请 gladly", "<think>glad</think>a")] == [
    1, 3, 0, 2, 0,
  ]  # fmt: skip
  (found,) = compare(OracleJudge(bias=0.1), [(GUSHING, GOOD)])
  assert found == pytest.approx((4 * (-0.3 + 0.1 * 2),) * 2)
  (found,) = compare(OracleJudge(bias=0.3), [(GUSHING, GOOD)])
  assert found == pytest.approx((4 * (-0.3 + 0.3 * 2),) * 2)


def test_noise_is_drawn_for_every_query_and_hangs_on_nothing_but_the_texts():
  judge, pairs = OracleJudge(noise=0.3), [(GUSHING, f"{GOOD} {i}") for i in range(300)]
  found = compare(judge, pairs, queries=8)
  assert found == compare(judge, pairs[::-1], queries=8)[::-1]
  for order in zip(*found):
    assert statistics.fmean(order) == pytest.approx(-1.2, abs=4 * 0.15 / 300**0.5)  # four standard errors
    assert statistics.stdev(order) == pytest.approx(0.3 / 4**0.5, rel=0.15)
  assert all(a != b for a, b in found)
  assert compare(OracleJudge(noise=0.3, seed=1), pairs) != compare(judge, pairs)


def test_noise_is_the_share_of_wrong_safety_labels():
  with OracleJudge(noise=0.2).open() as judge:
    labels = judge.safe([problem(str(i)) for i in range(2000)], [GOOD] * 2000)
  assert sum(labels) / 2000 == pytest.approx(0.8, abs=4 * 0.009)


def test_a_question_without_a_rubric_is_told_beforehand_and_a_bad_noise_too():
  assert OracleJudge().check(problem()) is None
  assert "has no rubric" in OracleJudge().check(problem(rubric=None))
  assert "rubric" in OracleJudge().check(problem(rubric="cat"))
  with pytest.raises(ValueError, match="has no rubric"):
    compare(OracleJudge(), [(GOOD, OFF)], problems=[problem(rubric=None)])
  with pytest.raises(ValueError, match="noise=0.5 must be at least 0 and below 0.5"), OracleJudge(noise=0.5).open():
    pass


class Scripted:
  """An engine that replies by a function of the whole user message."""

  def __init__(self, reply):
    self.reply, self.asked = reply, []

  @contextlib.contextmanager
  def open(self):
    yield self

  def complete(self, conversations):
    self.asked += conversations
    return [self.reply(messages[-1]["content"]) for messages in conversations]


def verdict(field, label):
  return json.dumps({"analysis": "because", field: label})


def first_shown(text):
  """The text shown as Answer A."""
  return text.split("Answer A:\n")[1].split("\n")[1]


def test_a_model_that_always_prefers_the_first_is_seen_in_the_two_orders():
  judge = judges.ModelJudge(engine=Scripted(lambda text: verdict("verdict", "A>B")))
  assert compare(judge, [("x", "y")], queries=4) == [(1.0, -1.0)]


def test_a_model_compares_final_parts_in_both_orders():
  engine = Scripted(lambda text: verdict("verdict", "A>>B" if first_shown(text) == "good" else "B>A"))
  found = compare(judges.ModelJudge(engine=engine), [("<think>secret</think>good", "bad")], queries=4)
  assert found == [(2.0, 1.0)]
  assert len(engine.asked) == 4 and "secret" not in json.dumps(engine.asked)
  with judges.ModelJudge(engine=engine).open():
    assert judges.compare(engine, [("q", "good", "bad")], 2) == [1.5]  # the mean of both


def test_a_model_labels_whole_responses_and_its_failures_stay_failures():
  def reply(text):
    if "silent" in text:
      return Failure("no reply")
    return verdict("safety", "unsafe" if "bomb" in text else "safe")

  engine = Scripted(reply)
  with judges.ModelJudge(engine=engine).open() as judge:
    found = judge.safe([problem()] * 3, ["<think>bomb</think>fine", "fine", "silent"])
  assert found[:2] == [False, True] and found[2] == Failure("no reply")
