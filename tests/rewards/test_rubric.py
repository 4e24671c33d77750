"""Rubrics: each check against a slow version that reads the text word by word, and rows that cannot be graded."""

import itertools
import re

from hypothesis import given, settings, strategies as st
import pytest

from r1jax.rewards.rubric import Rubric, safe
from r1jax.types import Problem


def problem(*rubric, language="en"):
  columns = {"rubric": list(rubric)} if rubric else {}
  return Problem("p1", "Write about the cat.", "", "open", "writing", language=language, columns=columns)


WORDS = ["cat", "Cat", "cats", "red", "red cat", "猫", "红猫", "glad", "please", "R1"]
PIECES = [
  *WORDS,
  "concat",
  "the",
  "不",
  ".",
  "!",
  "。",
  " ",
  " ",
  ",",
  "\n",
  "1",
  "é",
  "<think>",
  "</think>",
  "<answer>",
  "\x00",
  "İ",
]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.text(max_size=40))


def occurrences(text, words):
  """How often any of the words begins, read character by character, the longest first, without overlap."""
  lower, at, count = text, 0, 0
  letter = re.compile("[A-Za-z0-9À-ɏ]")
  while at < len(lower):
    for word in sorted(set(words), key=len, reverse=True):
      piece = lower[at : at + len(word)]
      if not re.fullmatch(re.escape(word), piece, re.IGNORECASE):
        continue
      before, after = lower[at - 1 : at] if at else "", lower[at + len(word) : at + len(word) + 1]
      goes_on = (letter.match(word[0]) and letter.match(before)) or (letter.match(word[-1]) and letter.match(after))
      if goes_on:
        continue
      count, at = count + 1, at + len(word) - 1
      break
    at += 1
  return count


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=TEXTS, words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), bound=st.integers(0, 3))
def test_words_are_found_as_a_reader_finds_them(text, words, bound):
  reward = Rubric(reads="response")
  read = re.sub("</?(?:think|answer)>", " ", text).strip()
  count = occurrences(read, words)
  expected = {
    "any": count > 0,
    "none": count == 0,
    "all": all(occurrences(read, [word]) for word in words),
    "at_least": count >= bound,
    "at_most": count <= bound,
  }
  for name, holds in expected.items():
    argument = {"words": words, "count": bound} if name.startswith("at_") else words
    assert reward(problem({name: argument}), text) == float(holds and bool(read)), (name, count)


@pytest.mark.parametrize(
  ("check", "holds", "fails"),
  [
    ({"max_words": 3}, "The red cat.", "The very red cat."),
    ({"max_words": 3}, "红猫,1", "这红猫1"),
    ({"min_words": 2}, "a cat", "猫"),
    ({"min_sentences": 2}, "It is red. It is old", "It is red..."),
    ({"min_sentences": 2}, "很红。很老。", "很红。。。"),
    ({"max_sentences": 1}, "It is red, it is old!", "Red! Old?"),
    ({"language": "zh"}, "我是R1,一个model", "I like the 猫"),
    ({"language": "en"}, "Use glue.", "用胶。"),
    ({"language": "en"}, "Hello Ann, I am R1.", "123"),
    ({"language": "zh-CN"}, "猫", ""),
    ({"language": "en"}, "the cat is in the wood " * 9, "le chat est dans la forêt avec nous " * 9),
  ],
)
def test_lengths_and_languages(check, holds, fails):
  assert Rubric()(problem(check), holds) == 1.0
  assert Rubric()(problem(check), fails) == 0.0


def test_points_add_up_to_a_share():
  rubric = problem({"any": ["cat"], "points": 2}, {"any": ["red"]}, {"max_words": 4})
  scores = {text: Rubric()(rubric, text) for text in ("red cat", "a cat", "red", "x", "a very very old dog")}
  assert scores == {"red cat": 1.0, "a cat": 0.75, "red": 0.5, "x": 0.25, "a very very old dog": 0.0}


def test_a_failed_must_costs_everything_also_without_points():
  rubric = problem({"any": ["cat"], "points": 0, "must": True}, {"any": ["red"], "points": 3})
  assert Rubric()(rubric, "red cat") == 1.0
  assert Rubric()(rubric, "red dog") == 0.0


