"""A checking process, from inside: loads functions, applies them to items, and dies when told.

It is a fresh interpreter, never a fork of a process in which jax runs threads,
and imports neither jax nor the program's main module. Python cannot interrupt
itself inside one big power, so a check that takes too long ends with its
process: by an alarm signal, whose default action needs no Python and works
after the trainer was killed; and by the trainer half a second later, should a
check have disarmed the alarm.
"""

from multiprocessing.connection import Connection
import os
import pickle
import resource
import signal
import sys
import time

from r1jax.rewards.processes.parcels import one_line, unpack

START_LIMIT = 60.0  # seconds a worker may take to start, or to load and prepare a function

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def serve(fd, trainer):
  """Answers the trainer's messages until its end of the socket closes.

  ("function", slot, packed)                  -> what went wrong in one line, or None
  ("items", slot, limit_s, memory_mb, [item]) -> per item (status, seconds, the value pickled, whether
                                                 more than memory_mb of items are kept in memory)

  Args:
    fd: of the socket.
    trainer: the process to die with.
  """
  _die_with(trainer)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a scheduler's, to the whole job: the trainer says when it ends
  connection = Connection(fd)
  functions = {}  # by slot
  own = _memory()  # what the process and its functions need; the rest its items have left
  try:
    while True:
      kind, slot, *rest = pickle.loads(connection.recv_bytes())
      if kind == "function":
        before = _memory()
        functions[slot], trouble = _load(*rest)
        own += _memory() - before
        connection.send_bytes(pickle.dumps(trouble))
      else:
        limit_s, memory_mb, items = rest
        _work(connection, functions[slot], own, limit_s, memory_mb * 2**20, items)
  except (EOFError, ConnectionError):
    os._exit(0)  # the trainer is gone, and nobody waits for threads or exit handlers


def _die_with(trainer):
  """Has the kernel kill this process with the trainer's thread that started it, where it can."""
  if sys.platform != "linux":
    return  # there the alarm and the closed socket end it
  import ctypes

  ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
  if os.getppid() != trainer:  # it died before
    os._exit(0)


def _load(packed):
  """The function, prepared, and None; or None and what went wrong in one line."""
  _arm(START_LIMIT)
  _limit_memory(None)
  try:
    function = unpack(packed)
    getattr(function, "prepare", lambda: None)()
    return function, None
  except Exception as error:  # whatever a user's module raises
    return None, one_line(error)
  finally:
    _arm(0)


def _work(connection, function, own, limit_s, memory, items):
  """Sends an outcome per item as soon as it is known: the trainer counts them to know where we are."""
  for item in items:
    _limit_memory(memory)  # from here: what the items before have left in caches takes nothing from this one
    start = time.perf_counter()
    _arm(limit_s)
    try:
      value, status = pickle.dumps(function(unpack(item))), "ok"
    except MemoryError:
      os._exit(1)  # a process at its limit can be trusted with nothing more
    except Exception as error:
      value, status = pickle.dumps(None), f"raised: {one_line(error)}"
    _arm(0)
    seconds = time.perf_counter() - start
    connection.send_bytes(pickle.dumps((status, seconds, value, _memory() - own > memory)))


def _arm(seconds):
  """Sets the alarm that ends this process, or takes it back (0)."""
  signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the item before may have left a handler of its own
  signal.setitimer(signal.ITIMER_REAL, seconds)


def _memory():
  """Bytes of address space in use; 0 where the system does not tell."""
  try:
    with open("/proc/self/statm", "rb") as file:
      return int(file.read().split()[0]) * resource.getpagesize()
  except FileNotFoundError:
    return 0


def _limit_memory(growth):
  """Lets the process grow by so many bytes from here, or without limit (None)."""
  hard = resource.getrlimit(resource.RLIMIT_AS)[1]
  soft = hard if growth is None else _memory() + growth
  soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
  resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
