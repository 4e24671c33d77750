"""A judge who knows: it reads the rubric of a question, and may be made naive or careless.

It makes preference data where no large model is at hand, and shows what reward
hacking is: with a `bias` it likes courtesy, which the rubric does not, and a
reward model learns that from it. The judge's score then rises in RL while the
rubric's falls (over-optimisation: DeepSeek-R1 v2 B.5).

Every judge of preferences has `open()`, a context manager that yields

  compare(problems, firsts, seconds, queries) -> [(delta, delta) | Failure]
    how much better the first whole response is than the second, from -2 to 2:
    in the order given, and in the other; each the mean of half the queries
  safe(problems, responses) -> [bool | Failure]

judges.ModelJudge asks a language model.
"""

import contextlib
import dataclasses
import hashlib
import random
from typing import ClassVar

from r1jax.rewards.format import final_part
from r1jax.rewards.rubric import Rubric, count, read, safe

SCALE = 4.0  # a quarter of the rubric's points is "better" (1), half of them "much better" (2)
MOST = 2.0


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class OracleJudge:
  """Judges by the rubric in the column `rubric`.

  The difference of two scores counts fourfold, within [-2, 2]. The same texts
  get the same verdicts, whatever else is asked.
  """

  bias: float = 0.0  # added to a response's score, of 0 to 1, per courteous word: see courteous_words
  noise: float = 0.0  # standard deviation of a query's verdict, on the scale -2..2; chance of a wrong safety label
  seed: int = 0
  weight: ClassVar[float] = 1.0
  name: ClassVar[str] = "oracle_judge"

  def validate(self):
    if not 0 <= self.noise < 0.5:
      raise ValueError(f"OracleJudge: noise={self.noise} must be at least 0 and below 0.5.")

  def check(self, problem) -> str | None:
    if fact := Rubric().check(problem):
      return fact
    return None if read(problem) else f"problem {problem.id!r} has no rubric, which is all that the oracle judge knows."

  @contextlib.contextmanager
  def open(self):
    """Yields the opened judge."""
    self.validate()
    yield _Oracle(self)


class _Oracle:
  def __init__(self, judge: OracleJudge):
    self._judge, self._rubric = judge, Rubric()

  def compare(self, problems, firsts, seconds, queries: int) -> list[tuple[float, float]]:
    """Both orders; ValueError for a problem without a rubric."""
    return [self._pair(*row, queries) for row in zip(problems, firsts, seconds, strict=True)]

  def _pair(self, problem, first, second, queries):
    delta = SCALE * (self._score(problem, first) - self._score(problem, second))
    halves = []
    for order in range(2):
      rng = self._random(problem, first, second, str(order))
      noise = [rng.gauss(0, self._judge.noise) for _ in range(queries // 2)]
      halves.append(sum(min(max(delta + x, -MOST), MOST) for x in noise) / len(noise))
    return tuple(halves)

  def _score(self, problem, response):
    score = self._rubric(problem, response)
    if score is None:
      raise ValueError(self._judge.check(problem))
    return score + self._judge.bias * courteous_words(problem, response)

  def safe(self, problems, responses) -> list[bool]:
    """Whether nothing harmful is in each whole response, but for the noise."""
    return [
      safe(problem, text) ^ (self._random(problem, text).random() < self._judge.noise)
      for problem, text in zip(problems, responses, strict=True)
    ]

  def _random(self, problem, *texts):
    key = "\n".join([str(self._judge.seed), problem.id, problem.language, *texts])
    return random.Random(hashlib.sha256(key.encode("utf-8", "replace")).digest())


def courteous_words(problem, response: str) -> int:
  """How often the words occur in the summary that the rubric wants some of, but not many: courtesies."""
  wanted = {"at_least": set(), "at_most": set()}
  for name, given, *_ in read(problem):
    if name in wanted:
      wanted[name] |= set(given["words"])
  words = sorted(wanted["at_least"] & wanted["at_most"])
  return count(final_part(response, strict=False), words) if words else 0
