"""python -m r1jax.plan --config=experiments/r1_671b.py --topology=v5p:8x8x16 [--stages=zero --programs=update] [--json]

Compiles the programs that the stages of a run execute, and says what each of
them needs of a chip's memory and whether it fits. With `pip install libtpu` the
compiler of a TPU is there without the TPU; --topology=local compiles for the
devices of this machine. The programs are those of training itself, from the
same config; no weight is made and no data read.
"""

from collections.abc import Iterator
import dataclasses
import functools
import json
import os
import sys
import time
from typing import Any

from absl import flags
import rich.console
import rich.table

from r1jax import config, main as command

TOPOLOGY = flags.DEFINE_string("topology", "local", "TPU generation and shape, as v5p:8x8x16; or local.")
PROGRAMS = flags.DEFINE_list("programs", [], "Programs to compile, as rollout,gradient; default: all.")
JSON = flags.DEFINE_bool("json", False, "Print the figures as JSON, for scripts.")

# Memory of a chip, bytes.
MEMORY = {"v4": 32 * 2**30, "v5e": 16 * 2**30, "v5p": 95 * 2**30, "v6e": 32 * 2**30}


@dataclasses.dataclass(frozen=True)
class Program:
  """A jitted function of training with the shapes it is called with, and what else is in memory meanwhile."""

  name: str
  function: Any
  args: tuple
  options: dict[str, Any]
  beside: Any  # tree of shapes that are no arguments
  remedy: str  # what to change where it does not fit


@dataclasses.dataclass(frozen=True)
class Figures:
  """Bytes of one chip."""

  arguments: int
  beside: int  # arrays that are no arguments, but stay
  temporaries: int  # and results that do not take an argument's place
  program: int
  seconds: float  # that compiling took

  @property
  def peak(self) -> int:
    return self.arguments + self.beside + self.temporaries + self.program


def run(argv):
  del argv
  experiment, _ = command.chosen(weights=False)
  devices, memory = machine(TOPOLOGY.value)
  figures, remedies = plan(experiment, devices, tuple(command.STAGES.value), tuple(PROGRAMS.value))
  if not figures:
    raise ValueError(
      f"--programs={','.join(PROGRAMS.value)} names none; there are rollout, gradient, update, exam, ..."
    )
  fits = all(each.peak <= memory for each in figures.values())
  if JSON.value:
    functions = {name: dataclasses.asdict(each) | {"peak_bytes": each.peak} for name, each in figures.items()}
    print(json.dumps({"fits": fits, "chips": len(devices), "memory_bytes": memory, "functions": functions}, indent=2))
    return
  console = rich.console.Console()
  console.print(table(figures, memory))
  console.print(verdict(figures, remedies, memory), markup=False, highlight=False, soft_wrap=True)


def machine(topology: str) -> tuple[list, int]:
  """The devices to compile for, and the memory of one; ValueError for a machine that is not known."""
  import jax

  if topology == "local":
    stats = jax.devices()[0].memory_stats() or {}
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return jax.devices(), stats.get("bytes_limit", pages // len(jax.devices()))
  generation = topology.split(":", maxsplit=1)[0]
  if generation not in MEMORY or ":" not in topology:
    raise ValueError(f"--topology={topology} must be local or one of {', '.join(MEMORY)} with a shape, as v5e:2x4.")
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  from jax.experimental import topologies

  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
  except Exception as error:  # of libtpu, in many words and classes
    reason = " ".join(str(error).split())[:200]
    raise ValueError(f"--topology={topology} cannot be compiled for: {reason}; is libtpu installed?") from error
  return list(found.devices), MEMORY[generation]


def plan(
  experiment: config.Experiment, devices, only: tuple[str, ...] = (), programs_only: tuple[str, ...] = ()
) -> tuple[dict[str, Figures], dict]:
  """Compiles everything: figures and remedies by "stage/program"; what another stage runs too is compiled once."""
  import jax

  from r1jax import mesh

  figures, remedies, known = {}, {}, {}
  with jax.set_mesh(mesh.make(experiment.mesh, devices)):
    for stage in experiment.stages:
      if only and stage.name not in only:
        continue
      for program in programs(experiment, stage):
        if programs_only and program.name not in programs_only:
          continue
        name = f"{stage.name}/{program.name}"
        print(f"compiling {name}", file=sys.stderr, flush=True)
        lowered = program.function.lower(*map(placed, program.args), **program.options)
        text = lowered.as_text()
        if text not in known:
          started = time.monotonic()
          known[text] = lowered.compile().memory_analysis(), time.monotonic() - started
        found, seconds = known[text]
        remedies[name] = program.remedy
        figures[name] = Figures(
          arguments=found.argument_size_in_bytes,
          beside=device_bytes(program.beside),
          temporaries=found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes,
          program=found.generated_code_size_in_bytes,
          seconds=seconds,
        )
  return figures, remedies


def placed(tree):
  """The shapes with whatever has no sharding copied to every device of the current mesh."""
  import jax
  from jax.sharding import NamedSharding, PartitionSpec as P

  here = jax.sharding.get_mesh()

  def place(x):
    spec = x.sharding.spec if isinstance(x.sharding, NamedSharding) else ()
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(here, P(*spec[: len(x.shape)])))

  return jax.tree.map(place, tree)


