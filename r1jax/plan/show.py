"""The figures as tables of at most 140 columns, as a sentence, and as JSON."""

import dataclasses
import math

import rich.console
import rich.table

from r1jax.plan.cost import KINDS, Cost
from r1jax.plan.figures import Figures
from r1jax.plan.hardware import Machine

PARTS = ("parameters", "optimizer", "gradients", "reference")  # of what is held; the rest is "others"


def tables(figures: dict[str, Figures], machine: Machine) -> list[rich.table.Table]:
  found = [memory(figures, machine), time(figures)]
  exchanged = exchange(figures)
  return [*found, exchanged] if exchanged.row_count else found


def memory(figures: dict[str, Figures], machine: Machine) -> rich.table.Table:
  estimated = " (by arithmetic: temporaries are an estimate)" if machine.devices is None else ""
  columns = (*PARTS, "others", "temporaries", "of it cache", "program", "peak", f"of {machine.chip.hbm / 1e9:.1f}")
  found = table(f"memory of one of {machine.count} chips, GB{estimated}", columns)
  for name, each in figures.items():
    parts = [each.held.get(part, 0) for part in PARTS]
    parts.append(each.arguments + each.beside - sum(parts))  # with what the compiler pads
    sizes = (*parts, each.temporaries, each.cache, each.program, each.peak)
    sizes = [f"{size / 1e9:.2f}" for size in sizes]
    found.add_row(name, *sizes, "fits" if each.peak <= machine.chip.hbm else "too much")
  return found


def time(figures: dict[str, Figures]) -> rich.table.Table:
  columns = ("TFLOP", "HBM GB", "sent GB", "at least", "bound by", "tokens of all", "compiled in")
  found = table("one call, one chip", columns)
  for name, each in figures.items():
    for phase in each.phases:
      whole = phase is each.whole
      found.add_row(
        name if whole else f"  {phase.name}",
        f"{phase.cost.flops / 1e12:.4g}",
        f"{phase.cost.hbm_bytes / 1e9:.4g}",
        f"{phase.cost.wire() / 1e9:.4g}",
        "-" if math.isnan(phase.seconds) else duration(phase.seconds),
        "-" if math.isnan(phase.seconds) else phase.bound,
        f"{each.tokens:,}" if whole and each.tokens else "",
        f"{each.compile_seconds:.0f} s" if whole and not each.estimated else "",
      )
  return found


def exchange(figures: dict[str, Figures]) -> rich.table.Table:
  """How many collectives of each kind, and the bytes of their results."""
  asked = "asked for in" if any(f.asked for f in figures.values()) else "of"
  found = table(f"collectives {asked} one call, one chip: number x GB of all results", KINDS)
  for name, each in figures.items():
    for phase in each.phases:
      cells = (phase.cost.collectives.get(kind) for kind in KINDS)
      texts = [f"{c.count:,.0f} x {c.bytes / 1e9:.3g}" if c and c.count else "" for c in cells]
      if any(texts):
        found.add_row(name if phase is each.whole else f"  {phase.name}", *texts)
  return found


def table(title: str, columns) -> rich.table.Table:
  found = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
  found.add_column("program", no_wrap=True)
  for column in columns:
    found.add_column(column, justify="right", no_wrap=True)
  return found


def duration(seconds: float) -> str:
  for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
    if seconds >= size:
      return f"{seconds / size:.3g} {unit}"
  return f"{seconds * 1e3:.3g} ms"


def verdict(figures: dict[str, Figures], memory: int) -> str:
  """One sentence: whether everything fits, and else by how much not, and what to change."""
  name = max(figures, key=lambda name: figures[name].peak)
  peak = figures[name].peak
  about = "about " if figures[name].estimated else ""
  if peak <= memory:
    return f"Fits: {name} needs the most, {about}{peak / 1e9:.1f} of {memory / 1e9:.1f} GB a chip."
  return (
    f"Does not fit: {name} needs {about}{peak / 1e9:.1f} GB a chip, {(peak - memory) / 1e9:.1f} more than there are; "
    f"try {figures[name].remedy}."
  )


def as_json(figures: dict[str, Figures], machine: Machine) -> dict:
  """What --json prints."""
  return {
    "fits": all(each.peak <= machine.chip.hbm for each in figures.values()),
    "topology": machine.name,
    "chips": machine.count,
    "memory_bytes": machine.chip.hbm,
    "notes": list(machine.notes),
    "functions": {name: function_json(each) for name, each in figures.items()},
  }


def function_json(each: Figures) -> dict:
  sizes = ("arguments", "beside", "temporaries", "program", "estimated", "compile_seconds", "tokens")
  found = {name: getattr(each, name) for name in sizes}
  phases = {phase.name: _phase(phase) for phase in each.phases[1:]}
  held = {"peak_bytes": each.peak, "held_bytes": each.held, "cache_bytes": each.cache}
  return held | found | _phase(each.whole) | ({"phases": phases} if phases else {})


def _phase(phase) -> dict:
  known = not math.isnan(phase.seconds)
  time = {"seconds": phase.seconds if known else None, "bound": phase.bound if known else None}
  return cost_json(phase.cost) | time


def cost_json(cost: Cost) -> dict:
  exchanged = {kind: dataclasses.asdict(each) for kind, each in cost.collectives.items()}
  return {"flops": cost.flops, "hbm_bytes": cost.hbm_bytes, "collectives": exchanged}
