"""The figures of every program of a run: compiled where there is a compiler, by arithmetic where there is none."""

import dataclasses
import re
import sys
import time

import jax

from r1jax import config, mesh
from r1jax.plan import arithmetic, hlo, liveness
from r1jax.plan.cost import Cost, seconds
from r1jax.plan.hardware import Machine
from r1jax.plan.programs import Program, programs
from r1jax.report import dry_run


@dataclasses.dataclass(frozen=True)
class Phase:
  """What of a program runs as often as the other: all of it, or a rollout's prefill and its steps."""

  name: str
  cost: Cost
  seconds: float
  bound: str  # "compute", "memory" or "interconnect"


@dataclasses.dataclass(frozen=True)
class Figures:
  """Of one chip."""

  held: dict[str, int]  # bytes of the arguments and of what stays beside them, by what they are
  cache: int  # KV cache at its longest, bytes of the temporaries
  arguments: int  # bytes
  beside: int  # bytes of arrays that are no arguments, but stay
  temporaries: int  # bytes, with results that do not take an argument's place
  program: int  # bytes
  estimated: bool  # whether the sizes are not all the compiler's
  asked: bool  # whether the collectives are those that the traced program asks for, and not the compiled one's
  compile_seconds: float
  tokens: int  # that one call reads or, at most, draws, on all chips
  phases: tuple[Phase, ...]  # the whole first
  remedy: str  # what to change where it does not fit

  @property
  def peak(self) -> int:
    return self.arguments + self.beside + self.temporaries + self.program

  @property
  def whole(self) -> Phase:
    return self.phases[0]


def plan(experiment: config.Experiment, machine: Machine, stages=(), names=()) -> dict[str, Figures]:
  """The figures of the programs of a run, or of some stages and some programs, by "stage/program".

  What another stage runs too is compiled once.
  """
  found, known = {}, {}
  with use(experiment.mesh, machine):
    for stage in experiment.stages:
      if stages and stage.name not in stages:
        continue
      for program in programs(experiment, stage):
        if names and program.name not in names:
          continue
        name = f"{stage.name}/{program.name}"
        print(f"{'compiling' if machine.devices else 'tracing'} {name}", file=sys.stderr, flush=True)
        found[name] = figures(program, machine, known)
  return found


def use(shape: config.Mesh, machine: Machine):
  """A context with the mesh of the machine, which exists nowhere where there is nothing to compile for."""
  if machine.devices is not None:
    return jax.set_mesh(mesh.make(shape, list(machine.devices)))
  mesh.check(shape, machine.count, f"{machine.name} has")
  return jax.sharding.use_abstract_mesh(mesh.abstract(shape, machine.platform))


def figures(program: Program, machine: Machine, known: dict | None = None) -> Figures:
  """Traces a program on the current mesh, and compiles it where the machine has devices.

  Args:
    known: what was compiled before, by the text of the program.
  """
  known = {} if known is None else known
  shape = dict(jax.sharding.get_abstract_mesh().shape)
  traced = program.function.trace(*program.placed(), **program.options)
  cost, loops = arithmetic.count(traced.jaxpr.jaxpr, shape, machine.chip.grouped, program.rounds)
  results = sum(arithmetic.local_bytes(v.aval, shape) for v in traced.jaxpr.jaxpr.outvars)
  arguments = sum(dry_run.device_bytes(x) for x in program.placed())
  cost += Cost(hbm_bytes=arguments + results)
  size = dict(arguments=arguments, temporaries=temporaries(traced, shape, cost.flops > 0), program=0)
  took, exchanged, found = 0.0, None, {}
  if machine.devices is not None:
    found, exchanged, took = compiled(traced.lower(), known, program.rounds)
    size |= found
    cost, loops = _exchanging(cost, loops, exchanged) if exchanged else (cost, loops)
  return Figures(
    held=program.held(),
    cache=dry_run.device_bytes(program.cache) if program.cache is not None else 0,
    beside=sum(dry_run.device_bytes(tree) for tree in program.beside.values()),
    estimated="program" not in found,
    asked=not exchanged,
    compile_seconds=took,
    tokens=program.tokens,
    phases=tuple(Phase(name, each, *seconds(each, machine.chip)) for name, each in phases(program, cost, loops)),
    remedy=program.remedy,
    **size,
  )


