"""Reflection, mixing and self-correction on hand-labelled responses, and on hostile ones."""

import itertools
import re
import time

from hypothesis import given, settings, strategies as st
import pytest

from r1jax.report import emergence as counted
from r1jax.report.emergence import corrected, emergence, has_false_equation, measure, reasoning


@pytest.mark.parametrize(
  ("response", "count"),
  [
    ("<think>3+4=7</think> <answer>7</answer>", 0),
    ("Wait, that is a MISTAKE. but let me check", 4),
    ("waiter, checks, errors, rewrong, butter", 0),
    ("<think>fine</think><answer>wait but check</answer>", 0),
    ("<think>wait</think>but check", 1),  # a summary is no reasoning
    ("wait</think>but</think>check", 2),
    ("<think>wait, but check", 3),
    ("等等，不对，让我检查一下", 3),
    ("有错误。", 1),
    ("这不错。", 0),
    ("等wait等", 1),
  ],
)
def test_reflective_words_are_counted_as_whole_words_outside_the_answer(response, count):
  assert measure(response, "en")["reflective_words"] == count


@pytest.mark.parametrize(
  ("response", "language", "mixed", "share"),
  [
    ("<think>two plus three is 5</think>", "en", 0, 0),
    ("<think>3 + 4 = 7, x = 2</think>", "zh", 0, 0),
    ("<think>我们先算 3+4=7，所以 x=7，选 A。</think><answer>seven</answer>", "zh", 0, 0),
    ("<think>所以 $\\frac{ab}{cd}$ 是 `foo`</think>", "zh", 0, 0),
    ("<think>我来算。3+4=7。</think>The red cat.", "zh", 0, 0),
    ("<think>so 三十</think>The red cat.", "zh", 1, 1 / 3),
    ("so it is 三十 today yes", "en", 1, 2 / 7),
    ("so it is 三十 today yes", "zh", 1, 5 / 7),
    ("全部中文", "en", 1, 1),
  ],
)
def test_mixing_counts_words_of_the_other_script(response, language, mixed, share):
  found = measure(response, language)
  assert found["mixed"] == mixed
  assert found["foreign_share"] == pytest.approx(share)


@pytest.mark.parametrize(
  "text",
  [
    "3+4=8", "so 12 * 3 = 35.", "(2+3)×4=21", "2+2=4=5-2", "17/5=3", "10/3=3.34", "所以3+4=8，", "- 3+4=8",
    "3 + 4 = 7, 7*2=15", "it is 7. 3+4=8", "(so 3+4=8)", "(3+4=8)",
  ],
)  # fmt: skip
def test_false_equations_are_seen(text):
  assert has_false_equation(text)


@pytest.mark.parametrize(
  "text",
  [
    "3+4=7", "-3+4=1", "- 3+4=7", "10/3=3.33", "17/5=3 remainder 2", "17÷5=3余2", "2x+3=7", "x + 3 = 7", "f(3)=7",
    "7+1 = 2x", "x = 15", "x = 3 = 15", "2 x 3 + 1 = 7", "8/0=1", "2+2=4=5-1", "a1+1=5", "3*(4=5", "no numbers = here",
    "2^3=8", "5!=120", "3+4=7cm", "1,250+1=1251", "(3+4=7)", "((1+2)*3=9)",
  ],
)  # fmt: skip
def test_what_holds_or_cannot_be_read_is_no_false_equation(text):
  assert not has_false_equation(text)


@pytest.mark.parametrize(
  "response",
  [
    "<think>3*4=13, wait, 3*4=12</think><answer>12</answer>",
    "try 5: 5*5=25 too small. wait, try 6: 6*6=36.",
    "x=5 gives 25, no, but 6 gives 36",
    "先试 5：25，不对，再试 6：36",
    "先试 5：25，太小。重试 6",
    "5*5=25 not 36, check 6*6=36",
    "25 is wrong; 36",
    "<think>5*7=35~40 low wait,5*8=40~40 yes</think>",
    "5*7=35~40 小了 等等,5*8=40~40 对",
    "2+1=3~8 high wait,7+1=8~8 yes",
    "1:1+23=24~25 wait,2:2+23=25~25 yes",
    "1:1+23=24~25 等等,2:2+23=25~25 对",
  ],
)
def test_a_rejected_attempt_before_the_right_answer_is_a_correction(response):
  assert corrected(response, correct=True)
  assert not corrected(response, correct=False)


@pytest.mark.parametrize(
  "response",
  [
    "3*4=12",
    "3*4=12, check: 12/4=3",
    "3*4=13, so 12",
    "8:5*8=40~40 yes",
    "8:5*8=40~40 yes,wait",
    "5*7=35~40 low,5*8=40~40 yes",
    "wait, let me think. no. 3*4=12",
    "but 3*4=13",
    "检查：3*4=12",
    "<think>12</think><answer>3*4=13 wait</answer>",
  ],
)
def test_without_a_rejected_attempt_before_a_reflective_word_it_is_none(response):
  assert not corrected(response, correct=True)


