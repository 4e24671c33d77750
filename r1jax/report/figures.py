"""The paper's figures of a run, as PNG and SVG: one of each that the run has the data for.

Counterparts of DeepSeek-R1 v1 Figures 2 and 3 (accuracy and length over training), v2 Figure 6 (a reward model's
reward against the oracle), Figure 7 (language consistency with and without its reward), Figure 8 (accuracy by level)
and Table 3 (every suite after every stage).
"""

from collections.abc import Iterator, Sequence
import itertools
import pathlib

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
import numpy as np

from r1jax.report import curves
from r1jax.report.rows import number

COLOURS = ("#2360b0", "#b8520a", "#0b7565", "#7446b3", "#b02a78", "#6a6a10", "#0a6f93", "#b3261e")
FORMATS = ("png", "svg")


def draw(run: dict, folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes the figures into `folder`; returns their paths.

  Args:
    run: as `collect.collect` gives it.
    folder: an existing one.
  """
  written = []
  for stage in run["stages"]:
    if len(stage["curve"]) > 1:
      written += accuracy(stage, folder) + levels(stage, folder)
    if len(stage["metrics"].get("rollout/length", ())) > 1:
      written += length(stage, folder)
    written += reward_against_oracle(stage, run["stages"], folder)
  return written + language(run["stages"], folder) + suites(run["stages"], folder)


def accuracy(stage: dict, folder: pathlib.Path) -> list[pathlib.Path]:
  """Held-out pass@1 and majority vote over the updates (v1 Figure 2)."""
  vote = next((key for key in stage["curve"][0] if key.startswith("majority@")), None)
  points = [p for p in stage["curve"] if number(p.get("pass@1")) is not None and _is_pair(p.get("pass@1_interval"))]
  points = [p for p in points if vote is None or number(p.get(vote)) is not None]
  if len(points) < 2 or vote is None:
    return []
  column = lambda key: [point[key] for point in points]
  paths = [folder / f"{stage['name']}_accuracy.{form}" for form in FORMATS]
  for path in paths:
    curves.accuracy_curve(
      path, column("step"), column("pass@1"), column("pass@1_interval"), column(vote), int(vote.split("@")[1])
    )
  return paths


def length(stage: dict, folder: pathlib.Path) -> list[pathlib.Path]:
  """Response length and reflection over the updates (v1 Figure 3)."""
  metrics = stage["metrics"]
  columns = [metrics["step"], _filled(metrics["rollout/length"])]
  columns.append(_filled(metrics.get("emergence/reflection_rate") or [None] * len(columns[0])))
  paths = [folder / f"{stage['name']}_response_length.{form}" for form in FORMATS]
  for path in paths:
    curves.length_curve(path, *columns)
  return paths


def levels(stage: dict, folder: pathlib.Path) -> list[pathlib.Path]:
  """Held-out pass@1 by level of difficulty (v2 Figure 8)."""
  names = list(dict.fromkeys(level for point in stage["curve"] for level in point.get("per_level") or {}))
  if len(names) < 2:
    return []
  figure, axes = _figure(f"Accuracy by level, {stage['name']}", "policy updates", "held-out pass@1")
  steps = [point["step"] for point in stage["curve"]]
  for name, colour in zip(names, itertools.cycle(COLOURS)):
    values = [((point.get("per_level") or {}).get(name) or {}).get("pass@1") for point in stage["curve"]]
    axes.plot(steps, _filled(values), color=colour, marker="o", markersize=3, label=f"level {name}")
  _percent(axes)
  return _save(figure, axes, folder / f"{stage['name']}_levels")


def reward_against_oracle(stage: dict, stages: Sequence[dict], folder: pathlib.Path) -> list[pathlib.Path]:
  """The rewards of an RL stage under reward models, and held-out accuracy beside them (v2 Figure 6: reward hacking)."""
  judges = {s["name"] for s in stages if s["makes"] == "reward model"} & set(stage["takes"])
  rewards = [key for key in stage["metrics"] if key.startswith("reward/")]
  rule = {"accuracy", "format", "language", "total", "parsed", "check_failures", "check_timeouts"}
  learned = [key for key in rewards if not any(word in key for word in rule)]
  if stage["class"] != "RL" or not judges or not learned or len(stage["curve"]) < 2:
    return []
  figure, axes = _figure(f"Reward models against held-out accuracy, {stage['name']}", "policy updates", "reward")
  for key, colour in zip(learned, itertools.cycle(COLOURS[1:])):
    axes.plot(stage["metrics"]["step"], _filled(stage["metrics"][key]), color=colour, label=key.removeprefix("reward/"))
  other = axes.twinx()
  steps, values = [p["step"] for p in stage["curve"]], [p.get("pass@1") for p in stage["curve"]]
  other.plot(steps, _filled(values), color=COLOURS[0], marker="o", markersize=3, linestyle="--")
  other.set_ylabel("held-out pass@1 (dashed)", color=COLOURS[0])
  other.set_ylim(0, 1)
  other.yaxis.set_major_formatter(PercentFormatter(1))
  return _save(figure, axes, folder / f"{stage['name']}_reward_models")


def language(stages: Sequence[dict], folder: pathlib.Path) -> list[pathlib.Path]:
  """Mixed language over the updates of all RL stages: with the language reward (solid) and without (v2 Figure 7)."""
  key = "emergence/language_mixing"
  shown = [stage for stage in stages if len(stage["metrics"].get(key, ())) > 1]
  rewarded = [any("language" in name for name in stage["metrics"] if name.startswith("reward/")) for stage in shown]
  if len(set(rewarded)) < 2:
    return []
  figure, axes = _figure("Mixed language with and without its reward", "policy updates", "responses that mix languages")
  for stage, with_reward, colour in zip(shown, rewarded, itertools.cycle(COLOURS)):
    label = f"{stage['name']}{' (language reward)' if with_reward else ''}"
    style = "-" if with_reward else "--"
    axes.plot(stage["metrics"]["step"], _filled(stage["metrics"][key]), color=colour, linestyle=style, label=label)
  axes.set_ylim(bottom=0)
  axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
  return _save(figure, axes, folder / "language")


def suites(stages: Sequence[dict], folder: pathlib.Path) -> list[pathlib.Path]:
  """Every suite after every stage with its interval, a panel per suite (v2 Table 3)."""
  shown = [stage for stage in stages if stage["makes"] == "policy" and stage["figures"].get("suites")]
  names = list(dict.fromkeys(suite for stage in shown for suite in stage["figures"]["suites"]))
  names = [name for name in names if any(True for _ in _scores(shown, name))]
  if not names:
    return []
  rows, columns = -(-len(names) // 3), min(3, len(names))
  size = (4 * columns + 1, (0.24 * len(shown) + 0.9) * rows)
  figure = Figure(figsize=size, dpi=150, layout="constrained")
  FigureCanvasAgg(figure)
  panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
  for axes, name in itertools.zip_longest(panels, names):
    if name is None:
      axes.set_visible(False)
      continue
    for place, score, low, high in _scores(shown, name):
      axes.plot((low, high), (place, place), color=COLOURS[0], alpha=0.35, linewidth=3, solid_capstyle="round")
      axes.plot(score, place, color=COLOURS[0], marker="o", markersize=4)
    axes.set(title=name, xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5))
    axes.set_yticks(range(len(shown)), [stage["name"] for stage in shown])
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(labelbottom=True, left=False)
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
  figure.suptitle("Held-out scores after every stage, with 95% intervals")
  return _write(figure, folder / "stages")


def _scores(stages: Sequence[dict], suite: str) -> Iterator[tuple[int, float, float, float]]:
  """(place of the stage, score, low, high) where the suite was measured."""
  for place, stage in enumerate(stages):
    row = stage["figures"]["suites"].get(suite) or {}
    score = number(row.get("score"))
    if score is not None:
      yield place, score, *(row["interval"] if _is_pair(row.get("interval")) else (score, score))


def _is_pair(value) -> bool:
  return isinstance(value, list) and len(value) == 2 and None not in map(number, value)


def _filled(values: Sequence) -> np.ndarray:
  """As floats; NaN where there is no number."""
  return np.array([np.nan if number(value) is None else value for value in values], np.float64)


def _figure(title: str, x: str, y: str):
  figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots()
  axes.set(title=title, xlabel=x, ylabel=y)
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(alpha=0.25, linewidth=0.6)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  return figure, axes


def _percent(axes):
  axes.set_ylim(0, 1)
  axes.yaxis.set_major_formatter(PercentFormatter(1))


def _save(figure, axes, stem: pathlib.Path) -> list[pathlib.Path]:
  axes.legend(loc="best", frameon=False, fontsize="small")
  return _write(figure, stem)


def _write(figure, stem: pathlib.Path) -> list[pathlib.Path]:
  paths = [stem.with_name(f"{stem.name}.{form}") for form in FORMATS]
  for path in paths:
    curves.save(figure, path)
  return paths
