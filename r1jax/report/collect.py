"""One JSON object of everything a run has left in its folder: what the page of a run shows.

Reads only, needs no jax and no device, and takes a run in any state: stages
that are not begun, unfinished ones, runs of earlier versions. What is missing
is said in `notes`.
"""

import datetime
import hashlib
import json
import os
import pathlib
import time

from r1jax.report import emergence, responses, soundness, story
from r1jax.report.rows import Reader, number, parsed, plain

POINTS = 240  # of a curve over updates; more are averaged in buckets
EXAMPLES = 12  # rows shown of a data stage
_MAKES = {"Rejection": "completions", "RewardModel": "reward model"}  # the others make policies
_TABLES = ("suites", "benchmarks", "per_domain", "per_level", "per_language")
_HIDDEN = {"class", "name", "start_from", "model", "optimizer", "checkpoints", "preflight", "alarms", "data", "beside"}


def collect(workdir: str | os.PathLike, megabytes: float = 4.0) -> dict:
  """Reads a run.

  Args:
    workdir: of the run.
    megabytes: of responses that are taken along at most, as JSON; a fair sample beyond.

  Returns:
    JSON values: "about", "stages" (in the order of the schedule), "headline" and "changes" (see `story`), "checks" (is
    it sound), "notes", "words" (reflective ones), "samples" (see `responses.collect`).

  Raises:
    ValueError: it is not the folder of a run; the sentence says what is missing.
  """
  workdir = pathlib.Path(workdir)
  config = read_config(workdir)
  reader = Reader(workdir)
  results = reader.json(workdir / "results.json") or {}
  names = [stage["name"] for stage in config["stages"]]
  stages = [read_stage(reader, workdir / stage["name"], stage, names) for stage in config["stages"]]
  about = describe(workdir, config, results, stages)
  run = {
    "about": about,
    "stages": stages,
    "words": {"english": emergence.ENGLISH, "chinese": emergence.CHINESE},
    "samples": responses.collect(reader, stages, megabytes),
    "headline": story.headline(stages),
    "changes": story.changes(stages),
  }
  run["checks"] = soundness.checks(run, reader.skipped)
  run["notes"] = missing(run, results) + reader.notes
  return plain(run)


def read_config(workdir: pathlib.Path) -> dict:
  """config.json of a run, with a list of named stages; ValueError where there is none."""
  path = workdir / "config.json"
  if not workdir.is_dir():
    raise ValueError(f"{workdir} is no folder; name the --workdir of a run.")
  if not path.is_file():
    raise ValueError(f"{workdir} is not the folder of a run: config.json is missing; name the --workdir of a run.")
  config = parsed(path.read_text(encoding="utf-8", errors="replace"))
  stages = config.get("stages") if isinstance(config, dict) else None
  if not isinstance(stages, list) or not all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in stages):
    raise ValueError(f"{path} is no config of a run: it must be an object with a list of named stages; restore it.")
  return config


# ---- a stage


def read_stage(reader: Reader, folder: pathlib.Path, config: dict, names: list[str]) -> dict:
  """All of a stage but its samples."""
  figures = tabled(reader.json(folder / "stage.json"))
  kind = config.get("class", "")
  makes = config.get("form", "pairs") if kind == "Preferences" else _MAKES.get(kind, "policy")
  metrics, every, totals, updates = read_metrics(reader, folder / "metrics.jsonl")
  stage = {
    "name": config["name"],
    "class": kind,
    "makes": makes,
    "state": "finished" if figures else "unfinished" if folder.is_dir() else "not begun",
    "start_from": config.get("start_from") or "",
    "takes": takes(config, names),
    "settings": settings(config),
    "template": (config.get("template") or {}).get("text"),
    "steps": number(config.get("steps")),
    "limits": limits(config),
    "figures": figures or {},
    "statistics": (figures or {}).get("statistics") or reader.json(folder / "statistics.json"),
    "curve": sorted(map(tabled, reader.rows(folder / "curve.jsonl", _has_step)), key=lambda point: point["step"]),
    "metrics": metrics,
    "every": every,
    "updates": updates,
    "totals": totals,
    "alarms": read_alarms(reader, folder / "alarms.jsonl"),
    "examples": [],
  }
  stage["origins"] = list(soundness.origins(stage))
  if makes not in ("policy", "reward model"):
    rows, stage["rows"] = responses.thinned(reader.rows(folder / "data.jsonl"), EXAMPLES)
    stage["examples"] = [shortened(row) for row in rows]
  return stage


