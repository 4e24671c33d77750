"""The training state, created on the mesh already sharded; what of it a checkpoint holds, and what a stage leaves.

Bytes that a matrix's weight takes in the state, by Optimizer.parameters and
Optimizer.moments (a float32 gradient, 4 bytes, comes on top of each; with
bfloat16 parameters 2 more for that of one micro-batch; so does RL's reference,
as large as `params`):

                  params  masters  moments float32  together  moments bfloat16  together
  "float32"            4        -                8        12                 4         8
  "masters"            2        4                8        14                 4        10
  "stochastic"         2        -                8        10                 4         6

With LoRA a weight takes 4 bytes, or 2 with "masters", and no gradient and no
moments; its adapters, of rank x (in + out) float32 weights, have all of them.
"""

import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, reshard

from r1jax import config, mesh
from r1jax.models import transformer
from r1jax.models.layer import Named
from r1jax.training import lora, precision


@struct.dataclass
class TrainState:
  step: jax.Array  # int32[], updates made
  params: Any  # what the forward pass and the sampler read
  optimizer: Any  # optax's state, of what is trained
  masters: Any = None  # float32, where `params` are their bfloat16 roundings


def _declared(c: config.Model, make, declare):
  """Maps make(path, declared weight) over the model's weights."""
  is_weight = lambda x: isinstance(x, Named)
  named = declare(c)
  return jax.tree_util.tree_map_with_path(lambda p, w: make(jax.tree_util.keystr(p), w), named, is_leaf=is_weight)


def init_params(c: config.Model, seed: int, declare=transformer.declare):
  """Random float32 parameters on the current mesh; the same for every mesh shape.

  `declare` gives the tree of weights: models.reward_head.declare that of a reward model.
  """
  at = lambda w: NamedSharding(jax.sharding.get_mesh(), mesh.spec(w.names))
  return _declared(c, lambda path, w: mesh.create(f"{seed}{path}", w.value.shape, w.std, w.mean, at(w)), declare)


def abstract_params(c: config.Model, declare=transformer.declare):
  """Shapes and shardings of the parameters on the current mesh, which may be one that exists nowhere."""
  here = jax.sharding.get_mesh()
  here = jax.sharding.get_abstract_mesh() if here.empty else here
  shape = lambda w: jax.ShapeDtypeStruct(w.value.shape, jnp.float32, sharding=NamedSharding(here, mesh.spec(w.names)))
  return _declared(c, lambda path, w: shape(w), declare)


@functools.partial(jax.jit, static_argnames="c")
def for_sampling(params, *, c: config.Model):
  """A copy of the weights to be read at every token: what FSDP has split is whole, matrices as products take them.

  The router stays as it is, since it chooses in float32: draws are those of the training layout, bit for bit.
  """

  move = lambda declared, x: reshard(x, mesh.used_spec(declared.names))
  return jax.tree.map(move, transformer.declare(c), _narrow(params, c=c), is_leaf=lambda x: isinstance(x, Named))


@functools.partial(jax.jit, static_argnames="c")
def _narrow(params, *, c: config.Model):
  """The weights as products take them: matrices in the activations' dtype, but the router's."""
  is_matrix = lambda path, x: x.ndim > 1 and not precision.is_vector(path) and path[-1].key != "router"
  cast = lambda path, x: x.astype(c.activations) if is_matrix(path, x) else x
  return jax.tree_util.tree_map_with_path(cast, params)


def send(params, c: config.Model, to: jax.sharding.Mesh):
  """A copy of the weights on the devices of another mesh, as `for_sampling` makes it."""
  at = lambda declared: NamedSharding(to, mesh.used_spec(declared.names))
  shardings = jax.tree.map(at, transformer.declare(c), is_leaf=lambda x: isinstance(x, Named))
  return jax.device_put(_narrow(params, c=c), shardings)


