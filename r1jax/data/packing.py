"""Best-fit packing of sequences into fixed-length rows (DeepSeek-R1 v2 B.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Placing(NamedTuple):
  row: np.ndarray  # int[n], the row of each sequence
  offset: np.ndarray  # int[n], where in the row it starts
  rows: int  # rows used


def pack(lengths: Sequence[int], row_length: int) -> Placing:
  """Places every sequence, longest first, in the fullest row that still holds it.

  A sequence longer than a row is a ValueError: cutting it is the caller's decision.
  """
  lengths = np.asarray(lengths, int)
  row, offset = np.zeros(len(lengths), int), np.zeros(len(lengths), int)
  if len(lengths) and lengths.max() > row_length:
    raise ValueError(f"a sequence of {lengths.max()} tokens does not fit into a row of {row_length}; raise row_length.")
  open_rows = [[] for _ in range(row_length + 1)]  # rows by free space
  rows = 0
  for i in np.argsort(-lengths, kind="stable"):
    size = lengths[i]
    free = next((s for s in range(size, row_length + 1) if open_rows[s]), None)
    if free is None:
      row[i], offset[i], free = rows, 0, row_length
      rows += 1
    else:
      row[i], offset[i] = open_rows[free].pop(), row_length - free
    open_rows[free - size].append(row[i])
  return Placing(row, offset, rows)


def lay_out(sequences, placing: Placing, rows: int, row_length: int, fields=(), *, count: int = 0):
  """Writes packed sequences into arrays of `rows` rows.

  Returns tokens, positions, segments (int32[rows, row_length]) and a list of
  float32 arrays, one for each of the `count` per-token fields: `fields` holds a
  float[count, length] for every sequence, of which there may be none.
  """
  tokens, positions, segments = np.zeros((3, rows, row_length), np.int32)
  laid = [np.zeros((rows, row_length), np.float32) for _ in range(count)]
  seen = np.zeros(rows, np.int32)
  for i, sequence in enumerate(sequences):
    row, start = placing.row[i], placing.offset[i]
    where = slice(start, start + len(sequence))
    seen[row] += 1
    tokens[row, where] = sequence
    positions[row, where] = np.arange(len(sequence))
    segments[row, where] = seen[row]
    for array, values in zip(laid, fields[i] if count else ()):
      array[row, where] = values
  return tokens, positions, segments, laid


def lay_beside(values, placing: Placing, laid):
  """Writes values [n, ...] of each sequence's first n tokens to their place in laid[rows, row_length, ...]."""
  for array, row, start in zip(values, placing.row, placing.offset):
    laid[row, start : start + len(array)] = array
  return laid
