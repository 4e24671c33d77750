"""Group sampling: G completions of every prompt in one jitted call.

The prompt is prefilled once and its cache shared by the group; attention is
vmapped over the completions. Every completion has its own random stream, keyed
by its prompt's place in the whole batch and its own in the group, so the
result does not depend on how the batch is split over devices or calls.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P, reshard

from r1jax import config
from r1jax.mesh import BATCH
from r1jax.models import transformer
from r1jax.models.attention import Cache
from r1jax.types import Rollouts


def _highest_threshold(probs, enough):
  """The largest t for which enough(probs >= t): bisection over the bits of a positive float32, in place of a sort."""
  bits = jax.lax.bitcast_convert_type(probs, jnp.int32)

  def halve(_, bounds):
    low, high = bounds  # enough(low) holds, enough(high) does not
    middle = low + (high - low) // 2
    good = enough(bits >= middle)
    return jnp.where(good, middle, low), jnp.where(good, high, middle)

  low = jnp.zeros_like(bits[..., :1])
  high = low + jnp.int32(0x3F800001)  # the bits just above 1.0
  return bits >= jax.lax.fori_loop(0, 31, halve, (low, high))[0]


def draw_distribution(logits, sampling: config.Sampling):
  """Probabilities [..., v] that tokens are drawn from: temperature, then top-k, then the top-p nucleus."""
  probs = jax.nn.softmax(logits / sampling.temperature, axis=-1)
  if sampling.top_k:
    kept = _highest_threshold(probs, lambda m: m.sum(-1, keepdims=True) >= sampling.top_k)
    probs = jnp.where(kept, probs, 0)
    probs = probs / probs.sum(-1, keepdims=True)
  if sampling.top_p < 1:
    mass = lambda m: jnp.where(m, probs, 0).sum(-1, keepdims=True)
    kept = _highest_threshold(probs, lambda m: mass(m) >= sampling.top_p * probs.sum(-1, keepdims=True))
    probs = jnp.where(kept, probs, 0)
    probs = probs / probs.sum(-1, keepdims=True)
  return probs


def draw(logits, uniform, sampling: config.Sampling):
  """Draws a token per row by inverting the cumulative distribution: one random number a row, not one a token.

  logits float32[p, g, v], uniform float32[p, g] in [0, 1) -> token int32[p, g],
  its log-prob at temperature 1 and under the distribution it was drawn from.
  """
  probs = draw_distribution(logits, sampling)
  token = invert(probs, uniform)
  return token, *recorded(logits, probs, token)


def invert(probs, uniform):
  """The token int32[...] where the cumulative sum of probs[..., v], which need not sum to 1, passes uniform[...]."""
  below = jnp.cumsum(probs, axis=-1)
  token = (below <= uniform[..., None] * below[..., -1:]).sum(-1, dtype=jnp.int32)
  last = (probs > 0).shape[-1] - 1 - jnp.argmax(probs[..., ::-1] > 0, axis=-1)  # rounding must not pass the last one
  return jnp.minimum(token, last.astype(jnp.int32))


def pick(x, token):
  """x[..., v] at token[...]."""
  return jnp.take_along_axis(x, token[..., None], axis=-1)[..., 0]


def recorded(logits, probs, token):
  """Log-probs of token[...] that rollouts hold: at temperature 1, and under `probs`, the distribution of its draw."""
  return pick(logits, token) - jax.nn.logsumexp(logits, axis=-1), jnp.log(pick(probs, token))


def read_prompts(c: config.Model, params, tokens, lengths, record_routes: bool = False) -> transformer.Output:
  """The model's output on prompts tokens int32[p, t], lengths int32[p]."""
  p, t = tokens.shape
  positions = jnp.broadcast_to(jnp.arange(t), (p, t), out_sharding=P(BATCH, None))
  segments = (positions < lengths[:, None]).astype(jnp.int32)
  return transformer.apply(c, params, tokens, positions, segments, record=record_routes)


def first_logits(c: config.Model, params, hidden, lengths, group_size: int):
  """float32[p, g, v] of the first token, from the hidden[p, t, d] of the prompts."""
  last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)
  logits = reshard(transformer.logits(c, params, last), P(BATCH, None, None))
  return jnp.broadcast_to(logits, (logits.shape[0], group_size, c.vocab), out_sharding=P(BATCH, None, None))


def empty_cache(entries, lengths, group_size: int, room: int) -> Cache:
  """A cache with the entries of the prompts and `room` tokens a completion."""
  spec = jax.typeof(entries).sharding.spec
  own = jnp.zeros(
    (*entries.shape[:2], group_size, room, *entries.shape[3:]),
    entries.dtype,
    out_sharding=P(None, BATCH, None, None, *spec[3:]),
  )
  return Cache(entries, lengths, own, jnp.int32(0))