def tabled(figures: dict | None) -> dict | None:
  """Figures whose tables are tables: an entry of one that is no record is left out."""
  if figures is None:
    return None
  tables = {name: figures[name] for name in _TABLES if name in figures}
  records = lambda table: {k: v for k, v in table.items() if isinstance(v, dict)} if isinstance(table, dict) else {}
  return figures | {name: records(table) for name, table in tables.items()}


def takes(config: dict, names: list[str]) -> list[str]:
  """Stages that a stage's config names anywhere but in start_from: its data, its reward models."""
  found = []

  def look(value):
    if isinstance(value, list):
      for item in value:
        look(item)
    elif isinstance(value, dict):
      for key, item in value.items():
        if isinstance(item, str) and item in names and key not in ("name", "class", "start_from"):
          found.append(item)
        look(item)

  look({key: value for key, value in config.items() if isinstance(value, (dict, list))})
  return [name for name in dict.fromkeys(found) if name != config["name"]]


def settings(config: dict) -> list[list]:
  """[field, value] of what is worth knowing of a stage's config, as short text."""
  found = [[key, value] for key, value in config.items() if key not in _HIDDEN and isinstance(value, (int, float, str))]
  for part, fields in (("optimizer", ("learning_rate",)), ("sampling", ("temperature", "max_response"))):
    inner = config.get(part) or {}
    found += [[field, inner[field]] for field in fields if field in inner]
  for part in ("rewards", "data", "beside", "filters"):
    if config.get(part):
      found.append([part, ", ".join(_short(item) for item in config[part])])
  return [[key, value] for key, value in found if value not in ("", False)]


def _short(item) -> str:
  """A config object in a few characters: its class, what it names or holds, its weight where that is not 1."""
  if not isinstance(item, dict):
    return str(item)
  named = item.get("stage") or item.get("path") or ", ".join(dict.fromkeys(map(_short, _held(item))))
  weight = item.get("weight", 1)
  times = "" if weight == 1 else f"{weight:g} x " if number(weight) is not None else f"{weight} x "
  return times + str(item.get("class", "?")) + (f"({named})" if named else "")


def _held(item) -> list[dict]:
  """The config objects within one, the outermost of each."""
  values = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
  return [
    each for value in values for each in ([value] if isinstance(value, dict) and "class" in value else _held(value))
  ]


def limits(config: dict) -> dict[str, float]:
  """At which value of a metric an alarm goes off."""
  fields = {
    "policy/entropy": "min_entropy",
    "rollout/truncated": "max_truncated",
    "policy/sampler_mismatch": "max_mismatch",
    "group/dead": "max_dead_groups",
  }
  alarms = config.get("alarms") or {}
  return {key: alarms[field] for key, field in fields.items() if number(alarms.get(field)) is not None}


def _has_step(row: dict) -> bool:
  return number(row.get("step")) is not None


