"""Routing, balance and the layer of experts (DeepSeek-V3 eq. 12-20). Dropless everywhere.

Einsum letters: b batch, t time, d model, e experts, k experts per token.
"""

import functools

from flax import linen as nn, struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np

from r1jax import config
from r1jax.mesh import BATCH
from r1jax.models import exchange, functions as f, products
from r1jax.models.layer import Layer

ASSIGNED = 65_536  # rows (of every token one for each of its experts) of a chip that are computed at one time


@struct.dataclass
class Route:
  expert: jax.Array  # int32[b, t, k]
  gate: jax.Array  # float32[b, t, k]
  load: jax.Array  # float32[e], real tokens sent to each expert
  balance: jax.Array  # float32[b], sum of f_i P_i per row: 1 when perfectly even
  agreement: jax.Array | None = None  # float32[b, t], where experts were given: share of them chosen here, too


def choose(scores, bias, experts: config.Experts):
  """The active experts per token by biased score, within the best groups: float32[b, t, e] -> int32[b, t, k].

  A group's score is the sum of its two best (DeepSeek-V3 section 2.1.2) or its best (V2 2.2.2). Groups ruled out are
  masked with -inf, as in DeepSeek's own code; where others mask with 0, that differs only if a biased score is
  negative or a softmax score underflows to 0. Of equal scores the lowest index wins.
  """
  biased = scores + bias
  if experts.groups > 1:
    b, t, e = biased.shape
    grouped = biased.reshape(b, t, experts.groups, e // experts.groups)
    counted = min(2, e // experts.groups) if experts.group_score == "top2" else 1
    best = jax.lax.top_k(grouped, counted)[0].sum(-1)
    kept = jax.nn.one_hot(jax.lax.top_k(best, experts.active_groups)[1], experts.groups, dtype=bool).any(-2)
    grouped = jnp.where(kept[..., None], grouped, -jnp.inf)
    biased = grouped.reshape(b, t, e)
  return jax.lax.top_k(biased, experts.active)[1]


def route(x, router, bias, valid, experts: config.Experts, given=None) -> Route:
  """Gates of the chosen experts; the bias float32[e] only chooses (eq. 13-16) and is 0 with softmax gates.

  The balance counts what the gates alone would choose in V3 (eq. 18) and what was chosen in V2 (2.2.3), where no
  bias stands between the two but the limit to groups does.

  given: int[b, t, k] of experts to take instead of the chosen ones, -1 for none
  (routing replay, arXiv:2510.11370). Their gates are still those of x and the
  router, which so has its gradient; the load is theirs.
  """
  logits = jnp.einsum("btd,de->bte", x.astype(jnp.float32), router)
  softmax = experts.scoring == "softmax"
  scores = jax.nn.softmax(logits, axis=-1) if softmax else jax.nn.sigmoid(logits)
  expert, agreement = choose(jax.lax.stop_gradient(scores), bias, experts), None
  if given is not None:
    expert, agreement = replay(expert, given)
  one_hot = jax.nn.one_hot(expert, experts.routed, dtype=jnp.float32)
  gate = jnp.einsum("bte,btke->btk", scores, one_hot)
  if experts.normalize:
    gate = gate / (gate.sum(-1, keepdims=True) + 1e-20)
  gate = gate * experts.route_scale
  real = valid.astype(jnp.float32)
  tokens = jnp.maximum(real.sum(1), 1)[:, None]
  count = lambda hot: jnp.einsum("btke,bt->be", hot, real)
  best = expert if softmax else jax.lax.top_k(jax.lax.stop_gradient(scores), experts.active)[1]
  frequency = count(jax.nn.one_hot(best, experts.routed)) * experts.routed / (experts.active * tokens)
  share = jnp.einsum("bte,bt->be", scores / scores.sum(-1, keepdims=True), real) / tokens
  load = jnp.einsum("be->e", count(one_hot), out_sharding=P(None))
  return Route(expert, gate, jax.lax.stop_gradient(load), (frequency * share).sum(-1), agreement)


def replay(chosen, given):
  """The `given` experts int[b, t, k] where there are any (not -1), else the chosen int32[b, t, k]; and their agreement.

  That is float32[b, t], the share of a token's experts that are chosen, in whatever order; 1 where none are given.
  """
  expert = jnp.where(given < 0, chosen, given.astype(jnp.int32))
  return expert, (expert[..., None] == chosen[..., None, :]).any(-1).astype(jnp.float32).mean(-1)


def route_dtype(experts: config.Experts) -> np.dtype:
  """The smallest integers that number the routed experts: uint8 up to 256 of them."""
  return np.min_scalar_type(experts.routed - 1)


def run_experts(x, expert, gates, gate, up, down, slack, split=None):
  """The gated sum of every token's experts: x[b, t, d], expert int32[b, t, k], gates float32[b, t, k] -> [b, t, d].

  Tokens are split over `data` and `expert`, experts over `expert`, their width
  over `tensor`. `slack` times the mean load is what one all-to-all round holds.
  At most ASSIGNED rows of a chip are on their way at one time.
  The mesh axis `split`, None or "tensor", splits the tokens of the result.
  """
  shards = jax.sharding.get_abstract_mesh().shape["expert"]

  @functools.partial(
    jax.shard_map,
    in_specs=(P(BATCH), P(BATCH), P(BATCH), *(P("expert", None, "tensor"),) * 2, P("expert", "tensor", None)),
    out_specs=P(BATCH, split),
    check_vma=False,
  )
  def run(x, expert, gates, *weights):
    def some(part):
      rows, expert, gates = part
      if shards > 1:
        return exchange.exchange(rows, expert, gates, weights, slack)
      return jnp.einsum("nkd,nk->nd", products.feed_forward(rows, expert, *weights), gates.astype(x.dtype))

    tokens, k = expert.shape[0] * expert.shape[1], expert.shape[2]
    parts = -(-tokens // max(1, ASSIGNED // k))
    flat = jax.tree.map(lambda a: a.reshape(tokens, a.shape[-1]), (x, expert, gates))
    if parts == 1:
      y = some(flat)
    else:  # filled up with a few tokens of no weight
      cut = lambda a: jnp.pad(a, ((0, -tokens % parts), (0, 0))).reshape(parts, -1, a.shape[-1])
      y = jax.lax.map(some, jax.tree.map(cut, flat)).reshape(-1, x.shape[-1])[:tokens]
    y = y.reshape(x.shape)
    return jax.lax.psum_scatter(y, split, scatter_dimension=1, tiled=True) if split else jax.lax.psum(y, "tensor")

  return run(x, expert, gates, gate, up, down)


class Experts(Layer):
  @nn.compact
  def __call__(self, x, valid, given=None):
    """x[b, t, d], valid bool[b, t], experts given as in `route` or chosen here -> y as x[b, t, d], and the Route."""
    c, e, tokens = self.cfg, self.cfg.experts, f.tokens_of(x)
    x = f.split_tokens(x, None)
    router = self.weight("router", (c.width, e.routed), ("embed", None), c.width)
    bias = self.weight("router_bias", (e.routed,), (None,)) if e.scoring == "sigmoid" else 0.0
    gate = self.weight("gate", (e.routed, c.width, e.hidden), ("expert", "expert_embed", "hidden"), c.width)
    up = self.weight("up", (e.routed, c.width, e.hidden), ("expert", "expert_embed", "hidden"), c.width)
    down = self.weight("down", (e.routed, e.hidden, c.width), ("expert", "hidden", "expert_embed"), e.hidden)
    routed = route(x, router, bias, valid, e, given)
    y = run_experts(x, routed.expert, routed.gate, gate, up, down, e.exchange, tokens)
    if e.shared:
      y = y + f.split_tokens(FeedForward(c, hidden=e.shared * e.hidden, name="shared")(x), tokens)
    return y, routed


class FeedForward(Layer):
  hidden: int

  @nn.compact
  def __call__(self, x):
    """SwiGLU, whole rows x[b, t, d] -> [b, t, d]."""
    d, h = self.cfg.width, self.hidden
    gate = self.weight("gate", (d, h), ("embed", "hidden"), d)
    up = self.weight("up", (d, h), ("embed", "hidden"), d)
    down = self.weight("down", (h, d), ("hidden", "embed"), h)
    return f.swiglu(x, gate, up, down)
