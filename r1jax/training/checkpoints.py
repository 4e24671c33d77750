"""Checkpoints of a stage: asynchronous, written by every host, readable after a kill at any moment.

A checkpoint appears under its step number only once all of it is on disk, so
an interrupted save leaves the earlier ones as they were. It holds the state
(arrays, as sharded) and `extras` (JSON: what the data iterator needs to go on).
"""

import contextlib
import hashlib
import json
import logging
import shutil
import sys
import time
import traceback
from typing import Any
import warnings

from absl import logging as absl_logging
from etils import epath
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from r1jax import processes

AT_ONCE = 2**30  # bytes of an array spread over processes that every chip holds at one time while it is hashed
_SIZES = "file_sizes.json"  # what a complete checkpoint consists of, to notice a missing or cut file before reading

# A status code of tensorstore becomes a ValueError, RuntimeError or KeyError, and orbax wraps some in a bare
# Exception. Each is raised again as one sentence with its reason.
_FAILURES = Exception


class _RaisedAnyway(logging.Filter):
  """Drops what is logged of errors that orbax also raises: the user reads one sentence instead.

  That of a write that nobody waited for has no traceback at all: it comes from
  tensorstore's own threads, and asyncio logs it when the future is collected.
  """

  def filter(self, record):
    if not record.exc_info:
      return True
    files = [frame.filename for frame in traceback.extract_tb(record.exc_info[2])]
    return bool(files) and not any("orbax" in file for file in (record.pathname, *files))


class _WritesLeftBehind:
  """The hook for what nobody can catch, less the writes that end after the first one of their save has failed."""

  def __init__(self):
    self.before = sys.unraisablehook

  def __call__(self, unraisable):
    if unraisable.object is not None or str(unraisable.exc_value) != "Event loop is closed":
      self.before(unraisable)


def _tell_failures_once():
  """A failed save is one error, and not a traceback for each of its arrays as well."""
  for logger in (absl_logging.get_absl_logger(), logging.getLogger("asyncio")):
    if not any(isinstance(f, _RaisedAnyway) for f in logger.filters):
      logger.addFilter(_RaisedAnyway())
  if not isinstance(sys.unraisablehook, _WritesLeftBehind):
    sys.unraisablehook = _WritesLeftBehind()


