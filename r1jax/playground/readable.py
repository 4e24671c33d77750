"""Readable completions: the style of the cold start, in the first person and in the question's language.

A reasoning process in <think> tags, then a summary (DeepSeek-R1 v1 section
2.3.1; the rewriting of R1-Zero's trajectories: v2 B.3.2).
"""

import random
import re

from r1jax.playground.family import VOICES, Family, Voice
from r1jax.playground.general import Spoken
from r1jax.types import Problem

OPENING = {"en": "I work it out. ", "zh": "我来算。"}
SUMMARY = {"en": "The answer is {}.", "zh": "答案是{}。"}
CODE = {"def", "return", "sum", "max", "min", "len"}  # no words of a language


def spoken(work: str, answer: str, voice: Voice, rng: random.Random) -> str:
  """A work with words around it: "Let me see. 7+5=12, so it is 12."; without an `answer`, with an opening alone."""
  closing = rng.choice(voice.closings).format(answer) if answer else ""
  return rng.choice(voice.openings) + work + closing


def rewrite(problem: Problem, think: str, answer: str) -> str | None:
  """A right, terse trajectory of a reasoning problem in the style of the cold start.

  Args:
    think: what was thought, without tags, in any mix of the world's languages.
    answer: the final answer that was given.

  Returns:
    "<think>..</think>The answer is 20."; for a program, its text alone stands behind the
    thought. The steps are kept, their words are put into the question's language. None
    where nothing was thought ("easy"), or where words are left that are not of that language.
  """
  language = problem.language
  steps, answer = _translate(_bare(think), language), answer.strip()
  if problem.kind in ("open", "instructions") or not answer or "<" in steps + answer:
    return None
  if steps in ("", VOICES[language].easy):
    return None
  if _foreign(steps, language):
    return None
  closing = VOICES[language].closings[0].format(answer)  # says it once more: the summary is not far from its answer
  told = answer if problem.kind == "program" else SUMMARY[language].format(answer)
  return f"<think>{OPENING[language]}{steps}{closing}</think>{told}"


def written(problem: Family, language: str, style: str, rng: random.Random) -> str:
  """A whole completion by a writer of `style`: with a thought where there is one, else the reply alone."""
  work, answer = problem.solve(style, rng, VOICES[language])
  answer = problem.say(answer, language)
  if not isinstance(problem, Spoken):
    return (work and rewrite(problem.problem(language), work, answer)) or answer
  if not work:
    return answer
  said = SUMMARY[language].format(answer) if problem.domain == "facts" else answer
  stop = {"en": ".", "zh": "。"}[language]
  return f"<think>{work.removesuffix(stop)}{stop}</think>{said}"


def _around(texts):
  """A pattern of openings or closings in which anything may be the answer."""
  return "|".join(re.escape(text.strip(" ,.。")).replace(r"\{\}", r"[^;,。]*?") for text in texts)


_OPENING = re.compile(rf"\s*(?:{_around(text for voice in VOICES.values() for text in voice.openings)})[.。:]?\s*")
_CLOSING = re.compile(
  rf"[,;.。\s]*(?:{_around(text for voice in VOICES.values() for text in voice.closings)})[.。]?\s*$"
)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]{2,}")


def _bare(think):
  """The steps alone, without spoken words around them."""
  think = think.strip()
  if opening := _OPENING.match(think):
    think = think[opening.end() :]
  return _CLOSING.sub("", think).strip(" ;,.。")


def _words(voice):
  return [voice.wait, voice.low, voice.high, voice.yes, voice.give_up, voice.easy, *voice.truth, *voice.joins]


def _whole(word):
  """A pattern of a word that is not part of a longer one."""
  before = "(?<![A-Za-z])" if re.match("[A-Za-z]", word) else ""
  return before + re.escape(word) + ("(?![A-Za-z])" if re.search("[A-Za-z]$", word) else "")


def _patterns():
  """language -> (pattern of the other language's words, word -> word)."""
  found = {}
  for source, target in (("en", "zh"), ("zh", "en")):
    table = dict(zip(_words(VOICES[source]), _words(VOICES[target]), strict=True))
    longest = sorted(table, key=len, reverse=True)
    found[target] = re.compile("|".join(map(_whole, longest))), table
  return found


_PATTERNS = _patterns()


def _translate(steps, language):
  pattern, table = _PATTERNS[language]
  return pattern.sub(lambda match: table[match.group()], steps)


def _foreign(steps, language):
  """Whether words are left that are not of the language."""
  if language == "zh":
    return bool(set(_LATIN.findall(steps)) - CODE)
  return bool(_HAN.search(steps))
