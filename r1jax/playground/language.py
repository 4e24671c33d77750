"""Families in words: short stories with numbers, and boolean logic."""

import dataclasses
import re
from typing import ClassVar

from r1jax.playground.family import VOICES, Stepwise, Voice, chain
from r1jax.playground.numbers import written


@dataclasses.dataclass(frozen=True)
class Words(Stepwise):
  """Short stories of one, two or three steps; who and what does not make another problem."""

  level: int
  start: int
  moves: tuple[tuple[str, int], ...]
  who: int
  what: int

  domain = "words"
  suite = "math"
  shapes: ClassVar = {"en": r"(?:Tom|Ann|Ben) has [^?]*\?", "zh": r"小[明红刚]有[^?]*\?"}

  WHO: ClassVar = {"en": ("Tom", "Ann", "Ben"), "zh": ("小明", "小红", "小刚")}
  WHAT: ClassVar = {"en": ("balls", "apples", "eggs"), "zh": ("球", "苹果", "蛋")}

  @classmethod
  def draw(cls, rng, level):
    who, what = rng.randrange(3), rng.randrange(3)
    if level == 1 and rng.random() < 0.5:
      return cls(level, rng.randint(1, 20), (("+", rng.randint(1, 9)),), who, what)
    moves = [("*", rng.randint(2, 9))]
    start = rng.randint(2, 9)
    if level > 1:
      moves.append(("+", rng.randint(1, 9)))
    if level > 2:
      moves.append(("-", rng.randint(1, 4)))
    return cls(level, start, tuple(moves), who, what)

  @property
  def key(self):
    return written(self.start, self.moves)

  @property
  def answer(self):
    return str(chain(self.start, self.moves)[1])

  def question(self, language):
    who, what = self.WHO[language][self.who], self.WHAT[language][self.what]
    more = [f"{number}" for sign, number in self.moves if sign != "*"]
    bags = self.moves[0][0] == "*"
    if language == "en":
      story = f"{who} has {self.start} bags of {self.moves[0][1]} {what}" if bags else f"{who} has {self.start} {what}"
      story += "".join(f" and {verb} {number}" for verb, number in zip(("gets", "loses"), more))
      return f"{story}. How many {what}?"
    story = f"{who}有{self.start}袋,每袋{self.moves[0][1]}个{what}" if bags else f"{who}有{self.start}个{what}"
    story += "".join(f",{verb}{number}个" for verb, number in zip(("得", "丢"), more))
    return f"{story}。有几个{what}?"

  def walk(self, voice, slip=-1, error=0):
    steps, value = chain(self.start, self.moves, slip, error)
    return steps, str(value)


@dataclasses.dataclass(frozen=True)
class Logic(Stepwise):
  """Boolean expressions, worked from the inside out; any guess is right every other time.

  The expression is written with 1 and 0, &, | and !, every pair but the outermost in brackets.
  """

  level: int
  expression: str

  domain = "logic"
  suite = "logic"
  kind = "text"
  shapes: ClassVar = {"en": r"Is it true: [^?]*\?", "zh": r"真假:[^?]*\?"}

  @classmethod
  def draw(cls, rng, level):
    parts = [rng.choice(("1", "0", "!1", "!0")) for _ in range(level + 2)]
    while len(parts) > 1:
      at = rng.randrange(len(parts) - 1)
      pair = f"({parts[at]}{rng.choice('&|')}{parts[at + 1]})"
      parts[at : at + 2] = [f"!{pair}" if len(parts) > 2 and rng.random() < 0.3 else pair]
    return cls(level, parts[0][1:-1])

  @property
  def key(self):
    return self.expression

  @property
  def answer(self):
    return self.walk(VOICES["en"])[1]

  def say(self, answer, language):
    return VOICES[language].truth[int(answer)]

  def question(self, language):
    spoken = say_logic(self.expression, VOICES[language])
    return {"en": f"Is it true: {spoken}?", "zh": f"真假:{spoken}?"}[language]

  def walk(self, voice, slip=-1, error=0):
    expressions = self.reduce(slip)
    return [say_logic(each, voice) for each in expressions[1:]], expressions[-1]

  def reduce(self, slip: int = -1) -> list[str]:
    """The expression and what each step leaves of it; step number `slip` is wrong, in the one way there is."""
    found = [self.expression]
    while len(found[-1]) > 1:
      match = INNERMOST.search(found[-1])
      value = int(TRUTH_TABLE.get(match[0], str(1 - int(match[1] or 0))))
      value = 1 - value if len(found) - 1 == slip else value
      found.append(BRACKETS.sub(r"\1", f"{found[-1][: match.start()]}{value}{found[-1][match.end() :]}"))
    return found

  def facts(self, rng, voice):
    parts = [INNERMOST.search(each)[0] for each in self.reduce()[:-1]]
    value = lambda part: TRUTH_TABLE.get(part) or str(1 - int(part[-1]))
    return [f"{say_logic(part, voice)}={say_logic(value(part), voice)}" for part in parts]

  def guess(self, rng):
    return rng.choice("01")


INNERMOST = re.compile(r"!([01])|[01][&|][01]")
BRACKETS = re.compile(r"\(([01])\)")
TRUTH_TABLE = {f"{a}{sign}{b}": str(a & b if sign == "&" else a | b) for a in (0, 1) for b in (0, 1) for sign in "&|"}


def say_logic(expression: str, voice: Voice) -> str:
  """Puts "1&!0" into words: "true and not false"."""
  words = dict(zip("01&|!", (*voice.truth, *voice.joins)))
  return "".join(words.get(sign, sign) for sign in expression)
