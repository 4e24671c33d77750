"""Families of plain numbers: chains of sums, sequences, and comparisons as a multiple choice."""

import dataclasses
from typing import ClassVar

from r1jax.playground.family import Stepwise, chain


def written(start: int, moves: tuple[tuple[str, int], ...]) -> str:
  """A chain as an expression: "7+5-8"."""
  return str(start) + "".join(f"{sign}{number}" for sign, number in moves)


@dataclasses.dataclass(frozen=True)
class Arithmetic(Stepwise):
  """Sums of 3, 4 or 5 numbers 1..9; from level 2 on with minus, never below zero."""

  level: int
  start: int
  moves: tuple[tuple[str, int], ...]

  domain = "arithmetic"
  suite = "math"
  shapes: ClassVar = {"en": r"What is [^?]*\?", "zh": r"计算[^。]*。"}

  @classmethod
  def draw(cls, rng, level):
    value = start = rng.randint(1, 9)
    moves = []
    for _ in range(level + 1):
      number = rng.randint(1, 9)
      minus = level > 1 and number <= value and rng.random() < 0.5
      moves.append(("-" if minus else "+", number))
      value += -number if minus else number
    return cls(level, start, tuple(moves))

  @property
  def key(self):
    return written(self.start, self.moves)

  @property
  def answer(self):
    return str(chain(self.start, self.moves)[1])

  def question(self, language):
    return {"en": f"What is {self.key}?", "zh": f"计算{self.key}。"}[language]

  def walk(self, voice, slip=-1, error=0):
    steps, value = chain(self.start, self.moves, slip, error)
    return steps, str(value)


@dataclasses.dataclass(frozen=True)
class Sequences(Stepwise):
  """The next number: equal differences, growing differences, or up and down in turn."""

  level: int
  terms: tuple[int, ...]

  domain = "sequences"
  suite = "math"
  shapes: ClassVar = {"en": r"What comes next: [^?]*\?", "zh": r"下一个数:[^?]*\?"}

  @classmethod
  def draw(cls, rng, level):
    if level == 1:
      differences = [rng.randint(1, 9)] * 3
    elif level == 2:
      first, growth = rng.randint(1, 5), rng.randint(1, 4)
      differences = [first, first + growth, first + 2 * growth]
    else:
      differences = [rng.randint(1, 9), -rng.randint(1, 9)] * 2
    terms = [rng.randint(1, 20) + 18 * (level == 3)]  # high enough not to fall below zero
    for difference in differences:
      terms.append(terms[-1] + difference)
    return cls(level, tuple(terms))

  @property
  def key(self):
    return ",".join(map(str, self.terms))

  @property
  def answer(self):
    return self.walk(None)[1]

  def question(self, language):
    return {"en": f"What comes next: {self.key}?", "zh": f"下一个数:{self.key}?"}[language]

  def walk(self, voice, slip=-1, error=0):
    off = [error if i == slip else 0 for i in range(5)]
    t = self.terms
    if self.level == 2:
      older, newer = t[-2] - t[-3] + off[0], t[-1] - t[-2] + off[1]
      growth = newer - older + off[2]
      following = newer + growth + off[3]
      answer = t[-1] + following + off[4]
      steps = [f"{t[-2]}-{t[-3]}={older}", f"{t[-1]}-{t[-2]}={newer}", f"{newer}-{older}={growth}"]
      return [*steps, f"{newer}+{growth}={following}", f"{t[-1]}+{following}={answer}"], str(answer)
    difference = t[1] - t[0] + off[0]
    answer = t[-1] + difference + off[1]
    return [f"{t[1]}-{t[0]}={difference}", f"{t[-1]}+{difference}={answer}"], str(answer)


@dataclasses.dataclass(frozen=True)
class Choice(Stepwise):
  """Which of two computations gives more; guesses are right one time in three.

  The letters mean the same in every question: a model of three layers does not
  learn to look up the letter that stands beside a value.
  """

  level: int
  left: tuple[int, tuple[tuple[str, int], ...]]  # start, moves
  right: tuple[int, tuple[tuple[str, int], ...]]

  domain = "choice"
  suite = "choice"
  kind = "choice"
  shapes: ClassVar = {"en": r"Is \d[^?]*\?", "zh": r"比一比:[^?]*\?"}

  @classmethod
  def draw(cls, rng, level):
    wanted = rng.choice("ABC")  # before the computations, which are seldom equal
    while True:
      problem = cls(level, cls._side(rng, level), cls._side(rng, level))
      if problem.answer == wanted and problem.left != problem.right:
        return problem

  @staticmethod
  def _side(rng, level):
    start = rng.randint(1, 9)
    if level == 1:  # everything in one digit
      change = rng.choice([n for n in range(-8, 9) if n and 0 <= start + n <= 9])
      return start, (("+" if change > 0 else "-", abs(change)),)
    moves = [("*", rng.randint(2, 9)), ("+", rng.randint(1, 9))]
    if level > 2:
      moves.append(("-", rng.randint(1, 4)))
    return start, tuple(moves)

  @property
  def key(self):
    return f"{written(*self.left)}?{written(*self.right)}"

  @property
  def answer(self):
    return _letter(chain(*self.left)[1], chain(*self.right)[1])

  def question(self, language):
    left, right = written(*self.left), written(*self.right)
    return {
      "en": f"Is {left} A less than, B equal to, C more than {right}?",
      "zh": f"比一比:{left} A小于 B等于 C大于 {right}?",
    }[language]

  def walk(self, voice, slip=-1, error=0):
    count = len(self.left[1])
    first, left = chain(*self.left, slip, error)
    second, right = chain(*self.right, slip - count, error)
    letter = _letter(left, right)
    if slip == count + len(self.right[1]):  # the right numbers, and the wrong letter
      letter = "ABC"["ABC".index(letter) - 1 - error % 2]
    return [*first, *second, f"{left},{right}:{letter}"], letter

  def guess(self, rng):
    return rng.choice("ABC")


def _letter(left: int, right: int) -> str:
  return "A" if left < right else "B" if left == right else "C"
