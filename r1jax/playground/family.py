"""What every family of problems has, and the two ways of working one out: step by step, and by trying.

A family is a frozen record of one drawn problem. It knows its question in
every language, its answer, and how writers of different care would answer it:

  style       step by step (`Stepwise`)             by trying (`Searched`)
  "bare"      a wrong guess, no work                the same
  "lucky"     the right answer, no work             the same
  "slip"      one wrong step, carried through       one try, answered whatever it gives
  "careful"   every step right                      tries until one fits
  "corrected" a wrong step, noticed at once         the same inside one of the tries
  "given_up"  -                                     tries that fail, and the last one answered
"""

import abc
import dataclasses
import random
from typing import Any, ClassVar, Self

from r1jax.types import Problem

ERRORS = (-10, -2, -1, 1, 2, 10)  # by how much a wrong step is off


@dataclasses.dataclass(frozen=True)
class Voice:
  """The words that stand between the steps of a work, in one language."""

  wait: str
  low: str
  high: str
  yes: str
  give_up: str
  easy: str
  truth: tuple[str, str]  # false, true
  joins: tuple[str, str, str]  # and, or, not, with the spaces the language wants
  language: str
  openings: tuple[str, ...]  # what a spoken work begins with
  closings: tuple[str, ...]  # what it ends with; {} is the answer


VOICES = {
  "en": Voice(
    "wait", "low", "high", "yes", "giving up", "easy", ("false", "true"), (" and ", " or ", "not "),
    "en", ("Let me see. ", "Let me think. ", "I think: "), (", so it is {}.", ", it is {}.", ", I get {}."),
  ),
  "zh": Voice(
    "等等", "小了", "大了", "对", "算了", "简单", ("假", "真"), ("且", "或", "非"),
    "zh", ("我来看看。", "我来想想。", "我想:"), (",所以是{}。", ",就是{}。", ",我得{}。"),
  ),
}  # fmt: skip


class Family(abc.ABC):
  """One problem; subclasses are frozen dataclasses with a field `level`."""

  domain: ClassVar[str]
  suite: ClassVar[str]  # what it counts for when a policy is evaluated
  kind: ClassVar[str] = "number"  # as in Problem.kind
  levels: ClassVar[tuple[int, ...]] = (1, 2, 3)  # that it has
  shapes: ClassVar[dict[str, str]]  # language -> a pattern that every question of the family matches in full
  level: int

  @classmethod
  @abc.abstractmethod
  def draw(cls, rng: random.Random, level: int) -> Self:
    """Draws a problem; no problem belongs to two levels."""

  @property
  @abc.abstractmethod
  def key(self) -> str:
    """The problem without any language; the question determines it."""

  @property
  @abc.abstractmethod
  def answer(self) -> str:
    """The right answer, as a response gives it."""

  @abc.abstractmethod
  def question(self, language: str) -> str: ...

  @abc.abstractmethod
  def solve(self, style: str, rng: random.Random, voice: Voice) -> tuple[str, str]:
    """Writes one response: (work, answer)."""

  @abc.abstractmethod
  def facts(self, rng: random.Random, voice: Voice) -> list[str]:
    """Single steps that solutions of this family rest on."""

  @property
  def gold(self) -> str:
    """What the checker of `kind` compares a response with."""
    return self.answer

  def say(self, answer: str, language: str) -> str:
    """Puts an answer into words of a language."""
    return answer

  def columns(self, language: str) -> dict[str, Any]:
    """What a reward needs beside the gold answer, as JSON values."""
    return {}

  @property
  def id(self) -> str:
    return f"{self.domain}/{self.level}/{self.key}"

  def problem(self, language: str) -> Problem:
    """The record that travels."""
    return Problem(
      id=self.id,
      question=self.question(language),
      answer=self.say(self.gold, language),
      kind=self.kind,
      domain=self.domain,
      level=self.level,
      language=language,
      columns=self.columns(language),
    )


