"""How far a reward model can be trusted: accuracy with its interval, and predicted against observed."""

from collections.abc import Sequence

import numpy as np

from r1jax.report import statistics

BINS = 10


def accuracy(ids: Sequence[str], right: np.ndarray) -> dict:
  """`accuracy` and `accuracy_interval` (95%) over prompts: rows of one prompt depend on each other and count as one.

  Args:
    ids: n, the prompt of each row.
    right: float[n], 0 to 1; half where a pair got two equal scores.
  """
  places = {}
  for i, id in enumerate(ids):
    places.setdefault(id, []).append(i)
  marks = np.full((len(places), max(map(len, places.values()))), np.nan)
  for row, rows in zip(marks, places.values()):
    row[: len(rows)] = np.asarray(right, float)[rows]
  return {
    "accuracy": float(np.nanmean(marks, axis=1).mean()),
    "accuracy_interval": list(statistics.interval(marks)),
    "prompts": len(places),
  }


def calibration(predicted: np.ndarray, observed: np.ndarray) -> dict:
  """`calibration`, a row per tenth of the predicted probability, and the `expected_calibration_error`.

  The error is the mean distance of the two over all rows (Guo et al. 2017).

  Args:
    predicted: float[n] in [0, 1].
    observed: float[n], 0 or 1.
  """
  predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
  places = np.minimum((predicted * BINS).astype(int), BINS - 1)
  rows, error = [], 0.0
  for i in range(BINS):
    here = places == i
    count = int(here.sum())
    mean = lambda x, here=here, count=count: float(x[here].mean()) if count else None
    row = {"from": i / BINS, "to": (i + 1) / BINS, "predicted": mean(predicted), "observed": mean(observed)}
    rows.append(row | {"count": count})
    if count:
      error += count / len(predicted) * abs(row["predicted"] - row["observed"])
  return {"calibration": rows, "expected_calibration_error": error}
