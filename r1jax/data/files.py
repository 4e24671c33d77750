"""Rows of files by index: JSON lines, plain or compressed, and parquet.

A table has

  len(table)       rows; blank lines are none
  table[i]         the row as a dict; ValueError (one sentence: file, line, what) where it cannot be read
  table.where(i)   "data/train.jsonl, line 17", for messages
  table.id(i)      "train.jsonl:17", for a row without an id of its own
  table.faults     sentences about files that are damaged as a whole; their readable rows are in the table
"""

import array
import bisect
from collections.abc import Callable, Iterator
import glob
import hashlib
import io
import itertools
import json
import logging
import os
import pathlib
import threading
from typing import Any
import zlib

EXTRA = "pip install r1jax[hub]"
MADE = "data.jsonl"  # what a stage that makes data leaves in its folder
CHUNK = 2**20  # bytes read at one time
PARQUET_CACHE = 2**29  # bytes of decoded row groups that a source keeps


def find(path: str) -> list[tuple[str, str]]:
  """(path, short name) of the files that a path or glob names, sorted; none is a ValueError."""
  pattern = os.path.expanduser(path)
  found = [pattern] if os.path.isfile(pattern) else sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
  if not found:
    raise ValueError(f"path={path!r} names no file (in {os.getcwd()}).")
  if len(found) == 1:
    return [(found[0], os.path.basename(found[0]))]
  folder = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in found])
  return [(file, os.path.relpath(os.path.abspath(file), folder)) for file in found]


def digest(path: str) -> str:
  """SHA-256 over the bytes of the files that a path or glob names."""
  total = hashlib.sha256()
  for file, _ in find(path):
    total.update(pathlib.Path(file).read_bytes())
  return total.hexdigest()


def open_tables(path: str) -> "Chain":
  """The rows of the files that a path or glob names: parquet where the name ends so, else JSON lines."""
  found = find(path)
  cache = RowGroups() if any(file.endswith(".parquet") for file, _ in found) else None
  table = lambda file, name: Parquet(file, name, cache) if file.endswith(".parquet") else JsonLines(file, name)
  return Chain([table(file, name) for file, name in found])


def made_by(stage: str, folder: pathlib.Path, remedy: str) -> bytes:
  """The content of a stage's data.jsonl; ValueError where it is not what stage.json says that it wrote."""
  content = (folder / MADE).read_bytes()
  wrote = json.loads((folder / "stage.json").read_text())["data_sha256"]
  if hashlib.sha256(content).hexdigest() != wrote:
    raise ValueError(
      f"{folder / MADE} is not what the stage {stage!r} wrote: stage.json has data_sha256={wrote[:12]}...; "
      f"restore it, or learn from a changed copy with {remedy}."
    )
  return content


class JsonLines:
  """The rows of a .jsonl file; a compressed one (.gz, .zst) is read whole, a plain one row by row."""

  def __init__(self, path: str, name: str):
    self.path, self.name, self.faults = path, name, []
    self._text = None  # of a compressed file
    suffix = pathlib.Path(path).suffix
    if suffix in (".gz", ".zst"):
      self._text = self._unpack(suffix)
      lines = io.BytesIO(self._text)
    else:
      lines = open(path, "rb")
    self._starts, self._sizes, self._lines = array.array("q"), array.array("q"), array.array("q")
    with lines:
      start = 0
      for number, line in enumerate(lines, 1):
        if line.strip():
          self._starts.append(start)
          self._sizes.append(len(line))
          self._lines.append(number)
        start += len(line)

  def _unpack(self, suffix: str) -> bytes:
    """The text of a compressed file; of a damaged one the whole lines before the damage."""
    new, error_type = (_gzip if suffix == ".gz" else _zstandard)()
    text = io.BytesIO()
    try:
      for piece in _decompress(self.path, new):
        text.write(piece)
    except (EOFError, error_type) as error:
      whole = text.getvalue()[: text.getvalue().rfind(b"\n") + 1]
      last = whole.count(b"\n")
      self.faults.append(f"{self.path}, after line {last}: the compressed stream is damaged ({error}); fetch it again.")
      return whole
    return text.getvalue()

  def __len__(self) -> int:
    return len(self._starts)

  def where(self, i: int) -> str:
    return f"{self.path}, line {self._lines[i]}"

  def id(self, i: int) -> str:
    return f"{self.name}:{self._lines[i]}"

  def _bytes(self, i: int) -> bytes:
    if self._text is not None:
      return self._text[self._starts[i] : self._starts[i] + self._sizes[i]]
    with open(self.path, "rb") as file:  # opened for each row: thousands of shards would exhaust the descriptors
      file.seek(self._starts[i])
      return file.read(self._sizes[i])

  def __getitem__(self, i: int) -> dict[str, Any]:
    try:
      row = json.loads(self._bytes(i).decode("utf-8-sig" if i == 0 else "utf-8"))
    except UnicodeDecodeError as error:
      raise ValueError(f"{self.where(i)}: byte {error.start + 1} of the line is not UTF-8; convert the file.") from None
    except json.JSONDecodeError as error:
      raise ValueError(f"{self.where(i)}: not JSON at column {error.colno}: {error.msg}.") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
      raise ValueError(f"{self.where(i)}: not readable JSON: {error}.") from None
    if not isinstance(row, dict):
      raise ValueError(f"{self.where(i)}: a row must be a JSON object, but is a {type(row).__name__}.")
    return row


