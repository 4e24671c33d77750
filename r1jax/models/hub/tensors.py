"""The safetensors files of a published checkpoint, read and written a part of one tensor at a time.

A file is the length of its header (8 bytes, little-endian), the header (JSON:
name -> dtype, shape and the range of bytes behind the header) and the bytes.
Reading maps what is asked for and copies it; nothing is ever executed, which
pickled weights (.bin, .pt) would be.
"""

import json
import math
import pathlib
import struct
from typing import NamedTuple

import ml_dtypes
import numpy as np

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {
  "F32": np.dtype(np.float32),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "F16": np.dtype(np.float16),
  "F64": np.dtype(np.float64),
  "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
_MOST_HEADER = 100_000_000  # bytes; the format's own limit


class Stored(NamedTuple):
  """Where a tensor lies."""

  file: pathlib.Path
  offset: int  # bytes from the beginning of the file
  code: str  # the dtype as safetensors names it
  shape: tuple[int, ...]

  @property
  def dtype(self) -> np.dtype:
    return DTYPES[self.code]

  def read(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
    """A copy of a part of the first and the second axis; other parts are not read from the disk."""
    mapped = np.memmap(self.file, self.dtype, "r", self.offset, self.shape)
    return np.array(mapped[(rows, columns)[: mapped.ndim]])


def listing(folder: pathlib.Path) -> dict[str, Stored]:
  """Every tensor of a checkpoint's safetensors files, from their headers.

  Raises:
    ValueError: there are no such files, one of them is missing or damaged, or two hold the same tensor.
  """
  found = {}
  for file in _files(folder):
    for name, stored in _header(file).items():
      if name in found:
        raise ValueError(f"{file} and {found[name].file.name} both hold the tensor {name}; remove one of the files.")
      found[name] = stored
  return found


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  if (folder / INDEX).is_file():
    try:
      names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
      raise ValueError(f"{folder / INDEX} is no index of safetensors files ({error!r}); fetch it again.") from error
    strangers = [name for name in names if pathlib.PurePath(name).name != name]
    if strangers:
      raise ValueError(f"{folder / INDEX} names {strangers[0]!r}, which does not lie in the folder itself.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
      raise ValueError(
        f"{folder} lacks {len(missing)} of the {len(names)} files of its index, {missing[0]} first; fetch them."
      )
    return [folder / name for name in names]
  if (folder / SINGLE).is_file():
    return [folder / SINGLE]
  pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
  if pickled:
    raise ValueError(
      f"{folder} has pickled weights ({pickled[0]}) and no safetensors; unpickling can run any program, so they are "
      "not read: convert them to safetensors."
    )
  raise ValueError(f"{folder} has neither {SINGLE} nor {INDEX}; name the folder of a published checkpoint.")


def _header(file: pathlib.Path) -> dict[str, Stored]:
  size = file.stat().st_size
  try:
    with open(file, "rb") as opened:
      (length,) = struct.unpack("<Q", opened.read(8))
      if length > min(size - 8, _MOST_HEADER):
        raise ValueError(f"a header of {length} bytes in a file of {size}")
      header = json.loads(opened.read(length))
    header.pop("__metadata__", None)
    return {name: _stored(file, 8 + length, size, name, **entry) for name, entry in header.items()}
  except (ValueError, TypeError, AttributeError, struct.error) as error:
    raise ValueError(f"{file} is damaged or cut off ({error}); fetch it again.") from error


def _stored(file, start, size, name, *, dtype, shape, data_offsets) -> Stored:
  first, last = data_offsets
  if dtype in DTYPES and last - first != math.prod(shape) * DTYPES[dtype].itemsize:
    raise ValueError(f"{name} of shape {shape} in {last - first} bytes")
  if not 0 <= first <= last <= size - start:
    raise ValueError(f"{name} ends at byte {start + last} of {size}")
  return Stored(file, start + first, dtype, tuple(shape))


def write(file: pathlib.Path, plan: dict[str, tuple[np.dtype, tuple[int, ...]]], tensors):
  """Writes one file: `plan` gives dtype and shape of each tensor, `tensors` yields (name, array) in its order.

  One array is held at a time.
  """
  header, end = {"__metadata__": {"format": "pt"}}, 0
  for name, (dtype, shape) in plan.items():
    start, end = end, end + math.prod(shape) * dtype.itemsize
    header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)  # the arrays behind it stay aligned
  with open(file, "wb") as opened:
    opened.write(struct.pack("<Q", len(text)) + text)
    for (name, (dtype, shape)), (found, array) in zip(plan.items(), tensors, strict=True):
      assert (name, dtype, shape) == (found, array.dtype, array.shape), (name, found, array.dtype, array.shape)
      opened.write(np.ascontiguousarray(array).view(np.uint8).data)
