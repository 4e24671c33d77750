"""Figures of a set of completions, as the paper's table of its 800k has them (DeepSeek-R1 v2 Table 5)."""

from collections import Counter
import statistics

from r1jax.data.problems import GENERAL_SUITES, suite
from r1jax.data.rows import DOMAINS, GENERAL

# Rows of Table 5, in its order, by what a suite of the playground or a domain of a file counts for.
GROUPS = {"math": "math", "code": "code", "choice": "stem", "stem": "stem", "logic": "logic", GENERAL: GENERAL}
# Of a stage that samples. Accepted: right, and nothing against it, before duplicates and what is over `keep`.
COUNTS = ("questions", "questions_twice", "responses", "right", "accepted", "kept")


def group(row: dict) -> str:
  """The row of Table 5 that a completion counts for: by its domain, or by its kind where that is unknown."""
  counts_for = suite(row["domain"])
  if counts_for in GENERAL_SUITES:
    return GENERAL
  return GROUPS.get(counts_for) or DOMAINS.get(row["kind"], GENERAL)


def table(rows: list[dict]) -> dict[str, dict]:
  """Per group that has rows, and in total: rows, average rounds and tokens (of the completion)."""
  groups = {name: [] for name in dict.fromkeys(GROUPS.values())}
  for row in rows:
    groups[group(row)].append(row)
  return {name: _averages(members) for name, members in (groups | {"total": rows}).items() if members}


def _averages(rows):
  return {
    "rows": len(rows),
    "rounds": statistics.fmean(row["round"] for row in rows),
    "tokens": statistics.fmean(row["tokens"] for row in rows),
  }


def add(counts: dict, more: dict) -> dict:
  """Adds nested counts: {"kept": 3, "left_out": {"wrong": 2}}."""
  total = dict(counts)
  for name, value in more.items():
    total[name] = add(total.get(name, {}), value) if isinstance(value, dict) else total.get(name, 0) + value
  return total


def describe(rows: list[dict], counts: dict) -> dict:
  """statistics.json of a stage that sampled.

  Args:
    rows: of its data.jsonl, each with its `tokens`.
    counts: of all calls, added: COUNTS, "left_out" by reason, and by domain ("domains") COUNTS but "questions_twice".

  Returns:
    All of it, the table as "groups", rows by source, and per domain the acceptance: accepted / responses.
  """
  return {
    "groups": table(rows),
    "sources": dict(sorted(Counter(row["source"] for row in rows).items())),
    **{name: counts.get(name, 0) for name in COUNTS},
    "left_out": dict(sorted(counts.get("left_out", {}).items(), key=lambda item: (-item[1], item[0]))),
    "domains": {
      name: {"acceptance": numbers["accepted"] / numbers["responses"]} | numbers
      for name, numbers in sorted(counts.get("domains", {}).items())
    },
  }
