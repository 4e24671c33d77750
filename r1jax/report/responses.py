"""The responses that the page of a run takes along: a fair sample within a number of bytes, and the "aha" moments.

All responses of all exams are read and looked at; of each problem a stage
answered k times, at most n are kept, at equal distances. n is halved, then
problems are left out at equal distances (the same in every stage), until all
fit.
"""

from collections.abc import Iterable, Sequence
import json

from r1jax.report import emergence
from r1jax.report.rows import Reader, number

LONGEST = 12_000  # characters of one response; the middle of a longer one is left out
HELD = 50_000  # characters of a problem's responses that are held in memory, about
MOST = 32  # responses per problem and stage that are kept, however many bytes are allowed
AHA = 12  # aha moments that are kept of each stage
ROLLOUTS = 120  # completions that are kept of each rollout
_FIELDS = ("question", "answer", "kind", "domain", "level", "language", "suite")


def collect(reader: Reader, stages: Sequence[dict], megabytes: float) -> dict:
  """Reads samples.jsonl, benchmarks and rollouts of every stage.

  Args:
    reader: of the run.
    stages: as `collect.read_stage` gives them.
    megabytes: of JSON that the sample may take.

  Returns:
    problems: the fields of each problem, by position;
    exams: {"stage", "problem", "right" and "of" (counts over all k), "tokens" (their mean), "responses": [{"text",
      "count", "right", "score", "tokens", "aha"}]}, equal responses as one;
    rollouts: {"stage", "problem", "update", "text", "tokens", "reward", "rewards", "right", "ended"};
    aha: {"stage", "problem", "text", "tokens"}, the best first;
    counted: per stage {"responses", "aha"};
    stages: names of those with an exam; kept: what was left out.
  """
  shelf = Shelf(reader)
  for stage in stages:
    if stage["makes"] == "policy":
      shelf.add_exams(stage["name"])
      shelf.add_rollouts(stage["name"])
  return shelf.fitted(megabytes)