def temporaries(traced, shape: dict[str, int], has_products: bool) -> int:
  """Bytes of a chip by arithmetic, without the results that take the place of donated arguments.

  Without products it is the update, in which compilers finish one array before the next.
  """
  jaxpr, donated = traced.jaxpr.jaxpr, {}
  for info, v in zip(jax.tree.leaves(traced.args_info), jaxpr.invars):
    if info.donated:
      donated.setdefault((v.aval.shape, v.aval.dtype), []).append(v)
  in_place = {v for v in jaxpr.outvars if donated.get(key := (v.aval.shape, v.aval.dtype)) and donated[key].pop()}
  if has_products:
    return liveness.temporaries(jaxpr, shape, in_place=in_place)
  return sum(arithmetic.local_bytes(v.aval, shape) for v in jaxpr.outvars if v not in in_place)


TOO_MUCH = re.compile(r"RESOURCE_EXHAUSTED.*HLO temporaries \(([\d.]+)([KMG])\)", re.DOTALL)


def compiled(lowered, known: dict, rounds: int):
  """Sizes on a chip, collectives (of the whole and of loops on top), and the seconds that compiling took.

  The TPU's compiler gives up on a program that is too large and says how large the temporaries are: then that is all
  there is. None in the place of collectives that cannot be read: those of the traced program count.
  """
  text = lowered.as_text()
  if text not in known:
    started = time.monotonic()
    try:
      made = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
      told = TOO_MUCH.search(str(error))
      if not told:
        raise
      size = float(told[1]) * {"K": 2**10, "M": 2**20, "G": 2**30}[told[2]]
      known[text] = dict(temporaries=int(size)), None, time.monotonic() - started
      return known[text]
    took, found = time.monotonic() - started, made.memory_analysis()
    size = dict(
      arguments=found.argument_size_in_bytes,
      temporaries=found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes,
      program=found.generated_code_size_in_bytes,
    )
    known[text] = size, _collectives(made, rounds), took
  return known[text]


def _collectives(made, rounds: int):
  """Those of a compiled program; None where this jaxlib cannot read it (some of v5p and v6e, libtpu 0.0.52)."""
  try:
    text = made.as_text()
  except jax.errors.JaxRuntimeError:
    return None
  return hlo.collectives(text, rounds)


def _exchanging(cost: Cost, loops: list[Cost], exchanged) -> tuple[Cost, list[Cost]]:
  """The costs with the collectives of the compiled program in the place of those that the jaxpr asks for."""
  whole, turns = exchanged
  if len(turns) != len(loops):
    raise ValueError(f"the compiled program has {len(turns)} loops of unknown length, and {len(loops)} were traced.")
  put = lambda ours, theirs: dataclasses.replace(ours, collectives=theirs.collectives)
  return put(cost, whole), list(map(put, loops, turns))


def phases(program: Program, cost: Cost, loops: list[Cost]) -> list[tuple[str, Cost]]:
  """The whole of a program and, of a rollout, what comes before the steps, and one step with the longest cache.

  A rollout is counted as if every completion were as long as it may be; of speculative steps, as if none of the drafts
  were accepted.
  """
  if not loops:
    return [("whole", cost)]
  drawn = program.options["sampling"]
  rooms = [min(drawn.chunk, drawn.max_response)]
  while rooms[-1] < drawn.max_response:
    rooms.append(min(2 * rooms[-1], drawn.max_response))
  if len(rooms) != len(loops):
    raise ValueError(f"{program.name} has {len(loops)} loops for caches of {rooms} tokens.")
  steps = [now - before for before, now in zip([0, *rooms], rooms)]
  whole = sum((turn.times(n) for turn, n in zip(loops, steps)), cost)
  return [("whole", whole), ("prefill", cost), ("a step", loops[-1])]