def read_metrics(reader: Reader, path: pathlib.Path) -> tuple[dict[str, list], int, dict[str, dict], int]:
  """The log of a stage, short enough to be drawn.

  Returns:
    Columns of at most POINTS buckets, each the mean of its updates, with "step"; updates per bucket; {"sum", "max",
    "last"} of every key over all updates; updates done.
  """
  rows = list(reader.rows(path, _has_step))
  every = -(-len(rows) // POINTS) or 1
  keys = sorted({key for row in rows for key in row} - {"step"})
  columns, totals = {"step": [rows[i]["step"] for i in range(0, len(rows), every)]}, {}
  for key in keys:
    values = [number(row.get(key)) for row in rows]
    known = [value for value in values if value is not None]
    if known:
      columns[key] = [_mean(values[i : i + every]) for i in range(0, len(values), every)]
      totals[key] = {"sum": sum(known), "max": max(known), "last": known[-1]}
  return columns, every, totals, int(rows[-1]["step"]) + 1 if rows else 0


def _mean(values: list[float | None]) -> float | None:
  known = [value for value in values if value is not None]
  return sum(known) / len(known) if known else None


def read_alarms(reader: Reader, path: pathlib.Path) -> list[dict]:
  """Each kind of alarm once: how often, the first and the last update, the first sentence."""
  found = {}
  for row in reader.rows(path, lambda row: _has_step(row) and isinstance(row.get("alarm"), str)):
    fresh = {"alarm": row["alarm"], "count": 0, "first": row["step"], "message": str(row.get("message", ""))}
    entry = found.setdefault(row["alarm"], fresh)
    entry.update(count=entry["count"] + 1, last=row["step"])
  return list(found.values())


def shortened(row: dict) -> dict:
  """A row of data with long texts cut, for the examples."""
  return {key: responses.cut(value) if isinstance(value, str) else value for key, value in row.items()}


# ---- the whole run


def describe(workdir: pathlib.Path, config: dict, results: dict, stages: list[dict]) -> dict:
  """Name, when, how long, code, config hash, and how the model is built."""
  lineages = [stage["figures"]["lineage"] for stage in stages if isinstance(stage["figures"].get("lineage"), dict)]
  ends = [path.stat().st_mtime for s in stages if (path := workdir / s["name"] / "stage.json").is_file()]
  code = [str(lineage["code"]) for lineage in lineages if lineage.get("code")]
  if not code and isinstance(results.get("versions"), dict):
    code = [f"r1jax {results['versions'].get('r1jax', '?')}"]
  fields = {name: value for name, value in config.items() if name not in ("mesh", "actors")}  # as training.workdir
  digest = hashlib.sha256(json.dumps(fields, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
  return {
    "name": str(config.get("name", workdir.name)),
    "folder": workdir.resolve().name,
    "seed": config.get("seed"),
    "began": _moment((workdir / "config.json").stat().st_mtime),
    "ended": _moment(max(ends)) if ends else None,
    "made": _moment(time.time()),
    "seconds": sum(number(stage["figures"].get("seconds")) or 0 for stage in stages),
    "code": sorted(set(code)),
    "versions": results.get("versions") or {},
    "config_sha256": digest,
    "model": network(config.get("model") or {}),
    "world": world(config.get("playground") or {}),
    "evaluation": {key: (config.get("evaluation") or {}).get(key) for key in ("samples", "majority")},
  }


def _moment(seconds: float) -> str:
  return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def network(model: dict) -> str:
  """The model in a line."""
  experts = model.get("experts") or {}
  parts = [f"{model.get('layers', '?')} layers of width {model.get('width', '?')}"]
  if experts:
    parts.append(f"{experts.get('routed', '?')} experts, {experts.get('active', '?')} per token")
  return ", ".join([*parts, f"vocabulary {model.get('vocab', '?')}"])


def world(playground: dict) -> str:
  """What the playground asks, in a line."""
  domains, languages = playground.get("domains") or [], playground.get("languages") or []
  return ", ".join(map(str, domains)) + (f"; in {' and '.join(map(str, languages))}" if domains and languages else "")


def missing(run: dict, results: dict) -> list[str]:
  """What a reader should know is not there."""
  policies = [s for s in run["stages"] if s["makes"] == "policy" and s["state"] == "finished"]
  found = []
  if not results:
    found.append("results.json is missing: the run has not come to its end.")
  if policies and not any(stage["figures"].get("suites") for stage in policies):
    found.append("No stage holds figures per suite: the table shows domains instead, without intervals.")
  if policies and not any(stage["figures"].get("lineage") for stage in policies):
    found.append("No stage holds its lineage: what was made from what can be read from the config only.")
  for stage in policies:
    if not stage["figures"].get("params_sha256"):
      found.append(f"{stage['name']}/stage.json holds no params_sha256.")
    if stage["name"] not in run["samples"]["stages"]:
      found.append(f"{stage['name']}/samples.jsonl is missing or empty: none of its answers can be shown.")
  return found
