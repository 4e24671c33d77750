"""Scores batches of responses with a composition of rewards (DeepSeek-R1 v2 section 2.2; Nature eq. 8-10)."""

import collections
from concurrent.futures import Future, ThreadPoolExecutor
import contextlib
import dataclasses
import threading
import types

import numpy as np

from r1jax.rewards.compose import Clipped, Gated, leaves
from r1jax.rewards.verdict import RAISED, RIGHT, UNPARSABLE, Verdict, of_outcome

GATE_CLOSED = "gate closed"  # status of a response that a gate kept from being asked about
UNREAD = (UNPARSABLE, "no program", GATE_CLOSED)
LARGEST = float(np.finfo(np.float32).max)
SLICE = 512  # rows sent to the workers at one time
HOPELESS = 32  # responses of a user's reward that all hang, after which scoring stops instead of waiting for all


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Rewards:
  """The rewards of n responses."""

  total: np.ndarray  # float32[n], sum of weight * value over the rewards that apply
  columns: dict[str, np.ndarray]  # float32[n] by the reward's name, unweighted; NaN where it does not apply
  statuses: dict[str, tuple[str, ...]]  # n by the reward's name: "right", "timed out", ...; "" where there is none
  right: np.ndarray  # bool[n], found right by a reward that grades; where none does, a total above 0
  parsed: np.ndarray  # bool[n], no reward that grades failed to read an answer
  killed: dict[str, int]  # checks ended at their limit of time or memory, by the reward's name; they score 0
  failures: list[str]  # one sentence per check that raised

  def sums(self) -> dict[str, tuple[float, float]]:
    """(sum, number of rows) of what is logged, by key; a number of 0 marks a count, which is no mean."""
    n, finite = len(self.total), {name: column[np.isfinite(column)] for name, column in self.columns.items()}
    return {
      "reward/total": (float(self.total.sum()), n),
      **{f"reward/{name}": (float(values.sum()), len(values)) for name, values in finite.items()},
      "reward/check_timeouts": (float(sum(self.killed.values())), 0),
      "reward/check_failures": (float(len(self.failures)), 0),
      "reward/parsed": (float(self.parsed.sum()), n),
    }

  def summary(self) -> dict[str, float]:
    """Means over the rows a reward applies to, and counts, by log key."""
    return mean(self.sums())

  def to_json(self) -> dict:
    """Plain lists and numbers, for another process; `of_json` makes the same Rewards of them."""
    plain = lambda value: value.tolist() if isinstance(value, np.ndarray) else value
    found = {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
    return found | {"columns": {name: column.tolist() for name, column in self.columns.items()}}

  @classmethod
  def of_json(cls, found: dict) -> "Rewards":
    return cls(
      **found
      | {"total": np.array(found["total"], np.float32)}
      | {"columns": {name: np.array(column, np.float32) for name, column in found["columns"].items()}}
      | {"statuses": {name: tuple(column) for name, column in found["statuses"].items()}}
      | {name: np.array(found[name], bool) for name in ("right", "parsed")}
    )

  def take(self, rows: np.ndarray) -> "Rewards":
    """The same responses in the order of `rows`, int[n]."""
    return dataclasses.replace(
      self,
      total=self.total[rows],
      columns={name: column[rows] for name, column in self.columns.items()},
      statuses={name: tuple(column[i] for i in rows) for name, column in self.statuses.items()},
      right=self.right[rows],
      parsed=self.parsed[rows],
    )

  def count(self) -> dict[str, int]:
    """Responses by reward and status."""
    return {
      f"{name}: {status}": number
      for name, column in self.statuses.items()
      for status, number in sorted(collections.Counter(filter(None, column)).items())
    }


def mean(sums: dict[str, tuple[float, float]]) -> dict[str, float]:
  """Means of `Rewards.sums`, which may have been added over processes."""
  return {key: float(value) / max(number, 1) for key, (value, number) in sums.items()}


def join(parts: list[Rewards]) -> Rewards:
  """The rewards of several batches, one after another."""
  together = lambda field: np.concatenate([getattr(part, field) for part in parts])
  names = list(parts[0].columns)
  return Rewards(
    together("total"),
    {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
    {name: sum((part.statuses[name] for part in parts), ()) for name in names},
    together("right"),
    together("parsed"),
    {name: sum(part.killed[name] for part in parts) for name in names},
    [sentence for part in parts for sentence in part.failures],
  )


class Scorer:
  """Applies a composition of rewards to batches.

  A reward with `__call__` runs row by row in `workers`, where a check that hangs,
  dies or raises scores 0 and is counted; checks whose time is bounded (the reward's
  `bounded` says so) run here. A reward with `open()` is opened for the lifetime
  of the scorer and given whole batches. One with `given` (a Preference) is not
  called at all: its values come with the responses.

  Args:
    rewards: the composition: reward objects, functions, ByDomain, Gated, Clipped.
    workers: a Workers; it stays the caller's.

  Raises:
    ValueError: the composition makes no sense.
    RuntimeError: a reward cannot run here (no sandbox, no endpoint).
  """

  def __init__(self, rewards, workers):
    self.leaves = leaves(rewards)
    self.workers = workers
    self._runners = {}  # of the rewards with open(), and a lock: by the reward's id, for it need not be hashable
    self._hopes = {}  # of the rewards that have only failed so far: how many rows, by name; None once one succeeded
    self._stack = contextlib.ExitStack()
    self._batches = ThreadPoolExecutor(1, "scorer")  # one batch at a time, in order
    self._columns = ThreadPoolExecutor(8, "reward")  # the rewards of a batch beside each other
    self._abandoned = False

  def _rewards(self):
    """Every reward of the composition, gates included."""
    gates = [step.gate for leaf in self.leaves for step in leaf.around if isinstance(step, Gated)]
    return {id(reward): reward for reward in [*(leaf.reward for leaf in self.leaves), *gates]}

  def __enter__(self):
    with self._stack as stack:  # what is open already is closed again if another cannot be
      for key, reward in self._rewards().items():
        if hasattr(reward, "open"):
          self._runners[key] = stack.enter_context(reward.open()), threading.Lock()
      self._stack = stack.pop_all()
    return self

  def __exit__(self, kind, *_):
    self._abandoned = kind is not None  # nobody will read the rewards of a batch under way: do not wait for it
    self._batches.shutdown(wait=kind is None, cancel_futures=True)
    self._columns.shutdown(wait=kind is None, cancel_futures=True)
    self._stack.close()

  def ready(self):
    """Raises RuntimeError or ValueError where a reward cannot run on this machine: to be known before the run."""
    for reward in self._rewards().values():
      getattr(reward, "ready", lambda: None)()

  def check(self, problem) -> str | None:
    """A sentence saying why no response to the problem can be rewarded, or None."""
    for leaf in self.leaves:
      check = getattr(leaf.reward, "check", None)
      if check is not None and leaf.applies(problem.domain) and (fact := check(problem)):
        return fact
    return None

  def score(self, problems, responses, prefill="", tokens=None, given=None) -> Rewards:
    """Scores n responses, and waits for the batches submitted before.

    Args:
      problems: n records, one per response.
      responses: n texts, without special tokens.
      prefill: what the template already wrote for the responses.
      tokens: int[n], tokens of each response; needed by rewards of length.
      given: float32[n] by name, for rewards whose values come with the responses; a number wherever one applies.

    Raises:
      ValueError: a problem or a reward that cannot be checked at all.
      RuntimeError: a reward that raises on every response, or hangs on all it is tried on.
    """
    return self.submit(problems, responses, prefill, tokens, given).result()

  def submit(self, problems, responses, prefill="", tokens=None, given=None) -> Future:
    """As `score`, but returns at once: the Future gives the Rewards while the next responses are sampled."""
    if len(problems) != len(responses) or not responses:
      raise ValueError(
        f"{len(problems)} problems and {len(responses)} responses: there must be one problem per response."
      )
    return self._batches.submit(self._score, _Batch(problems, responses, prefill, tokens, given))

  def _score(self, batch):
    columns = [self._columns.submit(self._leaf, leaf, batch) for leaf in self.leaves]
    n, names = len(batch.responses), [leaf.reward.name for leaf in self.leaves]
    total, graded, right, parsed = np.zeros(n, np.float32), np.zeros(n, bool), np.zeros(n, bool), np.ones(n, bool)
    numbers = {name: np.full(n, np.nan, np.float32) for name in names}
    statuses = {name: [""] * n for name in names}
    killed, failures = dict.fromkeys(names, 0), []
    for leaf, column in zip(self.leaves, columns, strict=True):
      name, (values, troubles) = leaf.reward.name, column.result()
      for i, value in values.items():
        verdict = value if isinstance(value, Verdict) else Verdict(value, "")
        statuses[name][i] = verdict.status
        if verdict.score is not None:
          numbers[name][i] = verdict.score
        killed[name] += verdict.killed
        if verdict.status == RAISED:
          troubles.append((name, i, verdict.detail))
        if value is not None and getattr(leaf.reward, "grades", False):
          graded[i], right[i] = True, right[i] | (verdict.status == RIGHT)
          parsed[i] &= verdict.status not in UNREAD
      total += np.float32(leaf.reward.weight) * _neutral(numbers[name], list(values), batch.problems, statuses[name])
      failures += [batch.sentence(*trouble) for trouble in troubles]
      self._despair(name, values.values())
    right = np.where(graded, right, total > 0)
    return Rewards(
      total, numbers, {name: tuple(column) for name, column in statuses.items()}, right, parsed, killed, failures
    )

  def _leaf(self, leaf, batch):
    """({row: value} of the rows a leaf is for, [(gate, row, why)] of gates that raised).

    A gate that is closed gives 0, and what stands within it is not asked.
    """
    asked = [i for i, problem in enumerate(batch.problems) if leaf.applies(problem.domain)]
    values, troubles, places = {}, [], {}
    for place, step in enumerate(leaf.around):
      if isinstance(step, Gated):
        marks = dict(zip(asked, self._apply(step.gate, batch, asked), strict=True))
        troubles += [(step.gate.name, i, m.detail) for i, m in marks.items() if getattr(m, "status", "") == RAISED]
        self._despair(step.gate.name, marks.values())
        closed = [i for i, mark in marks.items() if not _at_least(mark, step.threshold)]
        values |= dict.fromkeys(closed, Verdict(0.0, GATE_CLOSED))
        places |= dict.fromkeys(closed, place)
        asked = [i for i in asked if i not in places]
    values |= zip(asked, self._apply(leaf.reward, batch, asked), strict=True)
    clips = lambda i: [step for step in leaf.around[: places.get(i)] if isinstance(step, Clipped)]
    return {i: _clipped(values[i], clips(i)) for i in sorted(values)}, troubles

  def _apply(self, reward, batch, rows):
    """Values of one reward on some rows of a batch."""
    if not rows:
      return []
    if getattr(reward, "given", False):
      return batch.given_to(reward, rows)
    if hasattr(reward, "open"):
      if id(reward) not in self._runners:
        raise ValueError(f"reward {reward.name!r} must be opened: use the Scorer in a with statement.")
      runner, lock = self._runners[id(reward)]
      problems, responses = [batch.problems[i] for i in rows], [batch.responses[i] for i in rows]
      with lock:  # it may serve several domains
        values = runner.score(problems, responses, batch.prefill)
      if len(values) != len(rows):
        raise ValueError(f"reward {reward.name!r} gave {len(values)} values for {len(rows)} responses.")
      return [_value(value, reward.name) for value in values]
    bounded, check = getattr(reward, "bounded", lambda *_: False), _Check(reward)
    values, away = {}, {}
    for i in rows:
      if bounded(batch.problems[i], batch.responses[i], batch.prefill):
        values[i] = check(batch.row(reward, i, batch.problems[i]))
      else:
        away[i] = batch.row(reward, i, batch.plain[id(batch.problems[i])])
    if away:
      values.update(zip(away, self._run(reward, list(away.values())), strict=True))
    return [values[i] for i in rows]

  def _run(self, reward, rows):
    """Values of a reward that runs in workers; stops early where every check of a user's reward hangs."""
    check, outcomes = _Check(reward), []
    theirs = not type(reward).__module__.startswith("r1jax.")
    starts = [0, *range(HOPELESS, len(rows), SLICE)]
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
      if self._abandoned:
        raise RuntimeError("the batch was given up.")
      try:
        outcomes += self.workers.map(check, rows[start:stop])
      except ValueError as error:
        raise ValueError(f"reward {reward.name!r}: {error}") from error
      if theirs and len(outcomes) == HOPELESS and all(outcome.status == "timeout" for outcome in outcomes):
        raise RuntimeError(
          f"reward {reward.name!r} exceeded its limit of {self.workers.limit_s:g} s on all of its first {HOPELESS} "
          "responses; make it faster or raise reward_limit."
        )
    return [of_outcome(outcome) for outcome in outcomes]

  def _despair(self, name, values):
    """A reward that has failed on every response so far is broken, and training on it would teach nothing."""
    failed = [v for v in values if isinstance(v, Verdict) and (v.status == RAISED or v.score is None)]
    if len(failed) < len(values):
      self._hopes[name] = None
    if not failed or self._hopes.get(name, 0) is None:
      return
    self._hopes[name] = self._hopes.get(name, 0) + len(failed)
    if self._hopes[name] >= HOPELESS:
      verb = "raised" if failed[0].status == RAISED else "failed"
      raise RuntimeError(
        f"reward {name!r} {verb} on every one of the first {self._hopes[name]} responses, lately {failed[0].detail}; "
        "correct it in the experiment file or take it out of rewards."
      )


class _Batch:
  """What is to be scored together."""

  def __init__(self, problems, responses, prefill, tokens, given):
    self.problems, self.responses, self.prefill, self.tokens = problems, responses, prefill, tokens
    self.given = given or {}
    self.plain = {id(problem): _plain(problem) for problem in {id(p): p for p in problems}.values()}

  def row(self, reward, i, problem):
    """Arguments of a reward that takes one row: (positional, by name)."""
    arguments = (problem, self.responses[i], self.prefill)
    if not getattr(reward, "needs_tokens", False):
      return arguments, {}
    if self.tokens is None:
      raise ValueError(f"reward {reward.name!r} counts tokens, but the scorer was not told how many there are.")
    return arguments, {"tokens": int(self.tokens[i])}

  def given_to(self, reward, rows):
    """Values of a reward that came with the responses; it gets along with no row left out."""
    if reward.name not in self.given:
      raise ValueError(f"reward {reward.name!r} is that of a reward model, which only an RL stage asks.")
    return [_value(self.given[reward.name][i], reward.name) for i in rows]

  def sentence(self, name, i, detail):
    return f"reward {name!r} raised on response {i} (problem {self.problems[i].id!r}): {detail.rstrip('.')}."


@dataclasses.dataclass(frozen=True, slots=True)
class _Check:
  """What runs in a worker: one reward on one row."""

  reward: object

  def prepare(self):
    getattr(self.reward, "prepare", lambda: None)()

  def __call__(self, row):
    arguments, named = row
    return _value(self.reward(*arguments, **named), self.reward.name)


def _neutral(numbers, rows, problems, statuses):
  """float32[n] to add to the total. A row without a number adds 0 where the reward does not apply.

  Where its check failed (it has a status) it adds the mean of the same problem's
  other responses, so that the failure moves no response up or down in its group.
  """
  groups = collections.defaultdict(list)
  for i in rows:
    if np.isfinite(numbers[i]):
      groups[id(problems[i])].append(numbers[i])
  added = np.zeros(len(numbers), np.float32)
  for i in rows:
    if np.isfinite(numbers[i]):
      added[i] = numbers[i]
    elif statuses[i] and groups[id(problems[i])]:
      added[i] = np.mean(groups[id(problems[i])])
  return added


def _value(value, name):
  """A value fit to be added: a finite number, a Verdict with one or with none, or None."""
  if value is None or (isinstance(value, Verdict) and value.score is None):
    return value
  number = float(value)
  if not abs(number) <= LARGEST:
    raise ValueError(f"reward {name!r} gave {number}, which is not a finite number of 32 bits")
  return value if isinstance(value, Verdict) else number


def _clipped(value, clips):
  """The value after clips that stand around it, the innermost last."""
  number = value.score if isinstance(value, Verdict) else value
  if number is None or not clips:
    return value
  for clip in reversed(clips):
    number = min(max(number, clip.low), clip.high)
  return dataclasses.replace(value, score=number) if isinstance(value, Verdict) else number


def _at_least(mark, threshold):
  score = mark.score if isinstance(mark, Verdict) else mark
  return score is not None and score >= threshold


def _plain(problem):
  """The fields of a problem without its class, whose module would bring jax into the workers."""
  if not dataclasses.is_dataclass(problem):
    return problem
  names = [field.name for field in dataclasses.fields(problem)]
  return types.SimpleNamespace(**{name: getattr(problem, name) for name in names})
