"""What tells a user's mistake, which is told in one sentence, from a bug of ours, which keeps its traceback.

Who raised the error: every `raise` of a ValueError, RuntimeError or OSError in
r1jax is a sentence written for the user, while the same classes coming out of
jax or numpy are bugs.
"""

from collections.abc import Callable
import errno
import pathlib
import signal
import sys
import traceback

STOPPED = 128 + signal.SIGTERM  # exit code of a run that was asked to end, as a shell's
PACKAGE = pathlib.Path(__file__).parent

# Errors of the machine, whoever raises them: no space, no permission, a broken disk.
ENVIRONMENT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE)


class Stopped(Exception):
  """The run has saved and ends, because it was asked to."""


def sentence(error: Exception) -> str | None:
  """The sentence an error holds for the user, or None where it is a bug."""
  last = traceback.extract_tb(error.__traceback__)[-1]
  ours = PACKAGE in pathlib.Path(last.filename).parents
  if ours and (last.line or "").startswith("raise "):
    return str(error)
  if isinstance(error, OSError) and error.errno in ENVIRONMENT:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror}{where}; mend that, and the same command goes on from the last checkpoint."
  return None


def told(program: str, run: Callable[[], int | None]) -> int | None:
  """What `run` returns; a user's mistake is told as one sentence of `program` on stderr, and is a 2."""
  try:
    return run()
  except Stopped as stopped:
    print(f"{program}: {stopped}", file=sys.stderr)
    return STOPPED
  except (ValueError, RuntimeError, OSError) as error:
    text = sentence(error)
    if text is None:
      raise
    print(f"{program}: {text}", file=sys.stderr)
    return 2
