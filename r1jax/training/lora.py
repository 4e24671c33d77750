"""LoRA: low-rank adapters are trained beside frozen weights, W + alpha / rank A B (arXiv:2106.09685).

In a tree of parameters every adapted weight is a models.layer.Adapted, which
`Layer.weight` merges for the one layer that is running: the sampler, the
trainer and the merged weights compute the same function, and neither a second
copy of the weights nor a gradient of them ever exists as a whole.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P

from r1jax import config, mesh
from r1jax.models.layer import Adapted
from r1jax.training.precision import is_vector


def target(path) -> str | None:
  """Which of config.Lora.targets the weight at this path belongs to; None: it has no adapter."""
  names = [key.key for key in path]
  if len(names) < 2 or is_vector(path):
    return None
  if names[-2] in ("feed_forward", "shared"):
    return "feed_forward"
  if names[-2] == "experts":
    return "experts" if names[-1] in ("gate", "up", "down") else None
  return "attention" if names[-2] == "attention" else None


def add(params, lora: config.Lora, seed: int, make=mesh.create):
  """Parameters with an adapter on every matrix of the targets; as long as B is 0 they compute the same.

  A float32[.., in, r] is drawn with standard deviation in^-0.5, alike for every
  mesh, B float32[.., r, out] is 0; both are split as the weight is. Leaves of
  `params` are shared, not copied; `make` is called as mesh.create is.

  Raises:
    ValueError: this model has none of the targets.
  """

  def adapted(path, w):
    if target(path) not in lora.targets:
      return w
    (*lead, rows, columns), spec = w.shape, (*w.sharding.spec, *(None,) * (w.ndim - len(w.sharding.spec)))
    at = lambda *axes: NamedSharding(w.sharding.mesh, P(*spec[:-2], *axes))
    name = f"{seed}lora{jax.tree_util.keystr(path)}"
    a = make(name, (*lead, rows, lora.rank), rows**-0.5, 0.0, at(spec[-2], None))
    b = make(name, (*lead, lora.rank, columns), 0.0, 0.0, at(None, spec[-1]))
    return Adapted(w, a, b, lora.alpha / lora.rank)

  found = jax.tree_util.tree_map_with_path(adapted, params)
  if not is_adapted(found):
    raise ValueError(f"lora.targets={lora.targets} names no weight of this model; give it another target.")
  return found


def is_adapted(params) -> bool:
  leaves = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, Adapted))
  return any(isinstance(x, Adapted) for x in leaves)


def trained(params):
  """What is trained of these parameters: the adapters, as {"a", "b"} in the place of their weight, or all."""
  return _adapters(params) if is_adapted(params) else params


def _adapters(tree):
  if isinstance(tree, Adapted):
    return {"a": tree.a, "b": tree.b}
  found = {name: _adapters(x) for name, x in tree.items() if isinstance(x, (dict, Adapted))}
  return {name: x for name, x in found.items() if x}


def join(new, params):
  """`params` with `new` in the place of what is `trained` of them."""
  return _joined(new, params) if is_adapted(params) else new


def _joined(new, tree):
  if isinstance(tree, Adapted):
    return tree.replace(**new)
  return {name: _joined(new[name], x) if name in new else x for name, x in tree.items()}


@functools.partial(jax.jit, static_argnames="dtype")
def _merged(w: Adapted, *, dtype):
  one = lambda w: w.merged().astype(dtype)
  return jax.lax.map(one, w) if w.value.ndim > 2 else one(w)  # no product of all layers exists at one time


def merge(params, dtype="float32"):
  """Parameters without adapters: W + scale A B in `dtype`; the other leaves are shared, not copied.

  In the model's activations' dtype it is what a forward pass makes of them, and no more.
  """
  plain = lambda x: _merged(x, dtype=jnp.dtype(dtype)) if isinstance(x, Adapted) else x
  return jax.tree.map(plain, params, is_leaf=lambda x: isinstance(x, Adapted))
