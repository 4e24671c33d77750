"""Tokens to the shards of their experts and back, in rounds of bounded memory: dropless whatever the load.

On TPUs a round sends each shard just what is for it (`ragged_all_to_all`), and holds `slack` times the mean load of a
shard. Elsewhere a round is an all-to-all of equal parts, each with room for `slack` times the mean load of a pair of
shards. Both run as many rounds as the fullest needs.

All of this is inside `jax.shard_map`: n tokens of this shard, k experts per token.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp

from r1jax import mesh
from r1jax.models import products


def exchange(x, chosen, gates, weights, slack):
  """The gated sum of the experts of every token.

  Args:
    x: [n, d].
    chosen: int32[n, k], numbers among all experts.
    gates: float32[n, k].
    weights: gate, up and down of this shard's experts, [e, d, f], [e, d, f] and [e, f, d].
    slack: room of a round, times the mean load.
  """
  assigned, shards = chosen.size, jax.lax.axis_size("expert")
  if mesh.platform() == "tpu":
    return _in_rounds(x, chosen, gates, weights, (min(int(assigned * slack) + 1, assigned * shards), _ragged_round))
  return _in_rounds(x, chosen, gates, weights, (min(int(assigned / shards * slack) + 1, assigned), _even_round))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _in_rounds(x, chosen, gates, weights, way):
  """way: the rows that a round holds, and the function that runs one."""
  capacity, one = way
  step = lambda i, y: y + one(x, chosen, gates, weights, capacity, i)
  return jax.lax.fori_loop(0, _rounds(chosen, weights, way), step, jnp.zeros_like(x))


def _forward(x, chosen, gates, weights, way):
  return _in_rounds(x, chosen, gates, weights, way), (x, chosen, gates, weights)


def _backward(way, saved, gradient):
  capacity, one = way
  x, chosen, gates, weights = saved

  def step(i, total):
    run = lambda x, gates, weights: one(x, chosen, gates, weights, capacity, i)
    return jax.tree.map(jnp.add, total, jax.vjp(run, x, gates, weights)[1](gradient))

  zeros = jax.tree.map(jnp.zeros_like, (x, gates, weights))
  dx, dgates, dweights = jax.lax.fori_loop(0, _rounds(chosen, weights, way), step, zeros)
  return dx, *products.integer_zeros((chosen,)), dgates, dweights


_in_rounds.defvjp(_forward, _backward)


def _rounds(chosen, weights, way):
  """int32[]: as many as the fullest shard, or pair of shards, of the whole mesh needs."""
  capacity, one = way
  load = _counts(chosen, weights[0].shape[0] * jax.lax.axis_size("expert"))
  load = load.reshape(-1, weights[0].shape[0]).sum(1)
  if one is _ragged_round:
    load = jax.lax.psum(load, "expert")
  return jax.lax.pmax(-(-load.max() // capacity), ("data", "expert", "tensor"))


def _counts(numbers, of: int):
  """How often each of 0 .. of - 1 is among the numbers, int32[of]."""
  return (numbers.reshape(-1, 1) == jnp.arange(of)).sum(0, dtype=jnp.int32)


def _joined(y, gates):
  """The results [n * k, d] of all assignments -> the gated sum of each token, [n, d]."""
  return jnp.einsum("nkd,nk->nd", y.reshape(*gates.shape, -1), gates.astype(y.dtype))


# ---- equal parts


def _even_round(x, chosen, gates, weights, capacity, number):
  """x[n, d] -> the part of the experts' sum that one round delivers, [n, d].

  Every shard sends at most `capacity` rows to every other; assignments of rank
  [number * capacity, (number + 1) * capacity) for their destination go now.
  """
  (n, k), shards = chosen.shape, jax.lax.axis_size("expert")
  local = weights[0].shape[0]
  shard = chosen.reshape(-1) // local
  order = jnp.argsort(shard, stable=True)
  counts = _counts(shard, shards)
  starts = jnp.cumsum(counts) - counts
  rank = jnp.argsort(order) - starts[shard] - number * capacity
  target = jnp.where((rank >= 0) & (rank < capacity), shard * capacity + rank, shards * capacity)
  slot = number * capacity + jnp.arange(capacity)
  source = jnp.where(slot < counts[:, None], order[jnp.minimum(starts[:, None] + slot, n * k - 1)], n * k).reshape(-1)
  swap = functools.partial(jax.lax.all_to_all, axis_name="expert", split_axis=0, concat_axis=0, tiled=True)
  expert = jnp.concatenate([chosen.reshape(-1) % local, jnp.full(1, local)])[source]
  sent = products.permute(x, jnp.where(source < n * k, source // k, n), target.reshape(n, k))
  y = swap(products.feed_forward(swap(sent), swap(expert)[:, None], *weights)[:, 0])
  return _joined(products.permute(y, target, source[:, None]), gates)


# ---- just what is for each


@struct.dataclass
class Moves:
  """The rows that this shard sends to each in a round, and those that it gets from each: int32[shards]."""

  sent: jax.Array  # how many, by destination
  sent_from: jax.Array  # the first one's place here
  sent_to: jax.Array  # and there
  got: jax.Array  # how many, by origin
  got_from: jax.Array  # the first one's place there
  got_to: jax.Array  # and here


def moves(counts, capacity, number) -> Moves:
  """What goes in a round. Each shard gets its rows in the order of their origins, `capacity` of them at a time.

  counts: int32[shards, shards], rows by origin and destination.
  """
  me, first = jax.lax.axis_index("expert"), number * capacity
  behind = jnp.cumsum(counts, axis=0) - counts  # of a pair's rows, in all that the destination gets
  start, stop = (jnp.clip(edge - behind, 0, counts) for edge in (first, first + capacity))
  place = jnp.cumsum(counts, axis=1) - counts + start  # among the origin's rows, which are sorted by destination
  there = jnp.clip(behind + start - first, 0, capacity)
  size = stop - start
  return Moves(size[me], place[me], there[me], size[:, me], place[:, me], there[:, me])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def send(rows, moves: Moves, capacity: int):
  """rows[n, d] sorted by destination -> those that this shard gets, [capacity, d], zero where there is none."""
  room = jnp.zeros((capacity, *rows.shape[1:]), rows.dtype)
  offsets = moves.sent_from, moves.sent, moves.sent_to, moves.got
  return jax.lax.ragged_all_to_all(rows, room, *offsets, axis_name="expert")


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def send_back(rows, moves: Moves, count: int):
  """What came by `send`, [capacity, d] -> each row at its old place, [count, d], zero where none was sent."""
  room = jnp.zeros((count, *rows.shape[1:]), rows.dtype)
  offsets = moves.got_to, moves.got, moves.got_from, moves.sent
  return jax.lax.ragged_all_to_all(rows, room, *offsets, axis_name="expert")


send.defvjp(
  lambda rows, moves, capacity: (send(rows, moves, capacity), (moves, len(rows))),
  lambda capacity, saved, gradient: (send_back(gradient, *saved), products.integer_zeros(saved[0])),
)
send_back.defvjp(
  lambda rows, moves, count: (send_back(rows, moves, count), (moves, len(rows))),
  lambda count, saved, gradient: (send(gradient, *saved), products.integer_zeros(saved[0])),
)


def _ragged_round(x, chosen, gates, weights, capacity, number):
  """x[n, d] -> the part of the experts' sum that one round delivers, [n, d]."""
  (n, k), shards = chosen.shape, jax.lax.axis_size("expert")
  local = weights[0].shape[0]
  order = jnp.argsort(chosen.reshape(-1), stable=True)
  place = jnp.argsort(order)
  counts = jax.lax.all_gather(_counts(chosen, shards * local), "expert").reshape(shards, shards, local)
  now = moves(counts.sum(-1), capacity, number)
  got = send(products.permute(x, order // k, place.reshape(n, k)), now, capacity)
  # What a shard gets is sorted by origin, and then by expert.
  ends = jnp.cumsum(counts[:, jax.lax.axis_index("expert")].reshape(-1))
  of_round = number * capacity + jnp.arange(capacity)
  slot = (of_round[:, None] >= ends).sum(1)
  expert = jnp.where(slot < shards * local, slot % local, local)
  y = send_back(products.feed_forward(got, expert[:, None], *weights)[:, 0], now, n * k)
  return _joined(products.permute(y, place, order[:, None]), gates)
