"""Rubrics: open questions graded by a list of checks that a program can make.

A row carries its rubric in the column `rubric`, as JSON. Each check has one of
the keys below, its `points` (1 where left out), and may say `"must": true` (a
reply that fails it scores 0) and `"safety": true`: such a check reads the whole
response, the thought included (DeepSeek-R1 v1 section 2.3.4).

  {"any": ["cat", "猫"]}       at least one of them occurs
  {"all": ["cat", "red"]}      all of them occur
  {"none": ["fire"]}           none of them occurs
  {"at_least": {"words": ["please", "glad"], "count": 1}}   they occur so often, all together
  {"at_most": {"words": ["please", "glad"], "count": 1}}
  {"min_words": 3}, {"max_words": 20}         a Chinese character is a word
  {"min_sentences": 2}, {"max_sentences": 4}
  {"language": "zh"}           at least half the words are of the language, and there are some

Words may be phrases; they are found in any case, Latin ones only where no letter
or digit goes on. All is linear in the text.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import functools
import re

from r1jax.rewards.format import final_part
from r1jax.rewards.language import LANGUAGES, LATIN, count_words, language_code

READS = ("summary", "response")
SHORT = 20  # words

_WORD = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[^\W_\u3400-\u4dbf\u4e00-\u9fff]+")
_SENTENCE = re.compile(r"[^.!?。！？\n]*\w[^.!?。！？\n]*(?:[.!?。！？\n]|\Z)")
_TAG = re.compile(r"</?(?:think|answer)>")
_LATIN = "A-Za-z0-9À-ɏ"
_LATIN_WORD = re.compile("[A-Za-zÀ-ɏ]{2,}")


@functools.lru_cache(4096)
def _pattern(words: tuple[str, ...]):
  """Finds any of the words, the longest first; a Latin letter or digit at its edge must be the last one."""
  forms = []
  for word in sorted(set(words), key=len, reverse=True):
    before = f"(?<![{_LATIN}])" if re.match(f"[{_LATIN}]", word) else ""
    after = f"(?![{_LATIN}])" if re.search(f"[{_LATIN}]$", word) else ""
    forms.append(before + re.escape(word) + after)
  return re.compile("|".join(forms), re.IGNORECASE)


def count(text: str, words: Iterable[str]) -> int:
  """How often any of the words occur in a text, without overlap."""
  return sum(1 for _ in _pattern(tuple(words)).finditer(text))


def _in_language(text, language):
  """Languages in Latin letters are told apart in long texts only: "use glue" could be any."""
  own, total = count_words(text, language_code(language))
  if total < SHORT and language_code(language) in LATIN:
    own = sum(1 for _ in _LATIN_WORD.finditer(text))
  return own * 2 >= total > 0


def _words(text):
  return sum(1 for _ in _WORD.finditer(text))


def _sentences(text):
  return sum(1 for _ in _SENTENCE.finditer(text))


CHECKS = {
  "any": lambda text, words: count(text, words) > 0,
  "all": lambda text, words: all(count(text, [word]) > 0 for word in words),
  "none": lambda text, words: count(text, words) == 0,
  "at_least": lambda text, given: count(text, given["words"]) >= given["count"],
  "at_most": lambda text, given: count(text, given["words"]) <= given["count"],
  "min_words": lambda text, least: _words(text) >= least,
  "max_words": lambda text, most: _words(text) <= most,
  "min_sentences": lambda text, least: _sentences(text) >= least,
  "max_sentences": lambda text, most: _sentences(text) <= most,
  "language": _in_language,
}
OPTIONS = ("points", "must", "safety")


def _iscount(value):
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_words(value):
  return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(w, str) and w.strip() for w in value)


def _fits(name, value):
  """Whether the argument of a check is of its kind."""
  if name in ("any", "all", "none"):
    return _are_words(value)
  if name in ("at_least", "at_most"):
    known = isinstance(value, Mapping) and set(value) == {"words", "count"}
    return known and _are_words(value["words"]) and _iscount(value["count"])
  if name == "language":
    return isinstance(value, str) and language_code(value) in LANGUAGES
  return _iscount(value)


def read(problem) -> list[tuple[str, object, float, bool, bool]]:
  """(name, argument, points, must, safety) of each check of a row; empty where it has no rubric.

  Raises:
    ValueError: a check that cannot be made; one sentence.
  """
  given = problem.columns.get("rubric")
  if given is None:
    return []
  if not isinstance(given, (list, tuple)) or not given:
    raise ValueError(f"problem {problem.id!r}: rubric must be a list of checks, not {given!r}.")
  checks = [_read_check(problem, check) for check in given]
  if not sum(points for _, _, points, _, _ in checks) > 0:
    raise ValueError(f"problem {problem.id!r}: the points of its rubric are 0 altogether; give a check points above 0.")
  return checks


def _read_check(problem, check):
  names = [name for name in check if name not in OPTIONS] if isinstance(check, Mapping) else []
  if len(names) != 1 or names[0] not in CHECKS:
    raise ValueError(
      f"problem {problem.id!r}: the check {check!r} of its rubric must have exactly one of the keys "
      f"{', '.join(CHECKS)}."
    )
  (name,) = names
  points, flags = check.get("points", 1), [check.get("must", False), check.get("safety", False)]
  if not _fits(name, check[name]):
    raise ValueError(f"problem {problem.id!r}: the rubric's check {name!r} cannot be made with {check[name]!r}.")
  if isinstance(points, bool) or not isinstance(points, (int, float)) or not 0 <= points < 1e9:
    raise ValueError(f"problem {problem.id!r}: points={points!r} of the rubric's check {name!r} must be 0 or more.")
  if not all(isinstance(flag, bool) for flag in flags):
    raise ValueError(f"problem {problem.id!r}: must and safety of the rubric's check {name!r} must be true or false.")
  return name, check[name], points, *flags


def safe(problem, response: str, prefill: str = "") -> bool:
  """Whether all checks of the rubric that are about safety hold; True where there are none."""
  text = prefill + response
  return all(CHECKS[name](text, argument) for name, argument, _, _, safety in read(problem) if safety)


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Rubric:
  """Points that a reply reaches in the row's rubric, as a share of all. Range [0, 1].

  None for a row without a rubric. An empty reply scores 0.
  """

  weight: float = 1.0
  reads: str = "summary"  # or "response": the thought too
  name: str = "rubric"

  def __post_init__(self):
    if self.reads not in READS:
      raise ValueError(f"Rubric: reads={self.reads!r} must be one of {', '.join(READS)}.")

  def __call__(self, problem, response, prefill=""):
    checks = read(problem)
    if not checks:
      return None
    if self.reads == "summary":
      text = final_part(response, prefill, strict=False)
    else:
      text = _TAG.sub(" ", prefill + response).strip()
    if not text:
      return 0.0
    whole = prefill + response
    held = [CHECKS[name](whole if safety else text, argument) for name, argument, _, _, safety in checks]
    if any(must and not holds for (*_, must, _), holds in zip(checks, held, strict=True)):
      return 0.0
    reached = sum(points for (_, _, points, _, _), holds in zip(checks, held, strict=True) if holds)
    return reached / sum(points for _, _, points, _, _ in checks)

  def bounded(self, problem, response, prefill=""):
    """Whether the check may run in the trainer's own process: always, it is linear."""
    del problem, response, prefill
    return True

  def check(self, problem):
    """A sentence naming what is wrong with the row's rubric, or None."""
    try:
      read(problem)
    except ValueError as error:
      return str(error)
    return None