def create(params, optimizer, parameters: str = "float32", adapters: config.Lora | None = None, seed: int = 0):
  """The TrainState to start from float32 `params`, which it takes over: they are donated to the first update.

  Args:
    optimizer: optax's.
    parameters: as config.Optimizer has it.
    adapters: what is trained in place of the parameters.
    seed: of the adapters.
  """
  replicated = NamedSharding(jax.sharding.get_mesh(), jax.sharding.PartitionSpec())
  step = jax.device_put(jnp.int32(0), replicated)
  return _begin(step, params, optimizer, parameters, adapters, jax.jit, lambda w: lora.add(w, adapters, seed))


def abstract_state(params, optimizer, parameters: str = "float32", adapters: config.Lora | None = None):
  """Shapes, dtypes and shardings of what `create` makes of `abstract_params`."""
  step = jax.ShapeDtypeStruct((), jnp.int32)
  shapes_of = lambda function: functools.partial(_shapes_of, function)
  make = lambda name, shape, std, mean, at: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=at)
  return _begin(step, params, optimizer, parameters, adapters, shapes_of, lambda w: lora.add(w, adapters, 0, make))


def _shapes_of(function, *args):
  """jax.eval_shape with the kind of memory, which that forgets."""
  closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)

  def placed(x, aval):
    if aval.memory_space != jax.memory.Space.Host:
      return x
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=aval.sharding.with_memory_kind("pinned_host"))

  return jax.tree.map(placed, shapes, jax.tree.unflatten(jax.tree.structure(shapes), closed.out_avals))


def _begin(step, params, optimizer, parameters, adapters, call, adapt) -> TrainState:
  masters = params if parameters == "masters" and adapters is None else None
  if parameters != "float32":
    params = call(precision.rounded)(params)
  if adapters is not None:
    params = adapt(params)
  trained = lora.trained(params) if masters is None else masters
  return TrainState(step, params, call(lambda tree: optimizer.init(precision.wide(tree)))(trained), masters)


def saved(state: TrainState, last: bool = False) -> dict:
  """What a checkpoint holds of the state: masters without their roundings, adapters without what they adapt.

  The `last` one of a stage has "params" in any case: the next stage reads them alone.
  """
  found = {"step": state.step, "optimizer": state.optimizer}
  if not lora.is_adapted(state.params):
    return found | {"params": state.params if state.masters is None else state.masters}
  found["adapters"] = lora.trained(state.params)
  return found | ({"params": result(state)} if last else {})


def restored(found: dict, state: TrainState) -> TrainState:
  """`state` as it was when `found` was `saved` of it."""
  state = state.replace(step=found["step"], optimizer=found["optimizer"])
  if "adapters" in found:
    return state.replace(params=lora.join(found["adapters"], state.params))
  if state.masters is not None:
    return state.replace(params=precision.rounded(found["params"]), masters=found["params"])
  return state.replace(params=found["params"])


def resume(checkpoints, state: TrainState, **beside):
  """The newest checkpoint: (state, what was saved beside it by name, extras), or None where there is none.

  What it holds of `state` is given up first, for it must not exist twice: `state` is not to be used any more.

  Args:
    checkpoints: a training.checkpoints.Checkpoints.
    beside: shapes and shardings of what was saved beside the state.
  """
  if not checkpoints.steps():
    return None
  held = saved(state)
  wanted = like(held) | beside
  for x in jax.tree.leaves((held, None if state.masters is None else state.params)):
    x.delete()
  _, found, extras = checkpoints.restore_latest(wanted)
  rest = {name: found.pop(name) for name in beside}
  return restored(found, state), rest, extras


def result(state: TrainState):
  """What a stage leaves to those after it: plain float32 parameters, whatever it was trained in."""
  return precision.wide(lora.merge(state.params)) if state.masters is None else state.masters


def like(tree):
  """Shapes and shardings of a tree of arrays, to restore a checkpoint into."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
