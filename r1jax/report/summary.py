"""The end of a run in the terminal: the stage table, what the data stages made, and two answers to the same problem.

The table is the paper's (DeepSeek-R1 v2 Table 3): a row per suite, a column per
policy, the best of a row in bold. results.json holds all figures exactly.
"""

from typing import Any

import rich.console
import rich.panel
import rich.table
import rich.text

_COLUMN = 12  # characters of "71.2 ±3.1" with padding and border
_REASONS = 3  # why rows were left out: the commonest
_TOLD = (  # of the numbers of a statistics.json
  "tokens", "mean_tokens", "mean_tokens_chosen", "mean_tokens_rejected", "mean_delta", "order_agreement", "ties",
  "safe", "unsafe", "responses", "right", "kept",
)  # fmt: skip


def show(results: dict[str, Any], samples: list[dict[str, Any]], console: rich.console.Console | None = None):
  """Prints the stages of `results`, then the sample answers.

  Args:
    results: as in results.json: "stages" -> name -> what its stage.json says.
    samples: {"question": text, "answer": the gold answer, "responses": stage -> text, "correct": stage -> bool}; of
      many stages the first and the last are shown.
    console: the terminal when None.
  """
  console = console or rich.console.Console()
  stages = results["stages"]
  policies = {name: stage for name, stage in stages.items() if "pass@1" in stage}
  for table in _stage_tables(policies, console.width):
    console.print(table)
  if data := {name: stage for name, stage in stages.items() if "statistics" in stage}:
    console.print(_data(data))
  for name, stage in stages.items():
    if "accuracy" in stage:
      text = f"reward model {name}: accuracy {_score(stage, 'accuracy')} % on held-out prompts"
      console.print(text, markup=False, highlight=False)
  for sample in samples:
    _show_sample(sample, console)


# ---- the stage table


def _stage_tables(policies, width):
  """The table, cut into as many as the terminal's width asks for, with the same rows."""
  names, rows = list(policies), _rows(policies)
  label = max((len(label) for section in rows for label, *_ in section), default=0) + len("│  │")
  at_once = max(1, (width - label) // _COLUMN)
  for start in range(0, len(names), at_once):
    part = names[start : start + at_once]
    table = rich.table.Table(title="" if start else "held-out problems: score in % ± half its 95 % interval")
    table.title_justify = "left"
    table.add_column("")
    for name in part:
      table.add_column(name.replace("_", "\n"), justify="right", overflow="fold")
    for section in rows:
      for label, cells, best in section:
        styled = [rich.text.Text(cells[name], style="bold" if name in best else "") for name in part]
        table.add_row(label, *styled)
      table.add_section()
    yield table


def _rows(policies) -> list[list[tuple[str, dict, set]]]:
  """Sections of (label, cell by stage, the stages with the best value)."""
  suites = _keys(policies, lambda stage: stage.get("suites", {}))
  exams = _keys(policies, lambda stage: stage.get("benchmarks", {}))
  votes = sorted(_keys(policies, _counted), key=lambda key: int(key.split("@")[1]))
  suite = lambda name: _row(name, {s: p.get("suites", {}).get(name, {}) for s, p in policies.items()}, "score")
  exam = lambda name: _row(name, {s: p.get("benchmarks", {}).get(name, {}) for s, p in policies.items()}, "pass@1")
  whole = [_row(key, policies, key) for key in ("pass@1", *votes)]
  forms = (
    ("tokens", "response_length", "{:.1f}", 1),
    ("reflective, %", "reflection_rate", "{:.1f}", 100),
    ("seconds", "seconds", "{:.0f}", 1),
  )
  plain = [
    (label, {s: form.format(scale * p[key]) if key in p else "-" for s, p in policies.items()}, set())
    for label, key, form, scale in forms
  ]
  return [part for part in ([suite(name) for name in suites], [exam(name) for name in exams], whole, plain) if part]


def _row(label, entries, key):
  """A row of scores, higher being better; the best are those whose value nothing exceeds, if it has any rival."""
  values = {stage: entry[key] for stage, entry in entries.items() if entry.get(key) is not None}
  best = {stage for stage, value in values.items() if value == max(values.values())}
  cells = {stage: _score(entry, key) for stage, entry in entries.items()}
  return label, cells, best if len(set(values.values())) > 1 else set()


def _keys(policies, of) -> list[str]:
  return list(dict.fromkeys(key for stage in policies.values() for key in of(stage)))


def _counted(stage) -> list[str]:
  """Keys that carry a number: majority@16, pass@64."""
  return [k for k in stage if k.startswith(("majority@", "pass@")) and k.split("@")[1].isdigit() and k != "pass@1"]


def _score(entry, key) -> str:
  """0.712 and its interval as "71.2 ±3.1": three digits at most, and two."""
  if entry.get(key) is None:
    return "-"
  score, interval = f"{100 * entry[key]:.1f}", entry.get("interval" if key == "score" else f"{key}_interval")
  if not interval:
    return _short(score, 4)
  return f"{_short(score, 4)} ±{_short(f'{50 * (interval[1] - interval[0]):.1f}', 3)}"


def _short(number, characters):
  """A number with one decimal, rounded to none where it is longer."""
  return number if len(number) <= characters else f"{float(number):.0f}"


# ---- what the data stages made


def _data(stages):
  table = rich.table.Table(title="data made", title_justify="left")
  table.add_column("stage", overflow="fold")
  table.add_column("rows", justify="right")
  table.add_column("of it")
  for name, stage in stages.items():
    table.add_row(name, f"{stage['rows']:,}" if "rows" in stage else "-", _tally(stage["statistics"]))
  return table


def _tally(statistics) -> rich.text.Text:
  """The numbers of a statistics.json, and why most of the rest was left out."""
  total = statistics.get("groups", {}).get("total", {})
  numbers = {"tokens": total["tokens"]} if "tokens" in total else {}
  numbers |= {name: statistics[name] for name in _TOLD if name in statistics}
  parts = [f"{name.replace('_', ' ')} {_number(value)}" for name, value in numbers.items()]
  reasons = sorted(statistics.get("left_out", {}).items(), key=lambda item: -item[1])[:_REASONS]
  left_out = [f"left out: {', '.join(f'{name} {count:,}' for name, count in reasons)}"] if reasons else []
  return rich.text.Text("; ".join([", ".join(parts), *left_out]))


def _number(value) -> str:
  return f"{value:,}" if isinstance(value, int) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


# ---- answers


def _show_sample(sample, console):
  console.print(rich.text.Text(f"{sample['question']}  (answer: {sample['answer']})", style="bold"))
  names = list(sample["responses"])
  for name in dict.fromkeys((names[0], names[-1])):
    right = sample["correct"][name]
    text = rich.text.Text(sample["responses"][name].strip())
    style = "green" if right else "red"
    title = f"{name}: {'right' if right else 'wrong'}"
    console.print(rich.panel.Panel(text, title=title, title_align="left", border_style=style))
