"""Memory of a program's temporaries without a compiler: the largest sum of values that live at one time.

Values are made in the order of the jaxpr and freed after their last use. A scan holds what it stacks up (with remat:
only what its policy keeps) and, on top, the temporaries of one turn; a loop's carry stays in its place. Broadcasts and
iotas are never made, and an elementwise result takes the place of an operand that is not used any more. This is an
estimate: a compiler reorders, fuses more, pads, and overlaps gathers with products (docs/plan.md compares both).
"""

from r1jax.plan.arithmetic import inner_jaxprs, is_literal, local_bytes

NEVER_MADE = ("broadcast_in_dim", "iota")
# Whose result cannot take the place of an operand.
APART = ("dot_general", "ragged_dot_general", "gather", "sort", "reshard", "transpose", "all_to_all", "concatenate")


def temporaries(jaxpr, shape: dict[str, int]) -> int:
  """Bytes on one chip that are neither arguments nor constants; results are among them.

  Args:
    jaxpr: of a program on an explicit mesh.
    shape: devices along each axis of the mesh.
  """
  last = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if not is_literal(v)}
  last |= dict.fromkeys((v for v in jaxpr.outvars if not is_literal(v)), len(jaxpr.eqns))
  held, peak = {}, 0
  for i, eqn in enumerate(jaxpr.eqns):
    name = eqn.primitive.name
    made = {v: 0 if name in NEVER_MADE else local_bytes(v.aval, shape) for v in eqn.outvars}
    ended = {v for v in eqn.invars if not is_literal(v) and last[v] == i}
    inside = max((temporaries(inner, shape) for inner in inner_jaxprs(eqn)), default=0)
    reused = ended if name not in APART and not inside else ended & _carried(eqn)
    if inside and name not in ("scan", "while"):
      inside = max(inside - sum(made.values()), 0)  # its results are among what was made inside
    live = sum(held.values()) - sum(held.get(v, 0) for v in reused)
    peak = max(peak, live + sum(made.values()) + inside)
    for v in ended:
      held.pop(v, None)
    held |= {v: size for v, size in made.items() if v in last}
  return peak


def _carried(eqn) -> set:
  """The operands that a loop carries."""
  first = {"scan": ("num_consts",), "while": ("cond_nconsts", "body_nconsts")}.get(eqn.primitive.name)
  if first is None:
    return set()
  start = sum(eqn.params[name] for name in first)
  end = start + eqn.params.get("num_carry", len(eqn.invars))
  return {v for v in eqn.invars[start:end] if not is_literal(v)}