class Checkpoints:
  """The checkpoints of one stage in one folder.

  Every process calls every method, in the same order.

  Args:
    folder: created when missing; absolute, relative or a bucket.
    every: steps between saves.
    keep: checkpoints kept; older ones are deleted after a newer one is complete.
  """

  def __init__(self, folder, every: int, keep: int):
    if every < 1 or keep < 1:
      raise ValueError(f"checkpoints.every={every} and checkpoints.keep={keep} must both be at least 1.")
    self.folder = epath.Path(folder).resolve()
    self.every = every
    _tell_failures_once()
    self._writing: int | None = None  # the step of the save whose success is not known yet
    try:
      self._manager = ocp.CheckpointManager(
        self.folder,
        options=ocp.CheckpointManagerOptions(preservation_policy=ocp.checkpoint_managers.LatestN(keep)),
      )
      # It would ask of SIGTERM by the step, and processes.Stop, which counts its questions, never hear the answer.
      self._manager.reached_preemption = lambda step: False
      self._remove_leftovers()
    except OSError as error:
      raise OSError(
        f"the checkpoint folder {self.folder} cannot be used: {error}; choose another --workdir."
      ) from error

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if kind is None:
      self.close()
    elif jax.process_count() == 1:  # with others it would wait for processes that may never come
      with contextlib.suppress(OSError):  # the error under way is the one to tell
        self.close()

  def steps(self) -> list[int]:
    """The steps that can be restored, ascending."""
    return sorted(self._manager.all_steps())

  def due(self, step: int, total: int) -> bool:
    """Whether `save_if_due` will save after `step` updates of `total`."""
    return step % self.every == 0 or step == total

  def save_if_due(self, step: int, total: int, state: Any, extras: dict[str, Any], now: bool = False) -> bool:
    """Saves after `step` updates when `step` is a multiple of `every` or is `total`, or is to be saved `now`.

    Blocks while the arrays are copied to the host; the disk is written in the
    background, so the state may be donated to the next update.

    Args:
      step: updates done.
      total: updates of the whole stage.
      state: a tree of arrays, possibly sharded over processes.
      extras: plain JSON values of this process, restored to this process.
      now: whether to save whatever the step is, and to return when that is complete on disk.

    Returns:
      Whether a save was started.

    Raises:
      OSError: this save or the one before could not be written; checkpoints before it are intact.
    """
    if self._writing is not None and not self._manager.is_saving_in_progress():
      self.wait()  # returns at once; a failure is told within a step, not at the next save
    if not now and not self.due(step, total):
      return False
    self.wait()
    if step in self._manager.all_steps():
      return False
    items = ocp.args.Composite(
      state=ocp.args.PyTreeSave(state), extras=ocp.args.JsonSave({"processes": processes.gather(extras)})
    )
    self._writing = step
    try:
      self._manager.save(step, args=items, force=True)
    except _FAILURES as error:
      if processes.lost(error):
        raise
      raise self._failed(error) from error
    if now:
      self.wait()
    return True

  def wait(self):
    """Returns when the save that is under way, if any, is complete on disk; raises OSError if it failed."""
    if self._writing is None:
      return
    try:
      self._manager.wait_until_finished()
      if jax.process_index() == 0:
        folder = self.folder / str(self._writing)
        aside = folder / f"{_SIZES}.tmp"
        aside.write_text(json.dumps(_file_sizes(folder)))
        aside.rename(folder / _SIZES)
    except _FAILURES as error:
      if processes.lost(error):
        raise
      raise self._failed(error) from error
    self._writing = None

  def close(self):
    try:
      self.wait()
    finally:
      self._manager.close()

  def restore_latest(self, abstract_state: Any) -> tuple[int, Any, dict[str, Any]] | None:
    """The newest checkpoint that can be read.

    A damaged one is named in a warning, renamed to `damaged-<step>`, and the one before is used.

    Args:
      abstract_state: a tree of jax.ShapeDtypeStruct with shardings, shaped like the state that was saved; what was
        saved beside it is not read.

    Returns:
      (updates done, state, extras), or None where nothing was saved yet.

    Raises:
      ValueError: there are checkpoints, and none can be read.
    """
    damaged = {}
    for step in reversed(self.steps()):
      restored, error = self._try_restore(step, abstract_state)
      if error is None:
        self._set_aside(damaged, step)
        return step, *restored
      damaged[step] = error
    if damaged:
      reasons = "; ".join(f"step {step}: {error}" for step, error in damaged.items())
      raise ValueError(
        f"no checkpoint in {self.folder} can be read into this state ({reasons}); remove the folder to start this "
        "stage again, or choose another --workdir."
      )
    return None

  def restore_params(self, abstract_params: Any, *, step: int | None = None, name: str = "params") -> Any:
    """Only the subtree `name` of a saved state: where the next stage starts from. Nothing else is read.

    Raises:
      ValueError: there is no such checkpoint, or it does not hold these parameters.
    """
    steps = self.steps()
    if not steps or (step is not None and step not in steps):
      wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
      raise ValueError(f"{self.folder} holds {wanted} (it has {steps}); run the stage that writes it first.")
    step = steps[-1] if step is None else step
    item = {name: abstract_params}
    arguments = ocp.checkpoint_utils.construct_restore_args(item)
    wanted = ocp.args.PyTreeRestore(item, restore_args=arguments, partial_restore=True)
    try:
      saved = ocp.PyTreeCheckpointHandler().metadata(self.folder / str(step) / "state").tree
      params = self._manager.restore(step, args=ocp.args.Composite(state=wanted)).state[name]
      # A partial restore skips what it was not asked for and leaves what it does not find abstract.
      counts = len(jax.tree.leaves(saved[name])), sum(isinstance(p, jax.Array) for p in jax.tree.leaves(params))
      if counts != (len(jax.tree.leaves(abstract_params)),) * 2:
        raise ValueError(f"it holds {counts[0]} arrays, of which {counts[1]} are among those of the model")
    except _FAILURES as error:
      raise ValueError(
        f"{self.folder}: the checkpoint of step {step} gives no {name!r} of this model: {_first_line(error)}; it is "
        "damaged or was written by another model config."
      ) from error
    return params

  def _try_restore(self, step, abstract_state):
    """((state, extras), None), or (None, reason); all processes agree on which."""
    restored, error = None, _damage(self.folder / str(step))
    arguments = ocp.checkpoint_utils.construct_restore_args(abstract_state)
    items = ocp.args.Composite(
      state=ocp.args.PyTreeRestore(abstract_state, restore_args=arguments, partial_restore=True),
      extras=ocp.args.JsonRestore(),
    )
    if error is None:
      try:
        found = self._manager.restore(step, args=items)
        # A partial restore leaves what it does not find abstract.
        if missing := sum(not isinstance(x, jax.Array) for x in jax.tree.leaves(found.state)):
          raise ValueError(f"it holds all arrays but {missing}")
        restored = found.state, _of_this_process(found.extras["processes"])
      except _FAILURES as failure:
        error = _first_line(failure)
    failed = [process for process, theirs in enumerate(processes.gather(error)) if theirs is not None]
    if failed and error is None:
      restored, error = None, f"process {failed[0]} could not read it"
    return restored, error

  def _set_aside(self, damaged, used):
    for step, error in damaged.items():
      warnings.warn(
        f"the checkpoint of step {step} in {self.folder} is damaged ({error}) and was renamed to damaged-{step}; "
        f"going on from step {used}.",
        stacklevel=3,
      )
      if jax.process_index() == 0:
        aside = self.folder / f"damaged-{step}"
        if aside.exists():
          aside.rmtree()
        (self.folder / str(step)).rename(aside)
    if damaged:
      processes.wait("damaged checkpoints are set aside")
      self._manager.reload()

  def _remove_leftovers(self):
    """Removes what a killed or failed save left behind; writes that were still under way may need a second look."""
    if jax.process_index() != 0:
      return
    for _ in range(30):
      leftovers = list(self.folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"))
      if not leftovers:
        return
      for path in leftovers:
        with contextlib.suppress(OSError):  # not empty: a file appeared meanwhile
          path.rmtree(missing_ok=True)
      time.sleep(0.1)

  def _failed(self, error):
    """The OSError for a save that failed, after its leftovers are removed."""
    step, self._writing = self._writing, None
    free = _free(self.folder)
    self._remove_leftovers()
    self._manager.reload()
    steps = self.steps()
    return OSError(
      f"the checkpoint of step {step} could not be written to {self.folder}{free}: {_why_unwritten(error)}; "
      + (f"that of step {steps[-1]} is intact" if steps else "there is none before it")
      + "; mend that, and the same command goes on."
    )


def params_sha256(params: Any) -> str:
  """SHA-256 over sorted tree paths, dtypes, shapes and bytes: equal exactly where the parameters are.

  Independent of the sharding. One leaf at a time is gathered to the host, of many processes a piece of it; every
  process must call it.
  """
  digest = hashlib.sha256()
  leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
  for path in sorted(leaves):
    leaf = leaves[path]
    digest.update(f"{path} {leaf.dtype} {np.shape(leaf)}\n".encode())
    for piece in _on_host(leaf):
      digest.update(np.ascontiguousarray(piece).reshape(-1).view(np.uint8))
  return digest.hexdigest()


def _on_host(leaf):
  """An array as numpy: whole; in pieces where it is spread over processes, for no chip or host may hold all of it."""
  if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
    return [jax.device_get(leaf)]
  return (multihost_utils.process_allgather(piece, tiled=True) for piece in _pieces(leaf))


def _pieces(leaf):
  """An array in the order of its bytes, by layers, experts, ... while more than AT_ONCE; a matrix is left whole."""
  if leaf.ndim < 3 or leaf.nbytes <= AT_ONCE:
    yield leaf
  else:
    for i in range(len(leaf)):
      yield from _pieces(_at(leaf, i))


@jax.jit
def _at(leaf, i):
  """leaf[i], bit for bit, though the first axis may be split: every chip adds what it has of it, or zeros."""
  bits = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}")
  here = jax.lax.broadcasted_iota(np.int32, (len(leaf), *(1,) * (leaf.ndim - 1)), 0) == i
  found = jnp.sum(jnp.where(here, bits, 0), axis=0, dtype=np.uint32).astype(bits.dtype)
  return jax.lax.bitcast_convert_type(found, leaf.dtype)


