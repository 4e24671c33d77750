"""AdamW with warm-up and cosine; the router's selection bias is left to the load."""

import jax
import jax.numpy as jnp
import optax

from r1jax import config
from r1jax.training.precision import is_vector, wide


def schedule(optimizer: config.Optimizer, steps: int):
  """Learning rate by step: linear warm-up, then constant or a cosine to final_rate."""
  rate, warmup = optimizer.learning_rate, optimizer.warmup
  if optimizer.final_rate == 1:
    body = optax.constant_schedule(rate)
  else:
    body = optax.cosine_decay_schedule(rate, max(steps - warmup, 1), optimizer.final_rate)
  if warmup == 0:
    return body
  return optax.join_schedules([optax.linear_schedule(rate / warmup, rate, warmup), body], [warmup])


def is_router_bias(path) -> bool:
  return path[-1].key == "router_bias"


def make(optimizer: config.Optimizer, steps: int) -> optax.GradientTransformation:
  """Clipped AdamW; weight decay on matrices only, nothing on the router's bias (its gradient is zero)."""
  decayed = lambda params: jax.tree_util.tree_map_with_path(lambda p, x: x.ndim > 1 and not is_vector(p), params)
  whole = optax.chain(
    optax.clip_by_global_norm(optimizer.clip_norm),
    optax.adamw(
      schedule(optimizer, steps),
      b1=optimizer.beta1,
      b2=optimizer.beta2,
      eps=optimizer.epsilon,
      weight_decay=optimizer.weight_decay,
      mask=decayed,
    ),
  )

  whole = whole if optimizer.moments == "float32" else kept_in_bfloat16(whole)
  return begun_on_host(whole) if optimizer.offload else whole


def begun_on_host(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
  """The same with a state that is made in the host's memory; training.update brings it back there every time."""
  put = lambda x: jax.device_put(x, jax.memory.Space.Host) if x.ndim else x
  return transformation._replace(init=lambda params: jax.tree.map(put, transformation.init(params)))


def kept_in_bfloat16(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
  """The same with its state in bfloat16 between updates, which are computed in float32 (DeepSeek-V3 section 3.3.2)."""
  narrow = lambda x: x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x

  def update(gradients, state, params=None):
    updates, state = transformation.update(gradients, wide(state), params)
    return updates, jax.tree.map(narrow, state)

  return optax.GradientTransformation(lambda params: jax.tree.map(narrow, transformation.init(params)), update)
