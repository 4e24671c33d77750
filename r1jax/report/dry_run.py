"""What a run would be, without running it: schedule, mesh, weights with their shardings, memory of a device.

Everything is traced on an abstract mesh of the configured shape: no array is
made and no device is needed, so a laptop can look at the 671B on a pod.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import rich.console
import rich.table
import rich.text

import r1jax
from r1jax import config, mesh
from r1jax.models import reward_head, transformer
from r1jax.models.layer import Named
from r1jax.rl.sampling import prefill
from r1jax.training import lora, optimizer as optimizers, precision, state as states
from r1jax.training.workdir import config_sha256


class Parameters(NamedTuple):
  total: int
  active: int  # per token: of the routed experts only as many as a token passes through


def show(experiment: config.Experiment, console: rich.console.Console | None = None):
  """Prints the resolved run."""
  console = console or rich.console.Console()
  abstract = mesh.abstract(experiment.mesh)
  with jax.sharding.use_abstract_mesh(abstract):
    axes = " x ".join(f"{name}={size}" for name, size in abstract.shape.items())
    origin = f"config {config_sha256(experiment)[:12]}, seed {experiment.seed}, r1jax {r1jax.__version__}"
    console.print(f"{experiment.name}: mesh {axes}, {abstract.size} devices; {origin}", markup=False, highlight=False)
    console.print(_schedule(experiment))
    for model, names in models(experiment).items():
      console.print(_weights(model, names))
      count = parameters(model)
      console.print(
        f"parameters: {count.total:,}, of which a token uses {count.active:,}", markup=False, highlight=False
      )
    console.print(_memory(experiment))
  console.print("Activations and temporaries come on top; only compiling for the machine tells them.")


def models(experiment: config.Experiment) -> dict[config.Model, list[str]]:
  """The different models of a run, each with the names of its stages."""
  found = {}
  for stage in experiment.stages:
    found.setdefault(experiment.model_of(stage), []).append(stage.name)
  return found


def parameters(model: config.Model) -> Parameters:
  """Counts the weights on the current (abstract) mesh; embedding and head count in full."""
  total = active = 0
  for _, weight in _declared(model):
    size = math.prod(weight.value.shape)
    total += size
    active += size * model.experts.active // model.experts.routed if "expert" in weight.names else size
  return Parameters(total, active)


def memory(experiment: config.Experiment, stage: config.Stage) -> dict[str, int]:
  """Bytes per device of what a stage keeps, by name, from shapes and shardings on the current (abstract) mesh.

  Exams, and engines of judges, are not counted.
  """
  here = jax.sharding.get_abstract_mesh()
  model = experiment.model_of(stage)
  if hasattr(stage, "optimizer"):
    of, adapters = stage.optimizer, getattr(stage, "lora", None)
    kept = of.parameters, of.moments, of.offload
    found = dict(_training(model, *kept, adapters, stage.makes == "reward model", here))
    if not isinstance(stage, config.RL):
      del found["reference"]
  else:
    found = {"parameters": _params(model, False, here)}
  if hasattr(stage, "sampling"):
    group = stage.group_size if isinstance(stage, config.RL) else stage.samples
    prompts = stage.prompts_at_once or stage.rollout_size // group
    if experiment.mesh.gather:
      found["gathered copy"] = _copy(model, here)
    found["KV cache"] = _cache(model, prompts, group, stage.sampling.max_prompt, stage.sampling.max_response, here)
  if critics := {name for _, what, name in stage.needs() if what == "reward model"}:
    of = (experiment.model_of(experiment.stage(name)) for name in critics)
    found["reward models"] = sum(_params(model, True, here) for model in of)
  return found


# Traced once for all stages of a model: `here`, the current mesh, is an argument because the bytes depend on it.


@functools.cache
def _params(model: config.Model, is_critic: bool, here) -> int:
  """Bytes of float32 parameters."""
  return device_bytes(states.abstract_params(model, reward_head.declare if is_critic else transformer.declare))


@functools.cache
def _training(
  model: config.Model, parameters: str, moments: str, offload: bool, adapters, is_critic: bool, here
) -> dict[str, int]:
  """Bytes of the training state, which is as large for every learning rate, of the gradients and of RL's reference."""
  params = states.abstract_params(model, reward_head.declare if is_critic else transformer.declare)
  of = config.Optimizer(learning_rate=1.0, parameters=parameters, moments=moments, offload=offload)
  optimizer = optimizers.make(of, 1)
  state = states.abstract_state(params, optimizer, parameters, adapters)
  trained = lora.trained(state.params)
  masters = {} if state.masters is None else {"masters": device_bytes(state.masters)}
  return {"parameters": device_bytes(state.params), **masters} | {
    "gradients": device_bytes(jax.eval_shape(precision.wide, trained)),
    "AdamW moments": device_bytes(state.optimizer),
    "reference": device_bytes(trained),
  }


@functools.cache
def _copy(model: config.Model, here) -> int:
  """Bytes of the weights as sampling reads them."""
  return device_bytes(jax.eval_shape(functools.partial(states.for_sampling, c=model), states.abstract_params(model)))


@functools.cache
def _cache(model: config.Model, prompts: int, group: int, max_prompt: int, max_response: int, here) -> int:
  """Bytes of the cache of one sampling call at the longest completions, as `sample` makes it."""
  put = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32, sharding=NamedSharding(here, mesh.batch_spec(len(shape))))
  make = lambda params, tokens, lengths: prefill(model, params, tokens, lengths, group, max_response)
  cache = jax.eval_shape(make, states.abstract_params(model), put(prompts, max_prompt), put(prompts))[1]
  return device_bytes((cache.prompt, cache.own))