def _of_this_process(extras):
  if len(extras) == jax.process_count():
    return extras[jax.process_index()]
  if all(e == extras[0] for e in extras):
    return extras[0]
  raise ValueError(
    f"it was saved by {len(extras)} processes whose data differ and cannot be continued by {jax.process_count()}"
  )


def _file_sizes(folder):
  """Bytes of every file under a step's folder, by relative path."""
  files = {str((where / name).relative_to(folder)): where / name for where, _, names in folder.walk() for name in names}
  return {name: file.stat().length for name, file in sorted(files.items()) if not name.startswith(_SIZES)}


def _damage(folder):
  """What is wrong with the files of a step, or None; a save that was killed just after its end has no list of them."""
  if not (folder / _SIZES).exists():
    return None
  try:
    expected = json.loads((folder / _SIZES).read_text())
  except ValueError:
    return f"{_SIZES} is cut"
  found = _file_sizes(folder)
  for name, size in expected.items():
    if name not in found:
      return f"{name} is missing"
    if found[name] != size:
      return f"{name} has {found[name]} bytes instead of {size}"
  return None


def _first_line(error):
  """The first line of the innermost cause."""
  while error.__cause__ is not None:
    error = error.__cause__
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:300].rstrip(" .")


def _why_unwritten(error):
  """The reason of a failed write in a few words: tensorstore's names every file on the way."""
  text = _first_line(error)
  if any(sign in text for sign in ("RESOURCE_EXHAUSTED", "No space left", "Disk quota")):
    return "the disk is full"
  return text if len(text) <= 120 else f"{text[:60]} ... {text[-60:]}"


def _free(folder):
  """Free space in words; buckets have none to speak of."""
  if "://" in str(folder):
    return ""
  return f" ({shutil.disk_usage(folder).free / 2**20:.1f} MiB free)"
