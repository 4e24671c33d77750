"""The log of a stage: jsonl, TensorBoard, a progress line; and the sentences that warn.

Metrics are read one step late: `write` keeps the numbers of a step on the
device and reads those of the step before, so the device never waits.
"""

import collections
from collections.abc import Sequence
import contextlib
import json
import math
import os
import pathlib
import statistics
import time
from typing import Any

import jax
import rich.console
import rich.progress
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from r1jax import config

_PLAIN_SECONDS = 10.0  # between lines where the output is not a terminal
_HACKING_WINDOW = 4  # rollouts before and after
_ALARM_STEPS = 50  # between two prints of the same alarm


class Log:
  """Metrics, alarms and progress of one stage. Only process 0 writes and prints; every process reads.

  Args:
    folder: gets `metrics.jsonl`, `alarms.jsonl` and `tensorboard/`.
    stage: the stage's name.
    total_steps: steps of the stage.
    columns: keys of the metrics that the progress line shows.
    console: where it prints; the terminal when None.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    stage: str,
    total_steps: int,
    columns: list[str],
    console: rich.console.Console | None = None,
  ):
    self.folder, self.stage, self.total, self.columns = pathlib.Path(folder), stage, total_steps, columns
    self.numbers: dict[str, float] = {}  # the last step that was read
    self.step = -1  # its step
    self._pending: tuple[int, dict, dict] | None = None  # step, metrics on the device, seconds
    self._seconds = collections.defaultdict(float)
    self._written = None  # when the last step was handed in
    self._files = None
    self._early: list[dict[str, Any]] = []  # alarms before the first step
    self._printed: dict[str, int] = {}  # alarm -> step it was last printed at
    self._console = console or rich.console.Console()
    self._main = jax.process_index() == 0
    self._progress = None
    self._start = None  # (first step of this process, when)
    self._line_due = 0.0

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  @contextlib.contextmanager
  def phase(self, name: str):
    """Adds the seconds spent inside to `time/<name>` of the next row."""
    start = time.perf_counter()
    try:
      yield
    finally:
      self._seconds[f"time/{name}"] += time.perf_counter() - start

  def write(self, step: int, metrics: dict[str, float | jax.Array]) -> dict[str, float]:
    """Hands in the metrics of a step (scalars), and reads and writes those of the step before.

    The first call of a process drops the rows of `step` and later that a killed run left.

    Returns:
      The numbers of the step before; empty at first.
    """
    if self._files is None and self._main:
      self._open(step)
    self._start = self._start or (step, time.perf_counter())
    numbers = self.flush()
    now = time.perf_counter()
    if self._written is not None:
      self._seconds["time/step"] = now - self._written
    self._pending = step, metrics, dict(self._seconds)
    self._written, self._seconds = now, collections.defaultdict(float)
    return numbers

  def flush(self) -> dict[str, float]:
    """Reads and writes the step that is pending. To be called before a checkpoint, or a kill loses its row."""
    if self._pending is None:
      return self.numbers
    step, metrics, seconds = self._pending
    self._pending = None
    metrics = {key: float(value) for key, value in jax.device_get(metrics).items()}
    self.step, self.numbers = step, metrics | seconds
    if self._main:
      row = {key: metrics[key] for key in sorted(metrics)} | {key: seconds[key] for key in sorted(seconds)}
      self._write_row(step, row)
      self._show(step + 1, row)
    return self.numbers

  def alarm(self, name: str, message: str, step: int | None = None):
    """Writes an alarm, by default of the step last read, and prints it if it was not printed in the 50 steps before."""
    if not self._main:
      return
    step = max(self.step, 0) if step is None else step
    row = {"step": step, "alarm": name, "message": message}
    if self._files is None:
      self._early.append(row)  # written with the first step
    else:
      _append(self._files["alarms"], row)
    if name not in self._printed or step - self._printed[name] >= _ALARM_STEPS:
      self._printed[name] = step
      self._console.print(f"{self.stage} step {step}: {name}: {message}", style="bold red", markup=False)

  def close(self):
    """Writes what is pending, alarms before a first step that never came too, and ends the progress line."""
    self.flush()
    if self._early and self._files is None:
      self._open(min(row["step"] for row in self._early))
    if self._progress is not None:
      self._progress.stop()
      self._progress = None
    for file in (self._files or {}).values():
      file.close()
    self._files = None

  def _open(self, step):
    self.folder.mkdir(parents=True, exist_ok=True)
    names = {"metrics": "metrics.jsonl", "alarms": "alarms.jsonl"}
    for name in names.values():
      _drop_rows_from(self.folder / name, step)
    self._files = {key: open(self.folder / name, "a", encoding="utf-8") for key, name in names.items()}
    for row in self._early:
      _append(self._files["alarms"], row)
    board = self.folder / "tensorboard"
    board.mkdir(exist_ok=True)
    name = f"events.out.tfevents.{int(time.time()):010d}.{os.uname().nodename}.{os.getpid()}.{time.time_ns()}"
    self._files["board"] = RecordWriter(open(board / name, "wb"))
    self._event(file_version="brain.Event:2")
    # From here on TensorBoard forgets later steps of earlier files.
    self._event(step=step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

  def _event(self, **fields):
    event = event_pb2.Event(wall_time=time.time(), **fields)
    self._files["board"].write(event.SerializeToString())
    self._files["board"].flush()

  def _write_row(self, step, row):
    values = [summary_pb2.Summary.Value(tag=key, simple_value=value) for key, value in row.items()]
    self._event(step=step, summary=summary_pb2.Summary(value=values))
    _append(self._files["metrics"], {"step": step} | row)

  def _show(self, done, row):
    text = "  ".join(f"{key} {row[key]:.4g}" for key in self.columns if key in row)
    if self._console.is_terminal:
      if self._progress is None:
        self._progress = self._bar()
        self._task = self._progress.add_task(self.stage, total=self.total, completed=done - 1, text="")
        self._progress.start()
      self._progress.update(self._task, completed=done, text=text)
    elif time.perf_counter() >= self._line_due or done == self.total:
      self._line_due = time.perf_counter() + _PLAIN_SECONDS
      first, since = self._start
      left = (time.perf_counter() - since) / (done - first) * (self.total - done)
      line = f"{self.stage} {done}/{self.total}  {text}  {_clock(left)} left"
      self._console.print(line, soft_wrap=True, highlight=False, markup=False)

  def _bar(self):
    return rich.progress.Progress(
      rich.progress.TextColumn("{task.description}", style="bold"),
      rich.progress.BarColumn(bar_width=16),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeElapsedColumn(),
      rich.progress.TimeRemainingColumn(),
      rich.progress.TextColumn("{task.fields[text]}", markup=False),
      console=self._console,
      refresh_per_second=2,
    )


def raised(metrics: dict[str, float], alarms: config.Alarms) -> dict[str, str]:
  """Which alarms these numbers raise: name -> sentence. Keys that are absent raise none."""
  found = {}

  def raise_if(name, key, beyond, sentence):
    if key in metrics and beyond(metrics[key]):
      found[name] = f"{key} is {metrics[key]:.3g}, {sentence}"

  raise_if(
    "entropy_collapse",
    "policy/entropy",
    lambda x: x < alarms.min_entropy,
    f"below alarms.min_entropy={alarms.min_entropy} nats: the policy hardly explores; "
    "lower the learning rate or raise kl.",
  )
  raise_if(
    "length_explosion",
    "rollout/truncated",
    lambda x: x > alarms.max_truncated,
    f"above alarms.max_truncated={alarms.max_truncated}: responses hit sampling.max_response "
    "before they end; raise it.",
  )
  raise_if(
    "sampler_mismatch",
    "policy/sampler_mismatch",
    lambda x: x > alarms.max_mismatch,
    f"above alarms.max_mismatch={alarms.max_mismatch}: sampler and trainer disagree on log-probs, ratios are biased; "
    "check precision and sharding.",
  )
  raise_if(
    "dead_groups",
    "group/dead",
    lambda x: x > alarms.max_dead_groups,
    f"above alarms.max_dead_groups={alarms.max_dead_groups}: nearly no group has spread in its rewards, so nothing is "
    "learned; change the problems' level or raise group_size.",
  )
  bad = sorted(key for key, value in metrics.items() if key.startswith("policy/") and not math.isfinite(value))
  if bad:
    found["non_finite"] = f"{', '.join(bad)} not finite: lower the learning rate or clip_norm."
  else:
    skipped = "so the whole update is skipped; lower the learning rate."
    raise_if("non_finite", "policy/non_finite_rows", lambda x: x > 0, skipped)
  return found


def reward_hacking(rollouts: Sequence[dict[str, float]], name: str) -> str | None:
  """A sentence where the reward `name` rose and the oracle of its rows fell, from the 4 rollouts before the last 4 on.

  Each by more than twice the standard error of the difference of the two means,
  which the spread within each four tells: rollouts differ by their questions.

  Args:
    rollouts: metrics of each, the newest last, with reward/<name> and oracle/<name>; those without are passed over.
  """
  keys = f"reward/{name}", f"oracle/{name}"
  rows = [[row[key] for key in keys] for row in rollouts if all(row.get(key) is not None for key in keys)]
  rows = rows[-2 * _HACKING_WINDOW :]
  if len(rows) < 2 * _HACKING_WINDOW:
    return None
  moves = []
  for column in zip(*rows):
    before, after = column[:_HACKING_WINDOW], column[_HACKING_WINDOW:]
    error = math.sqrt((statistics.variance(before) + statistics.variance(after)) / _HACKING_WINDOW)
    moves.append((statistics.fmean(before), statistics.fmean(after), 2 * error))
  (low, high, rise), (good, worse, fall) = moves
  if high - low <= rise or good - worse <= fall:
    return None
  return (
    f"over the last {len(rows)} rollouts {keys[0]} rose from {low:.3g} to {high:.3g} while {keys[1]} fell from "
    f"{good:.3g} to {worse:.3g}: the policy learns what the reward model likes and not what it stands for; stop "
    "earlier, raise kl or train the reward model on what this policy writes."
  )


def preflight(metrics: dict[str, float], limits: config.Preflight, facts: Sequence[str] = ()) -> list[str]:
  """What is hopeless about a first rollout, one sentence each: what was seen, the limit, the field to change.

  Args:
    metrics: rollout/truncated, group/dead, reward/format, reward/parsed; what a run does not measure is absent.
    limits: the stage's preflight config.
    facts: sentences about what only the caller can see, passed on as they are.
  """
  highest = (
    ("rollout/truncated", "max_truncated", "of the responses were cut", "raise sampling.max_response"),
    ("group/dead", "max_dead_groups", "of the groups have equal rewards", "change the problems' level"),
  )
  lowest = (
    ("reward/format", "min_format", "of the responses keep the format", "change template.text or start_from"),
    ("reward/parsed", "min_parsed", "of the answers can be read", "change template.text or start_from"),
  )
  found = [*facts]
  for rows, word, sign in ((highest, "most", 1), (lowest, "least", -1)):
    for key, field, share, way_out in rows:
      limit = getattr(limits, field)
      if key in metrics and not sign * metrics[key] <= sign * limit:
        found.append(f"{metrics[key]:.1%} {share}, at {word} {limit:.1%} is allowed (preflight.{field}): {way_out}.")
  return found


def _append(file, row: dict[str, Any]):
  """One line, handed to the system at once; JSON knows no NaN, so it becomes null."""
  plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
  file.write(json.dumps(plain, ensure_ascii=False) + "\n")
  file.flush()


def _drop_rows_from(path, step):
  """Removes the rows of `step` and later, and a last line that was cut by a kill."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
    if line.endswith("\n") and json.loads(line)["step"] < step:
      kept.append(line)
  aside = path.with_name(path.name + ".tmp")
  aside.write_text("".join(kept), encoding="utf-8")
  os.replace(aside, path)


def _clock(seconds):
  minutes, seconds = divmod(round(seconds), 60)
  return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
