"""Small programs: a Python expression or function that a sentence describes, checked by running it."""

import dataclasses
import json
from typing import ClassVar

from r1jax.playground.family import Stepwise

AGGREGATES = {
  "sum": ("the sum of x", "x的和"),
  "max": ("the maximum of x", "x的最大值"),
  "min": ("the minimum of x", "x的最小值"),
  "len": ("the length of x", "x的长度"),
}
VERBS = {"*": ("times", "乘"), "+": ("plus", "加"), "-": ("minus", "减")}


@dataclasses.dataclass(frozen=True)
class Programs(Stepwise):
  """Level 1: an expression of a number x; level 2: of a list x; level 3: a function f of a list x.

  The gold is JSON: {"form": "expression" or "function", "name": "f" (the
  function's name, or null), "argument": "x", "tests": [{"input": 3, "output": 11}, ...]}.
  """

  level: int
  inner: str  # "x", or the aggregate of the list x
  moves: tuple[tuple[str, int], ...]

  domain = "program"
  suite = "code"
  kind = "program"
  shapes: ClassVar = {"en": r"Write Python(?: f\(x\))?: [^.]*\.", "zh": r"写Python(?:函数f\(x\))?:[^。]*。"}

  @classmethod
  def draw(cls, rng, level):
    inner = "x" if level == 1 else rng.choice(tuple(AGGREGATES))
    times, more = ("*", rng.randint(2, 9)), (rng.choice("+-"), rng.randint(1, 20))
    return cls(level, inner, (more,) if level == 2 else (times, more))

  @property
  def key(self):
    return self._code(self.moves)

  @property
  def answer(self):
    return self.walk(None)[1]

  @property
  def gold(self):
    inputs = (0, 1, 5, 12) if self.level == 1 else ([4], [3, 1, 2], [7, 7, 0, 5, 9])
    return json.dumps(
      {
        "form": "function" if self.level == 3 else "expression",
        "name": "f" if self.level == 3 else None,
        "argument": "x",
        "tests": [{"input": value, "output": self._run(value)} for value in inputs],
      }
    )

  def question(self, language):
    which = ("en", "zh").index(language)
    parts = ["x" if self.inner == "x" else AGGREGATES[self.inner][which]]
    for sign, number in self.moves:
      parts.append(f"{VERBS[sign][which]} {number}" if language == "en" else f"{VERBS[sign][which]}{number}")
    function = self.level == 3
    if language == "en":
      return f"Write Python{' f(x)' if function else ''}: {' '.join(parts)}."
    return f"写Python{'函数f(x)' if function else ''}:{''.join(parts)}。"

  def walk(self, voice, slip=-1, error=0):
    moves = list(self.moves)
    if slip > 0:  # the step that writes a number writes another
      sign, number = moves[slip - 1]
      moves[slip - 1] = (sign, number + abs(error))
    steps = [self._code(moves[:i]) for i in range(len(moves) + 1)]
    if slip == 0:  # the step that reads x reads something else
      wrong = {"x": "x*x", "sum": "max(x)", "max": "min(x)", "min": "max(x)", "len": "sum(x)"}[self.inner]
      steps = [wrong + step[len(self._code(())) :] for step in steps]
    return steps, f"def f(x):return {steps[-1]}" if self.level == 3 else steps[-1]

  def guess(self, rng):
    return self.walk(None, rng.randrange(len(self.moves) + 1), rng.randint(1, 3))[1]

  def _code(self, moves):
    inner = "x" if self.inner == "x" else f"{self.inner}(x)"
    return inner + "".join(f"{sign}{number}" for sign, number in moves)

  def _run(self, value):
    if self.inner != "x":
      value = {"sum": sum, "max": max, "min": min, "len": len}[self.inner](value)
    for sign, number in self.moves:
      value = value * number if sign == "*" else value + number if sign == "+" else value - number
    return value
