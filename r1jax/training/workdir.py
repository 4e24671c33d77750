"""The folder of a run: it belongs to one config, and every file in it appears whole or not at all."""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import tempfile
import types
from typing import Any

import numpy as np

from r1jax import processes

DEVICES = ("mesh", "actors")  # fields that say where an experiment runs, and not what it is
_MOST = 12  # differing fields that are named
_ABSENT = "(absent)"


def config_dict(experiment: Any) -> dict[str, Any]:
  """Nested plain types: a dataclass becomes its fields after `"class"`, a tuple a list.

  Raises:
    ValueError: a field holds something that has no such form.
  """
  return _plain(experiment, type(experiment).__name__)


def config_sha256(experiment: Any) -> str:
  """SHA-256 of the config as sorted JSON: equal where every field is but DEVICES."""
  fields = {name: value for name, value in config_dict(experiment).items() if name not in DEVICES}
  return hashlib.sha256(_json(fields, sort_keys=True).encode()).hexdigest()


def claim(workdir: str | os.PathLike, experiment: Any) -> pathlib.Path:
  """Makes `workdir` the folder of this experiment, or checks that it already is.

  A run may go on on other DEVICES. Only process 0 touches the disk.

  Returns:
    The folder.

  Raises:
    ValueError: it cannot be written, or it holds a run of another config; the differing fields are named.
  """
  folder = pathlib.Path(workdir)
  processes.by_first(lambda: _claim(folder, json.loads(_json(config_dict(experiment)))))
  return folder


def _claim(folder, ours):
  path = folder / "config.json"
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
    theirs = json.loads(path.read_text()) if path.exists() else None
    found = [field for field in differences(theirs or ours, ours) if not field.startswith(DEVICES)]
    if theirs != ours and not found:
      write_json(path, ours)
  except OSError as error:
    raise ValueError(f"--workdir={folder} cannot be written ({error.strerror}); choose another --workdir.") from error
  except ValueError as error:
    raise ValueError(f"{path} is not JSON ({error}); restore it, or choose another --workdir.") from error
  if found:
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    raise ValueError(
      f"--workdir={folder} holds a run of another config: {'; '.join(found[:_MOST])}{more} (theirs -> ours); choose "
      "another --workdir, or give the command that started it."
    )


def differences(theirs: Any, ours: Any, field: str = "") -> list[str]:
  """Every differing field of two `config_dict`s as `stages[1].steps: 100 -> 200`."""
  if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.get("class") == ours.get("class"):
    names = [*theirs, *(name for name in ours if name not in theirs)]
    pairs = [
      (f"{field}.{name}" if field else name, theirs.get(name, _ABSENT), ours.get(name, _ABSENT)) for name in names
    ]
  elif isinstance(theirs, list) and isinstance(ours, list):
    rows = enumerate(itertools.zip_longest(theirs, ours, fillvalue=_ABSENT))
    pairs = [(f"{field}[{i}]", a, b) for i, (a, b) in rows]
  elif _json(theirs) == _json(ours):
    return []
  else:
    return [f"{field}: {_short(theirs)} -> {_short(ours)}"]
  return [difference for name, a, b in pairs for difference in differences(a, b, name)]


def write_json(path: str | os.PathLike, obj: Any):
  """Writes indented JSON; a reader sees the old file or the new one, also after a kill or a full disk."""
  path = pathlib.Path(path)
  text = json.dumps(obj, indent=2, ensure_ascii=False) + "\n"
  aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with open(aside, "w", encoding="utf-8") as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    os.replace(aside, path)
  finally:
    aside.unlink(missing_ok=True)


def _plain(value, field):
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = {f.name: _plain(getattr(value, f.name), f"{field}.{f.name}") for f in dataclasses.fields(value)}
    return {"class": type(value).__name__, **fields}
  if isinstance(value, (list, tuple)):
    return [_plain(item, f"{field}[{i}]") for i, item in enumerate(value)]
  if isinstance(value, dict):
    return {str(name): _plain(item, f"{field}[{name!r}]") for name, item in value.items()}
  if isinstance(value, np.generic):
    value = value.item()
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  if isinstance(value, pathlib.PurePath):
    return str(value)
  if isinstance(value, types.FunctionType):
    return f"function {value.__qualname__}"
  raise ValueError(
    f"{field}={value!r} is a {type(value).__name__}; a config holds dataclasses, numbers, strings and functions."
  )


def _json(value, **options):
  return json.dumps(value, ensure_ascii=False, **options)


def _short(value):
  if isinstance(value, dict) and "class" in value:
    return value["class"]
  text = value if value == _ABSENT else _json(value)
  return text if len(text) <= 80 else text[:77] + "..."
