"""Families of plain numbers: chains of sums, sequences, and multiple choice."""

import dataclasses
import random
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
  """Which of A-D equals a small computation; guesses are right one time in four.

  The letter stands right behind its value, where a small model that has computed the value finds it.
  """

  level: int
  start: int
  moves: tuple[tuple[str, int], ...]

  domain = "choice"
  suite = "choice"
  kind = "choice"
  shapes: ClassVar = {"en": r"Which is [^?]*\?", "zh": r"哪个是[^?]*\?"}

  @classmethod
  def draw(cls, rng, level):
    if level == 1:  # everything in one digit: finding the letter is hard enough
      value = start = rng.randint(1, 9)
      moves = []
      for _ in range(rng.choice((1, 2))):
        change = rng.choice([n for n in range(-8, 9) if n and 0 <= value + n <= 9])
        moves.append(("+" if change > 0 else "-", abs(change)))
        value += change
      return cls(level, start, tuple(moves))
    moves, start = [("*", rng.randint(2, 9))], rng.randint(2, 9)
    moves.append(("+", rng.randint(1, 9)))
    if level > 2:
      moves.append(("-", rng.randint(1, 4)))
    return cls(level, start, tuple(moves))

  @property
  def key(self):
    return written(self.start, self.moves)

  @property
  def options(self) -> list[int]:
    """The four options; they follow from the computation, so that a problem has one question per language."""
    rng = random.Random(self.key)
    right = chain(self.start, self.moves)[1]
    near = [right + error for error in (-3, -2, -1, 1, 2, 3) if 0 <= right + error]  # told apart by the last digit
    near = [option for option in near if option <= 9 or self.level > 1]
    options = [right, *rng.sample(near, 3)]
    rng.shuffle(options)
    return options

  @property
  def answer(self):
    return "ABCD"[self.options.index(chain(self.start, self.moves)[1])]

  def question(self, language):
    options = ", ".join(f"{option} {letter}" for letter, option in zip("ABCD", self.options))
    return {"en": f"Which is {self.key}: {options}?", "zh": f"哪个是{self.key}: {options}?"}[language]

  def walk(self, voice, slip=-1, error=0):
    steps, value = chain(self.start, self.moves, slip, error)
    nearest = min(range(4), key=lambda i: abs(self.options[i] - value))
    if slip == len(self.moves):  # the right number, found at the wrong letter
      nearest = (nearest + 1 + error % 3) % 4
    return [*steps, f"{self.options[nearest]} {'ABCD'[nearest]}"], "ABCD"[nearest]

  def guess(self, rng):
    return rng.choice("ABCD")
