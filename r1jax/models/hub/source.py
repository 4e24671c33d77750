"""Where a published model lies: a local folder, or the hub's cache of it."""

import hashlib
import os
import pathlib

_WANTED = ("*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt", "tokenizer*")
_NOT_WANTED = ("original/*", "consolidated*", "onnx/*", "*.bin", "*.pt", "*.pth", "*.gguf")
_ENDS = 65_536  # bytes at either end of a file
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "tekken.json")


def resolve(folder_or_id: str | os.PathLike, revision: str | None = None, weights: bool = True) -> pathlib.Path:
  """The local folder of a model: itself, or the hub's snapshot of "owner/name", downloaded where it is not cached.

  An interrupted download goes on where it stopped. With HF_HUB_OFFLINE=1 only the cache is looked at.

  Args:
    revision: branch, tag or commit; the same commit is the same model for good.
    weights: whether the weights are wanted, too, which are large.

  Raises:
    ValueError: no such folder, no such model or revision, or no way to reach it.
  """
  folder = pathlib.Path(folder_or_id).expanduser()
  if folder.is_dir():
    if revision is not None:
      raise ValueError(f"revision={revision!r} names a version of a model of the hub, but {folder} is a folder.")
    return folder
  name = os.fspath(folder_or_id)
  if name.startswith((".", "/", "~")) or name.count("/") != 1:
    raise ValueError(f"there is no folder {name}; name one, or a model of the hub as owner/name.")
  import huggingface_hub
  from huggingface_hub import errors

  unwanted = [*_NOT_WANTED, *(() if weights else ("*.safetensors",))]
  try:
    return pathlib.Path(
      huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=list(_WANTED), ignore_patterns=unwanted)
    )
  except errors.HFValidationError as error:
    raise ValueError(f"{name!r} is no model of the hub: {error}") from error
  except errors.LocalEntryNotFoundError as error:
    raise ValueError(
      f"{name} is not in the cache of the hub and cannot be fetched (offline, or HF_HUB_OFFLINE is set); fetch it with "
      f"a connection first, or name a folder."
    ) from error
  except errors.HfHubHTTPError as error:
    at = f" at revision {revision}" if revision else ""
    raise ValueError(f"{name}{at} cannot be fetched from the hub: {error}") from error


def commit(folder: pathlib.Path) -> str:
  """The commit of a snapshot in the hub's cache; "" of a folder that is none."""
  folder = folder.absolute()
  return folder.name if folder.parent.name == "snapshots" else ""


def fingerprint(folder: pathlib.Path) -> str:
  """SHA-256 over the names and sizes of a checkpoint's files and the first and last bytes of each."""
  total = hashlib.sha256()
  for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
    with open(path, "rb") as file:
      size = file.seek(0, 2)
      total.update(f"{path.name} {size}\n".encode())
      for start in (0, max(size - _ENDS, 0)):
        file.seek(start)
        total.update(file.read(_ENDS))
  return total.hexdigest()


def has_tokenizer(folder: pathlib.Path) -> bool:
  """Whether there is a tokenizer of any kind, also one that cannot be read."""
  return any((folder / name).is_file() for name in _TOKENIZER)
