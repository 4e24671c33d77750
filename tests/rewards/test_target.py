"""The target checker against Python's own arithmetic."""

import itertools
import time

import pytest

from r1jax.rewards.target import check_target


def test_every_expression_is_judged_as_python_computes_it():
  for numbers in ((3, 5, 2), (9, 1, 12), (2, 2, 2, 7)):
    for signs in itertools.product("+-*", repeat=len(numbers) - 1):
      text = str(numbers[0]) + "".join(f"{s}{n}" for s, n in zip(signs, numbers[1:]))
      for target in range(100):
        gold = ",".join(map(str, numbers)) + f"={target}"
        assert check_target(text, gold) == (eval(text) == target)


@pytest.mark.parametrize("text", ["3*5+2", " 3 * 5 + 2 ", "3*5+2=17", "3*5 + 2 = 17", "3×5+2", "3*5+2.", "3*5+2。"])
def test_spaces_and_a_true_right_side_are_accepted(text):
  assert check_target(text, "3,5,2=17")


@pytest.mark.parametrize(
  "text",
  [
    "", "17", "5*3+2", "3*5", "3*5+2+0", "3*52", "35+2", "3 5+2", "3*5+2=18", "3*5+2=", "=17", "3*5+2=17=17",
    "(3*5)+2", "3**5+2", "3*5+2.0", "-3*5+2", "3*5++2", "３*5+2", "3*5+2;", "x", "9**9**9", "3*5+2" + " " * 200,
  ],
)  # fmt: skip
def test_anything_else_is_wrong(text):
  assert not check_target(text, "3,5,2=17")


def test_hostile_texts_are_judged_at_once():
  start = time.perf_counter()
  for text in ("9" * 10**6, "9*" * 10**6, "(" * 10**6, "3*5+2" * 10**5, " " * 10**6):
    assert not check_target(text, "3,5,2=17")
  assert time.perf_counter() - start < 0.1


@pytest.mark.parametrize("gold", ["", "17", "3,5,2", "3,5,2=x", "3;5;2=17"])
def test_an_unreadable_gold_is_an_error(gold):
  with pytest.raises(ValueError, match="must read like '3,5,2=17'"):
    check_target("3*5+2", gold)
