"""The format reward: thoughts, then the answer or a summary (DeepSeek-R1 v1 sections 2.2.2 and 2.3.1).

Three structures: R1-Zero's <think>..</think> <answer>..</answer>; that of the
cold start, a reasoning process <think>..</think> followed by a summary; and
the summary alone where no reasoning is asked for (v1 section 2.3.3).
"""

import dataclasses
from typing import ClassVar

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
STRUCTURES = ("answer", "summary", "flexible")


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
  """A response taken apart."""

  think: str  # between <think> and </think>; to the end where the thought is never closed
  answer: str  # in the last complete <answer>..</answer>, or the summary; empty where there is none
  well_formed: bool  # exactly the structure, the answer not empty, only whitespace between and around


def split(response, prefill="", structure="answer"):
  """Takes a response apart, in time linear in its length.

  Args:
    response: what the model wrote, without special tokens.
    prefill: what the template already wrote for it, e.g. "<think>\\n".
    structure: "answer" for <think>..</think> <answer>..</answer>; "summary" for
      <think>..</think> and a summary after it, without any more of the tags;
      "flexible" for a summary with or without a thought before it.

  Returns:
    Parts. Where `well_formed` is False the other two are the best reading. The
    thought may be empty (trivial questions need none), the answer may not.

  Raises:
    ValueError: an unknown structure.
  """
  check_structure(structure)
  text = prefill + response
  opened, closed, begun, ended = (text.find(tag) for tag in TAGS)
  counts = [text.count(tag) for tag in TAGS]
  think = ""
  if opened >= 0:
    think = text[opened + len("<think>") :].partition("</think>")[0]
  if structure == "flexible" and not any(counts):
    return Parts("", text.strip(), bool(text.strip()))
  if structure != "answer":
    answer = text.rpartition("</think>")[2].strip() if closed >= 0 else ""
    in_order = counts == [1, 1, 0, 0] and opened < closed
  else:
    answer = _last_answer(text)
    in_order = (
      counts == [1, 1, 1, 1]
      and opened < closed < begun < ended
      and not text[closed + len("</think>") : begun].strip()
      and not text[ended + len("</answer>") :].strip()
    )
  return Parts(think.strip(), answer, bool(in_order and answer and not text[:opened].strip()))


def check_structure(structure):
  """Raises ValueError for an unknown structure."""
  if structure not in STRUCTURES:
    raise ValueError(f"structure={structure!r} must be one of {', '.join(STRUCTURES)}.")


def _last_answer(text):
  """Content of the last complete pair of answer tags, stripped; "" where there is none."""
  end = text.rfind("</answer>")
  start = text.rfind("<answer>", 0, max(end, 0))
  return text[start + len("<answer>") : end].strip() if start >= 0 else ""


def final_part(response, prefill="", structure="answer", strict=True):
  """The part of a response in which its final answer stands, stripped; "" where there is none.

  Args:
    strict: only a well-formed response has one. Otherwise: the last complete
      <answer>, else what follows the last </think>, else all of a text that
      never opens a thought; a thought that was cut off holds no answer.
  """
  parts = split(response, prefill, structure)
  if parts.well_formed or strict:
    return parts.answer if parts.well_formed else ""
  text = prefill + response
  if answer := _last_answer(text):
    return answer
  before, closed, rest = text.rpartition("</think>")
  del before
  if not closed and "<think>" in text:
    return ""
  return rest.strip()


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Format:
  """1 for a response in the structure, together with the template's prefill; else 0 (range {0, 1}).

  Source: DeepSeek-R1 v2 section 2.2; the value of the reward is not printed there.
  """

  weight: float = 1.0
  structure: str = "answer"  # "answer", "summary" or "flexible", as in `split`
  name: ClassVar[str] = "format"

  def __post_init__(self):
    check_structure(self.structure)

  def __call__(self, problem, response, prefill=""):
    del problem
    return float(split(response, prefill, self.structure).well_formed)

  def bounded(self, problem, response, prefill=""):
    """Whether the check may run in the trainer's own process: always, it is linear."""
    del problem, response, prefill
    return True