def device_bytes(tree) -> int:
  """Bytes one device holds of a tree of ShapeDtypeStructs; a leaf without sharding is whole on each.

  What lies in the host's memory (moments with optimizer.offload) is on none.
  """
  part = lambda x: x.sharding.shard_shape(x.shape) if x.sharding else x.shape
  here = [x for x in jax.tree.leaves(tree) if not on_host(x)]
  return sum(math.prod(part(x)) * x.dtype.itemsize for x in here)


def on_host(x) -> bool:
  return isinstance(x.sharding, NamedSharding) and x.sharding.memory_kind == "pinned_host"


def _declared(model) -> list[tuple[str, Named]]:
  """(path, declared weight) of every weight, stacked over layers."""
  leaves = jax.tree_util.tree_leaves_with_path(transformer.declare(model), is_leaf=lambda x: isinstance(x, Named))
  return [("/".join(key.key for key in path), weight) for path, weight in leaves]


def _schedule(experiment):
  table = rich.table.Table(title="schedule", title_justify="left")
  for column in ("stage", "takes", "work"):
    table.add_column(column, overflow="fold")
  for stage in experiment.stages:
    cells = (f"{stage.name}\n{type(stage).__name__}", "\n".join(_takes(stage)), "\n".join(_work(stage)))
    table.add_row(*map(rich.text.Text, cells))
  return table


def _takes(stage) -> list[str]:
  """What a stage takes: parameters, then what other stages make, then files."""
  needs = dict.fromkeys(f"{what}: {name}" for _, what, name in stage.needs() if what != "policy")
  sources = (*getattr(stage, "data", ()), *getattr(stage, "beside", ()))
  own = [f"completions: {source.title()}" for source in sources if not source.takes()]
  return [f"parameters: {stage.start_from or 'random'}", *needs, *own]


def _work(stage) -> list[str]:
  """How much a stage learns or writes, and how fast."""
  later = [f"later_problems from {stage.later_from:,}"] if getattr(stage, "later_from", 0) else []
  rate = [f"learning rate {_rate(stage.optimizer)}"] if hasattr(stage, "optimizer") else []
  return [f"{_lasts(stage)}: {_step(stage)}", *later, *rate]


def _lasts(stage) -> str:
  if hasattr(stage, "epochs"):
    return f"{stage.epochs} epoch{'s' * (stage.epochs != 1)}"
  return f"{stage.prompts:,} questions" if hasattr(stage, "prompts") else f"{stage.steps:,} steps"


def _step(stage) -> str:
  """What one step of training learns from, or one call of sampling writes."""
  if hasattr(stage, "rows"):
    sequences = 2 if getattr(stage, "loss", "") == "pairwise" else 1
    what = {"pairwise": "pairs", "pointwise": "responses"}.get(getattr(stage, "loss", ""), "rows")
    return f"{stage.rows} {what} x {stage.length} = {stage.rows * stage.length * sequences:,} tokens"
  longest = f"each up to {stage.sampling.max_response:,} tokens"
  if hasattr(stage, "prompts"):
    return f"{stage.prompts_at_once} at once x {stage.samples}, {longest}"
  b, g, r = stage.batch_size, stage.group_size, stage.rollout_size
  return f"{b:,} of {r:,} rollouts ({r // g} questions x {g}), {longest}"


def _rate(optimizer) -> str:
  parts = [f"{optimizer.learning_rate:g}"]
  if optimizer.warmup:
    parts.append(f"warm-up {optimizer.warmup}")
  if optimizer.final_rate != 1:
    parts.append(f"cosine to {optimizer.learning_rate * optimizer.final_rate:g}")
  return ", ".join(parts)


def _weights(model, names):
  table = rich.table.Table(title=f"weights (float32) of {', '.join(names)}", title_justify="left")
  for column in ("weight", "shape", "split over", "parameters", "a device"):
    table.add_column(column, justify="right" if column in ("parameters", "a device") else "left")
  here = jax.sharding.get_abstract_mesh()
  for path, weight in _declared(model):
    shape, spec = weight.value.shape, mesh.spec(weight.names)
    held = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(here, spec))
    table.add_row(path, str(shape), _axes(spec), f"{math.prod(shape):,}", _size(device_bytes(held)))
  return table


def _axes(spec: P) -> str:
  """P(None, ("data", "expert")) as "-, data+expert"."""
  name = lambda axes: "-" if axes is None else axes if isinstance(axes, str) else "+".join(axes)
  return ", ".join(map(name, spec))


def _memory(experiment):
  """A row for all stages that keep the same."""
  rows = {}
  for stage in experiment.stages:
    rows.setdefault(tuple(memory(experiment, stage).items()), []).append(stage.name)
  table = rich.table.Table(title="memory of a device", title_justify="left")
  table.add_column("stages")
  table.add_column("keep")
  table.add_column("together", justify="right", no_wrap=True)
  for row, names in rows.items():
    keep = ", ".join(f"{name} {_size(size)}" for name, size in row)
    table.add_row(*map(rich.text.Text, (", ".join(names), keep, _size(sum(size for _, size in row)))))
  return table


def _size(count: int) -> str:
  for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
    if count >= size:
      return f"{count / size:.1f} {unit}"
  return f"{count} B"
