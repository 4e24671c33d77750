"""Routing, balance and the experts' products (DeepSeek-V3 eq. 12-20). Dropless everywhere.

Einsum letters: b batch, t time, d model, e experts, k experts per token, f hidden.
"""

import functools

from flax import linen as nn, struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np

from r1jax import config, mesh
from r1jax.mesh import BATCH
from r1jax.models import functions as f
from r1jax.models.layer import Layer


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


# ---- grouped products on one device


def _integer_zeros(tree):
  return jax.tree.map(lambda x: np.zeros(x.shape, jax.dtypes.float0), tree)


@jax.custom_vjp
def permute(x, source, target):
  """Rows of x[n, d] in the order `source`[m], whose value n means an empty (zero) row.

  `target`[n, k] lists where each row went (m: nowhere). Forward and backward
  are both gathers: a scatter costs XLA's CPU backend many times as much.
  """
  return jnp.concatenate([x, jnp.zeros_like(x[:1])])[source]


def _permute_forward(x, source, target):
  return permute(x, source, target), (source, target)


def _permute_backward(saved, gradient):
  source, target = saved
  padded = jnp.concatenate([gradient, jnp.zeros_like(gradient[:1])])
  return padded[target].sum(1), *_integer_zeros((source, target))


permute.defvjp(_permute_forward, _permute_backward)


