"""The pictures hold the numbers they were given; the table prints every measurement."""

import struct

from matplotlib.figure import Figure
import numpy as np
import pytest

from r1jax.report import curves


@pytest.fixture
def drawn(monkeypatch):
  figures = []
  save = Figure.savefig
  monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self) or save(self, *a, **k))
  return figures


def png_size(path):
  head = path.read_bytes()[:24]
  assert head[:8] == b"\x89PNG\r\n\x1a\n"
  return struct.unpack(">II", head[16:24])


def test_the_accuracy_curve_shows_both_lines_and_the_band(tmp_path, drawn):
  steps, pass1, majority = [0, 20, 40], [0.15, 0.4, 0.7], [0.2, 0.5, 0.85]
  path = tmp_path / "new" / "accuracy.png"
  curves.accuracy_curve(path, steps, pass1, [[0.1, 0.2], [0.35, 0.45], [0.65, 0.75]], majority, 16)
  assert png_size(path) == (1050, 600)
  (axes,) = drawn[0].axes
  lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
  assert lines == {"pass@1": pass1, "majority@16": majority}
  band = axes.collections[0].get_paths()[0].vertices[:, 1]
  assert band.min() == 0.1 and band.max() == 0.75
  assert axes.get_xlabel() == "policy updates" and axes.get_ylabel() == "held-out accuracy"


def test_the_length_curve_shows_each_step_and_the_running_mean(tmp_path, drawn):
  steps = np.arange(50)
  lengths = np.where(steps == 10, np.nan, 20.0 + steps)
  curves.length_curve(tmp_path / "length.png", steps, lengths, steps / 100)
  assert png_size(tmp_path / "length.png") == (1050, 900)
  above, below = drawn[0].axes
  raw, smooth = (line.get_ydata() for line in above.lines)
  np.testing.assert_array_equal(raw, lengths)
  for i in (0, 5, 12, 49):
    assert smooth[i] == pytest.approx(np.nanmean(lengths[max(0, i - 10) : i + 10]))
  np.testing.assert_array_equal(below.lines[0].get_ydata(), steps / 100)
  assert above.get_ylabel() == "tokens per response" and below.get_xlabel() == "policy updates"


def test_one_point_is_enough(tmp_path):
  curves.accuracy_curve(tmp_path / "a.png", [0], [0.1], [[0, 0.2]], [0.1], 4)
  curves.length_curve(tmp_path / "l.png", [0], [10], [0])
  assert len(list(tmp_path.iterdir())) == 2
