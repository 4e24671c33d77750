"""What tells a user's mistake, which is told in one sentence, from a bug of ours, which keeps its traceback.

Who raised the error: every `raise` of a ValueError, RuntimeError or OSError in
r1jax is a sentence written for the user, while the same classes coming out of
jax or numpy are bugs.
"""

import errno
import pathlib
import traceback

PACKAGE = pathlib.Path(__file__).parent

# Errors of the machine, whoever raises them: no space, no permission, a broken disk.
ENVIRONMENT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE)


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
