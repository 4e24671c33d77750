"""The learning curves of an R1-Zero run as PNG or SVG: counterparts of DeepSeek-R1 (v1) Figures 2 and 3."""

from collections.abc import Sequence
import os
import pathlib

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
import numpy as np

_BLUE, _RED, _GREY = "#2a5db0", "#c0392b", "#8a8a8a"
_SMOOTH = 20  # steps of the running mean over the noisy per-step numbers


def accuracy_curve(
  path: str | os.PathLike,
  steps: Sequence[int],
  pass1: Sequence[float],
  intervals: Sequence[Sequence[float]],
  majority: Sequence[float],
  majority_k: int,
):
  """Held-out accuracy over the updates: pass@1 with its 95% band, and the majority vote (Figure 2).

  Args:
    path: of the PNG or SVG.
    steps: int[n], updates done.
    pass1: float[n], shares.
    intervals: float[n, 2], low and high of pass@1.
    majority: float[n], shares.
    majority_k: votes.
  """
  low, high = np.asarray(intervals, np.float64).reshape(-1, 2).T
  figure, (axes,) = _figure(1)
  axes.fill_between(steps, low, high, color=_BLUE, alpha=0.15, linewidth=0, label="95% interval")
  axes.plot(steps, pass1, color=_BLUE, marker="o", markersize=3.5, label="pass@1")
  axes.plot(steps, majority, color=_RED, marker="s", markersize=3.5, linestyle="--", label=f"majority@{majority_k}")
  axes.set(ylabel="held-out accuracy", xlabel="policy updates", ylim=(0, 1), title="Accuracy during training")
  axes.yaxis.set_major_formatter(PercentFormatter(1))
  axes.legend(loc="lower right", frameon=False)
  save(figure, path)


def length_curve(
  path: str | os.PathLike, steps: Sequence[int], mean_length: Sequence[float], reflection_rate: Sequence[float]
):
  """Mean response length on the training problems over the updates (Figure 3), and the share that reflects below.

  Args:
    path: of the PNG or SVG.
    steps: int[n], updates done.
    mean_length: float[n], tokens.
    reflection_rate: float[n], share of responses with a reflective word.
  """
  figure, (above, below) = _figure(2)
  for axes, values, colour in ((above, mean_length, _BLUE), (below, reflection_rate, _RED)):
    axes.plot(steps, values, color=_GREY, alpha=0.5, linewidth=0.8, label="each step")
    axes.plot(steps, _smooth(values), color=colour, label=f"mean over {_SMOOTH} steps")
    axes.set_ylim(bottom=0)
  above.set(ylabel="tokens per response", title="Response length during training")
  below.set(ylabel="responses with a\nreflective word", xlabel="policy updates")
  below.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
  above.legend(loc="lower right", frameon=False)
  save(figure, path)


def _figure(panels):
  """A figure that lives outside pyplot's global state, its panels sharing the horizontal axis."""
  figure = Figure(figsize=(7, 4 if panels == 1 else 6), dpi=150, layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[3, 2][:panels])[:, 0]
  for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
  return figure, axes


def _smooth(values):
  """Mean of the _SMOOTH values around each one, fewer at the ends; gaps (nan) are left out."""
  values, half = np.asarray(values, np.float64), _SMOOTH // 2
  windows = [values[max(0, i - half) : i + half] for i in range(len(values))]
  return [w[np.isfinite(w)].mean() if np.isfinite(w).any() else np.nan for w in windows]


def save(figure: Figure, path: str | os.PathLike):
  """Writes a figure as what the path ends with: .png, .svg; a reader sees the old file or the new one."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  aside = path.with_name(f".{path.name}.tmp")
  figure.savefig(aside, format=path.suffix[1:])
  os.replace(aside, path)