def prefill(c: config.Model, params, tokens, lengths, group_size: int, room: int):
  """Runs the prompts once: logits float32[p, g, v] of the first token, a cache with `room` tokens a completion."""
  out = read_prompts(c, params, tokens, lengths)
  logits = first_logits(c, params, out.hidden, lengths, group_size)
  return logits, empty_cache(out.memory, lengths, group_size, room)


def is_any(token, ends: tuple[int, ...]):
  """Whether token[...] is one of `ends`."""
  return functools.reduce(operator.or_, [token == end for end in ends])


def streams(key, rows, group_size: int):
  """The random key of every completion, [p, g]."""
  of = lambda row: jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, row), i))(jnp.arange(group_size))
  return jax.vmap(of)(rows)


def blank_rollouts(p: int, g: int, limit: int, pad: int, prompt_routes=None) -> Rollouts:
  """Rollouts of no token, with room for `limit`, and for routes where there are those of the prompts."""
  blank = lambda shape, fill: jnp.full(shape, fill, out_sharding=P(BATCH, *(None,) * (len(shape) - 1)))
  routes = prompt_routes
  if prompt_routes is not None:
    routes = blank((p, g, limit, *prompt_routes.shape[2:]), prompt_routes.dtype.type(0))
  return Rollouts(
    tokens=blank((p, g, limit), jnp.int32(pad)),
    lengths=blank((p, g), jnp.int32(0)),
    ended=blank((p, g), False),
    log_probs=blank((p, g, limit), jnp.float32(0)),
    draw_log_probs=blank((p, g, limit), jnp.float32(0)),
    routes=routes,
    prompt_routes=prompt_routes,
  )


def put_routes(rollouts: Rollouts, routes, index) -> Rollouts:
  """The rollouts with routes[p, g * w, layers, k] of the newest tokens, the first at `index`, stored as in a Cache."""
  own = Cache(None, None, rollouts.routes[None], index).write(jnp.int32(0), routes).own
  return rollouts.replace(routes=own[0])


@functools.partial(jax.jit, static_argnames=("c", "sampling", "group_size", "ends", "pad", "record_routes"))
def sample(
  params, tokens, lengths, rows, key, *,
  c: config.Model, sampling: config.Sampling, group_size: int, ends, pad: int, record_routes: bool = False,
) -> Rollouts:  # fmt: skip
  """Draws group_size completions of every prompt.

  tokens int32[p, t] padded on the right, lengths and rows int32[p] (see
  `Prompts`), key: a jax.random key. Stops when every row has drawn one of
  `ends` or max_response tokens. What attention reads of the cache doubles as completions
  grow, and is little more than what is filled. With `sampling.speculate` the draws are
  those of rl/speculative.py: other tokens of the same distribution. `record_routes`
  adds the experts that every token goes through.
  """
  p, g, limit = tokens.shape[0], group_size, sampling.max_response
  keys = streams(key, rows, g)
  if sampling.speculate:
    from r1jax.rl import speculative  # which is made of the functions of this file

    return speculative.sample(c, params, tokens, lengths, keys, sampling, ends, pad, record_routes)[0]
  uniform = jax.vmap(jax.vmap(lambda k, i: jax.random.uniform(jax.random.fold_in(k, i)), (0, None)), (0, None))

  def running(until, state):
    index, _, _, done = state[:4]
    return (index < until) & ~jnp.all(done)

  def step(state):
    index, rollouts, logits, done, cache = state
    token, log_prob, draw_log_prob = draw(logits, uniform(keys, index), sampling)
    token = jnp.where(done, pad, token)
    put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new[..., None], index, axis=2)
    live = lambda x: jnp.where(done, 0.0, x)
    rollouts = rollouts.replace(
      tokens=put(rollouts.tokens, token),
      lengths=rollouts.lengths + ~done,
      ended=rollouts.ended | (~done & is_any(token, ends)),
      log_probs=put(rollouts.log_probs, live(log_prob)),
      draw_log_probs=put(rollouts.draw_log_probs, live(draw_log_prob)),
    )
    done = rollouts.ended
    positions = lengths[:, None] + rollouts.lengths - 1
    cache = cache.replace(index=index)
    out = transformer.apply(c, params, token, positions, (~done).astype(jnp.int32), cache, record=record_routes)
    if record_routes:
      rollouts = put_routes(rollouts, out.routes, index)
    logits = reshard(transformer.logits(c, params, out.hidden), P(BATCH, None, None))
    return index + 1, rollouts, logits, done, out.memory

  room = min(sampling.chunk, limit)
  out = read_prompts(c, params, tokens, lengths, record_routes)
  logits, cache = first_logits(c, params, out.hidden, lengths, g), empty_cache(out.memory, lengths, g, limit)
  rollouts = blank_rollouts(p, g, limit, pad, out.routes)
  state = jnp.int32(0), rollouts, logits, rollouts.ended, cache
  while True:
    state = (*state[:4], state[4].replace(view=room))
    state = jax.lax.while_loop(functools.partial(running, room), step, state)
    if room == limit:
      return state[1]
    room = min(2 * room, limit)