def test_shares_are_over_responses_and_per_domain():
  responses = ["3*4=13, wait, no: 12 但", "3*4=12", "but wait", "全部"]
  found = emergence(responses, ["en", "en", "en", "zh"], [True, True, False, True], ["a", "a", "b", "b"])
  assert found["reflection_rate"] == 0.5
  assert found["reflective_words_per_response"] == (2 + 0 + 2 + 0) / 4
  assert found["language_mixing"] == 0.25
  assert found["self_corrections"] == 0.25
  assert found["per_domain"]["a"]["self_corrections"] == 0.5
  assert found["per_domain"]["b"] == {
    "reflection_rate": 0.5,
    "reflective_words_per_response": 1.0,
    "language_mixing": 0.0,
    "foreign_share": 0.0,
    "self_corrections": 0.0,
  }


# ---- the same by looking at everything before every reflective word: slow and obvious

RUN = re.compile(r"[-+*/×÷().\d ]*\d[-+*/×÷().\d ]*(?:=[-+*/×÷().\d ]*\d[-+*/×÷().\d ]*)+")


def reasoning_at_once(response):
  if "<answer>" not in response:
    response = re.sub(r"(?s)</think>(?!.*</think>).*", " ", response)
  return re.sub(r"</?[A-Za-z_]+>|<\|.*?\|>", " ", re.sub(r"(?s)<answer>.*?(</answer>|$)", " ", response))


def corrected_slowly(response):
  text = reasoning_at_once(response)
  for word in counted._REFLECTIVE.finditer(text):
    turned_down = list(counted._REJECTED.finditer(text[: word.end()]))
    if turned_down and re.search(r"\d", text[: turned_down[-1].start()]):
      return True
    if has_false_equation_slowly(text[: word.start()]):
      return True
  return False


def has_false_equation_slowly(text):
  text = re.sub(r"\.(?!\d)", "\n", text)
  for run in RUN.finditer(text):
    sides = [side.strip() for side in run.group().split("=")]
    false = any(counted._differ(a, b) for a, b in itertools.pairwise(sides))
    if false and not part_of_a_formula(text[: run.start()], run.group(), text[run.end() :]):
      return True
  return False


def part_of_a_formula(before, equation, after):
  attached = re.search(r"[A-Za-z]$", before) and not equation.startswith(" ")
  variable = re.search(r"(?<![A-Za-z])[A-Za-z]$", before)
  continued = re.search(r"[A-Za-z]$", before) and equation.lstrip()[0] in "+*/×÷"
  thousands = re.search(r"\d,$", before) and re.match(r"\d{3}(?!\d)", equation)
  ahead = re.match(r"[A-Za-z^%!²]|余|又|\s*r(?:emainder)?\b", after) or equation.rstrip()[-1] in "+-*/×÷("
  return attached or variable or continued or thousands or ahead


EQUATIONS = [
  "3+4=7", "3+4=8", "1.5", "12", "7", "=", "+", "-", "*", "÷", "(", ")", " ", ".", "\n", ",", "123", "x", "f(", "2x", "r",
  " r", "emainder", "余", "又", "²", "!", "%", "wait", "等等",
]  # fmt: skip
WORDS = [
  "Wait", "but", "retry", "no", "no,", "not ", "too small", "不对", "不", "错", "错误", "误", "有误", "等", "一下", "~8",
  " wait", " low", "≠", "<answer>", "</answer>", "<think>", "<", "<|", "|>", "ſ", "\u212a", "3+4=7", "3+4=8", "8", " ", "\n", ".",
]  # fmt: skip


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(
  st.sampled_from([EQUATIONS, EQUATIONS + WORDS, WORDS]).flatmap(lambda x: st.lists(st.sampled_from(x), max_size=14))
)
def test_one_pass_finds_what_a_look_at_all_before_every_word_finds(pieces):
  text = "".join(pieces)
  assert reasoning(text) == reasoning_at_once(text)
  assert has_false_equation(text) == has_false_equation_slowly(text)
  assert corrected(text, correct=True) == corrected_slowly(text)


def test_an_equation_is_read_up_to_the_nearest_reflective_word_too():
  for text in ("3+4=8but then wait", "3+4=8 r等等 check", "3+4=8r check, wait", "3+4=8x等等", "3+4=8. r 2 wait"):
    assert corrected(text, correct=True) == corrected_slowly(text)
  assert corrected("3+4=8but then wait", correct=True)
  assert not corrected("3+4=8x, wait", correct=True)


HOSTILE = (
  "wait, check: 12+7=19, so 19. ", "wait 1=1 ", "1+1=2 wait ", "1+1=3x ", "1+1=2=", "1", "1 ", "1=", "1.", "((1", "1,", "=",
  "<|", "<|a\n", "</", "<answer>", "$ `", "`", "\\", "no ", "no\n", "not ", "~11", "wait", "错", "a",
)  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_half_a_megabyte_of_anything_is_looked_at_in_seconds(piece):
  text = "1 " + piece * (500_000 // len(piece)) + " wait"
  start = time.process_time()
  emergence([text], ["en"], [True], ["a"])
  assert time.process_time() - start < 10  # about 0.5; quadratic work would take hours
