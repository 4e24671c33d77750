"""Other meshes and micro-batches for the same chips, ranked by the least time of a token, drawn and learned from."""

from collections.abc import Iterator
import dataclasses
import sys

import jax
import rich.table

from r1jax import config, mesh
from r1jax.models import transformer
from r1jax.models.layer import Named
from r1jax.plan import show
from r1jax.plan.figures import Figures, figures, use
from r1jax.plan.hardware import Machine
from r1jax.plan.programs import programs

MOST = 64  # candidates looked at by arithmetic
PROGRAMS = ("rollout", "sample", "gradient")  # that take most of a step's time and memory


@dataclasses.dataclass(frozen=True)
class Candidate:
  mesh: config.Mesh
  stage: config.Stage  # with its rows of a micro-batch
  figures: dict[str, Figures]  # by program

  @property
  def rows(self) -> int:
    return rows_of(self.stage)

  @property
  def peak(self) -> int:
    return max(each.peak for each in self.figures.values())

  @property
  def seconds(self) -> float:
    """Of a token on the whole machine, at the least: each is drawn once and learned from once."""
    return sum(each.whole.seconds / each.tokens for each in self.figures.values())


def sweep(experiment: config.Experiment, stage: config.Stage, machine: Machine, best: int) -> list[Candidate]:
  """Candidates, the fastest that fits first: all by arithmetic, and then the `best` few compiled, which come first.

  Args:
    best: how many to compile; none where the machine has no compiler.
  """
  on_paper = dataclasses.replace(machine, devices=None)
  drawn, found = {}, []
  for shape, changed in variants(experiment, stage, machine.count):
    if len(found) == MOST:
      break
    found.append(_candidate(shape, experiment, changed, on_paper, drawn))
  if not found:
    raise ValueError(
      f"no mesh of {machine.count} chips divides the rows, experts and heads of {experiment.name}; take another number."
    )
  rank = lambda each: (each.peak > machine.chip.hbm, each.seconds)
  found.sort(key=rank)
  if machine.devices is None or not best:
    return found
  first = []
  for each in found[:best]:
    print(f"compiling {title(each)}", file=sys.stderr, flush=True)
    changed = next(
      c for s, c in variants(experiment, stage, machine.count) if s == each.mesh and rows_of(c) == each.rows
    )
    first.append(_candidate(each.mesh, experiment, changed, machine, {}))
  return sorted(first, key=rank) + found[best:]


def _candidate(shape, experiment, stage, machine: Machine, drawn: dict) -> Candidate:
  """`drawn` keeps the figures of sampling by mesh: they are the same for every micro-batch."""
  experiment = dataclasses.replace(experiment, mesh=shape)
  found = {}
  with use(shape, machine):
    for program in programs(experiment, stage):
      if program.name not in PROGRAMS:
        continue
      if program.name == "gradient":
        found["gradient"] = figures(program, machine)
        break
      if shape in drawn:
        found[program.name] = drawn[shape]
      else:
        found[program.name] = drawn[shape] = figures(program, machine)
  return Candidate(shape, stage, found)


def variants(
  experiment: config.Experiment, stage: config.Stage, chips: int
) -> Iterator[tuple[config.Mesh, config.Stage]]:
  """Every mesh that divides what must be divided, with half, the same and twice the rows of a micro-batch."""
  for shape in shapes(chips):
    if not divides(experiment.model_of(stage), shape):
      continue
    for changed in with_rows(stage):
      stages = tuple(changed if each is stage else each for each in experiment.stages)
      shape = dataclasses.replace(shape, gather=experiment.mesh.gather)
      if is_valid(dataclasses.replace(experiment, mesh=shape, stages=stages)):
        yield shape, changed


def shapes(chips: int) -> list[config.Mesh]:
  """All factorisations data x expert x tensor, the least split weights first."""
  whole = range(1, chips + 1)
  found = [(chips // (e * t), e, t) for t in whole for e in whole if chips % (e * t) == 0]
  return [config.Mesh(data=d, expert=e, tensor=t) for d, e, t in found]


def divides(model: config.Model, shape: config.Mesh) -> bool:
  """Whether the mesh divides heads, experts and every weight of the model."""
  sizes = dict(zip(mesh.AXES, shape.shape))
  one = mesh.abstract(config.Mesh())
  with jax.sharding.use_abstract_mesh(one):
    weights = jax.tree.leaves(transformer.declare(model), is_leaf=lambda x: isinstance(x, Named))
  for weight in weights:
    for length, entry in zip(weight.value.shape, mesh.spec(weight.names)):
      for axis in () if entry is None else (entry,) if isinstance(entry, str) else entry:
        if length % sizes[axis]:
          return False
        length //= sizes[axis]
  heads = (model.attention.heads, getattr(model.attention, "kv_heads", model.attention.heads))
  return not any(n % shape.tensor for n in heads)


def with_rows(stage: config.Stage) -> list[config.Stage]:
  """The stage with half, the same and twice the rows of a micro-batch."""
  if isinstance(stage, config.RL):
    rows = stage.microbatch_rows
    return [dataclasses.replace(stage, microbatch_rows=n) for n in (rows // 2, rows, 2 * rows) if n]
  if not hasattr(stage, "microbatches"):
    raise ValueError(f"--sweep needs a stage that trains, and {stage.name!r} does not; name another with --stages.")
  n = stage.microbatches
  return [dataclasses.replace(stage, microbatches=m) for m in (2 * n, n, n // 2) if m and stage.rows % m == 0]


def rows_of(stage: config.Stage) -> int:
  return stage.microbatch_rows if isinstance(stage, config.RL) else stage.rows // stage.microbatches


def is_valid(experiment: config.Experiment) -> bool:
  try:
    experiment.validate()
  except ValueError:  # the sentence would be of a mesh that nobody asked for
    return False
  return True


def title(each: Candidate) -> str:
  shape = each.mesh
  return f"data={shape.data} expert={shape.expert} tensor={shape.tensor}, {each.rows} rows"


def table(candidates: list[Candidate], machine: Machine) -> rich.table.Table:
  columns = ("rows", "peak GB", f"of {machine.chip.hbm / 1e9:.1f}", "gradient", "bound by", "rollout", "bound by")
  found = show.table(f"meshes of {machine.count} chips", (*columns, "tokens/s of all", "by"))
  for each in candidates:
    cells = [str(each.rows), f"{each.peak / 1e9:.1f}", "fits" if each.peak <= machine.chip.hbm else "too much"]
    drawn = next((f for name, f in each.figures.items() if name != "gradient"), None)
    for figure in (each.figures["gradient"], drawn):
      cells += [show.duration(figure.whole.seconds), figure.whole.bound] if figure else ["", ""]
    by = "arithmetic" if each.figures["gradient"].estimated else "compiler"
    shape = f"data={each.mesh.data} expert={each.mesh.expert} tensor={each.mesh.tensor}"
    found.add_row(shape, *cells, f"{1 / each.seconds:,.0f}", by)
  return found


def as_json(candidates: list[Candidate], machine: Machine) -> list[dict]:
  return [
    {
      "mesh": dataclasses.asdict(each.mesh),
      "rows": each.rows,
      "fits": each.peak <= machine.chip.hbm,
      "peak_bytes": each.peak,
      "tokens_per_second": 1 / each.seconds,
      "functions": {name: show.function_json(f) for name, f in each.figures.items()},
    }
    for each in candidates
  ]
