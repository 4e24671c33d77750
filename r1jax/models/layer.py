"""How a module declares a weight: shape, logical axis names and initial scale in one line."""

from typing import Any

from flax import linen as nn, struct
import jax
import jax.numpy as jnp
from jax.sharding import reshard

from r1jax import config, mesh


@struct.dataclass
class Named(nn.meta.AxisMetadata):
  """A declared weight: the mesh table reads `names`, the initialiser `std` and `mean`."""

  value: Any
  names: tuple[str | None, ...] = struct.field(pytree_node=False)
  std: float = struct.field(pytree_node=False, default=0.0)
  mean: float = struct.field(pytree_node=False, default=0.0)

  def unbox(self):
    return self.value

  def replace_boxed(self, value):
    return self.replace(value=value)

  def add_axis(self, index, params):
    names = list(self.names)
    names.insert(index, params[nn.meta.PARTITION_NAME])
    return self.replace(names=tuple(names))

  def remove_axis(self, index, params):
    names = list(self.names)
    names.pop(index)
    return self.replace(names=tuple(names))


@struct.dataclass
class Adapted:
  """A frozen weight with a low-rank adapter (LoRA): in use it is W + scale A B."""

  value: Any  # W[.., in, out]; the first field, which linen compares with the declared shape
  a: jax.Array  # float32[.., in, r]
  b: jax.Array  # float32[.., r, out]
  scale: float = struct.field(pytree_node=False)

  def merged(self):
    """W + scale A B, float32[.., in, out]; the product in full precision, as the adapter is small beside W."""
    # The axis z makes it a product that remat="dots" does not keep: it would keep one as large as W of every layer.
    product = jnp.einsum("z...dr,z...rf->z...df", self.a[None], self.b[None], precision=jax.lax.Precision.HIGHEST)[0]
    return self.value.astype(jnp.float32) + self.scale * product


class Layer(nn.Module):
  cfg: config.Model

  def weight(self, name, shape, axes, fan_in=None, mean=0.0):
    """Declares one weight and returns it ready to use: FSDP shards gathered, adapter merged, in float32.

    It is drawn with standard deviation fan_in^-0.5, or filled with `mean` where
    fan_in is None.
    """
    std = fan_in**-0.5 if fan_in else 0.0
    w = self.param(name, lambda key: Named(jnp.zeros(shape, jnp.float32), axes, std, mean))
    if isinstance(w, Adapted):
      parts = (w.value, axes), (w.a, (*axes[:-1], None)), (w.b, (*axes[:-2], None, axes[-1]))
      value, a, b = (reshard(x, mesh.used_spec(names)) for x, names in parts)
      return Adapted(value, a, b, w.scale).merged()
    return reshard(w, mesh.used_spec(axes)).astype(jnp.float32)

  def norm(self, name, width):
    return self.weight(name, (width,), (None,), mean=1.0)


def shapes(model: nn.Module, *args):
  """The tree of declared weights (`Named` leaves over ShapeDtypeStruct) of `model(*args)`."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.eval_shape(model.init, key, *args)["params"]
