"""FLOPs, bytes and collectives of a traced program, from its jaxpr: exact shapes, no compiler.

On explicit meshes every value of a jaxpr carries its sharding, so what one chip holds and multiplies is known, and
which collectives the program asks for, too. A scan is counted as often as it runs, at every depth. A loop whose length
only the run knows counts as often as `turns` says, but for those on top (of a decode loop: one step), which `count`
gives apart. What is only ever cast to a narrower type is made, and gathered, in that: compilers move the cast to the
front.

Bytes of HBM are an estimate: the operands and results of every matrix product, once each, as if all else were fused
into them (docs/plan.md). A weight counts with the width that it is kept in, whatever it is cast to.
"""

import dataclasses
import math

from jax.extend.core import Literal

from r1jax.plan.cost import Cost, traffic

# Operations that only rename, cast or reorder what they are given.
SAME = ("convert_element_type", "transpose", "reshape", "squeeze", "copy", "stop_gradient")
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "argmax", "argmin")
OVER_AXES = {  # inside shard_map
  "psum": "all-reduce",
  "pmax": "all-reduce",
  "pmin": "all-reduce",
  "all_gather": "all-gather",
  "reduce_scatter": "reduce-scatter",
  "all_to_all": "all-to-all",
  "ppermute": "collective-permute",
}


def count(jaxpr, shape: dict[str, int], grouped: bool, turns: int = 1) -> tuple[Cost, list[Cost]]:
  """The cost on one chip, and that of one turn of each loop without a known length on top of the program.

  Args:
    jaxpr: a jaxpr of a program on an explicit mesh.
    shape: devices along each axis of the mesh.
    grouped: whether ragged products take each row once, and not once for every group.
    turns: of a loop of unknown length that is not on top.
  """
  loops = []
  return _Counter(shape, grouped, turns).count(jaxpr, loops), loops


def axes_of(entry) -> tuple[str, ...]:
  """Mesh axes that one dimension is split over."""
  return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def spec_of(aval) -> tuple[tuple[str, ...], ...]:
  """Mesh axes of every dimension."""
  spec = getattr(getattr(aval, "sharding", None), "spec", ())
  return tuple(axes_of(spec[i]) if i < len(spec) else () for i in range(len(aval.shape)))


