"""Is a run sound? What somebody who did not see it run would check first, each as one line of the page."""

from collections.abc import Iterator, Sequence
import itertools

from r1jax.report.rows import number

GOOD, WARNING, BAD, UNKNOWN = "good", "warning", "bad", "unknown"


def checks(run: dict, skipped_lines: int) -> list[dict[str, str]]:
  """{"state", "title", "detail"} of every check that applies.

  Args:
    run: as `collect.collect` builds it.
    skipped_lines: lines of the run's files that could not be read.
  """
  stages = run["stages"]
  trained = [stage for stage in stages if stage["totals"]]
  rl = [stage for stage in trained if stage["class"] == "RL"]
  found = [finished(stages), lineage(stages), one_config(stages, run["about"])]
  found += [exam_size(stages)] if run["samples"]["stages"] else []
  found += [alarms(trained), skipped_updates(trained)] if trained else []
  found += [reward_checks(rl), sampler(rl), truncation(rl), spread(rl)] if rl else []
  found += reward_models(stages)
  found += oracles(stages)
  if skipped_lines:
    found.append(_line(WARNING, "Files", f"{skipped_lines} lines could not be read; see the notes."))
  return found


def finished(stages: Sequence[dict]) -> dict:
  done = [stage for stage in stages if stage["state"] == "finished"]
  if len(done) == len(stages):
    return _line(GOOD, "Stages", f"all {len(stages)} are finished.")
  begun = [f"{stage['name']} {_progress(stage)}" for stage in stages if stage["state"] == "unfinished"]
  later = [stage["name"] for stage in stages if stage["state"] == "not begun"]
  parts = [f"{len(done)} of {len(stages)} are finished", *begun]
  parts += [f"not begun: {', '.join(later)}"] if later else []
  return _line(WARNING, "Stages", f"{'; '.join(parts)}.")


def _progress(stage: dict) -> str:
  if not stage["updates"]:
    return "is unfinished"
  of = f" of {stage['steps']:,}" if stage["steps"] else ""
  return f"at update {stage['updates']:,}{of}"


def lineage(stages: Sequence[dict]) -> dict:
  """Whether what every stage says it was made from is what lies there now."""
  known = {stage["name"]: stage["figures"] for stage in stages}
  compared, wrong = 0, []
  for stage in stages:
    for origin in stage["origins"]:
      for key in ("params_sha256", "data_sha256"):
        said, now = origin.get(key), known.get(origin.get("stage"), {}).get(key)
        if said and now:
          compared += 1
          if said != now:
            wrong.append(f"{stage['name']} was made from {key} {said[:8]} of {origin['stage']}, which is now {now[:8]}")
  if wrong:
    return _line(BAD, "Lineage", f"{'; '.join(wrong)}.")
  if not compared:
    return _line(UNKNOWN, "Lineage", "no stage recorded the hashes of what it was made from.")
  return _line(GOOD, "Lineage", f"all {compared} recorded hashes of parents, data and reward models match.")


def origins(stage: dict) -> Iterator[dict]:
  """What a finished stage says it was made from: {"stage" or "file", "params_sha256" or "data_sha256" or "sha256"}."""
  record = stage["figures"].get("lineage")
  if not isinstance(record, dict):
    return
  lists = [value for name in ("data", "reward_models") if isinstance(value := record.get(name), list)]
  for origin in itertools.chain([record.get("parent")], *lists):
    if isinstance(origin, dict):
      yield origin


def one_config(stages: Sequence[dict], about: dict) -> dict:
  records = [s["figures"]["lineage"] for s in stages if isinstance(s["figures"].get("lineage"), dict)]
  if not records:
    return _line(UNKNOWN, "Config and code", f"config {about['config_sha256'][:8]}; no stage recorded its own.")
  others = sorted({str(r.get("config_sha256"))[:8] for r in records} - {about["config_sha256"][:8]})
  if others:
    text = f"some stages were made under another config ({', '.join(others)}) than this folder's."
    return _line(BAD, "Config and code", text)
  if len(about["code"]) > 1:
    return _line(WARNING, "Config and code", f"stages were made by several versions: {', '.join(about['code'])}.")
  by = ", ".join(about["code"]) or "unknown code"
  return _line(GOOD, "Config and code", f"every stage by {by} under config {about['config_sha256'][:8]}.")


def exam_size(stages: Sequence[dict]) -> dict:
  """How far chance alone can move the headline figure."""
  widths = []
  for stage in stages:
    match stage["figures"].get("pass@1_interval"):
      case [low, high] if number(low) is not None and number(high) is not None:
        widths.append((high - low) / 2)
  if not widths:
    return _line(UNKNOWN, "Exam", "no stage holds an interval.")
  state = GOOD if max(widths) <= 0.06 else WARNING
  text = f"95% intervals of pass@1 are at most ±{100 * max(widths):.1f} points wide; smaller differences may be chance."
  return _line(state, "Exam", text)


def alarms(stages: Sequence[dict]) -> dict:
  found = [f"{alarm['alarm']} in {stage['name']} ({alarm['count']}x)" for stage in stages for alarm in stage["alarms"]]
  if not found:
    return _line(GOOD, "Alarms", "none was raised.")
  return _line(WARNING, "Alarms", f"{', '.join(found)}.")


