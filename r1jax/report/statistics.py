"""What k samples per problem say: pass@1 with its interval, pass@k, majority vote (DeepSeek-R1 v2 D.1).

`correct` is bool[problems, k]; `answers[i][j]` is the answer of sample j to
problem i, or None where none could be read.
"""

from collections.abc import Sequence
from fractions import Fraction
import re

import numpy as np

_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40}|/0*[1-9][0-9]{0,39})?")
_RESAMPLES = 2000


def accuracy(
  correct: np.ndarray, answers: Sequence[Sequence[str | None]], majority: int
) -> dict[str, float | list[float]]:
  """`pass@1`, `pass@1_interval`, `majority@m` and `pass@k`, k being the samples per problem.

  Args:
    correct: bool[problems, k].
    answers: problems x k.
    majority: votes, at most k; 0: no vote.
  """
  samples = np.shape(correct)[1]
  vote = {f"majority@{majority}": majority_at(majority, correct, answers)} if majority else {}
  return {
    "pass@1": float(np.mean(correct)),
    "pass@1_interval": list(interval(correct)),
    **vote,
    f"pass@{samples}": pass_at(samples, correct),
  }


def interval(correct: np.ndarray, seed: int = 0) -> tuple[float, float]:
  """A 95% interval of pass@1: percentiles of a bootstrap over problems with a fixed seed.

  Samples of one problem depend on each other, so whole problems are drawn; and unlike a normal interval with
  clustered errors, percentiles stay within [0, 1] and are lopsided near its ends. Where every sample is right, or
  none, a bootstrap has no spread: there it is the exact binomial bound for that many problems.

  Args:
    correct: bool[problems, k].
  """
  per_problem = np.nanmean(np.asarray(correct, float), axis=1)
  problems = len(per_problem)
  bound = 0.025 ** (1 / problems)
  if not per_problem.any():
    return 0.0, 1 - bound
  if per_problem.all() and per_problem.min() == 1:
    return bound, 1.0
  rng = np.random.default_rng(seed)
  means = [per_problem[rng.integers(problems, size=problems)].mean() for _ in range(_RESAMPLES)]
  low, high = np.percentile(means, (2.5, 97.5))
  return float(low), float(high)


def pass_at(k: int, correct: np.ndarray) -> float:
  """Unbiased pass@k: 1 - C(n - c, k) / C(n, k), averaged over problems.

  The quotient of binomials is the product of (n - c - j) / (n - j) over j < k: factors of at most 1, no overflow.

  Args:
    k: samples of which one must be right, at most n.
    correct: bool[problems, n].
  """
  correct = np.asarray(correct)
  n = correct.shape[1]
  if not 1 <= k <= n:
    raise ValueError(f"pass@{k} needs at least {k} samples per problem, but there are {n}; raise evaluation.samples.")
  j = np.arange(k)
  wrong = n - correct.sum(axis=1, keepdims=True)
  return float(np.mean(1 - np.prod(np.maximum(wrong - j, 0) / (n - j), axis=1)))


def majority_at(m: int, correct: np.ndarray, answers: Sequence[Sequence[str | None]]) -> float:
  """Share of votes that are right: each m consecutive samples of a problem vote; averaged over the disjoint groups.

  Samples beyond the last whole group do not vote.

  Args:
    m: votes, at most k.
    correct: bool[problems, k].
    answers: problems x k.
  """
  correct = np.asarray(correct)
  k = correct.shape[1]
  if not 1 <= m <= k:
    raise ValueError(f"evaluation.majority={m} votes need as many samples per problem, but there are {k}.")
  right = [
    vote(row_correct[start : start + m], row[start : start + m])
    for row_correct, row in zip(correct, answers, strict=True)
    for start in range(0, k - m + 1, m)
  ]
  return float(np.mean(right))


def vote(correct: Sequence[bool], answers: Sequence[str | None]) -> bool:
  """Whether the most frequent answer is right. Ties go to the first seen; no answer never wins, and is wrong alone."""
  counts, first = {}, {}
  for index, answer in enumerate(answers):
    if answer is not None:
      answer = normalise(answer)
      counts[answer] = counts.get(answer, 0) + 1
      first.setdefault(answer, index)
  if not counts:
    return False
  return bool(correct[first[max(counts, key=counts.__getitem__)]])


def normalise(answer: str) -> str:
  """One spelling per answer: case, spaces and a full stop do not count; 0.50, 1/2 and 2/4 are one number."""
  text = " ".join(answer.casefold().split()).rstrip(" .。")
  number = text.replace(",", "").replace(" ", "")
  return str(Fraction(number)) if _NUMBER.fullmatch(number) else text


def breakdown(labels: Sequence, correct: np.ndarray, **numbers: np.ndarray) -> dict[str, dict[str, float]]:
  """Means per label (domain, level), in sorted order: `pass@1`, `problems`, and each of `numbers` by its name.

  Args:
    labels: one per problem.
    correct: bool[problems, k].
    **numbers: float[problems, k], e.g. response_length.
  """
  labels = np.asarray(labels)
  parts = {}
  for label in np.unique(labels):
    rows = labels == label
    parts[str(label)] = {
      "pass@1": float(np.mean(np.asarray(correct)[rows])),
      "problems": int(rows.sum()),
      **{name: float(np.mean(np.asarray(values)[rows])) for name, values in numbers.items()},
    }
  return parts