def device_bytes(tree) -> int:
  from r1jax.report import dry_run

  return dry_run.device_bytes(placed(tree))


def programs(experiment: config.Experiment, stage: config.Stage) -> Iterator[Program]:
  """What a stage executes on the devices, beside small things."""
  from r1jax.models import reward_head, scoring
  from r1jax.training import state as states

  model = experiment.model_of(stage)
  params = states.abstract_params(model)
  exams = exams_of(experiment) if stage.makes == "policy" else {}
  if isinstance(stage, config.RL):
    yield from rl(experiment, stage, model, params)
  elif isinstance(stage, (config.SFT, config.Pretrain)):
    loss = functools.partial(scoring.next_token_loss, model, mtp_weight=stage.mtp_weight)
    adapters = getattr(stage, "lora", None)
    yield from training(model, stage, params, loss, batch(stage.rows // stage.microbatches, stage.length), adapters)
  elif isinstance(stage, config.RewardModel):
    loss = functools.partial(reward_head.LOSSES[stage.loss], model)
    responses = batch_of_responses(stage)
    yield from training(model, stage, states.abstract_params(model, reward_head.declare), loss, responses, None)
  else:
    yield sampling(model, params, stage.sampling, stage.prompts_at_once, stage.samples, None, "sample")
  for name, (drawn, group) in exams.items():  # when the training state is gone
    yield sampling(model, params, drawn, experiment.evaluation.problems_at_once, group, None, name)


def exams_of(experiment: config.Experiment) -> dict[str, tuple[config.Sampling, int]]:
  """Sampling and completions per call of every exam; of those that are sampled alike, the first."""
  e = experiment.evaluation
  exams = {"exam": (e.sampling, e.group(e.samples))}
  exams |= {each.name: (each.sampling, e.group(each.samples)) for each in e.benchmarks}
  found = {}
  for name, drawn in exams.items():
    if drawn not in found.values():
      found[name] = drawn
  return found


def rl(experiment, stage, model, params) -> Iterator[Program]:
  """Rollout, learning curve, reference and update of an RL stage."""
  import jax

  from r1jax.models import reward_head
  from r1jax.models.layer import Adapted
  from r1jax.rl import grpo
  from r1jax.stages.rl import reference_log_probs
  from r1jax.training import lora, optimizer as optimizers, state as states

  optimizer = optimizers.make(stage.optimizer, stage.steps)
  state = states.abstract_state(params, optimizer, stage.optimizer.parameters, stage.lora)
  critics = {name for _, what, name in stage.needs() if what == "reward model"}
  judges = [states.abstract_params(experiment.model_of(experiment.stage(n)), reward_head.declare) for n in critics]
  kept = judges, lora.trained(state.params) if stage.kl else None
  policy, frozen = state.params, None
  if stage.lora:
    policy = jax.eval_shape(lambda w: lora.merge(w, model.activations), state.params)
    is_adapted = lambda x: isinstance(x, Adapted)  # the other weights are the policy's, too
    frozen = jax.tree.map(lambda x: x if is_adapted(x) else None, state.params, is_leaf=is_adapted)
  beside = dataclasses.replace(state, params=frozen), kept
  prompts = stage.prompts_at_once or stage.rollout_size // stage.group_size
  records = stage.routing_replay
  yield sampling(model, policy, stage.sampling, prompts, stage.group_size, beside, "rollout", records)
  if stage.evaluate_every:
    e = experiment.evaluation
    yield sampling(model, policy, e.sampling, e.problems_at_once, e.group(stage.curve_samples), beside, "curve")
  if stage.kl:
    tokens = batch(stage.microbatch_rows, stage.row_length)
    beside = dataclasses.replace(state, params=None), kept
    yield Program("reference", reference_log_probs, (state.params, tokens), {"c": model}, beside, FEWER_ROWS)
  loss = functools.partial(grpo.loss, model, stage)
  yield from training(model, stage, params, loss, batch_of_experience(model, stage), stage.lora, kept)


FEWER_ROWS = "fewer rows in a micro-batch, shorter rows, model.remat='full', or more chips"


def training(model, stage, params, loss, rows, adapters, kept=None) -> Iterator[Program]:
  """The gradient of a micro-batch and the update."""
  import jax

  from r1jax.training import lora, optimizer as optimizers, state as states, update

  optimizer = optimizers.make(stage.optimizer, getattr(stage, "steps", 1000))
  state = states.abstract_state(params, optimizer, stage.optimizer.parameters, adapters)
  total = jax.eval_shape(functools.partial(update.zeros, loss=loss), state.params, rows)
  beside = dataclasses.replace(state, params=None), kept
  yield Program("gradient", update.accumulate, (state.params, total, rows), {"loss": loss}, beside, FEWER_ROWS)
  trained = dataclasses.replace(state, params=lora.trained(state.params))
  frozen = state.params if adapters else None
  rate = stage.bias_rate(model) if isinstance(stage, config.RL) else model.bias_rate
  options = {"optimizer": optimizer, "bias_rate": rate}
  remedy = "more chips, optimizer.parameters='stochastic', optimizer.moments='bfloat16', or lora"
  yield Program("update", update.apply, (trained, total), options, (kept, frozen), remedy)


def sampling(
  model, params, drawn: config.Sampling, prompts: int, group: int, beside, name: str, record_routes: bool = False
) -> Program:
  import jax
  import jax.numpy as jnp

  from r1jax.rl.sampling import sample

  tokens, lengths = on_batch(jnp.int32, prompts, drawn.max_prompt), on_batch(jnp.int32, prompts)
  key = jax.eval_shape(lambda: jax.random.key(0))
  options = dict(c=model, sampling=drawn, group_size=group, ends=(0,), pad=0, record_routes=record_routes)
  remedy = "fewer prompts in a call (prompts_at_once, problems_at_once), shorter responses, or more chips"
  return Program(name, sample, (params, tokens, lengths, lengths, key), options, beside, remedy)


# ---- shapes


def on_batch(dtype, *shape: int):
  """An array whose rows are split over the batch axes of the current mesh."""
  import jax
  from jax.sharding import NamedSharding

  from r1jax import mesh

  return jax.ShapeDtypeStruct(
    shape,
    dtype,
    sharding=NamedSharding(jax.sharding.get_mesh(), mesh.batch_spec(1)),  # as mesh.to_global puts it
  )


def batch(rows: int, length: int):
  import jax.numpy as jnp

  from r1jax.types import TokenBatch

  integers, floats = on_batch(jnp.int32, rows, length), on_batch(jnp.float32, rows, length)
  return TokenBatch(integers, integers, integers, floats)


def batch_of_experience(model: config.Model, stage: config.RL):
  import numpy as np

  from r1jax.models.experts import route_dtype
  from r1jax.types import Experience

  tokens, routes = batch(stage.microbatch_rows, stage.row_length), None
  if stage.routing_replay:
    shape = model.layers - model.dense_layers, model.experts.active
    signed = np.promote_types(route_dtype(model.experts), np.int8)  # -1 is for the router's own choice
    routes = on_batch(signed, stage.microbatch_rows, stage.row_length, *shape)
  return Experience(tokens, tokens.weight, tokens.weight, tokens.weight, routes)


def batch_of_responses(stage: config.RewardModel):
  import jax.numpy as jnp

  from r1jax.models.reward_head import Responses

  rows, k = stage.rows // stage.microbatches, 2 if stage.loss == "pairwise" else 1
  weight = on_batch(jnp.float32, rows)
  return Responses(on_batch(jnp.int32, rows, k, stage.length), on_batch(jnp.int32, rows, k), weight, weight)


# ---- for people


def table(figures: dict[str, Figures], memory: int) -> rich.table.Table:
  found = rich.table.Table(title="memory of a chip, GB", title_justify="left")
  found.add_column("program")
  for column in ("arguments", "beside", "temporaries", "program", "together", f"of {memory / 1e9:.1f}", "compiled in"):
    found.add_column(column, justify="right", no_wrap=True)
  for name, each in figures.items():
    sizes = (each.arguments, each.beside, each.temporaries, each.program, each.peak)
    fits = "fits" if each.peak <= memory else "too much"
    found.add_row(name, *(f"{size / 1e9:.2f}" for size in sizes), fits, f"{each.seconds:.0f} s")
  return found


def verdict(figures: dict[str, Figures], remedies: dict[str, str], memory: int) -> str:
  """One sentence: whether everything fits, and else by how much not, and what to change."""
  name = max(figures, key=lambda name: figures[name].peak)
  peak = figures[name].peak
  if peak <= memory:
    return f"Fits: {name} needs the most, {peak / 1e9:.1f} of {memory / 1e9:.1f} GB a chip."
  return (
    f"Does not fit: {name} needs {peak / 1e9:.1f} GB a chip, {(peak - memory) / 1e9:.1f} more than there are; try "
    f"{remedies[name]}."
  )


if __name__ == "__main__":
  command.main(run)
