"""Attention by the TPU's kernel, interpreted, against attention by plain products, which is held to a loop elsewhere."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P, reshard
import numpy as np
import pytest

from r1jax import config, mesh
from r1jax.models import flash, functions as f

LENGTH = 640  # five blocks of keys for each of five blocks of queries
SCALE = 0.3
random = np.random.default_rng(5)
HEADS = (4, 24), (2, 24), (2, 16), (4, 16)  # of query, key, value and the result: two queries share a key
arrays = [random.normal(size=(2, LENGTH, *shape)).astype(np.float32) for shape in HEADS]
segments = np.sort(random.integers(0, 4, (2, LENGTH)).astype(np.int32), axis=1)


def results(attend, dtype=np.float32):
  """The result and the gradients of a weighted sum of it."""
  place = lambda x: reshard(mesh.to_global(x.astype(dtype)), P(mesh.BATCH, None, "tensor", None))
  *given, weight = map(place, arrays)
  owners = mesh.to_global(segments)

  def run(*given):
    y = attend(*given, owners, SCALE)
    return (y * weight).astype(jnp.float32).sum(), y

  (_, y), gradients = jax.jit(jax.value_and_grad(run, (0, 1, 2), has_aux=True))(*given)
  return [np.asarray(x, np.float32) for x in (y, *gradients)]


def kernel(*args):
  return flash.attend(*args, interpret=True)


@pytest.mark.parametrize("shape", [{}, {"data": 2, "tensor": 2}])
def test_the_kernel_gives_the_result_and_the_gradients_of_plain_products(shape, on_devices):
  with on_devices(**shape):
    for found, expected in zip(results(kernel), results(f.attend)):
      np.testing.assert_allclose(found, expected, atol=2e-5)


def test_in_bfloat16_the_kernel_is_as_near_to_float32_as_plain_products_are():
  exact = results(f.attend)
  errors = [[np.abs(x - e).mean() for x, e in zip(results(a, jnp.bfloat16), exact)] for a in (kernel, f.attend)]
  assert all(of_kernel < 1.5 * plain for of_kernel, plain in zip(*errors))


@pytest.mark.parametrize("platform, length, used", [("tpu", 384, True), ("tpu", 100, False), (None, 384, False)])
def test_only_tpus_have_the_kernel_and_only_for_lengths_that_it_can_split(platform, length, used):
  with jax.sharding.use_abstract_mesh(mesh.abstract(config.Mesh(), platform)):
    on = lambda *spec: jax.NamedSharding(jax.sharding.get_abstract_mesh(), P(mesh.BATCH, *spec))
    x = jax.ShapeDtypeStruct((1, length, 4, 32), jnp.bfloat16, sharding=on(None, "tensor", None))
    owners = jax.ShapeDtypeStruct((1, length), jnp.int32, sharding=on())
    traced = jax.jit(lambda *args: f.attend(*args, SCALE)).trace(x, x, x, owners)
  assert ("pallas_call" in str(traced.jaxpr)) == used
