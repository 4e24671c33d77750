"""Families in which trying, checking and going back pays: equations by guess and check, and countdown."""

import dataclasses
import functools
import itertools
import re
from typing import ClassVar

from r1jax.playground.family import Searched, chain


@dataclasses.dataclass(frozen=True)
class Equations(Searched):
  """Linear equations with x in 1..6, tried from 1 upwards: x+23=27; 4x+15=31; 4x+45=61.

  Every value and target has two digits, so that a tiny model finds both at
  fixed distances when it compares them.
  """

  level: int
  factor: int  # 1: none is written
  term: int
  target: int

  domain = "equations"
  suite = "math"
  shapes: ClassVar = {"en": r"Solve [^.]*\.", "zh": r"解[^。]*。"}

  @classmethod
  def draw(cls, rng, level):
    x = rng.randint(1, 6)
    factor = 1 if level == 1 else rng.randint(2, 9)
    term = rng.randint(*((10, 60), (10, 30), (31, 45))[level - 1])
    return cls(level, factor, term, factor * x + term)

  @property
  def key(self):
    left = "x" if self.factor == 1 else f"{self.factor}x"
    return f"{left}+{self.term}={self.target}"

  @property
  def answer(self):
    return str((self.target - self.term) // self.factor)

  def question(self, language):
    return {"en": f"Solve {self.key}.", "zh": f"解{self.key}。"}[language]

  def candidates(self):
    return [(self.factor * x + self.term, x) for x in range(1, 7)]

  def search(self, rng):
    return self.candidates()[: int(self.answer)]

  def verdict(self, value, voice):
    return voice.yes if value == self.target else voice.wait

  def attempt(self, candidate, slip=-1, error=0):
    return f"{candidate}:", chain(self.factor * candidate, (("+", self.term),), slip, error)[0]  # short: no product

  def facts(self, rng, voice):
    value, candidate = rng.choice(self.candidates())
    product = [f"{self.factor}*{candidate}={self.factor * candidate}"] if self.factor > 1 else []
    seen = self.target if rng.random() < 0.4 else value  # judging is the hardest step: often, and often a hit
    return [*product, *self.attempt(candidate)[1], *[f"{seen}~{self.target} {self.verdict(seen, voice)}"] * 2]


@dataclasses.dataclass(frozen=True)
class Countdown(Searched):
  """Signs between numbers in their order: three numbers to 6, three to 9, or four with + and - only.

  Expressions follow the usual precedence; no partial result leaves 0..99.
  """

  level: int
  numbers: tuple[int, ...]
  target: int

  domain = "countdown"
  suite = "math"
  kind = "target"  # several expressions may be right: the gold lists the numbers and the target
  shapes: ClassVar = {"en": r"Fill in \+-[^.]*\.", "zh": r"填入\+-[^。]*。"}

  @classmethod
  def draw(cls, rng, level):
    while True:
      if level == 3:
        numbers = tuple(rng.randint(1, 9) for _ in range(4))
      else:
        numbers = tuple(rng.randint(2, 6 if level == 1 else 9) for _ in range(3))
      if level == 2 and max(numbers) < 7:
        continue  # a problem of level 1
      forms = reduce_by_steps(interleave(numbers, [rng.choice(signs_of(level)) for _ in numbers[1:]]))
      if forms:
        problem = cls(level, numbers, int(forms[-1]))
        if any(value != problem.target for value, _ in problem.candidates()):  # else there is nothing to search
          return problem

  @property
  def key(self):
    return ",".join(map(str, self.numbers)) + f"={self.target}"

  gold = key

  @functools.cached_property
  def answer(self):
    return next(expression for value, expression in self.candidates() if value == self.target)

  def question(self, language):
    blanks = "_".join(map(str, self.numbers)) + f"={self.target}"
    signs = signs_of(self.level)
    return {"en": f"Fill in {signs}: {blanks}.", "zh": f"填入{signs}:{blanks}。"}[language]

  def candidates(self):
    found = []
    for signs in itertools.product(signs_of(self.level), repeat=len(self.numbers) - 1):
      expression = interleave(self.numbers, signs)
      forms = reduce_by_steps(expression)
      if forms:
        found.append((int(forms[-1]), expression))
    return found

  def attempt(self, candidate, slip=-1, error=0):
    return "", ["=".join(reduce_by_steps(candidate, error if slip == 0 else 0))]

  def facts(self, rng, voice):
    value, candidate = rng.choice(self.candidates())
    forms = reduce_by_steps(candidate)
    steps = [f"{left}={right}" for left, right in itertools.pairwise(forms)]
    return [*steps, f"{value}~{self.target} {self.verdict(value, voice)}"]


def signs_of(level: int) -> str:
  return "+-" if level == 3 else "+-*"


def interleave(numbers, signs) -> str:
  return str(numbers[0]) + "".join(f"{sign}{number}" for sign, number in zip(signs, numbers[1:]))


PRODUCT = re.compile(r"(\d+)(\*)(\d+)")
SUM = re.compile(r"^(\d+)([+-])(\d+)")


@functools.lru_cache(maxsize=1 << 14)
def reduce_by_steps(expression: str, error: int = 0) -> tuple[str, ...]:
  """The forms on the way to a value: ("3+5*2", "3+10", "13"); the first result is off by `error`.

  Empty if, without an error, a partial result leaves 0..99.
  """
  forms = [expression]
  while match := PRODUCT.search(forms[-1]) or SUM.match(forms[-1]):
    left, sign, right = int(match[1]), match[2], int(match[3])
    result = left * right if sign == "*" else left + right if sign == "+" else left - right
    if not error and not 0 <= result <= 99:
      return ()
    if len(forms) == 1:
      result += error
    forms.append(forms[-1][: match.start()] + str(result) + forms[-1][match.end() :])
  return tuple(forms)
