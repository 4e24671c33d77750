"""Self-speculative sampling: the multi-token prediction layer drafts, the model checks two tokens at a time.

DeepSeek-V3 sections 2.2 and 5.4.3; the rule is that of speculative sampling
(Leviathan et al. 2023, Chen et al. 2023): with p the model's distribution and q
the draft's, both after temperature, top-k and top-p, a drafted token x stays
with probability min(1, p(x) / q(x)), and else the token is drawn anew from
max(p - q, 0). So every token has the distribution p, whatever the draft is
worth. After a token that stays, the model has already read it, and one more
token is drawn from the p behind it.

Completions advance by one or two tokens, so each has its own place in the
caches. With n tokens drawn, of which the model has read all but the last:

  the layer reads    the 1 or 2 tokens that are new to it, to draft token n
  the model reads    tokens n - 1 and n (the draft) in one pass
  entries of a token that did not stay are overwritten by the next pass

The layer's slot for token n joins its embedding with the hidden state one
position before, so its cache of the prompt is one token shorter.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P, reshard

from r1jax import config
from r1jax.mesh import BATCH
from r1jax.models import mtp, transformer
from r1jax.models.attention import Cache, split_newest
from r1jax.rl import sampling as sampler
from r1jax.types import Rollouts


@struct.dataclass
class State:
  """Where every completion stands; p prompts, g completions of each."""

  rollouts: Rollouts
  cache: Cache  # of the model: all tokens but the last
  draft_cache: Cache  # of the layer: all tokens but the newest
  tokens: jax.Array  # int32[p, g, 2], the newest, of which the second may not count
  hidden: jax.Array  # [p, g * 2, d], of the model one position before each
  newest: jax.Array  # int32[p, g], 1 or 2: how many count
  drafts: jax.Array  # int32[p, g], tokens drafted
  accepted: jax.Array  # int32[p, g], of which stayed


def accept(p, q, token, uniform):
  """Whether token[...] drafted from q[..., v] stays, where p[..., v] is wanted: with probability min(1, p / q)."""
  return uniform * sampler.pick(q, token) < sampler.pick(p, token)


def residual(p, q):
  """What is drawn from instead of a draft that did not stay, not normalised: max(p - q, 0).

  Where p and q differ by rounding alone nothing may be left; then p itself, which is as good.
  """
  rest = jnp.maximum(p - q, 0)
  return jnp.where((rest > 0).any(-1, keepdims=True), rest, p)


def sample(
  c: config.Model, params, tokens, lengths, keys, sampling: config.Sampling, ends, pad: int, record_routes: bool = False
):
  """Draws a completion for every random stream keys[p, g] of prompts tokens int32[p, t], lengths int32[p].

  Returns: Rollouts as sampling.sample has them, and how many drafts were
  accepted and made, int32[p, g] each.
  """
  if c.mtp == 0:
    raise ValueError(
      "sampling.speculate=True needs a model with a multi-token prediction layer; set model.mtp=1 or speculate=False."
    )
  limit = sampling.max_response
  room = min(sampling.chunk, limit)
  state = start(c, params, tokens, lengths, keys, sampling, ends, pad, record_routes)

  def live(state):
    return ~state.rollouts.ended & (state.rollouts.lengths < limit)

  def running(room, state):
    return jnp.any(live(state)) & jnp.all((state.rollouts.lengths < room) | ~live(state))

  def advance(state):
    n, going = state.rollouts.lengths, live(state)
    uniform = uniforms(keys, n)
    guess, q, draft_cache = draft(c, params, state, lengths, uniform[..., 0], sampling)
    last = jnp.where(state.newest == 2, state.tokens[..., 1], state.tokens[..., 0])
    two = jnp.stack([last, guess], -1)
    out, logits = read_two(c, params, two, lengths[:, None] + n - 1, state.cache, n - 1, record_routes)
    p = sampler.draw_distribution(logits, sampling)
    stays = accept(p[:, :, 0], q, guess, uniform[..., 1])
    final = jnp.where(stays[..., None], p[:, :, 1], residual(p[:, :, 0], q))
    final = sampler.invert(final, uniform[..., 2])
    pair = jnp.stack([jnp.where(stays, guess, final), final], -1)
    both = stays & ~sampler.is_any(guess, ends) & (n + 1 < limit)
    count = jnp.where(going, 1 + both, 0)
    rollouts = record(state.rollouts, pair, count, logits, p, ends)
    return State(
      rollouts=sampler.put_routes(rollouts, out.routes, n - 1) if record_routes else rollouts,
      cache=out.memory,
      draft_cache=draft_cache,
      tokens=pair,
      hidden=out.hidden,
      newest=1 + both.astype(jnp.int32),
      drafts=state.drafts + going,
      accepted=state.accepted + (going & stays),
    )

  while True:
    view = lambda cache: cache.replace(view=room)
    state = state.replace(cache=view(state.cache), draft_cache=view(state.draft_cache))
    state = jax.lax.while_loop(functools.partial(running, room), advance, state)
    if room == limit:
      return state.rollouts, state.accepted, state.drafts
    room = min(2 * room, limit)


def start(c, params, tokens, lengths, keys, sampling, ends, pad, record_routes) -> State:
  """Reads the prompts, with the layer too, and draws the first token of every completion."""
  p, g = keys.shape
  out = sampler.read_prompts(c, params, tokens, lengths, record_routes)
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape, out_sharding=P(BATCH, None))
  following = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))
  segments = (positions < lengths[:, None] - 1).astype(jnp.int32)
  drafted = mtp.apply(c, params, out.hidden, following, positions, segments)
  each = lambda entries, lengths: sampler.empty_cache(entries, lengths, g, sampling.max_response)
  logits = sampler.first_logits(c, params, out.hidden, lengths, g)[:, :, None]
  probs = sampler.draw_distribution(logits, sampling)
  rollouts = sampler.blank_rollouts(p, g, sampling.max_response, pad, out.routes)
  none = rollouts.lengths
  token = sampler.invert(probs[:, :, 0], uniforms(keys, none)[..., 2])[..., None]
  last = jnp.take_along_axis(out.hidden, (lengths - 1)[:, None, None], axis=1)
  return State(
    rollouts=record(rollouts, token, none + 1, logits, probs, ends),
    cache=each(out.memory, lengths).replace(index=none),
    draft_cache=each(drafted.memory, lengths - 1).replace(index=none),
    tokens=jnp.concatenate([token, token], -1),
    hidden=jnp.broadcast_to(last, (p, g * 2, c.width), out_sharding=P(BATCH, None, None)),
    newest=none + 1,
    drafts=none,
    accepted=none,
  )


def uniforms(keys, index):
  """Three random numbers of every completion, float32[p, g, 3], for its token number index[p, g]."""
  one = lambda key, i: jax.random.uniform(jax.random.fold_in(key, i), (3,))
  return jax.vmap(jax.vmap(one))(keys, index)


def draft(c, params, state: State, lengths, uniform, sampling):
  """The layer's guess int32[p, g] at the next token, its distribution [p, g, v] and the layer's cache."""
  first = state.rollouts.lengths - state.newest
  tokens, positions = side_by_side(state.tokens, lengths[:, None] - 1 + first)
  cache = state.draft_cache.replace(index=first)
  out = mtp.apply(c, params, state.hidden, tokens, positions, jnp.ones_like(tokens), cache)
  hidden = split_newest(out.hidden, state.tokens.shape[1])
  hidden = jnp.where((state.newest == 2)[..., None], hidden[:, :, 1], hidden[:, :, 0])
  logits = reshard(transformer.logits(c, params, hidden), P(BATCH, None, None))
  q = sampler.draw_distribution(logits, sampling)
  return sampler.invert(q, uniform), q, out.memory


def read_two(c, params, tokens, positions, cache: Cache, index, record_routes: bool = False):
  """The model on two tokens int32[p, g, 2] of every completion, the first at positions[p, g] and cache index[p, g].

  Returns: its output, and the logits float32[p, g, 2, v] behind both.
  """
  group = tokens.shape[1]
  tokens, positions = side_by_side(tokens, positions)
  out = transformer.apply(
    c, params, tokens, positions, jnp.ones_like(tokens), cache.replace(index=index), record=record_routes
  )
  logits = reshard(transformer.logits(c, params, out.hidden), P(BATCH, None, None))
  return out, split_newest(logits, group)


def side_by_side(tokens, first):
  """tokens[p, g, 2] -> [p, g * 2], and their positions, where first[p, g] is that of each completion's first."""
  flat = lambda x: x.reshape(x.shape[0], -1)
  return flat(tokens), flat(first[..., None] + jnp.arange(2))


def record(rollouts: Rollouts, tokens, count, logits, probs, ends) -> Rollouts:
  """Writes the first count[p, g] of tokens[p, g, w], drawn from logits and probs[p, g, w, v], behind those there."""
  log_probs, draw_log_probs = sampler.recorded(logits, probs, tokens)
  place, n = jnp.arange(rollouts.tokens.shape[2]), rollouts.lengths
  for i in range(tokens.shape[2]):
    counts = i < count
    here = (place == (n + i)[..., None]) & counts[..., None]
    put = lambda x, new: jnp.where(here, new[..., i : i + 1], x)
    rollouts = rollouts.replace(
      tokens=put(rollouts.tokens, tokens),
      ended=rollouts.ended | (counts & sampler.is_any(tokens[..., i], ends)),
      log_probs=put(rollouts.log_probs, log_probs),
      draw_log_probs=put(rollouts.draw_log_probs, draw_log_probs),
    )
  return rollouts.replace(lengths=n + count)
