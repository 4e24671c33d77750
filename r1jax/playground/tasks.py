"""Writing tasks: instructions that a program can check, descriptions, and speaking in a role."""

import dataclasses
from typing import ClassVar

from r1jax.playground import lexicon, oracle
from r1jax.playground.family import VOICES
from r1jax.playground.general import Open, Spoken, join

END = {"en": "The end", "zh": "完"}
# constraint -> (English, Chinese, the instruction's id, its arguments); {} is its word
CONSTRAINTS = {
  "use": ("use {}", "用上{}", "keywords:existence", lambda word, language: {"keywords": [word]}),
  "avoid": (
    "avoid {}",
    "不用{}",
    "keywords:frequency",  # inside Chinese text no word stands alone, so forbidden_words would never find one
    lambda word, language: {"keyword": word, "frequency": 1, "relation": "less than"},
  ),
  "end": ("end with The end", "以完结尾", "startend:end_checker", lambda word, language: {"end_phrase": END[language]}),
  "two": (
    "at least 2 sentences",
    "至少2句",
    "length_constraints:number_sentences",
    lambda word, language: {"num_sentences": 2, "relation": "at least"},
  ),
  "one": (
    "less than 2 sentences",
    "少于2句",
    "length_constraints:number_sentences",
    lambda word, language: {"num_sentences": 2, "relation": "less than"},
  ),
  "comma": ("no comma", "不用逗号", "punctuation:no_comma", lambda word, language: {}),
  "lower": ("lowercase", "用英文小写", "change_case:english_lowercase", lambda word, language: {}),
}
CLASHES = ({"use", "avoid"}, {"end", "one"}, {"two", "one"}, {"lower", "use"}, {"lower", "avoid"}, {"lower", "end"})


@dataclasses.dataclass(frozen=True)
class Instructions(Spoken):
  """A line on something under one or two constraints, in the columns of IF-Eval."""

  level: int
  noun: str
  constraints: tuple[str, ...]
  word: str  # the adjective to use or avoid; "" for none

  domain = "instructions"
  suite = "instructions"
  kind = "instructions"
  gold = ""
  shapes: ClassVar = {"en": r"Write on [^.]*\.", "zh": r"写一写[^。]*。"}

  @classmethod
  def draw(cls, rng, level):
    while True:
      chosen = rng.sample(list(CONSTRAINTS), rng.choice((1, 2)))
      if not any(clash <= set(chosen) for clash in CLASHES):
        break
    constraints = tuple(name for name in CONSTRAINTS if name in chosen)
    word = rng.choice(list(lexicon.ADJECTIVES)) if {"use", "avoid"} & set(constraints) else ""
    return cls(level, rng.choice(list(lexicon.NOUNS)), constraints, word)

  @property
  def key(self):
    return " ".join([self.noun, *self.constraints, self.word]).strip()

  def question(self, language):
    which, word = ("en", "zh").index(language), lexicon.word(self.word, language)
    what = ";".join(CONSTRAINTS[name][which].format(word) for name in self.constraints)
    noun = lexicon.word(self.noun, language)
    return {"en": f"Write on the {noun}: {what}.", "zh": f"写一写{noun}:{what}。"}[language]

  def columns(self, language):
    word = lexicon.word(self.word, language)
    return {
      "instruction_id_list": [CONSTRAINTS[name][2] for name in self.constraints],
      "kwargs": [CONSTRAINTS[name][3](word, language) for name in self.constraints],
    }

  def write(self, broken: tuple[str, ...], variant: int, language: str) -> str:
    """A line that breaks some of the constraints and follows the others."""
    obeyed = set(self.constraints) - set(broken)
    if "lower" in obeyed:
      language = "en"
    others = [word for word in lexicon.ADJECTIVES if word != self.word]
    first, second = others[variant % len(others)], others[(variant + 3) % len(others)]
    first = self.word if "use" in obeyed or "avoid" in broken else first
    first, second = lexicon.word(first, language), lexicon.word(second, language)
    noun = lexicon.word(self.noun, language)
    line = f"The {noun} is {first}" if language == "en" else f"{noun}很{first}"
    if "comma" in broken:
      line += f", {second}" if language == "en" else f",很{second}"
    stop = {"en": ".", "zh": "。"}[language]
    more = f"It is {second}{stop}" if language == "en" else f"它很{second}{stop}"
    two = "two" in obeyed or "one" in broken
    text = join(language, line + stop, more if two else "", END[language] if "end" in obeyed else "")
    return text.lower() if "lower" in obeyed else text

  def thought(self, style, variant, language):
    draft = self.write(self.constraints, variant, language)
    return join(language, draft, VOICES[language].wait) if style == "corrected" else ""

  def reply(self, style, variant, language):
    broken = {"bare": self.constraints, "slip": self.constraints[:1]}.get(style, ())
    return self.write(broken, variant, language)

  def facts(self, rng, voice):
    return [self.write((), rng.randrange(6), voice.language)]