def _gzip():
  return lambda: zlib.decompressobj(wbits=31), zlib.error


def _zstandard():
  try:
    import zstandard
  except ImportError:
    raise ValueError(f"reading .zst files needs the package zstandard: {EXTRA}") from None
  return lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError


def _decompress(path: str, new: Callable[[], Any]) -> Iterator[bytes]:
  """The pieces of a file of one or more frames; EOFError where the last one is cut."""
  decoder = new()
  with open(path, "rb") as file:
    while chunk := file.read(CHUNK):
      while chunk:
        if decoder.eof:
          decoder = new()
        yield decoder.decompress(chunk)
        chunk = decoder.unused_data.lstrip(b"\0") if decoder.eof else b""  # tapes pad with zeros
  if not decoder.eof:
    raise EOFError("it ends in the middle")


class Parquet:
  """The rows of a parquet file; row groups are decoded when a row of theirs is asked for."""

  def __init__(self, path: str, name: str, cache: "RowGroups"):
    self.path, self.name, self.faults, self._cache = path, name, [], cache
    with cache.file(path) as file:
      sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
      cache.announce(path, file.metadata)
    self._ends = list(itertools.accumulate(sizes))

  def __len__(self) -> int:
    return self._ends[-1] if self._ends else 0

  def where(self, i: int) -> str:
    return f"{self.path}, row {i + 1}"

  def id(self, i: int) -> str:
    return f"{self.name}:{i + 1}"

  def __getitem__(self, i: int) -> dict[str, Any]:
    group = bisect.bisect_right(self._ends, i)
    first = self._ends[group - 1] if group else 0
    return self._cache.read(self.path, group).slice(i - first, 1).to_pylist()[0]


class RowGroups:
  """Decoded row groups of a source's parquet files, the least recently used dropped beyond `limit` bytes."""

  def __init__(self, limit: int = PARQUET_CACHE):
    try:
      import pyarrow.parquet
    except ImportError:
      raise ValueError(f"reading parquet files needs the package pyarrow: {EXTRA}") from None
    self._pyarrow = pyarrow
    self.limit, self._held, self._bytes = limit, {}, 0
    self._lock = threading.Lock()
    self._announced = 0

  def file(self, path: str):
    try:
      return self._pyarrow.parquet.ParquetFile(path)
    except self._pyarrow.ArrowInvalid as error:
      raise ValueError(f"{path} is not a whole parquet file ({error}); fetch it again.") from None

  def announce(self, path: str, metadata):
    """Warns, once, where shuffled reading would decode a row group for almost every row."""
    before = self._announced
    self._announced += sum(metadata.row_group(g).total_byte_size for g in range(metadata.num_row_groups))
    if before <= self.limit < self._announced:
      logging.getLogger(__name__).warning(
        "%s: with this file more than %d MiB of parquet are to be read in random order, which decodes a whole row "
        "group for most rows; write the files as jsonl or with small row groups (row_group_size=1000).",
        path,
        self.limit // 2**20,
      )

  def read(self, path: str, group: int):
    """A row group as a pyarrow Table."""
    with self._lock:
      table = self._held.pop((path, group), None)
      if table is None:
        table = self._decode(path, group)
        self._bytes += table.nbytes
      self._held[path, group] = table  # last: the most recently used
      while self._bytes > self.limit and len(self._held) > 1:
        self._bytes -= self._held.pop(next(iter(self._held))).nbytes
      return table

  def _decode(self, path, group):
    try:
      with self.file(path) as file:
        return file.read_row_group(group)
    except (self._pyarrow.ArrowException, OSError) as error:
      raise ValueError(f"{path}: row group {group + 1} cannot be decoded ({error}); fetch the file again.") from None


class Chain:
  """Several tables, one after another."""

  def __init__(self, tables: list):
    self._tables = tables
    self._ends = list(itertools.accumulate(map(len, tables)))
    self.faults = [fault for table in tables for fault in table.faults]

  def __len__(self) -> int:
    return self._ends[-1]

  def _at(self, i: int):
    table = bisect.bisect_right(self._ends, i)
    return self._tables[table], i - (self._ends[table - 1] if table else 0)

  def where(self, i: int) -> str:
    table, row = self._at(i)
    return table.where(row)

  def id(self, i: int) -> str:
    table, row = self._at(i)
    return table.id(row)

  def __getitem__(self, i: int) -> dict[str, Any]:
    table, row = self._at(i)
    return table[row]
