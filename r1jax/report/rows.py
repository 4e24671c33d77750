"""Reads what a run has written, whatever state it is in: a line that cannot be read is skipped and counted."""

from collections.abc import Callable, Iterator
import json
import math
import pathlib
from typing import Any


class Reader:
  """Reads files of one run and remembers what was wrong with them, one sentence each, in `notes`."""

  def __init__(self, workdir: pathlib.Path):
    self.workdir = workdir
    self.notes: list[str] = []
    self.skipped = 0  # lines, over all files

  def rows(self, path: pathlib.Path, sound: Callable[[dict], bool] = lambda row: True) -> Iterator[dict]:
    """The rows of a jsonl file one by one; none where there is no file.

    A line that is no JSON object, or not `sound`, is skipped and counted: a
    run that was killed leaves half a line behind.
    """
    if not path.is_file():
      return
    skipped = 0
    with path.open(encoding="utf-8", errors="replace") as file:
      for line in file:
        if not line.strip():
          continue
        row = parsed(line)
        if isinstance(row, dict) and sound(row):
          yield row
        else:
          skipped += 1
    if skipped:
      self.skipped += skipped
      lines, were = ("1 line", "was") if skipped == 1 else (f"{skipped} lines", "were")
      self.notes.append(f"{path.relative_to(self.workdir)}: {lines} could not be read and {were} skipped.")

  def json(self, path: pathlib.Path) -> dict | None:
    """A JSON object; None where there is no file, or (noted) where it is something else."""
    if not path.is_file():
      return None
    value = parsed(path.read_text(encoding="utf-8", errors="replace"))
    if isinstance(value, dict):
      return value
    self.notes.append(f"{path.relative_to(self.workdir)} is not a JSON object; it is left out.")
    return None


def parsed(text: str) -> Any:
  """The JSON value of a text; None where it is none."""
  try:
    return json.loads(text)
  except (ValueError, RecursionError):
    return None


def number(value: Any) -> float | int | None:
  """The value if it is a finite number (a bool is none), else None."""
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return None
  return value if math.isfinite(value) else None


def plain(value: Any) -> Any:
  """JSON values only: NaN and infinities, which JSON does not know, become null; long fractions are rounded."""
  if isinstance(value, dict):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  if isinstance(value, float):
    return float(f"{value:.5g}") if math.isfinite(value) else None
  return value