def skipped_updates(stages: Sequence[dict]) -> dict:
  skipped = {s["name"]: s["totals"]["policy/skipped"]["sum"] for s in stages if "policy/skipped" in s["totals"]}
  found = [f"{count:.0f} in {name}" for name, count in skipped.items() if count]
  if found:
    return _line(BAD, "Non-finite updates", f"skipped: {', '.join(found)}.")
  return _line(GOOD if skipped else UNKNOWN, "Non-finite updates", "none was skipped." if skipped else "not measured.")


def reward_checks(stages: Sequence[dict]) -> dict:
  """Answers whose check raised or was killed score 0, which teaches something wrong."""
  keys = ("reward/check_failures", "reward/check_timeouts")
  found = [
    f"{stage['totals'][key]['sum']:.0f} {key.split('_')[1]} in {stage['name']}"
    for stage in stages
    for key in keys
    if stage["totals"].get(key, {}).get("sum")
  ]
  if found:
    return _line(WARNING, "Checks of answers", f"{', '.join(found)}, each scored 0 (counted once per update).")
  return _line(GOOD, "Checks of answers", "none failed and none was killed at its limit.")


def sampler(stages: Sequence[dict]) -> dict:
  key = "policy/sampler_mismatch"
  worst = [(stage["totals"][key]["max"], stage) for stage in stages if key in stage["totals"]]
  if not worst:
    return _line(UNKNOWN, "Sampler against trainer", "not measured.")
  value, stage = max(worst, key=lambda pair: pair[0])
  limit = stage["limits"].get(key)
  state = BAD if limit is not None and value > limit else GOOD
  return _line(state, "Sampler against trainer", f"log-probs differ by {value:.2g} nats at most (in {stage['name']}).")


def truncation(stages: Sequence[dict]) -> dict:
  cut = [(s["totals"]["rollout/truncated"]["last"], s["name"]) for s in stages if "rollout/truncated" in s["totals"]]
  if not cut:
    return _line(UNKNOWN, "Cut responses", "not measured.")
  value, name = max(cut)
  state = GOOD if value < 0.1 else WARNING
  return _line(state, "Cut responses", f"{value:.1%} at most in the last rollout of a stage ({name}).")


def spread(stages: Sequence[dict]) -> dict:
  dead = [(s["totals"]["group/dead"]["last"], s["name"]) for s in stages if "group/dead" in s["totals"]]
  if not dead:
    return _line(UNKNOWN, "Groups without spread", "not measured.")
  value, name = max(dead)
  return _line(
    GOOD if value < 0.9 else WARNING,
    "Groups without spread",
    f"{value:.0%} at most in the last rollout of a stage ({name}); they teach nothing.",
  )


def reward_models(stages: Sequence[dict]) -> list[dict]:
  """A reward model whose held-out accuracy may be chance steers at random."""
  found = []
  for stage in stages:
    figures, title = stage["figures"], f"Reward model {stage['name']}"
    accuracy, share = number(figures.get("accuracy")), number(figures.get("share_safe"))
    if stage["makes"] != "reward model" or accuracy is None:
      continue
    chance = 0.5 if share is None else max(share, 1 - share)  # of always giving the same answer
    match figures.get("accuracy_interval"):
      case [low, high] if number(low) is not None and number(high) is not None:
        state = GOOD if low > chance else WARNING if high >= chance else BAD
        text = f"held-out accuracy {accuracy:.1%} [{low:.1%}, {high:.1%}], where chance gives {chance:.1%}."
        found.append(_line(state, title, text))
      case _:
        found.append(_line(UNKNOWN, title, f"held-out accuracy {accuracy:.1%}, without an interval."))
  return found


def oracles(stages: Sequence[dict]) -> list[dict]:
  """Reward hacking: RL under a reward model after which the oracle says less than before (DeepSeek-R1 v2 B.5)."""
  named = {stage["name"]: stage for stage in stages}
  found = []
  for stage in stages:
    parent = named.get(stage["start_from"])
    judged = any(named[name]["makes"] == "reward model" for name in stage["takes"])
    if stage["class"] != "RL" or not judged or parent is None:
      continue
    before, after = scores(parent), scores(stage)
    both = [name for name in ("helpfulness", "harmlessness", "compliance") if name in before and name in after]
    if both:
      fell = any(after[name] < before[name] for name in both)
      text = ", ".join(f"{name} {before[name]:.1%} to {after[name]:.1%}" for name in both)
      text += " under the reward models; a fall is reward hacking."
      found.append(_line(WARNING if fell else GOOD, f"Oracle of {stage['name']}", text))
  return found


def scores(stage: dict) -> dict[str, float]:
  """Score per suite, where it is a number."""
  suites = stage["figures"].get("suites", {})
  return {name: row["score"] for name, row in suites.items() if number(row.get("score")) is not None}


def _line(state: str, title: str, detail: str) -> dict[str, str]:
  return {"state": state, "title": title, "detail": detail}