@pytest.mark.parametrize(
  ("response", "prefill", "score"),
  [
    ("<think>the cat</think>a dog", "", 0.0),
    ("<think>a dog</think>the cat", "", 1.0),
    ("a dog</think>the cat", "<think>", 1.0),
    ("<think>a dog</think><answer>the cat</answer>", "", 1.0),
    ("<think>the cat", "", 0.0),  # cut off: there is no reply
    ("the cat", "", 1.0),
  ],
)
def test_the_summary_is_read_and_not_the_thought(response, prefill, score):
  assert Rubric()(problem({"any": ["cat"]}), response, prefill) == score
  assert Rubric(reads="response")(problem({"any": ["cat"]}), response, prefill) == 1.0


def test_safety_is_a_matter_of_the_whole_response():
  rubric = problem({"any": ["no"]}, {"none": ["fire", "火"], "safety": True})
  assert safe(rubric, "<think>Hm.</think>No.") and safe(problem(), "fire")
  assert not safe(rubric, "<think>Use fire.</think>No.")
  assert not safe(rubric, "hm</think>No.", prefill="<think>火")


def test_a_check_about_safety_reads_everything_whatever_the_reward_reads():
  rubric = problem({"any": ["no"]}, {"none": ["fire"], "points": 0, "must": True, "safety": True})
  assert Rubric()(rubric, "<think>Hm.</think>No.") == Rubric()(rubric, "<answer>No.</answer>") == 1.0
  for smuggled in ("<think>Use fire.</think>No.", "Use fire. <answer>No.</answer>", "<answer>No.</answer> Use fire."):
    assert Rubric()(rubric, smuggled) == 0.0
  assert Rubric()(rubric, "hm</think>No.", prefill="<think>fire ") == 0.0


def test_a_row_without_a_rubric_is_none_of_its_business():
  assert Rubric()(problem(), "The cat.") is None
  assert Rubric().check(problem()) is None


@pytest.mark.parametrize(
  ("rubric", "sentence"),
  [
    ([{"some": ["cat"]}], "must have exactly one of the keys"),
    ([{"any": ["cat"], "all": ["cat"]}], "must have exactly one of the keys"),
    (["cat"], "must have exactly one of the keys"),
    ([{"any": []}], "check 'any' cannot be made with"),
    ([{"any": "cat"}], "check 'any' cannot be made with"),
    ([{"at_most": {"words": ["cat"]}}], "check 'at_most' cannot be made with"),
    ([{"max_words": -1}], "check 'max_words' cannot be made with -1"),
    ([{"language": "xx"}], "check 'language' cannot be made with 'xx'"),
    ([{"any": ["cat"], "points": -1}], "points=-1 .* must be 0 or more"),
    ([{"any": ["cat"], "must": 1}], "must and safety .* must be true or false"),
    ([{"any": ["cat"], "points": 0}], "points of its rubric are 0 altogether"),
    ({"any": ["cat"]}, "rubric must be a list of checks"),
  ],
)
def test_a_rubric_that_cannot_be_read_is_named(rubric, sentence):
  row = Problem("p1", "Write.", "", "open", "writing", columns={"rubric": rubric})
  assert re.search(f"problem 'p1': .*{sentence}", Rubric().check(row))
  with pytest.raises(ValueError, match=sentence):
    Rubric()(row, "The cat.")


def test_what_it_reads_is_checked():
  with pytest.raises(ValueError, match="reads='thought' must be one of summary, response"):
    Rubric(reads="thought")


CHECKS = [
  {"any": ["cat", "猫"], "points": 2}, {"all": ["red", "R1"]}, {"none": ["fire"], "safety": True, "must": True},
  {"at_most": {"words": ["glad", "请"], "count": 1}, "points": 0.5}, {"at_least": {"words": ["glad"], "count": 2}},
  {"min_words": 2}, {"max_words": 9}, {"min_sentences": 1}, {"max_sentences": 2}, {"language": "zh"}, {"language": "fr"},
]  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=TEXTS, prefill=st.sampled_from(["", "<think>"]), checks=st.lists(st.sampled_from(CHECKS), min_size=1))
def test_no_text_makes_it_raise_or_leave_its_range(text, prefill, checks):
  for reads in ("summary", "response"):
    reward = Rubric(reads=reads)
    assert 0.0 <= reward(problem(*checks), text, prefill) <= 1.0
    assert reward.bounded(problem(*checks), text, prefill)
  assert safe(problem(*checks), text, prefill) in (True, False)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=TEXTS, checks=st.lists(st.sampled_from(CHECKS), min_size=2, max_size=4, unique_by=str))
def test_the_order_of_the_checks_does_not_matter(text, checks):
  scores = [Rubric()(problem(*order), text) for order in itertools.permutations(checks)]
  assert scores == pytest.approx([scores[0]] * len(scores))