class Stepwise(Family):
  """A family whose work is a row of steps, each resting on those before."""

  @abc.abstractmethod
  def walk(self, voice: Voice, slip: int = -1, error: int = 0) -> tuple[list[str], str]:
    """Works the problem out: (steps, answer); step number `slip` is off by `error`, and what follows rests on it."""

  def guess(self, rng: random.Random) -> str:
    """A wrong answer that looks right: for numbers, one near the answer."""
    right = int(self.answer)
    low = max(0, right - 4)
    wrong = rng.randint(low, low + 7)  # eight numbers around the answer, without it
    return str(wrong + (wrong >= right))

  def solve(self, style, rng, voice):
    if style == "bare":
      return "", self.guess(rng)
    if style == "lucky":
      return "", self.answer
    steps, answer = self.walk(voice)
    if style == "careful":
      return ";".join(steps), answer
    at = rng.randrange(len(steps))
    wrong, wrong_answer = self._wrong(rng, voice, at)
    if style == "slip":
      return ";".join(wrong), wrong_answer
    return ";".join([*steps[:at], wrong[at], f"{voice.wait},{steps[at]}", *steps[at + 1 :]]), answer

  def _wrong(self, rng, voice, at):
    for error in rng.sample(ERRORS, len(ERRORS)):
      steps, answer = self.walk(voice, at, error)
      if "=-" not in ";".join(steps):  # the world has no negative numbers
        return steps, answer
    raise AssertionError(f"no error fits step {at} of {self.id}")

  def facts(self, rng, voice):
    return self.walk(voice)[0]


class Searched(Family):
  """A family whose work is a row of tries; what a try gives says whether to go higher or lower."""

  tries: ClassVar[int] = 4  # most tries in a work
  target: int  # what the right candidate gives

  @abc.abstractmethod
  def candidates(self) -> list[tuple[int, Any]]:
    """All (value, candidate) that could be tried; the right ones have the value `target`."""

  @abc.abstractmethod
  def attempt(self, candidate: Any, slip: int = -1, error: int = 0) -> tuple[str, list[str]]:
    """One try: (what it starts with, its steps); step number `slip` is off by `error`."""

  def search(self, rng: random.Random) -> list[tuple[int, Any]]:
    """Tries that end with the right one: the first at random, each next on the side the last one points to."""
    pool, tried = self.candidates(), []
    while not tried or tried[-1][0] != self.target:
      if len(tried) == self.tries - 1:
        pool = [c for c in pool if c[0] == self.target]
      tried.append(rng.choice(pool))
      value = tried[-1][0]
      pool = [c for c in pool if (c[0] > value) == (value < self.target) and c[0] != value]
    return tried

  def verdict(self, value: int, voice: Voice) -> str:
    """The word after a try: the next one follows it, or the answer."""
    if value == self.target:
      return voice.yes
    return f"{voice.low if value < self.target else voice.high} {voice.wait}"

  def solve(self, style, rng, voice):
    if style == "bare":
      return "", str(rng.choice([c for c in self.candidates() if c[0] != self.target])[1])
    if style == "lucky":
      return "", self.answer
    if style == "slip":
      candidate = rng.choice(self.candidates())[1]
      start, steps = self.attempt(candidate)
      return start + ";".join(steps), str(candidate)
    tried = self.search(rng)
    if style == "given_up":
      tried = tried[:-1] or [rng.choice([c for c in self.candidates() if c[0] != self.target])]
    noticed = rng.randrange(len(tried)) if style == "corrected" else -1
    tries = [self._tried(c, i == noticed, rng, voice) for i, c in enumerate(tried)]
    words = [self.verdict(value, voice) for value, _ in tried]
    work = "".join(f"{a} {b}," for a, b in zip(tries[:-1], words[:-1], strict=True))
    end = voice.give_up if style == "given_up" else words[-1]
    return f"{work}{tries[-1]} {end}", str(tried[-1][1])

  def _tried(self, tried, noticed, rng, voice):
    """A try with value and target side by side: a tiny model can judge only what it has just written."""
    start, steps = self.attempt(tried[1])
    if noticed:
      at = rng.randrange(len(steps))
      wrong = self.attempt(tried[1], at, rng.choice((1, 2, 10)))[1][at]
      steps = [*steps[:at], f"{wrong};{voice.wait},{steps[at]}", *steps[at + 1 :]]
    return f"{start}{';'.join(steps)}~{self.target}"


def chain(start: int, moves: tuple[tuple[str, int], ...], slip: int = -1, error: int = 0) -> tuple[list[str], int]:
  """Applies (sign, number) moves from left to right: (["7+5=12", "12+8=20"], 20)."""
  value, steps = start, []
  for i, (sign, number) in enumerate(moves):
    result = value + number if sign == "+" else value - number if sign == "-" else value * number
    if i == slip:
      result += error
    steps.append(f"{value}{sign}{number}={result}")
    value = result
  return steps, value
