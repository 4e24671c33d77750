"""Checks an expression that has to reach a target from given numbers (DeepSeek-R1 v2 B.3.1: the 24 game)."""

import re

GOLD = re.compile(r"([0-9]{1,4}(?:,[0-9]{1,4})*)=([0-9]{1,9})")
EXPRESSION = re.compile(r"[0-9]{1,4}(?:[-+*][0-9]{1,4})*")
MAX_CHARACTERS = 100  # of a response's expression; bounds the arithmetic


def check_target(text: str, gold: str) -> bool:
  """Whether `text` uses the numbers of `gold` in order, with + - *, and gives its target.

  gold: the numbers and the target, "3,5,2=17". text: an expression such as
  "3*5+2", spaces allowed; "3*5+2=17" is right too where both sides agree.
  Raises ValueError for a gold that cannot be read.
  """
  match = GOLD.fullmatch(gold)
  if match is None:
    raise ValueError(
      f"the gold answer {gold!r} of a target problem must read like '3,5,2=17': numbers, then the target."
    )
  numbers, target = [int(number) for number in match[1].split(",")], int(match[2])
  if len(text) > MAX_CHARACTERS:
    return False
  expression, equals, result = re.sub(r"[ \t\n]+", " ", text).strip(" .。").replace("×", "*").partition("=")
  expression, result = re.sub(r" ?([-+*]) ?", r"\1", expression.strip()), result.strip()
  if EXPRESSION.fullmatch(expression) is None or (equals and result != str(target)):
    return False
  return [int(n) for n in re.findall("[0-9]+", expression)] == numbers and evaluate(expression) == target


def evaluate(expression: str) -> int:
  """The value of integers joined by + - *, products first. expression: as EXPRESSION matches it."""
  total = 0
  for sign, term in re.findall(r"([-+]?)([0-9*]+)", expression):
    product = 1
    for factor in term.split("*"):
      product *= int(factor)
    total += -product if sign == "-" else product
  return total
