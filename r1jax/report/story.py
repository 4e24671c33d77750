"""What a run tells in a minute: which policy to look at, and what every stage changed."""

from collections.abc import Sequence

from r1jax.report.rows import number


def headline(stages: Sequence[dict]) -> dict[str, str] | None:
  """{"first", "last"}: the finished policy that most other stages lead to, and where its weights come from."""
  policies = {s["name"]: s for s in stages if s["makes"] == "policy" and number(s["figures"].get("pass@1")) is not None}
  if not policies:
    return None
  named = {stage["name"]: stage for stage in stages}
  last = max(policies, key=lambda name: len(ancestors(name, named)))
  first = last
  while policies[first]["start_from"] in policies:
    first = policies[first]["start_from"]
  return {"first": first, "last": last}


def changes(stages: Sequence[dict]) -> list[dict]:
  """{"stage", "before", "suites": [[suite, score before, score after]]} of every measured policy but the first ones.

  `before` is the last measured policy in the schedule that the stage was made
  from, directly or through data: what cold start is to R1-Zero. A suite is told
  where the two 95% intervals have nothing in common, the greatest change first.
  """
  named = {stage["name"]: stage for stage in stages}
  measured = {stage["name"]: found for stage in stages if stage["makes"] == "policy" and (found := intervals(stage))}
  told = []
  for name, after in measured.items():
    origins = ancestors(name, named)
    if earlier := [other for other in measured if other in origins]:
      before = measured[earlier[-1]]
      moved = [
        [suite, before[suite][0], score]
        for suite, (score, low, high) in after.items()
        if suite in before and (low > before[suite][2] or high < before[suite][1])
      ]
      moved.sort(key=lambda change: -abs(change[2] - change[1]))
      told.append({"stage": name, "before": earlier[-1], "suites": moved})
  return told


def intervals(stage: dict) -> dict[str, tuple[float, float, float]]:
  """(score, low, high) per suite, where all three are numbers."""
  found = {}
  for suite, row in (stage["figures"].get("suites") or {}).items():
    match row.get("score"), row.get("interval"):
      case score, [low, high] if None not in map(number, (score, low, high)):
        found[suite] = (score, low, high)
  return found


def ancestors(name: str, named: dict[str, dict]) -> set[str]:
  """All stages that a stage takes something from, directly or not."""
  found, ahead = set(), [name]
  while ahead:
    stage = named[ahead.pop()]
    for other in (stage["start_from"], *stage["takes"]):
      if other in named and other not in found and other != name:
        found.add(other)
        ahead.append(other)
  return found
