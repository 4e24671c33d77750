"""Accuracy over prompts and calibration in tenths, against sums by hand."""

import numpy as np
import pytest

from r1jax.report import calibration, statistics


def test_every_prompt_counts_once_however_many_rows_it_has():
  found = calibration.accuracy(["a", "b", "a", "a"], np.array([1, 0, 1, 0.5]))
  assert found["accuracy"] == pytest.approx((2.5 / 3 + 0) / 2) and found["prompts"] == 2
  low, high = found["accuracy_interval"]
  assert low <= found["accuracy"] <= high


def test_the_interval_is_that_of_as_many_problems():
  right = np.random.default_rng(0).random(50) < 0.8
  found = calibration.accuracy([str(i) for i in range(50)], right)
  assert found["accuracy"] == right.mean()
  assert found["accuracy_interval"] == list(statistics.interval(right[:, None]))


def test_bins_hold_means_and_the_error_weighs_them_by_their_rows():
  predicted, observed = [0.02, 0.08, 0.55, 1.0], [0, 1, 1, 1]
  found = calibration.calibration(np.array(predicted), np.array(observed))
  rows = {row["from"]: row for row in found["calibration"]}
  assert len(rows) == 10 and sum(row["count"] for row in rows.values()) == 4
  assert rows[0.0] == {"from": 0.0, "to": 0.1, "predicted": pytest.approx(0.05), "observed": 0.5, "count": 2}
  assert rows[0.9]["predicted"] == rows[0.9]["observed"] == 1.0
  assert rows[0.3] == {"from": 0.3, "to": 0.4, "predicted": None, "observed": None, "count": 0}
  assert found["expected_calibration_error"] == pytest.approx((2 * 0.45 + 1 * 0.45 + 0) / 4)
