"""Several processes that run one program, on their devices and the others': how they join, talk, stop and end.

Each runs the same command and comes through the same calls in the same order;
jax's own service tells them of each other, of a death and of a preemption.
"""

from collections.abc import Callable, Mapping
import json
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from r1jax.errors import STOPPED, Stopped, sentence, told

SILENCE = 30  # seconds without a sign of life, after which a process counts as dead and the others end
LAST = 3.0  # seconds by which process 0, whose end ends the others, outlives them after a mistake they share
LOST = ("Gloo", "NCCL", "UNAVAILABLE:", "DEADLINE_EXCEEDED:", "ABORTED:", "CoordinationService", "heartbeat")


def expected(environment: Mapping[str, str] = os.environ) -> bool:
  """Whether the launcher of this process has started others beside it: srun, mpirun, a TPU slice of GKE."""
  tasks = max(int(environment.get(name, 1)) for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
  return tasks > 1 or "," in environment.get("TPU_WORKER_HOSTNAMES", "")


def join(coordinator: str | None = None, count: int | None = None, index: int | None = None):
  """Makes this process one of those that share the run, before jax is asked for a device.

  Args:
    coordinator: host:port of process 0, which listens there; None: the cluster tells all three (TPU, Slurm, Open MPI).
    count: processes in all.
    index: of this one.

  Raises:
    ValueError: what is given is not all, or the cluster does not say it.
    RuntimeError: the others did not come.
  """
  given = (coordinator, count, index)
  if any(x is not None for x in given):
    if None in given or ":" not in coordinator or not 0 <= index < count:
      raise ValueError(
        f"--coordinator={coordinator} --processes={count} --process={index} must be host:port, a number, and one from "
        "0 to below it; give all three."
      )
  try:
    jax.distributed.initialize(
      coordinator, count, index, heartbeat_timeout_seconds=SILENCE, shutdown_timeout_seconds=2 * SILENCE
    )
  except ValueError as error:  # of jax, which found no cluster
    raise ValueError(
      f"this cluster does not say who the processes are ({error}); give --coordinator=host:port --processes=N "
      "--process=i, each process its own i."
    ) from error
  except jax.errors.JaxRuntimeError as error:
    raise RuntimeError(
      f"process {index} found no {'others' if index == 0 else 'process 0'} at {coordinator}: "
      f"{str(error).splitlines()[0][:200]}; start all processes within five minutes, and let them reach that port."
    ) from error


def together(run: Callable[[], int | None]) -> int | None:
  """What `run` returns, as `told` has it; where it fails this process ends at once, for the others wait for it."""
  if jax.process_count() == 1:
    return run()
  program = f"r1jax, process {jax.process_index()} of {jax.process_count()}"
  try:
    code = told(program, run)
  except KeyboardInterrupt:
    code = 130
  except BaseException as error:
    if text := lost(error):
      print(f"{program}: {text}", file=sys.stderr)
    else:
      traceback.print_exc()
    code = 1
  if code and code != STOPPED:
    leave(code)
  return code


def leave(code: int):
  """Ends this process without a word to the others; process 0, whose end ends them, a little later."""
  sys.stdout.flush()
  sys.stderr.flush()
  if jax.process_index() == 0:
    time.sleep(LAST)
  os._exit(code)


def lost(error: BaseException) -> str | None:
  """A sentence where `error` is what a device program says when a process that takes part in it has died."""
  while error.__cause__ is not None:  # orbax wraps it
    error = error.__cause__
  text = str(error)
  if jax.process_count() == 1 or not any(sign in text for sign in LOST):
    return None
  return (
    f"another process is gone ({text.splitlines()[0][:160]}), and this one ends, too; the first that ended says why. "
    "The same command on all of them goes on from the last checkpoint."
  )


def gather(value: Any) -> list:
  """The JSON values of all processes, in their order."""
  if jax.process_count() == 1:
    return [value]
  mine = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.array(mine.size, np.int32))
  room = 1 << int(sizes.max()).bit_length()  # few sizes, for each is a program
  padded = multihost_utils.process_allgather(np.pad(mine, (0, room - mine.size)))
  return [json.loads(part[:size].tobytes()) for part, size in zip(padded, sizes, strict=True)]


def by_first(run: Callable[[], Any]) -> Any:
  """What `run()` returns on process 0, a JSON value, to every process; a user's mistake there is theirs, too."""
  if jax.process_count() == 1:
    return run()
  value, kind, text = None, "", ""
  if jax.process_index() == 0:
    try:
      value = run()
    except (ValueError, OSError) as error:
      kind, text = type(error).__name__, sentence(error)
      if text is None:
        raise
  value, kind, text = gather((value, kind, text))[0]
  if kind:
    raise (ValueError if kind == "ValueError" else OSError)(text)
  return value


def wait(what: str):
  """Returns when every process is here: what one has written is there for all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(f"r1jax: {what}")


def agree(what: Mapping[str, Any]):
  """Raises ValueError where a process was given something else than process 0: JSON values by what they are."""
  ours = json.loads(json.dumps(dict(what)))
  theirs = gather(ours)[0]
  for name in ours:
    if ours[name] != theirs.get(name):
      raise ValueError(
        f"process {jax.process_index()} has another {name} than process 0; give all of them the same command, code and "
        "data."
      )


class Stop:
  """SIGTERM, a scheduler's notice that the machine will be taken away: the run saves and ends.

  Every process is to ask as often as the others. With several, jax's service
  has noticed the signal, and all are told at the same question.
  """

  def __init__(self):
    self._came, self._questions, self._before = False, 0, None

  def __enter__(self):
    if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
      self._before = signal.signal(signal.SIGTERM, self.note)
    return self

  def __exit__(self, *_):
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)
      self._before = None

  def note(self, *_):
    """As SIGTERM does, for this process."""
    self._came = True

  def asked(self) -> bool:
    """Whether the run is to end; True from then on."""
    if jax.process_count() > 1:
      self._questions += 1
      self._came |= multihost_utils.reached_preemption_sync_point(self._questions)
    return self._came

  def end(self, where: str):
    """Ends the run where it was asked to."""
    if self._came:
      raise Stopped(f"stopped by SIGTERM {where}; the same command goes on from there.")
