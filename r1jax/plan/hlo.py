"""Collectives of a compiled program, read from its HLO text, with how often each runs.

Computations are walked from the entry: a loop's body counts as often as the loop turns (`known_trip_count`, or the
constant that its condition compares the counter with); a loop without such a number counts once, but for those on top,
which are given apart. What the TPU's compiler does to collectives is undone:

* an asynchronous gather is spread over several fusions that share a `chain_id`: it is one collective;
* a reduce-scatter is a fusion named all-reduce-scatter around an all-reduce.

A ragged all-to-all counts with all the room of its result.
"""

import dataclasses
import math
import re

from r1jax.plan.cost import KINDS, Cost, traffic

COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
ARRAY = re.compile(r"\b(pred|bf16|[sufc]\d+|f8\w+)\[([\d,]*)\]")
CALLED = re.compile(r"(?:calls|to_apply|branch_computations|true_computation|false_computation)=(\{[^}]*\}|%?[\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Instruction:
  name: str
  type: str
  op: str
  rest: str  # operands and attributes

  def attribute(self, pattern: str) -> str:
    """The first group of `pattern` in the attributes; empty where there is none."""
    found = re.search(pattern, self.rest)
    return found[1] if found else ""


def computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
  """The instructions of every computation of a module by its name, and the name of its entry."""
  found, entry, current = {}, "", None
  for line in text.splitlines():
    if head := COMPUTATION.match(line):
      current = found[head[2]] = []
      entry = head[2] if head[1] else entry
    elif current is not None and (parts := INSTRUCTION.match(line)):
      current.append(Instruction(*parts.groups()))
  return found, entry


def collectives(text: str, turns: int = 1) -> tuple[Cost, list[Cost]]:
  """What one chip exchanges in one execution, and in one turn of each loop on top whose length is not known.

  Args:
    turns: of such a loop that is not on top.
  """
  module, entry = computations(text)
  loops = []
  return _walk(module, entry, loops, set(), turns), loops


def per_turn(text: str) -> dict[str, Cost]:
  """What one turn of every loop exchanges beside the loops in it, by the name of its body."""
  module, _ = computations(text)
  bodies = [i.attribute(r"body=%?([\w.\-]+)") for each in module.values() for i in each if i.op == "while"]
  return {body: _walk(module, body, None, set(), 0) for body in bodies}


def _walk(module, name, loops, chains, turns) -> Cost:
  """The sum over a computation, without the loops in it where `turns` is 0.

  `loops` takes those of unknown length, on top; `chains` are the asynchronous collectives seen in this turn.
  """
  total = Cost()
  for each in module[name]:
    if each.op == "while" and turns:
      turn = _walk(module, each.attribute(r"body=%?([\w.\-]+)"), None, set(), turns)
      known = trip_count(module, each)
      if known is None and loops is not None:
        loops.append(turn)
      else:
        total += turn.times(turns if known is None else known)
    elif kind := kind_of(each):
      chain = each.attribute(r'chain_id="(\d+)"')
      if chain and chain in chains:
        continue
      chains |= {chain} if chain else set()
      total += one(each, kind, scattered=name.startswith("all-reduce-scatter"))
    elif each.op in ("fusion", "call", "conditional", "async-start"):
      for called in called_by(each):
        total += _walk(module, called, loops, chains, turns)
  return total


def called_by(each: Instruction) -> list[str]:
  return [name for group in CALLED.findall(each.rest) for name in re.findall(r"[\w.\-]+", group)]


def kind_of(each: Instruction) -> str:
  """The kind of a collective; empty for everything else, and for the end of one that was begun before."""
  kind = each.op.removesuffix("-start").removeprefix("ragged-")
  return kind if kind in KINDS else ""


def one(each: Instruction, kind: str, scattered: bool) -> Cost:
  """A collective's result and what it sends."""
  group = group_size(each)
  if group == 1:
    return Cost()
  sizes = [
    math.prod(map(int, filter(None, dims.split(",")))) * width(dtype) for dtype, dims in ARRAY.findall(each.type)
  ]
  if each.op == "all-gather-start":  # a pair of what goes in and what comes out
    sizes = sizes[len(sizes) // 2 :]
  elif each.op == "collective-permute-start":
    sizes = sizes[1:2]
  if kind == "all-reduce" and scattered:
    return Cost(collectives={"reduce-scatter": traffic("reduce-scatter", sum(sizes) // group, group)})
  return Cost(collectives={kind: traffic(kind, sum(sizes), group)})


def width(dtype: str) -> float:
  """Bytes of one element."""
  if dtype == "pred" or dtype.startswith("f8"):
    return 1
  return 2 if dtype == "bf16" else int(dtype[1:]) / 8


def group_size(each: Instruction) -> int:
  """How many chips take part together, from the first of the replica groups in whatever form they are written."""
  if each.op.startswith("collective-permute"):
    return 2
  if first := each.attribute(r"replica_groups=\{\{([\d,]+)\}"):
    return first.count(",") + 1
  if length := each.attribute(r"replica_groups=\[\d+,(\d+)\]<="):
    return int(length)
  if axes := each.attribute(r"replica_groups=mesh(\[[^\]]*\].*?\{[^}]*\})"):
    sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", axes)}
    return math.prod(sizes[name] for name in re.findall(r"'(\w+)'", axes.split("{")[1]))
  raise ValueError(f"the groups of {each.name} are written in a form that is not known: {each.rest[:200]}")


def trip_count(module, loop: Instruction) -> int | None:
  """How often a loop turns, where the compiler knows it; None where only the run does."""
  if known := loop.attribute(r"known_trip_count\W+n\W+(\d+)"):
    return int(known)
  condition = {each.name: each for each in module[loop.attribute(r"condition=%?([\w.\-]+)")]}
  compared = [each for each in condition.values() if each.op == "compare"]
  if len(compared) != 1 or "direction=LT" not in compared[0].rest or any(e.op == "and" for e in condition.values()):
    return None
  limit = condition.get(re.findall(r"%([\w.\-]+)", compared[0].rest)[1])
  return int(limit.rest.split(")")[0]) if limit and limit.op == "constant" else None
