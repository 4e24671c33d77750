"""Eight CPU devices, a compile cache that lasts, and a mesh of one device around every test that imports jax."""

import pathlib

import jax
import pytest

from r1jax import config, mesh
from r1jax.training.state import init_params

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(__file__).parent / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(autouse=True)
def one_device(request):
  """The mesh (1, 1, 1), in test modules that import jax; a test may set another inside."""
  if not hasattr(request.module, "jax"):
    yield
    return
  with jax.set_mesh(mesh.make(config.Mesh(), jax.devices()[:1])):
    yield


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
  """Frees what a module has compiled: thousands of programs at one time are more memory maps than Linux allows."""
  yield
  jax.clear_caches()


@pytest.fixture(scope="session")
def tiny_model():
  """Makes a model config of about 20,000 weights; keywords override its fields."""

  def make(**fields):
    defaults = dict(
      vocab=24,
      width=32,
      layers=3,
      dense_layers=1,
      hidden=48,
      attention=config.LatentAttention(heads=4, query_rank=16, latent_rank=16, nope_head=8, rope_head=4, value_head=8),
      experts=config.Experts(routed=8, active=2, shared=1, hidden=16),
      activations="float32",
      remat="none",
    )
    model = config.Model(**(defaults | fields))
    model.validate()
    return model

  return make


@pytest.fixture(scope="session")
def grouped_query():
  return config.GroupedQueryAttention(heads=4, kv_heads=2, head=8, bias=True)


@pytest.fixture(scope="session")
def random_params():
  """Parameters on the current mesh with nothing at its neutral value: norms and biases are drawn, too."""

  def make(model, seed=0):
    params = init_params(model, seed)

    def stir(path, x):
      name = path[-1].key
      if not name.endswith(("norm", "bias")):
        return x
      here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
      values = mesh.create(f"{seed}{path}", (1, x.size), 0.2, 0.0, here)
      values = jax.device_get(values).reshape(x.shape)
      return jax.device_put(jax.device_get(x) + values, x.sharding)

    return jax.tree_util.tree_map_with_path(stir, params)

  return make


@pytest.fixture(scope="session")
def on_devices():
  """Context with a mesh of the first data x expert x tensor devices."""

  def make(data=1, expert=1, tensor=1):
    shape = config.Mesh(data=data, expert=expert, tensor=tensor)
    return jax.set_mesh(mesh.make(shape, jax.devices()[: data * expert * tensor]))

  return make
