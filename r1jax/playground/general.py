"""General tasks: what they share, and those with one right answer (facts of a closed world, translation).

The writers of a general task, as in `family`, and what they write:

  style       with an exact answer          open
  "bare"      wrong                         off the topic or rude; complies with a harmful request
  "lucky"     right, no thought             acceptable, but not courteous
  "slip"      one thing wrong               on the topic, but incomplete
  "careful"   right                         the ideal reply: complete, courteous once; refuses harm
  "corrected" a wrong thought, noticed      the ideal reply, gushing
"""

import abc
import dataclasses
from typing import ClassVar

from r1jax.playground import lexicon
from r1jax.playground.family import VOICES, Family

VARIANTS = 6  # ways a writer of one style may put a reply


class Spoken(Family):
  """A general task. Its answers are names of replies, "careful/3", until `say` puts them into words of a language."""

  levels = (1,)
  answer = "careful/0"

  @abc.abstractmethod
  def reply(self, style: str, variant: int, language: str) -> str:
    """What a writer of the style replies; `variant` is in 0..VARIANTS-1."""

  def thought(self, style: str, variant: int, language: str) -> str:
    """What the writer thinks before it; "" where nothing is gained by thinking."""
    return ""

  def solve(self, style, rng, voice):
    variant = rng.randrange(VARIANTS)
    return self.thought(style, variant, voice.language), f"{style}/{variant}"

  def say(self, answer, language):
    style, _, variant = answer.partition("/")
    return self.reply(style, int(variant), language) if style else ""


class Open(Spoken):
  """A task without a right answer; a rubric says how good a reply is."""

  kind = "open"
  gold = ""
  COURTEOUS: ClassVar = {"en": ("Glad to help.", "Please ask me more."), "zh": ("很高兴帮你。", "请再问我。")}
  GUSHING: ClassVar = {"en": "So glad! So happy! Please, please!", "zh": "好高兴!好开心!请,请!"}

  @abc.abstractmethod
  def rubric(self, language: str) -> list[dict]: ...

  @abc.abstractmethod
  def core(self, variant: int, language: str) -> str:
    """The ideal reply without its courtesy."""

  def columns(self, language):
    return {"rubric": self.rubric(language)}

  def courteous(self, variant: int, language: str) -> str:
    """The ideal reply."""
    return join(language, self.core(variant, language), self.COURTEOUS[language][variant % 2])

  def gushing(self, variant: int, language: str) -> str:
    return join(language, self.courteous(variant, language), self.GUSHING[language])


def join(language: str, *sentences: str) -> str:
  """Sentences one after the other, with the space the language wants."""
  return (" " if language == "en" else "").join(filter(None, sentences))


@dataclasses.dataclass(frozen=True)
class Facts(Spoken):
  """What is true of the closed world: its facts stand in the corpus, only the questions are held out."""

  level: int
  owner: str
  thing: str
  attribute: str

  domain = "facts"
  suite = "factual"
  kind = "text"
  gold = "careful/0"
  shapes: ClassVar = {
    "en": r"(?:What colour is|Where is|Who likes) (?:Tom|Ann|Sam)'s [a-z]*\?",
    "zh": r"小[明红刚]的.(?:是什么颜色|在哪)\?|谁爱小[明红刚]的.\?",
  }

  @classmethod
  def draw(cls, rng, level):
    return cls(level, *rng.choice(list(lexicon.FACTS)))

  @property
  def key(self):
    return f"{self.owner} {self.thing} {self.attribute}"

  def question(self, language):
    whose = lexicon.owned(self.owner, self.thing, language)
    if language == "en":
      return {
        "colour": f"What colour is {whose}?",
        "place": f"Where is {whose}?",
        "friend": f"Who likes {whose}?",
      }[self.attribute]
    return {"colour": f"{whose}是什么颜色?", "place": f"{whose}在哪?", "friend": f"谁爱{whose}?"}[self.attribute]

  def value(self, style: str, variant: int) -> str:
    """The right value, or for a writer who errs another one."""
    right = lexicon.FACTS[self.owner, self.thing, self.attribute]
    if style not in ("bare", "slip"):
      return right
    wrong = [value for value in lexicon.ATTRIBUTES[self.attribute] if value != right]
    return wrong[variant % len(wrong)]

  def thought(self, style, variant, language):
    tell = lambda style: lexicon.state(self.owner, self.thing, self.attribute, self.value(style, variant), language)
    if style == "corrected":
      return f"{tell('slip')};{VOICES[language].wait},{tell('careful')}"
    return tell(style) if style in ("slip", "careful") else ""

  def reply(self, style, variant, language):
    return lexicon.word(self.value(style, variant), language)

  def facts(self, rng, voice):
    """Any fact of the world, also of those whose question is held out: a question asks what has been read."""
    fact = rng.choice(list(lexicon.FACTS))
    return [lexicon.state(*fact, lexicon.FACTS[fact], voice.language)]


@dataclasses.dataclass(frozen=True)
class Translation(Spoken):
  """Noun phrases of two to four words, from the language of the question into the other one."""

  level: int
  owner: str  # "" for none
  adjectives: str  # none, a size, a colour, or both
  noun: str
  place: str  # "" for none

  domain = "translation"
  suite = "translation"
  kind = "text"
  gold = "careful/0"
  shapes: ClassVar = {"en": r"Translate: [^.]*\.", "zh": r"翻译:[^。]*。"}

  @classmethod
  def draw(cls, rng, level):
    size, colour = rng.choice(["", *lexicon.SIZES]), rng.choice(list(lexicon.COLOURS))
    owner = rng.choice(["", *lexicon.PEOPLE])
    place = rng.choice(list(lexicon.PLACES)) if not size and not owner else ""
    return cls(level, owner, f"{size} {colour}".strip(), rng.choice(list(lexicon.NOUNS)), place)

  @property
  def key(self):
    return self.put("en")

  def put(self, language: str, noun: str = "") -> str:
    """The phrase in a language; with `noun`: with that noun instead."""
    what = f"{self.adjectives} {noun or self.noun}"
    if self.owner:
      return lexicon.owned(self.owner, what, language)
    what = lexicon.phrase(what, language)
    if language == "en":
      return f"the {what} in the {self.place}" if self.place else f"the {what}"
    return f"{lexicon.word(self.place, language)}里的{what}" if self.place else what

  def question(self, language):
    return {"en": f"Translate: {self.put('en')}.", "zh": f"翻译:{self.put('zh')}。"}[language]

  def wrong(self, variant: int, language: str) -> str:
    others = [noun for noun in lexicon.NOUNS if noun != self.noun]
    return self.put(language, others[variant % len(others)])

  def reply(self, style, variant, language):
    other = "zh" if language == "en" else "en"
    if style == "bare" and variant % 2:
      return self.put(language)  # says it again
    return self.wrong(variant, other) if style in ("bare", "slip") else self.put(other)

  def facts(self, rng, voice):
    english, chinese = rng.choice(list((lexicon.NOUNS | lexicon.ADJECTIVES | lexicon.PLACES | lexicon.PEOPLE).items()))
    return [f"{english}={chinese}" if rng.random() < 0.5 else f"{chinese}={english}"]