def grouped_order(expert, experts, block):
  """Where the rows of n assignments go when sorted by expert, every expert's rows padded to blocks.

  expert: int32[n], `experts` marks an assignment to nobody here. Returns source
  int32[m] (n: empty), target int32[n] (m: nowhere), sizes int32[experts] (rows
  per expert, padding included) and the expert of each block.
  """
  n = expert.shape[0]
  m = -(-(n + experts * (block - 1)) // block) * block if block > 1 else n
  order = jnp.argsort(expert, stable=True)
  counts = (expert[:, None] == jnp.arange(experts)).sum(0)
  starts = jnp.cumsum(counts) - counts
  sizes = (counts + block - 1) // block * block
  ends = jnp.cumsum(sizes)
  row = jnp.arange(m)
  owner = jnp.minimum((row[:, None] >= ends).sum(1), experts - 1)
  rank = row - (ends - sizes)[owner]
  filled = (rank < counts[owner]) & (row < ends[-1])
  source = jnp.where(filled, order[jnp.minimum(starts[owner] + rank, n - 1)], n)
  place = jnp.argsort(order)  # rank of each assignment in sorted order
  here = jnp.minimum(expert, experts - 1)
  target = jnp.where(expert < experts, place - starts[here] + (ends - sizes)[here], m)
  return source, target, sizes, owner[::block]


def _block_products(x, gate, up, down, owner, sizes):
  """Every block of rows times its own expert's weights.

  XLA's CPU ragged_dot costs as much as all experts on all rows.
  """
  del sizes
  blocks = x.reshape(owner.shape[0], -1, x.shape[-1])
  y = jnp.einsum("ntd,ndf->ntf", blocks, gate[owner])
  y = jax.nn.silu(y) * jnp.einsum("ntd,ndf->ntf", blocks, up[owner])
  return jnp.einsum("ntf,nfd->ntd", y, down[owner]).reshape(x.shape)


def _ragged_products(x, gate, up, down, owner, sizes):
  del owner
  y = jax.nn.silu(jax.lax.ragged_dot(x, gate, sizes)) * jax.lax.ragged_dot(x, up, sizes)
  return jax.lax.ragged_dot(y, down, sizes)


def feed_forward(x, expert, gate, up, down):
  """Each row through its own experts: x[n, d], expert int32[n, k] (e: nobody) -> [n, k, d].

  Weights are [e, d, f], [e, d, f], [e, f, d]; all on this device.
  """
  (n, k), experts = expert.shape, gate.shape[0]
  block, products = 1, _ragged_products
  if mesh.platform() == "cpu":  # blocks about half as long as the mean group keep the padding small
    block, products = min(max(8, 1 << (n * k // experts).bit_length() >> 2), 128), _block_products
  source, target, sizes, owner = grouped_order(expert.reshape(-1), experts, block)
  rows = permute(x, jnp.where(source < n * k, source // k, n), target.reshape(n, k))
  gate, up, down = (w.astype(x.dtype) for w in (gate, up, down))
  y = products(rows, gate, up, down, owner, sizes.astype(jnp.int32))
  return permute(y, target, source[:, None]).reshape(n, k, x.shape[-1])


# ---- experts on several devices


def exchange_round(x, chosen, gates, weights, capacity, number):
  """One round of the all-to-all: x[n, d] -> the part of the experts' sum that it delivers, [n, d].

  Every shard sends at most `capacity` rows to every other; assignments of rank
  [number * capacity, (number + 1) * capacity) for their destination go now.
  """
  (n, k), shards = chosen.shape, jax.lax.axis_size("expert")
  local = weights[0].shape[0]
  shard = chosen.reshape(-1) // local
  order = jnp.argsort(shard, stable=True)
  counts = (shard[:, None] == jnp.arange(shards)).sum(0)
  starts = jnp.cumsum(counts) - counts
  rank = jnp.argsort(order) - starts[shard] - number * capacity
  target = jnp.where((rank >= 0) & (rank < capacity), shard * capacity + rank, shards * capacity)
  slot = number * capacity + jnp.arange(capacity)
  source = jnp.where(slot < counts[:, None], order[jnp.minimum(starts[:, None] + slot, n * k - 1)], n * k).reshape(-1)
  swap = functools.partial(jax.lax.all_to_all, axis_name="expert", split_axis=0, concat_axis=0, tiled=True)
  expert = jnp.concatenate([chosen.reshape(-1) % local, jnp.full(1, local)])[source]
  sent = permute(x, jnp.where(source < n * k, source // k, n), target.reshape(n, k))
  y = swap(feed_forward(swap(sent), swap(expert)[:, None], *weights)[:, 0])
  y = permute(y, target, source[:, None]).reshape(n, k, -1)
  return jnp.einsum("nkd,nk->nd", y, gates.astype(y.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def exchange(x, chosen, gates, weights, capacity):
  """All rounds, as many as the fullest pair of shards needs: dropless in bounded memory."""
  rounds = _rounds(chosen, weights, capacity)
  step = lambda i, y: y + exchange_round(x, chosen, gates, weights, capacity, i)
  return jax.lax.fori_loop(0, rounds, step, jnp.zeros_like(x))


def _rounds(chosen, weights, capacity):
  counts = (chosen.reshape(-1, 1) // weights[0].shape[0] == jnp.arange(jax.lax.axis_size("expert"))).sum(0)
  return jax.lax.pmax(-(-counts.max() // capacity), ("data", "expert", "tensor"))


def _exchange_forward(x, chosen, gates, weights, capacity):
  return exchange(x, chosen, gates, weights, capacity), (x, chosen, gates, weights)


def _exchange_backward(capacity, saved, gradient):
  x, chosen, gates, weights = saved

  def step(i, total):
    run = lambda x, gates, weights: exchange_round(x, chosen, gates, weights, capacity, i)
    return jax.tree.map(jnp.add, total, jax.vjp(run, x, gates, weights)[1](gradient))

  zeros = jax.tree.map(jnp.zeros_like, (x, gates, weights))
  dx, dgates, dweights = jax.lax.fori_loop(0, _rounds(chosen, weights, capacity), step, zeros)
  return dx, *_integer_zeros((chosen,)), dgates, dweights


exchange.defvjp(_exchange_forward, _exchange_backward)


def run_experts(x, expert, gates, gate, up, down, slack):
  """The gated sum of every token's experts: x[b, t, d], expert int32[b, t, k], gates float32[b, t, k] -> [b, t, d].

  Tokens are split over `data` and `expert`, experts over `expert`, their width
  over `tensor`. `slack` times the mean load is what one all-to-all round holds.
  """
  shards = jax.sharding.get_abstract_mesh().shape["expert"]

  @functools.partial(
    jax.shard_map,
    in_specs=(P(BATCH), P(BATCH), P(BATCH), *(P("expert", None, "tensor"),) * 2, P("expert", "tensor", None)),
    out_specs=P(BATCH),
    check_vma=False,
  )
  def run(x, expert, gates, *weights):
    b, t, d = x.shape
    k = expert.shape[-1]
    rows, expert, gates = x.reshape(b * t, d), expert.reshape(b * t, k), gates.reshape(b * t, k)
    if shards == 1:
      y = jnp.einsum("nkd,nk->nd", feed_forward(rows, expert, *weights), gates.astype(x.dtype))
    else:
      capacity = min(int(b * t * k / shards * slack) + 1, b * t * k)
      y = exchange(rows, expert, gates, weights, capacity)
    return jax.lax.psum(y, "tensor").reshape(b, t, d)

  return run(x, expert, gates, gate, up, down)


class Experts(Layer):
  @nn.compact
  def __call__(self, x, valid, given=None):
    """x[b, t, d], valid bool[b, t], experts given as in `route` or chosen here -> y[b, t, d] and the Route."""
    c, e = self.cfg, self.cfg.experts
    router = self.weight("router", (c.width, e.routed), ("embed", None), c.width)
    bias = self.weight("router_bias", (e.routed,), (None,)) if e.scoring == "sigmoid" else 0.0
    gate = self.weight("gate", (e.routed, c.width, e.hidden), ("expert", "expert_embed", "hidden"), c.width)
    up = self.weight("up", (e.routed, c.width, e.hidden), ("expert", "expert_embed", "hidden"), c.width)
    down = self.weight("down", (e.routed, e.hidden, c.width), ("expert", "hidden", "expert_embed"), e.hidden)
    routed = route(x, router, bias, valid, e, given)
    y = run_experts(x, routed.expert, routed.gate, gate, up, down, e.exchange)
    if e.shared:
      y = y + FeedForward(c, hidden=e.shared * e.hidden, name="shared")(x)
    return y, routed


class FeedForward(Layer):
  hidden: int

  @nn.compact
  def __call__(self, x):
    """SwiGLU, x[b, t, d] -> [b, t, d]."""
    d, h = self.cfg.width, self.hidden
    gate = self.weight("gate", (d, h), ("embed", "hidden"), d)
    up = self.weight("up", (d, h), ("embed", "hidden"), d)
    down = self.weight("down", (h, d), ("hidden", "embed"), h)
    return f.swiglu(x, gate, up, down)
