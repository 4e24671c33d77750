"""How an experiment composes rewards: tables per domain, gates and clips (DeepSeek-R1 Nature eq. 8-10).

  rewards=(
    ByDomain({"math": (Gated(Accuracy(), gate=Format()),), "code": (CodeTests(),)}, other=(Judge(...),)),
    Format(),
    LanguageConsistency(),
  )

`leaves` spells a composition out: one Leaf per reward, with the rows it is for
and the gates and clips it stands in.
"""

from collections.abc import Mapping
import dataclasses
import inspect
import math
from typing import Any

from r1jax.rewards.functions import Function

RESERVED = {"total", "parsed", "check_timeouts", "check_failures"}  # log keys beside the rewards' names


@dataclasses.dataclass(slots=True, unsafe_hash=True)
class ByDomain:
  """Other rewards for other domains: reasoning by rules, general questions by reward models.

  Args:
    table: domain -> rewards. A domain is that of a Problem.
    other: for every domain that is not in the table; empty: no reward.
  """

  table: Any  # tuple of (domain, rewards) once made: hashable
  other: tuple[Any, ...] = ()

  def __post_init__(self):
    pairs = self.table.items() if isinstance(self.table, Mapping) else self.table
    self.table = tuple((domain, _tuple(rewards)) for domain, rewards in pairs)
    self.other = _tuple(self.other)


@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Gated:
  """`reward` where `gate` gives at least `threshold`, else 0: no accuracy without the format, say.

  The reward is not even asked where the gate is closed. The gate itself adds nothing to the total.
  """

  reward: Any
  gate: Any
  threshold: float = 1.0


@dataclasses.dataclass(slots=True, unsafe_hash=True)
class Clipped:
  """`reward` with its value, before its weight, kept within [low, high]."""

  reward: Any
  low: float
  high: float

  def __post_init__(self):
    if not self.low <= self.high:
      raise ValueError(f"Clipped: low={self.low} must not be above high={self.high}.")


@dataclasses.dataclass(frozen=True, slots=True)
class Leaf:
  """One reward of a composition."""

  reward: Any
  domains: frozenset[str] | None = None  # the rows it is for; None: all but `others`
  others: frozenset[str] = frozenset()
  around: tuple[Gated | Clipped, ...] = ()  # what it stands in, the outermost first

  def applies(self, domain: str) -> bool:
    return domain in self.domains if self.domains is not None else domain not in self.others

  def disjoint(self, other: "Leaf") -> bool:
    """Whether no row is for both."""
    if self.domains is not None and other.domains is not None:
      return not self.domains & other.domains
    if self.domains is None and other.domains is None:
      return False
    listed, open_ended = (self, other) if self.domains is not None else (other, self)
    return listed.domains <= open_ended.others


def leaves(rewards) -> tuple[Leaf, ...]:
  """The rewards of a composition one by one.

  Raises:
    ValueError: none at all, something that is no reward, a weight that is no
      finite number, or one name twice for the same row.
  """
  found = tuple(leaf for reward in _tuple(rewards) for leaf in _spread(reward, Leaf(None)))
  names = [leaf.reward.name for leaf in found]
  clash = [a.reward.name for i, a in enumerate(found) for b in found[:i]
           if a.reward.name == b.reward.name and not a.disjoint(b)]  # fmt: skip
  if not found or clash:
    raise ValueError(f"rewards={names} must be at least one, each with its own name for every row.")
  if taken := sorted(set(names) & RESERVED):
    raise ValueError(f"reward {taken[0]!r}: the log has a column of this name already; give it another name.")
  for leaf in found:
    if not math.isfinite(leaf.reward.weight):
      raise ValueError(f"reward {leaf.reward.name!r}: weight={leaf.reward.weight} must be a finite number.")
  return found


def given(rewards) -> list[tuple[Leaf, Any]]:
  """(leaf, reward) of every reward whose values are given to the scorer: in a composition, or as a gate in it."""
  found = leaves(rewards)
  inside = lambda leaf: [leaf.reward, *(step.gate for step in leaf.around if isinstance(step, Gated))]
  return [(leaf, reward) for leaf in found for reward in inside(leaf) if getattr(reward, "given", False)]


def _tuple(rewards):
  return tuple(rewards) if isinstance(rewards, (tuple, list)) else (rewards,)


def _spread(reward, around: Leaf):
  """Leaves of one element of a composition, inside what `around` says."""
  if isinstance(reward, ByDomain):
    for domain, inner in reward.table:
      if around.applies(domain):
        for each in inner:
          yield from _spread(each, dataclasses.replace(around, domains=frozenset({domain})))
    listed = frozenset(domain for domain, _ in reward.table)
    rest = {"domains": around.domains - listed} if around.domains is not None else {"others": around.others | listed}
    for each in reward.other:
      yield from _spread(each, dataclasses.replace(around, **rest))
  elif isinstance(reward, Gated):
    gate = dataclasses.replace(reward, gate=_reward(reward.gate))
    yield from _spread(reward.reward, dataclasses.replace(around, around=(*around.around, gate)))
  elif isinstance(reward, Clipped):
    yield from _spread(reward.reward, dataclasses.replace(around, around=(*around.around, reward)))
  else:
    yield dataclasses.replace(around, reward=_reward(reward))


def _reward(reward):
  """A reward object; a plain function is taken for one with TRL's signature."""
  if inspect.isfunction(reward):
    return Function(function=reward)
  known = callable(reward) or hasattr(reward, "open") or getattr(reward, "given", False)
  if not (hasattr(reward, "name") and hasattr(reward, "weight") and known):
    raise ValueError(
      f"{reward!r} is no reward: it needs a name, a weight and either __call__(problem, response, prefill) or open()."
    )
  return reward
