"""What one execution of a program costs a chip, and the time below which it cannot go (a roofline)."""

from __future__ import annotations

import dataclasses

from r1jax.plan.hardware import Chip

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Collectives of one kind."""

  count: float = 0.0
  bytes: float = 0.0  # of their results on one chip
  wire: float = 0.0  # bytes that one chip sends, at the least

  def __add__(self, other: Traffic) -> Traffic:
    return Traffic(self.count + other.count, self.bytes + other.bytes, self.wire + other.wire)

  def times(self, n: float) -> Traffic:
    return Traffic(self.count * n, self.bytes * n, self.wire * n)


def traffic(kind: str, size: float, group: int) -> Traffic:
  """One collective with a result of `size` bytes on a chip, among `group` chips; nothing among one.

  A ring sends (n - 1) / n of what is gathered, and twice that where it is summed too; of a reduce-scatter the result
  is an n-th of what is sent.
  """
  if group == 1:
    return Traffic()
  share = {"all-reduce": 2 * (group - 1) / group, "reduce-scatter": group - 1, "collective-permute": 1}
  return Traffic(1, size, size * share.get(kind, (group - 1) / group))


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one chip."""

  flops: float = 0.0  # of matrix products; two for a multiplication and its addition
  hbm_bytes: float = 0.0
  collectives: dict[str, Traffic] = dataclasses.field(default_factory=dict)

  def __add__(self, other: Cost) -> Cost:
    kinds = self.collectives.keys() | other.collectives.keys()
    both = {k: self.collectives.get(k, Traffic()) + other.collectives.get(k, Traffic()) for k in KINDS if k in kinds}
    return Cost(self.flops + other.flops, self.hbm_bytes + other.hbm_bytes, both)

  def times(self, n: float) -> Cost:
    return Cost(self.flops * n, self.hbm_bytes * n, {k: v.times(n) for k, v in self.collectives.items()})

  def wire(self) -> float:
    """Bytes that a chip sends."""
    return sum(each.wire for each in self.collectives.values())


def seconds(cost: Cost, chip: Chip) -> tuple[float, str]:
  """The least time of `cost` and the limit that sets it: each of the three alone, at its peak, the others hidden."""
  times = {
    "compute": cost.flops / chip.flops,
    "memory": cost.hbm_bytes / chip.hbm_bandwidth,
    "interconnect": cost.wire() / chip.link_bandwidth,
  }
  bound = max(times, key=times.get)
  return times[bound], bound
