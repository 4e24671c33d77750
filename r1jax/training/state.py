"""The training state, created on the mesh already sharded."""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from r1jax import config, mesh
from r1jax.models import transformer
from r1jax.models.layer import Named


@struct.dataclass
class TrainState:
  step: jax.Array  # int32[], updates made
  params: Any
  optimizer: Any  # optax's state


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


def create(params, optimizer) -> TrainState:
  replicated = NamedSharding(jax.sharding.get_mesh(), jax.sharding.PartitionSpec())
  return TrainState(jax.device_put(jnp.int32(0), replicated), params, jax.jit(optimizer.init)(params))


def like(tree):
  """Shapes and shardings of a tree of arrays, to restore a checkpoint into."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
