"""One policy update: gradients summed over micro-batches, clipped, applied; the router's bias moved by the load."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import optax

from r1jax.training import lora, precision
from r1jax.training.optimizer import is_router_bias
from r1jax.training.state import TrainState

# loss(params, micro-batch) -> value summed over the micro-batch, (metrics that sum, load[layers, e])
Loss = Callable


@functools.partial(jax.jit, static_argnames="loss", donate_argnames="total")
def accumulate(params, total, batch, *, loss: Loss):
  """Adds one micro-batch's gradients, metrics and expert load to `total`."""

  def of_trained(trained):
    return loss(lora.join(_widened(trained), params), batch)

  (_, aux), gradients = jax.value_and_grad(of_trained, has_aux=True)(lora.trained(params))
  return jax.tree.map(jnp.add, total, (gradients, aux))


def _widened(params):
  """Embedding and head in float32: the gradients of their many uses add up in it before they are rounded to theirs."""
  return {name: precision.wide(x) if isinstance(x, jax.Array) else x for name, x in params.items()}


@functools.partial(jax.jit, static_argnames="loss")
def zeros(params, batch, *, loss: Loss):
  """A `total` to accumulate into, in float32."""
  aux = jax.eval_shape(loss, params, batch)[1]
  zero = lambda x: jnp.zeros(x.shape, x.dtype)  # metrics and load are summed over the batch: the same everywhere
  return jax.tree.map(jnp.zeros_like, precision.wide(lora.trained(params))), jax.tree.map(zero, aux)


@functools.partial(jax.jit, static_argnames=("optimizer", "bias_rate"), donate_argnames="state")
def apply(state: TrainState, total, *, optimizer, bias_rate: float):
  """Steps the optimiser. A step with a non-finite gradient changes nothing but the count (policy/skipped = 1)."""
  gradients, (metrics, load) = total
  norm = optax.tree.norm(gradients)
  finite = jnp.isfinite(norm)
  before = state.params if state.masters is None else state.masters
  moments = jax.tree.map(on_device, state.optimizer)
  updates, optimizer_state = optimizer.update(gradients, moments, precision.wide(before))
  after = precision.add(before, updates, state.step)
  if load.size and bias_rate:
    after = move_bias(after, load, bias_rate)
  keep = lambda new, old: jnp.where(finite, new, old)
  after = jax.tree.map(keep, after, before)
  optimizer_state = jax.tree.map(keep, optimizer_state, moments)
  optimizer_state = jax.tree.map(back, optimizer_state, state.optimizer)
  metrics = metrics | {"policy/gradient_norm": norm, "policy/skipped": 1.0 - finite}
  if load.size:
    mean = load.mean(1, keepdims=True)
    metrics["expert/max_violation"] = ((load - mean) / jnp.maximum(mean, 1)).max()
    metrics["expert/unused"] = (load == 0).mean(dtype=jnp.float32)
  if state.masters is None:
    return TrainState(state.step + 1, after, optimizer_state), metrics
  return TrainState(state.step + 1, precision.rounded(after), optimizer_state, after), metrics


def on_host(x) -> bool:
  return jax.typeof(x).memory_space == jax.memory.Space.Host


def on_device(x):
  """A part of the state that lives in the host's memory, where it can be computed with."""
  return jax.device_put(x, jax.memory.Space.Device) if on_host(x) else x


def back(new, old):
  """`new` in the memory where `old` was."""
  return jax.device_put(new, jax.memory.Space.Host) if on_host(old) else new


def move_bias(params, load, rate: float):
  """b_i += rate * sign(mean load - load_i): the selection-only bias (DeepSeek-V3 2.1.2), load float32[layers, e].

  The last row is that of a multi-token prediction layer, if it took part.
  """
  towards = rate * jnp.sign(load.mean(1, keepdims=True) - load)

  def move(path, x):
    if not is_router_bias(path):
      return x
    if path[0].key != "mtp":
      return x + towards[: len(x)]
    took_part = len(load) > len(params["blocks"]["experts"]["router_bias"])
    return x + towards[-1:] if took_part else x

  return jax.tree_util.tree_map_with_path(move, params)


def update(state: TrainState, microbatches: list, *, loss: Loss, optimizer, bias_rate: float):
  """One update from micro-batches that share a global denominator: -> state, metrics (device scalars).

  Without micro-batches (no group had any spread) only the step counts.
  """
  if not microbatches:
    return state.replace(step=state.step + 1), {}
  total = zeros(state.params, microbatches[0], loss=loss)
  for batch in microbatches:
    total = accumulate(state.params, total, batch, loss=loss)
  trained = state.replace(params=lora.trained(state.params))  # frozen weights take no part, and are not donated
  after, metrics = apply(trained, total, optimizer=optimizer, bias_rate=bias_rate)
  return after.replace(params=lora.join(after.params, state.params)), metrics