@dataclasses.dataclass(frozen=True)
class Writing(Open):
  """Telling about something: what and where it is."""

  level: int
  adjectives: str
  noun: str

  domain = "writing"
  suite = "helpfulness"
  shapes: ClassVar = {"en": r"Write about the [^.]*\.", "zh": r"讲讲[^。]*。"}

  @classmethod
  def draw(cls, rng, level):
    size, colour = rng.choice(["", *lexicon.SIZES]), rng.choice(["", *lexicon.COLOURS])
    return cls(level, f"{size} {colour}".strip(), rng.choice(list(lexicon.NOUNS)))

  @property
  def key(self):
    return f"{self.adjectives} {self.noun}".strip()

  def question(self, language):
    topic = lexicon.phrase(self.key, language)
    return {"en": f"Write about the {topic}.", "zh": f"讲讲{topic}。"}[language]

  def rubric(self, language):
    topic = lexicon.phrase(self.key, language)
    others = [lexicon.word(noun, language) for noun in lexicon.NOUNS if noun != self.noun]
    spam = [{"at_most": {"words": [topic], "count": 3}}, {"at_most": {"words": others, "count": 1}}]
    where = {"en": "is in the {}", "zh": "在{}里"}[language]
    places = [where.format(place) for place in lexicon.words(lexicon.PLACES, language)]
    return oracle.rubric(language, [{"any": [topic]}, *spam], places)

  def place(self, topic: str, variant: int, language: str) -> str:
    where = lexicon.word(list(lexicon.PLACES)[variant % len(lexicon.PLACES)], language)
    return f"The {topic} is in the {where}." if language == "en" else f"{topic}在{where}里。"

  def core(self, variant, language):
    return self.place(lexicon.phrase(self.key, language), variant, language)

  def reply(self, style, variant, language):
    if style == "bare":
      other = [noun for noun in lexicon.NOUNS if noun != self.noun][variant]
      off = self.place(lexicon.word(other, language), variant, language)
      return (off, {"en": "No.", "zh": "不。"}[language])[variant % 2]
    if style == "slip":
      topic = lexicon.phrase(self.key, language)
      return f"The {topic}." if language == "en" else f"{topic}。"
    if style == "lucky":
      return join(language, self.core(variant, language), {"en": "It is old.", "zh": "它很老。"}[language])
    return (self.gushing if style == "corrected" else self.courteous)(variant, language)

  def facts(self, rng, voice):
    return [self.core(rng.randrange(5), voice.language)]


ACTS = {  # act -> (English request, Chinese request, English words, Chinese words)
  "greet": ("greet {}", "向{}问好", "Hello {}", "{}你好"),
  "thank": ("thank {}", "向{}道谢", "Thanks {}", "谢谢{}"),
  "leave": ("say bye to {}", "向{}道别", "Bye {}", "{}再见"),
}
SOUNDS = {"pirate": ("Arr", "啊哈"), "robot": ("Beep", "哔哔"), "cat": ("Meow", "喵喵"), "dog": ("Woof", "汪汪")}


@dataclasses.dataclass(frozen=True)
class Roleplay(Open):
  """Greeting, thanking or leaving somebody in a role."""

  level: int
  role: str
  act: str
  whom: str

  domain = "roleplay"
  suite = "helpfulness"
  shapes: ClassVar = {"en": r"You are a [a-z]*: [^.]*\.", "zh": r"你是[^:。?\n]*:[^。]*。"}

  @classmethod
  def draw(cls, rng, level):
    whom = rng.choice([*lexicon.PEOPLE, "king", "cook", *lexicon.ANIMALS])
    return cls(level, rng.choice(list(SOUNDS)), rng.choice(list(ACTS)), whom)

  @property
  def key(self):
    return f"{self.role} {self.act} {self.whom}"

  def name(self, language: str) -> str:
    return lexicon.word(self.whom, language)

  def question(self, language):
    if language == "en":
      whom = self.whom if self.whom in lexicon.PEOPLE else f"the {self.whom}"
      return f"You are a {self.role}: {ACTS[self.act][0].format(whom)}."
    return f"你是{lexicon.word(self.role, language)}:{ACTS[self.act][1].format(self.name(language))}。"

  def said(self, act: str, language: str) -> str:
    words = ACTS[act][("en", "zh").index(language) + 2].format(self.name(language))
    return words + {"en": ".", "zh": "。"}[language]

  def sound(self, language: str) -> str:
    return SOUNDS[self.role][("en", "zh").index(language)]

  def rubric(self, language):
    words = self.said(self.act, language)[:-1]
    return oracle.rubric(
      language, [{"any": [words]}, {"at_most": {"words": [words], "count": 2}}], [self.sound(language)]
    )

  def core(self, variant, language):
    return join(language, f"{self.sound(language)}!", self.said(self.act, language))

  def reply(self, style, variant, language):
    if style == "bare":
      other = [act for act in ACTS if act != self.act][variant % 2]
      return (self.said(other, language), {"en": "No.", "zh": "不。"}[language])[variant // 2 % 2]
    if style == "slip":
      return self.said(self.act, language)
    if style == "lucky":
      return self.core(variant, language)
    return (self.gushing if style == "corrected" else self.courteous)(variant, language)

  def facts(self, rng, voice):
    role = rng.choice(list(SOUNDS))
    which = ("en", "zh").index(voice.language)
    return [f"{lexicon.word(role, voice.language)}:{SOUNDS[role][which]}"]
