"""DeepSeek-V3 at its real size, traced forward and backward on a mesh of 256 devices that do not exist."""

import collections
import math
import time

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import pytest

from configs import models
from r1jax import config, mesh
from r1jax.models.scoring import next_token_loss
from r1jax.training.state import abstract_params
from r1jax.types import TokenBatch

MIB, GIB = 2**20, 2**30


def bytes_per_device(x) -> int:
  spec, sizes = x.sharding.spec, x.sharding.mesh.shape
  split = math.prod(sizes[a] for axes in spec if axes for a in ((axes,) if isinstance(axes, str) else axes))
  return x.size * x.dtype.itemsize // split


def inner_jaxprs(jaxpr):
  """The jaxpr and all in it, but not inside shard_map: there, shapes are those of one device."""
  yield jaxpr
  for equation in jaxpr.eqns:
    if equation.primitive.name != "shard_map":
      for inner in jax.core.jaxprs_in_params(equation.params):
        yield from inner_jaxprs(inner)


@pytest.fixture(scope="module")
def traced():
  """The gradient of DeepSeek-V3 on 16 x 16 x 1, one row of 4,096 tokens a device: parameters, gradients, program."""
  start = time.perf_counter()
  nowhere = mesh.abstract(config.Mesh(data=16, expert=16))
  with jax.sharding.use_abstract_mesh(nowhere):
    c = models.deepseek_v3_671b()
    params = abstract_params(c)
    at = NamedSharding(nowhere, P(mesh.BATCH, None))
    integers, weight = (jax.ShapeDtypeStruct((256, 4096), t, sharding=at) for t in (jnp.int32, jnp.float32))
    gradient = jax.grad(lambda p, batch: next_token_loss(c, p, batch)[0])
    closed, out = jax.make_jaxpr(gradient, return_shape=True)(params, TokenBatch(integers, integers, integers, weight))
  print(f"traced DeepSeek-V3 forward and backward in {time.perf_counter() - start:.2f} s")
  gradients = jax.tree.unflatten(jax.tree.structure(out), closed.out_avals)
  return params, gradients, closed.jaxpr


def test_deepseek_v3_has_as_many_parameters_as_published(traced):
  params, _, _ = traced
  assert sum(p.size for p in jax.tree.leaves(params)) == 671_026_419_200


def test_every_gradient_is_sharded_as_its_weight_is_kept(traced):
  _, gradients, _ = traced
  both = ("data", "expert")
  expected = {
    "embedding": P("tensor", both),
    "head": P("tensor", both),
    "norm": P(None),
    "attention_norm": P(None, None),
    "query_down": P(None, both, None),
    "query_norm": P(None, None),
    "query_up": P(None, "data", "tensor"),
    "kv_down": P(None, both, None),
    "kv_norm": P(None, None),
    "key_up": P(None, "data", "tensor"),
    "value_up": P(None, "data", "tensor"),
    "out": P(None, "tensor", both),
    "feed_forward_norm": P(None, None),
    "dense/gate": P(None, both, "tensor"),
    "dense/up": P(None, both, "tensor"),
    "dense/down": P(None, "tensor", both),
    "router": P(None, both, None),
    "router_bias": P(None, None),
    "experts/gate": P(None, "expert", "data", "tensor"),
    "experts/up": P(None, "expert", "data", "tensor"),
    "experts/down": P(None, "expert", "tensor", "data"),
  }
  found = collections.defaultdict(set)
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    names = [key.key for key in path]
    kind = names[-1]
    if kind in ("gate", "up", "down"):
      kind = ("experts/" if names[-2] == "experts" else "dense/") + kind
    found[kind].add(gradient.sharding.spec)
  assert {kind: {spec} for kind, spec in expected.items()} == dict(found)


def test_no_large_weight_is_replicated(traced):
  params, _, _ = traced
  leaves = jax.tree_util.tree_leaves_with_path(params)
  sizes = {jax.tree_util.keystr(path): (x.size * 4, bytes_per_device(x)) for path, x in leaves}
  replicated = {name: whole for name, (whole, part) in sizes.items() if part == whole}
  assert max(replicated.values()) < 2 * MIB, replicated  # norms
  assert all(part <= whole // 16 for name, (whole, part) in sizes.items() if name not in replicated)
  # A 256th of everything, and 0.8 GB of up-projections from compressed widths, which `expert` does not split.
  assert sum(part for _, part in sizes.values()) < 671e9 * 4 / 256 + 0.85e9


def test_no_array_of_the_step_is_large_on_one_device(traced):
  """The largest is the gathered head: 129,280 x 7,168 float32."""
  *_, jaxpr = traced
  largest = max(
    (bytes_per_device(v.aval), str(v.aval), str(equation.primitive))
    for inner in inner_jaxprs(jaxpr)
    for equation in inner.eqns
    for v in equation.outvars
    if hasattr(v.aval, "sharding") and AxisType.Auto not in v.aval.sharding.mesh.axis_types  # there, XLA chooses
  )
  assert largest[0] < 4 * GIB, largest
