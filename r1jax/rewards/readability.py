"""Readability of reasoning, as the rejection stage filters by it.

DeepSeek-R1 v1 section 2.3.3: chains of thought with mixed languages, long
paragraphs and code blocks are left out; v2 B.3.2 adds repetition for the cold
start. The thresholds are not published.
"""

import dataclasses
import re
from typing import ClassVar

from r1jax.rewards.format import split
from r1jax.rewards.language import LANGUAGES, count_words, language_code
from r1jax.rewards.repetition import repeated_share

_PARAGRAPH_BREAK = re.compile(r"\n[ \t]*\n")
TAG = re.compile(r"</?\w+>")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


def mixed_languages(text, language, min_share):
  """A reason where less than min_share of the words are in `language`, else None.

  None too without words, and for a language that cannot be told apart.
  """
  if language_code(language) not in LANGUAGES:
    return None
  of_language, total = count_words(text, language)
  if of_language >= min_share * total:
    return None
  return f"mixed languages: {of_language} of {total} words are in {language!r}"


def long_paragraph(text, max_characters):
  """A reason where a paragraph (up to an empty line) is longer than max_characters, else None."""
  longest = max(map(len, _PARAGRAPH_BREAK.split(text)))
  return f"long paragraph: {longest} characters" if longest > max_characters else None


def code_block(text):
  """A reason where a line opens a fenced block of code, else None."""
  return "code block" if _FENCE.search(text) else None


def no_summary(text, problem):
  """A reason where the final part has fewer than two words of the problem's language and is no program, else None.

  "true" is a bare answer; whoever reads "The answer is true." is told something.
  """
  if problem.kind == "program" or language_code(problem.language) not in LANGUAGES:
    return None if text else "no summary"
  words = TAG.sub(" ", text)
  return None if count_words(words, problem.language)[0] > 1 else "no summary in words"


def repetition(text, n, max_share):
  """A reason where more than max_share of the n-grams were there before, else None."""
  share = repeated_share(text, n)
  return f"repetition: {share:.0%} of the {n}-grams were there before" if share > max_share else None


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Readable:
  """1 where nothing stands against the reasoning's readability, else 0 (range {0, 1}).

  Source: DeepSeek-R1 v1 section 2.3.3 and v2 B.3.2; thresholds are ours. An
  empty reasoning is readable: whether it may be empty is for the format to say.
  """

  weight: float = 1.0
  min_share: float = 0.9  # of the words that have to be in the problem's language
  max_paragraph: int = 1500  # characters
  code_blocks: bool = False  # whether they are allowed
  n: int = 20  # tokens of an n-gram
  max_repetition: float = 0.2  # share of n-grams that may repeat
  summary: bool = False  # whether the reader must find the answer in words behind the thought (v2 B.3.2)
  name: ClassVar[str] = "readable"

  def __post_init__(self):
    if self.n < 1 or self.max_paragraph < 1:
      raise ValueError(f"n={self.n} and max_paragraph={self.max_paragraph} must be at least 1.")
    if not (0.0 <= self.min_share <= 1.0 and 0.0 <= self.max_repetition <= 1.0):
      raise ValueError(f"min_share={self.min_share} and max_repetition={self.max_repetition} must lie between 0 and 1.")

  def reasons(self, problem, response, prefill=""):
    """What makes the reasoning unreadable, as a list of short texts; empty for a readable one."""
    think = split(response, prefill).think
    summary = split(response, prefill, "summary").answer if self.summary else ""
    found = (
      no_summary(summary, problem) if self.summary else None,
      mixed_languages(think, problem.language, self.min_share),
      long_paragraph(think, self.max_paragraph),
      None if self.code_blocks else code_block(think),
      repetition(think, self.n, self.max_repetition),
    )
    return [reason for reason in found if reason]

  def __call__(self, problem, response, prefill=""):
    return float(not self.reasons(problem, response, prefill))

  def bounded(self, problem, response, prefill=""):
    """Whether the check may run in the trainer's own process: always, it is linear."""
    del problem, response, prefill
    return True
