"""The filters of the rejection stage: what makes a reasoning unreadable."""

import pytest

from r1jax.rewards.readability import Readable
from r1jax.types import Problem

STEP = "I add the numbers and then check whether the total is right, because it is easy to slip. "
PLAIN = "\n\n".join(f"In step {i} the sum of {i} and {i + 1} is found to be {2 * i + 1}." for i in range(40))


def reasons(think, language="en", **config):
  problem = Problem("p1", "?", "1", "number", "math", language=language)
  response = f"<think>{think}</think> <answer>1</answer>"
  found = Readable(**config).reasons(problem, response)
  assert Readable(**config)(problem, response) == float(not found)
  return [reason.partition(":")[0] for reason in found]


def test_plain_reasoning_passes():
  assert reasons(PLAIN, max_repetition=1.0) == reasons(STEP) == reasons("") == reasons("3+4=7, 7+5=12") == []
  assert reasons("我们先把两个数相加，得到总和，然后检查结果。", "zh") == []


def test_each_fault_is_named():
  assert reasons(STEP + "然后检查结果是否正确") == ["mixed languages"]
  assert reasons(STEP, "zh") == ["mixed languages"]
  assert reasons("I try.\n```python\nprint(1)\n```\nFine.") == ["code block"]
  assert reasons("I try.\n  ~~~\nx = 1\n~~~") == ["code block"]
  assert reasons(STEP * 100) == ["long paragraph", "repetition"]
  assert reasons((STEP + "\n \n") * 100) == ["repetition"]
  assert reasons("数" * 10 + "和" * 2000, "zh") == ["long paragraph", "repetition"]


def test_thresholds_are_settings():
  assert reasons(STEP + "然后", min_share=0.5) == []
  assert reasons("a b\n```\n1\n```", code_blocks=True) == []
  assert reasons(STEP, max_paragraph=50) == ["long paragraph"]
  assert reasons((STEP + "\n\n") * 100, max_repetition=1.0) == []


def test_only_the_reasoning_is_looked_at_and_unknown_languages_are_not_judged():
  problem = Problem("p1", "?", "1", "number", "math", language="en")
  assert Readable()(problem, f"{STEP}</think> <answer>```然后检查结果```</answer>", "<think>\n") == 1.0
  assert reasons(STEP, "sw") == []


@pytest.mark.parametrize(
  ("language", "bare", "told"),
  [
    ("en", "true", "It is true."),
    ("zh", "真", "答案是真。"),
    ("en", "20", "The answer is 20."),
    ("en", "B", "So it is B."),
  ],
)
def test_a_bare_answer_is_no_summary_whatever_it_is_written_in(language, bare, told):
  reward, row = Readable(summary=True), Problem("p1", "?", bare, "text", "logic", language=language)
  for reply in (bare, f"<answer>{bare}</answer>", f"{bare}."):
    assert reward.reasons(row, f"<think></think>{reply}") == ["no summary in words"]
  assert reward(row, f"<think></think>{told}") == 1.0


def test_settings_that_make_no_sense_are_refused():
  with pytest.raises(ValueError, match=r"min_share=2 and .* must lie between 0 and 1"):
    Readable(min_share=2)
  with pytest.raises(ValueError, match="max_paragraph=0 must be at least 1"):
    Readable(max_paragraph=0)