class Shelf:
  """The responses of a run, read file by file."""

  def __init__(self, reader: Reader):
    self.reader = reader
    self.problems: dict[tuple, dict] = {}  # by id, language and question
    self.exams: list[dict] = []  # with "drawn": (text, right, score, tokens) of at most MOST responses
    self.rollouts: list[dict] = []
    self.moments: list[dict] = []
    self.counted: dict[str, dict[str, int]] = {}

  def add_exams(self, stage: str):
    folder = self.reader.workdir / stage
    files = [(folder / "samples.jsonl", None)]
    files += [(path, path.stem) for path in sorted((folder / "benchmarks").glob("*.jsonl"))]
    for path, suite in files:
      for row in self.reader.rows(path, _is_answered):
        self.add_answers(stage, row | ({"suite": suite} if suite else {}))

  def add_answers(self, stage: str, row: dict):
    """One problem of an exam with the k responses of a stage."""
    texts, right = row["responses"], row["correct"]
    k, place = len(texts), self.problem(row)
    scores, tokens = _column(row.get("scores"), k), _column(row.get("tokens"), k)
    aha = {text for text in {t for t, r in zip(texts, right) if r is True} if emergence.corrected(text, True)}
    count = self.counted.setdefault(stage, {"responses": 0, "aha": 0})
    count["responses"] += k
    count["aha"] += sum(text in aha for text in texts)
    most = max(4, min(MOST, HELD // (1 + sum(map(len, texts)) // k)))
    drawn = [(cut(texts[i]), right[i], scores[i], tokens[i], texts[i] in aha) for i in spread(range(k), most)]
    known = [value for value in tokens if value is not None]
    self.exams.append(
      {"stage": stage, "problem": place, "right": sum(r is True for r in right), "of": k, "drawn": drawn}
      | {"tokens": sum(known) / len(known) if known else None}
    )
    for text in sorted((text for text in aha if len(text) <= LONGEST), key=len)[:2]:
      self.moments.append({"stage": stage, "problem": place, "text": text, "tokens": tokens[texts.index(text)]})

  def add_rollouts(self, stage: str):
    """Completions of the first, a middle and the last rollout that were written, equally spaced."""
    files = {}
    for path in (self.reader.workdir / stage / "rollouts").glob("step_*.jsonl"):
      files.setdefault(path.name.split(".")[0], []).append(path)
    for step in spread(sorted(files), 3, ends=True):
      by_process = sorted(files[step], key=lambda path: (len(path.name), path.name))  # .2 before .10
      rows, _ = thinned((row for path in by_process for row in self.reader.rows(path, _is_completion)), ROLLOUTS)
      for row in rows:
        self.rollouts.append(self.completion(stage, row))

  def completion(self, stage: str, row: dict) -> dict:
    # Earlier versions wrote the rewards beside the other fields.
    rewards = row.get("rewards")
    if not isinstance(rewards, dict):
      rewards = {name: row[name] for name in ("accuracy", "format", "language") if number(row.get(name)) is not None}
    statuses, accuracy = row.get("statuses"), number(rewards.get("accuracy"))
    graded = [status for name, status in statuses.items() if name != "format"] if isinstance(statuses, dict) else []
    return {
      "stage": stage,
      "problem": self.problem(row),
      "update": number(row.get("step")),
      "text": cut(row["response"]),
      "tokens": number(row.get("tokens")),
      "reward": number(row.get("reward")),
      "rewards": {str(name): value for name, value in rewards.items() if number(value) is not None},
      "right": "right" in graded if graded else None if accuracy is None else accuracy >= 1,
      "ended": row.get("ended") is not False,
    }

  def problem(self, row: dict) -> int:
    """Position of a row's problem; the same problem has one in all stages."""
    key = (str(row.get("id")), str(row.get("language")), str(row["question"]))
    if key not in self.problems:
      fields = {name: row.get(name) for name in _FIELDS}
      self.problems[key] = {"place": len(self.problems), "id": str(row.get("id"))} | fields
      self.problems[key] |= {"question": cut(row["question"]), "answer": cut(str(row.get("answer") or ""))}
    elif row.get("suite"):
      self.problems[key]["suite"] = row["suite"]
    return self.problems[key]["place"]

  def fitted(self, megabytes: float) -> dict:
    """What fits; `kept` says how much that is."""
    asked = list(dict.fromkeys(exam["problem"] for exam in self.exams))
    size, per_problem, problems = megabytes * 1e6, MOST, len(asked)
    best, rollouts = self.best_moments(), self.rollouts
    while True:
      chosen = set(spread(asked, problems))
      exams = [exam for exam in self.exams if exam["problem"] in chosen]
      exams = [{k: v for k, v in e.items() if k != "drawn"} | {"responses": grouped(e, per_problem)} for e in exams]
      if _bytes([exams, best, rollouts]) <= size or (max(per_problem, problems) <= 1 and not rollouts and not best):
        break
      if per_problem > 4:
        per_problem //= 2
      elif len(rollouts) > 60:
        rollouts = spread(rollouts, len(rollouts) // 2)
      elif per_problem > 1:
        per_problem //= 2
      elif problems > 1:
        problems = (problems + 1) // 2
      else:
        rollouts, best = rollouts[: len(rollouts) // 2], best[: len(best) // 2]
    places = {place for each in (exams, best, rollouts) for place in (item["problem"] for item in each)}
    order = {place: i for i, place in enumerate(sorted(places))}
    listed = sorted(self.problems.values(), key=lambda problem: problem["place"])
    for item in (*exams, *best, *rollouts):
      item["problem"] = order[item["problem"]]
    return {
      "problems": [{k: v for k, v in p.items() if k != "place"} for p in listed if p["place"] in places],
      "exams": exams,
      "rollouts": rollouts,
      "aha": best,
      "counted": self.counted,
      "stages": list(self.counted),
      "kept": {"per_problem": per_problem, "problems": problems, "of_problems": len(asked), "megabytes": megabytes}
      | {"of_samples": max((exam["of"] for exam in self.exams), default=0)}
      | {"rollouts": len(rollouts), "of_rollouts": len(self.rollouts)},
    }

  def best_moments(self) -> list[dict]:
    """The clearest aha moments of every stage in turn, those first that correct themselves most.

    Clear are those of problems that the first exam seldom solved, of hard ones, in few words.
    """
    first = {}
    for exam in self.exams:
      first.setdefault(exam["problem"], exam["right"] / exam["of"])
    levels = {p["place"]: number(p["level"]) or 1 for p in self.problems.values()}
    worth = lambda moment: (
      -round(1 - first[moment["problem"]], 1),
      -levels[moment["problem"]],
      len(moment["text"]),
    )
    kept, seen, texts = {}, set(), set()
    for moment in sorted(self.moments, key=worth):
      mine, same = kept.setdefault(moment["stage"], []), (moment["stage"], moment["problem"])
      if len(mine) < AHA and same not in seen and moment["text"] not in texts:
        seen.add(same)
        texts.add(moment["text"])
        mine.append(moment)
    share = lambda stage: self.counted[stage]["aha"] / self.counted[stage]["responses"]
    stages = [kept[stage] for stage in sorted(kept, key=share, reverse=True)]
    return [mine[rank] for rank in range(AHA) for mine in stages if rank < len(mine)]


def grouped(exam: dict, most: int) -> list[dict]:
  """At most `most` of an exam's drawn responses, equal ones counted; the frequent ones first."""
  found = {}
  for text, right, score, tokens, aha in spread(exam["drawn"], most):
    entry = found.setdefault((text, right, score), {"text": text, "count": 0, "right": right, "score": score})
    entry["count"] += 1
    entry |= {"tokens": tokens} | ({"aha": True} if aha else {})
  return sorted(found.values(), key=lambda entry: -entry["count"])


def spread(items: Sequence, most: int, ends: bool = False) -> list:
  """At most `most` items at equal distances, with the first; `ends`: and the last."""
  n = len(items)
  if n <= most:
    return list(items)
  if ends:
    return [items[round(i * (n - 1) / max(most - 1, 1))] for i in range(most)]
  return [items[i * n // most] for i in range(most)]


def thinned(rows: Iterable, most: int) -> tuple[list, int]:
  """(at most `most` rows at equal distances, how many there were), never holding more than twice as many."""
  kept, step, count = [], 1, 0
  for row in rows:
    if count % step == 0:
      kept.append(row)
      if len(kept) == 2 * most:
        kept, step = kept[::2], 2 * step
    count += 1
  return spread(kept, most), count


def cut(text: str) -> str:
  """The text, without its middle where it is too long."""
  if len(text) <= LONGEST:
    return text
  half = LONGEST // 2
  return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"


def _is_answered(row: dict) -> bool:
  texts, right = row.get("responses"), row.get("correct")
  return (
    isinstance(row.get("question"), str)
    and isinstance(texts, list)
    and isinstance(right, list)
    and len(texts) == len(right) > 0
    and all(isinstance(text, str) for text in texts)
  )


def _is_completion(row: dict) -> bool:
  return isinstance(row.get("question"), str) and isinstance(row.get("response"), str)


def _column(values, k: int) -> list[float | None]:
  """k numbers, None where there is none."""
  whole = isinstance(values, list) and len(values) == k
  return [number(value) for value in values] if whole else [None] * k


def _bytes(value) -> int:
  return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
