"""Memory of a program's temporaries without a compiler: the largest sum of values that live at one time.

Values are made in the order of the jaxpr and freed after their last use. A scan holds what it stacks up (with remat:
only what its policy keeps) and, on top, the temporaries of one turn; a loop works in the place of its carry. Broadcasts
and iotas are never made, and an elementwise result takes the place of an operand that is not used any more. This is an
estimate: a compiler reorders, fuses more, pads, and overlaps gathers with products (docs/plan.md compares both).
"""

from jax.sharding import AxisType

from r1jax.plan.arithmetic import inner_jaxprs, is_literal, local_bytes, made_width

NEVER_MADE = ("broadcast_in_dim", "iota")
APART = {  # whose result cannot take the place of an operand
  *("dot_general", "ragged_dot_general", "pallas_call", "gather", "sort", "transpose", "concatenate"),
  *("reshard", "all_to_all", "ragged_all_to_all", "reduce_scatter"),
}


def temporaries(jaxpr, shape: dict[str, int], given=(), in_place=frozenset()) -> int:
  """Bytes on one chip that are neither arguments nor constants; results are among them.

  Args:
    jaxpr: of a program on an explicit mesh.
    shape: devices along each axis of the mesh.
    given: arguments that count, since nobody else needs them any more.
    in_place: results that take the place of donated arguments, and so do not count.
  """
  last = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if not is_literal(v)}
  last |= dict.fromkeys((v for v in jaxpr.outvars if not is_literal(v)), len(jaxpr.eqns))
  width = made_width(jaxpr)
  size = lambda v: 0 if is_chosen_later(v.aval) else local_bytes(v.aval, shape, width.get(v))
  held = {v: size(v) for v in given if v in last}
  peak = sum(held.values())
  for i, eqn in enumerate(jaxpr.eqns):
    made = {v: 0 if eqn.primitive.name in NEVER_MADE or v in in_place else size(v) for v in eqn.outvars}
    ended = {v for v in eqn.invars if not is_literal(v) and last[v] == i}
    reused = set() if eqn.primitive.name in APART else ended
    inside, apart = 0, made.values()
    for inner in inner_jaxprs(eqn):
      handed, apart = _handed(eqn, inner, ended & held.keys(), made)
      reused = {operand for operand, _ in handed}
      needed = temporaries(inner, shape, [argument for _, argument in handed])
      inside = max(inside, needed)
    live = sum(held.values()) - sum(held.get(v, 0) for v in reused)
    peak = max(peak, live + max(inside + sum(apart), sum(made.values())))
    for v in ended:
      held.pop(v, None)
    held |= {v: n for v, n in made.items() if v in last}
  return peak


def _handed(eqn, inner, free: set, made: dict) -> tuple[list, list[int]]:
  """(operand, argument inside) of what an equation hands to its inner jaxpr, and the bytes it makes beside that one.

  A loop hands over its carry, and stacks up the rest of its results outside; others hand over all that is free, and
  their results are made inside.
  """
  pairs = list(zip(eqn.invars[len(eqn.invars) - len(inner.invars) :], inner.invars))
  if eqn.primitive.name not in ("scan", "while"):
    return [(v, w) for v, w in pairs if not is_literal(v) and v in free], []
  first = eqn.params["num_consts" if eqn.primitive.name == "scan" else "body_nconsts"]
  carried = eqn.params.get("num_carry", len(inner.invars) - first)
  handed = [(v, w) for v, w in pairs[first : first + carried]]
  stacked = [made[v] for v in eqn.outvars[carried:]]
  return [(v, w) for v, w in handed if not is_literal(v)], stacked


def is_chosen_later(aval) -> bool:
  """Whether the compiler chooses how a value is split; what it is cast to counts in its place."""
  mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
  return mesh is not None and AxisType.Auto in mesh.axis_types
