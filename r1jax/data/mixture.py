"""Several sources as one endless row of problems, the same on any number of processes.

Position k of the row belongs to a source by exact arithmetic: with weights 7 and
3, seven of every ten problems are the first source's, wherever ten are counted
from a multiple of ten. Each source is walked through in an order of its own that
is drawn anew every epoch, so a problem is seen again only after all others of
its source. Everything is a function of (seed, k): to resume is to know k.
"""

from fractions import Fraction
import functools
import hashlib
import math
from typing import Any

import numpy as np

from r1jax.config import config
from r1jax.data.filters import NOTHING_KNOWN, Context, check_tuple
from r1jax.data.sources import ENDLESS


@config
class Mixture:
  """What a stage learns from: sources, each with its weight."""

  sources: tuple[Any, ...]  # of data.sources and data.generated
  filters: tuple[Any, ...] = ()  # applied to every source, after its own

  def validate(self):
    check_tuple("Mixture.sources", self.sources, "open")
    check_tuple("Mixture.filters", self.filters, "open")
    if not self.sources:
      raise ValueError("Mixture.sources is empty; give it at least one, e.g. (Jsonl(path='train.jsonl'),).")
    for each in (*self.sources, *self.filters):
      each.validate()

  def open(self, seed: int, context: Context = NOTHING_KNOWN) -> "Mixed":
    """Opens every source; ValueError as Source.open, and where two sources have the same id."""
    self.validate()
    opened = [source.open(context, self.filters) for source in self.sources]
    for i, first in enumerate(opened):
      for j, second in enumerate(opened[:i]):
        _check_ids(self.sources[j].title(), second, self.sources[i].title(), first)
    return Mixed(opened, [source.weight for source in self.sources], seed)


def _check_ids(title, problems, other_title, other):
  common = np.intersect1d(problems.ids, other.ids)
  if len(common):
    from r1jax.data.sources import hash_id

    id = next(p.id for p in (problems[i] for i in range(len(problems))) if hash_id(p.id) in common)
    raise ValueError(
      f"{len(common)} ids, {id!r} among them, are in both {title} and {other_title}; give one of the two "
      "sources a name, which is put before its ids."
    )


class Mixed:
  """An endless row of problems."""

  def __init__(self, sources: list, weights: list[float], seed: int):
    self.sources, self._seed = sources, seed
    exact = [Fraction(str(weight)) for weight in weights]  # 0.1 is a tenth
    whole = [int(weight * math.lcm(*(w.denominator for w in exact))) for weight in exact]
    self.shares = [weight // math.gcd(*whole) for weight in whole]  # problems of each source in `period` of the row
    self.period = sum(self.shares)
    self._order = functools.lru_cache(2 * len(sources))(self._draw_order)  # of this epoch, and of the next at its end

  def __len__(self) -> int:
    return ENDLESS

  def locate(self, index: int) -> tuple[int, int, int]:
    """(source, epoch of the source, problem of the source) of a position in the row."""
    source, nth = self._source(index)
    length = len(self.sources[source])
    if length >= ENDLESS:  # made up at random already
      return source, 0, nth
    epoch, place = divmod(nth, length)
    return source, epoch, int(self._order(source, epoch)[place])

  def __getitem__(self, index: int):
    source, _, problem = self.locate(index)
    return self.sources[source][problem]

  def epochs(self, count: int) -> list[float]:
    """How often each source has been walked through after the first `count` problems."""
    return [count * share / self.period / len(source) for share, source in zip(self.shares, self.sources)]

  @property
  def fingerprint(self) -> str:
    """The same for the same problems, weights and seed."""
    parts = ([source.fingerprint for source in self.sources], self.shares, self._seed)
    return hashlib.sha256(repr(parts).encode()).hexdigest()

  def _source(self, index):
    """(source, how many of its problems come before) of a position: the sources are split off one by one."""
    total = self.period
    for source, share in enumerate(self.shares[:-1]):
      before = index * share // total  # of the positions left, so many up to here are this source's
      if (index + 1) * share // total > before:
        return source, before
      index, total = index - before, total - share
    return len(self.shares) - 1, index

  def _draw_order(self, source, epoch):
    """A permutation of a source's problems. From raw bits, which no version of numpy changes."""
    bits = np.random.PCG64(np.random.SeedSequence([self._seed, source, epoch]))
    return np.argsort(bits.random_raw(len(self.sources[source])), kind="stable")


class Switched:
  """An endless row that goes over into another one at a position, without beginning that one from its start."""

  def __init__(self, first, later, at: int):
    self.first, self.later, self._at = first, later, at

  def __len__(self) -> int:
    return ENDLESS

  def __getitem__(self, index: int):
    return self.first[index] if index < self._at else self.later[index]

  @property
  def fingerprint(self) -> str:
    return hashlib.sha256(repr((self.first.fingerprint, self.later.fingerprint, self._at)).encode()).hexdigest()


class Part:
  """One process's part of an endless row: of every `count` problems, a stretch of `count / processes`.

  In the order of the processes their parts are the row, whatever their number.
  """

  def __init__(self, problems, count: int, process: int = 0, processes: int = 1):
    if count % processes:
      raise ValueError(f"{count} problems a batch cannot be split over {processes} processes; use a multiple.")
    self._problems, self._count = problems, count
    self._size = count // processes
    self._first = process * self._size

  def __len__(self) -> int:
    return len(self._problems) // self._count * self._size

  def __getitem__(self, index: int):
    batch, row = divmod(index, self._size)
    return self._problems[batch * self._count + self._first + row]