def local_shape(aval, shape: dict[str, int]) -> tuple[int, ...]:
  """What one chip holds of a value."""
  return tuple(n // math.prod(shape[a] for a in axes) for n, axes in zip(aval.shape, spec_of(aval)))


def local_bytes(aval, shape: dict[str, int], width: int | None = None) -> int:
  """Bytes of a value on one chip, of its own width or another."""
  return math.prod(local_shape(aval, shape)) * (width or aval.dtype.itemsize) if hasattr(aval, "shape") else 0


def made_width(jaxpr, results=None) -> dict:
  """Bytes of an element of every value as it is made: narrower than its type where all that use it cast it so.

  Args:
    results: the widths that the jaxpr's results are used with; None: their own.
  """
  results = results or [8] * len(jaxpr.outvars)
  widest = {v: width for v, width in zip(jaxpr.outvars, results) if not is_literal(v)}
  for eqn in reversed(jaxpr.eqns):
    is_loop = eqn.primitive.name in ("scan", "while", "cond")
    used = None if is_loop else [widest.get(v, 8) for v in eqn.outvars]
    inner = [(body.invars, made_width(body, used)) for body in inner_jaxprs(eqn)]
    for i, v in enumerate(eqn.invars):
      if is_literal(v) or not hasattr(v.aval, "dtype"):
        continue
      used = v.aval.dtype.itemsize
      if eqn.primitive.name == "convert_element_type":
        used = eqn.outvars[0].aval.dtype.itemsize
      elif eqn.primitive.name in (*SAME, "reshard"):
        used = widest.get(eqn.outvars[0], used)
      elif inner:
        behind = i - len(eqn.invars)  # a loop's body and a branch lack the first operands of their equation
        used = max(widths.get(own[behind], 0) if -behind <= len(own) else used for own, widths in inner)
      widest[v] = max(widest.get(v, 0), used)
  return {v: min(width, v.aval.dtype.itemsize) for v, width in widest.items() if hasattr(v.aval, "dtype") and width}


def inner_jaxprs(eqn):
  """The jaxprs that an equation runs, but for a kernel's and a scatter's or a reduction's combining function."""
  if eqn.primitive.name == "pallas_call":
    return
  for name, value in eqn.params.items():
    if name in ("update_jaxpr", "cond_jaxpr"):
      continue
    for each in value if isinstance(value, (tuple, list)) else (value,):
      each = getattr(each, "jaxpr", each)
      if hasattr(each, "eqns"):
        yield each


@dataclasses.dataclass(frozen=True)
class _Counter:
  shape: dict[str, int]
  grouped: bool
  turns: int

  def count(self, jaxpr, loops=None) -> Cost:
    """The cost of a jaxpr; a loop of unknown length goes to `loops`, if they are asked for."""
    total = Cost()
    made = made_width(jaxpr)
    width = {id(v): v.aval.dtype.itemsize for v in jaxpr.invars if hasattr(v.aval, "dtype")}  # of what came in
    summed = {}  # values all-reduced over (axes, cost): a reduce-scatter, if all that follows is to keep a part
    for eqn in jaxpr.eqns:
      name = eqn.primitive.name
      if name == "while":
        turn = self.count(eqn.params["body_jaxpr"].jaxpr)
        if loops is None:
          total += turn.times(self.turns)
        else:
          loops.append(turn)
        continue
      if name == "cond":
        total += max((self.count(branch.jaxpr) for branch in eqn.params["branches"]), key=lambda c: c.flops)
        continue
      for inner in inner_jaxprs(eqn):
        on_top = loops if name == "jit" else None
        total += self.count(inner, on_top).times(eqn.params["length"] if name == "scan" else 1)
      if name in (*SAME, "reshard") and id(eqn.invars[0]) in width:
        width[id(eqn.outvars[0])] = width[id(eqn.invars[0])]
      if name in SAME and id(eqn.invars[0]) in summed:
        summed[id(eqn.outvars[0])] = summed[id(eqn.invars[0])]
      total += self.one(eqn, width, summed, made)
    return total

  def one(self, eqn, width, summed, made) -> Cost:
    """An equation's own cost, without that of the jaxprs in it."""
    name = eqn.primitive.name
    if name in ("dot_general", "ragged_dot_general"):
      product = Cost(self.flops(eqn), self.product_bytes(eqn, width))
      return product + (self.contracted(eqn, summed) if name == "dot_general" else Cost())
    if name == "pallas_call":
      return self.kernel(eqn)
    if name == "reshard":
      return self.reshard(eqn, summed, made)
    if name in REDUCTIONS:
      spec = spec_of(eqn.invars[0].aval)
      return self.over(eqn, "all-reduce", [a for i in eqn.params["axes"] for a in spec[i]], summed)
    if name == "ragged_all_to_all":  # between rows without gaps and a room with some
      rows = min(eqn.invars[:2], key=lambda v: v.aval.size)
      return self.over(eqn, "all-to-all", axes_of(eqn.params["axis_name"]), of=[rows])
    if name in OVER_AXES:
      named = eqn.params.get("axes") or eqn.params.get("axis_name")
      return self.over(eqn, OVER_AXES[name], axes_of(named) if isinstance(named, str) else named)
    return Cost()

  def kernel(self, eqn) -> Cost:
    """A kernel's own estimate; of causal attention, which has none, the blocks that are not above the diagonal."""
    if estimate := eqn.params["cost_estimate"]:
      return Cost(float(estimate.flops), float(estimate.bytes_accessed))
    grid = eqn.params["grid_mapping"].grid
    blocks = math.prod(grid) * (grid[-1] + 1) / (2 * grid[-1])
    size = sum(local_bytes(v.aval, self.shape) for v in (*eqn.invars, *eqn.outvars))
    return Cost(self.count(eqn.params["jaxpr"]).flops * blocks, float(size))

  def over(self, eqn, kind, axes, summed=None, made=None, of=None) -> Cost:
    """A collective of this kind over mesh axes with each of the equation's results, or of other values."""
    group = math.prod(self.shape[a] for a in axes)
    if group == 1:
      return Cost()
    size = lambda v: local_bytes(v.aval, self.shape, (made or {}).get(v))
    found = [Cost(collectives={kind: traffic(kind, size(v), group)}) for v in of or eqn.outvars]
    if summed is not None:
      summed[id(eqn.outvars[0])] = tuple(axes), found[0]
    return sum(found, Cost())

  def reshard(self, eqn, summed, made) -> Cost:
    """Axes that leave a dimension are gathered; those that come to one cost nothing, as each chip keeps its part."""
    before, after = (spec_of(v.aval) for v in (eqn.invars[0], eqn.outvars[0]))
    gone = [a for old, new in zip(before, after) for a in old if a not in new]
    come = [a for old, new in zip(before, after) for a in new if a not in old]
    if moved := [a for a in gone if a in come]:
      return self.over(eqn, "all-to-all", moved)
    if gone:
      return self.over(eqn, "all-gather", gone, made=made)
    axes, reduced = summed.get(id(eqn.invars[0]), ((), None))
    if not axes or not set(axes) <= set(come):
      return Cost()
    # Only a part of the sum is kept: in place of the all-reduce that was counted.
    undone = Cost(collectives={k: v.times(-1) for k, v in reduced.collectives.items()})
    return undone + self.over(eqn, "reduce-scatter", axes)

  def contracted(self, eqn, summed) -> Cost:
    """The sum over chips where a contracted dimension is split."""
    spec = spec_of(eqn.invars[0].aval)
    axes = [a for i in eqn.params["dimension_numbers"][0][0] for a in spec[i]]
    kept = {a for entry in spec_of(eqn.outvars[0].aval) for a in entry}
    return self.over(eqn, "reduce-scatter" if axes and set(axes) <= kept else "all-reduce", axes, summed)

  def flops(self, eqn) -> float:
    left, right, *sizes = (local_shape(v.aval, self.shape) for v in eqn.invars)
    if eqn.primitive.name == "dot_general":
      (_, contracted), (_, batch) = eqn.params["dimension_numbers"]
      free = [n for i, n in enumerate(right) if i not in (*contracted, *batch)]
      return 2.0 * math.prod(left) * math.prod(free)
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (contracted, _), _ = numbers.dot_dimension_numbers
    out = local_shape(eqn.outvars[0].aval, self.shape)
    groups = sizes[0][-1]
    flops = 2.0 * math.prod(out) * math.prod(left[i] for i in contracted)
    if set(numbers.lhs_ragged_dimensions) <= set(contracted):  # the gradient of the weights: each row to one group
      flops /= groups
    return flops if self.grouped else flops * groups

  def product_bytes(self, eqn, width) -> float:
    operands = eqn.invars[:2]
    size = lambda v: math.prod(local_shape(v.aval, self.shape)) * width.get(id(v), v.aval.dtype.itemsize)
    return float(sum(map(size, operands)) + sum(local_bytes(v.aval, self.shape) for v in eqn.outvars))


def is_literal(v) -> bool:
  return isinstance(v, Literal)
