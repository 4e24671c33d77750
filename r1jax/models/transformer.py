"""The transformer: dense blocks, then blocks with experts, over one tree of weights.

`apply` runs whole rows, or the newest token of every completion against a cache.
"""

import functools
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P, reshard

from r1jax import config, mesh
from r1jax.mesh import BATCH
from r1jax.models import functions as f, layer as layers
from r1jax.models.attention import GroupedQueryAttention, LatentAttention
from r1jax.models.experts import Experts, FeedForward, Route, route_dtype


class Output(NamedTuple):
  hidden: jax.Array  # [b, t, d], normed, ready for the head
  memory: jax.Array  # the new Cache, or entries [layers, b, t, k, h] to make one from
  load: jax.Array  # float32[layers with experts, e], real tokens per expert
  balance: jax.Array  # float32[b], sequence-wise balance (1: even), summed over layers
  routes: jax.Array | None = None  # [b, t, layers with experts, k], experts each token went through, where recorded
  agreement: jax.Array | None = None  # float32[b, t], where routes were given: share of them the router chooses, too


class Block(layers.Layer):
  """Attention and feed-forward, both pre-normed with a residual."""

  dense: bool = False
  record: bool = False  # whether the experts chosen are part of the result

  @nn.compact
  def __call__(self, carry, number, positions, segments, given=None):
    x, cache = carry
    c = self.cfg
    attention = LatentAttention if isinstance(c.attention, config.LatentAttention) else GroupedQueryAttention
    h = f.rms_norm(x, self.norm("attention_norm", c.width), c.norm_epsilon)
    y, memory = attention(c, name="attention")(h, positions, segments, cache, number)
    x = x + y
    h = f.rms_norm(x, self.norm("feed_forward_norm", c.width), c.norm_epsilon)
    if self.dense:
      y = FeedForward(c, hidden=c.hidden, name="feed_forward")(f.split_tokens(h, None))
      y, routed = f.split_tokens(y, f.tokens_of(h)), None
    else:
      y, routed = Experts(c, name="experts")(h, segments > 0, given)
      expert = routed.expert.astype(route_dtype(c.experts)) if self.record else None
      routed = routed.replace(expert=expert, gate=None)  # what is None is not stacked over layers
    cache, entries = (memory, None) if cache is not None else (None, memory)
    return (x + y, cache), (entries, routed)


class Transformer(layers.Layer):
  record: bool = False  # whether Output.routes is wanted

  @nn.compact
  def __call__(self, tokens, positions, segments, cache=None, routes=None) -> Output:
    """tokens, positions, segments: int32[b, t]; with a cache, t is the group and every token a completion's newest."""
    c = self.cfg
    dense = c.dense_layers if c.experts else c.layers
    embedding = self.weight("embedding", (c.vocab, c.width), ("vocab", "embed"), c.width)
    if not c.tied:  # declared here, used by `logits`
      self.weight("head", (c.vocab, c.width), ("vocab", "embed"), c.width)
    x = embed(embedding, tokens, jnp.dtype(c.activations))
    x = f.split_tokens(x, None if cache is not None else f.tokens_axis(tokens.shape[1]))
    given = None if routes is None else jnp.moveaxis(routes, 2, 0)
    carry, memory, routed = (x, cache), [], None
    for name, first, count in (("dense_blocks", 0, dense), ("blocks", dense, c.layers - dense)):
      if count == 0:
        continue
      is_dense = name == "dense_blocks"
      blocks = stack(c, count, remat=cache is None)(c, dense=is_dense, record=self.record, name=name)
      numbers = jnp.arange(first, first + count)
      carry, (entries, routed) = blocks(carry, numbers, positions, segments, None if is_dense else given)
      memory.append(entries)
    x, cache = carry
    hidden = f.split_tokens(f.rms_norm(x, self.norm("norm", c.width), c.norm_epsilon), None)
    return output(hidden, cache if cache is not None else jnp.concatenate(memory), routed)


def output(hidden, memory, routed: Route | None) -> Output:
  """The Output of blocks whose routes are stacked over layers; None: of blocks without experts."""
  if routed is None:
    return Output(hidden, memory, jnp.zeros((0, 0), jnp.float32), jnp.zeros((1, 1), jnp.float32).sum(0))
  routes = None if routed.expert is None else jnp.moveaxis(routed.expert, 0, 2)
  agreement = None if routed.agreement is None else routed.agreement.mean(0)
  return Output(hidden, memory, routed.load, routed.balance.sum(0), routes, agreement)


def stack(c: config.Model, count: int, remat: bool):
  """Blocks with stacked weights, scanned (or laid out) over the layer axis."""
  block = Block
  if remat and c.remat != "none":
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if c.remat == "dots" else None
    block = nn.remat(Block, prevent_cse=False, policy=policy)
  return nn.scan(
    block,
    length=count,
    variable_axes={"params": 0},
    split_rngs={"params": True},
    in_axes=(0, nn.broadcast, nn.broadcast, 0),
    metadata_params={nn.PARTITION_NAME: "layer"},
    unroll=count if c.unroll else 1,
  )


def embed(embedding, tokens, dtype):
  """Rows of embedding[v, d] for tokens[b, t] -> [b, t, d]; every shard of the vocabulary gives those it has."""
  embedding = reshard(embedding, P("tensor", None)).astype(dtype)
  if jax.sharding.get_abstract_mesh().shape["tensor"] == 1:
    return embedding.at[tokens].get(out_sharding=P(BATCH, None, None))

  @functools.partial(jax.shard_map, in_specs=(P("tensor", None), P(BATCH)), out_specs=P(BATCH), check_vma=False)
  def look_up(rows, tokens):
    place = tokens - jax.lax.axis_index("tensor") * len(rows)
    here = (place >= 0) & (place < len(rows))
    return jax.lax.psum(jnp.where(here[..., None], rows[jnp.where(here, place, 0)], 0), "tensor")

  return look_up(embedding, reshard(tokens, P(BATCH, None)))


# ---- the functions the rest of the program uses


def declare(c: config.Model):
  """The tree of weights of a model: `Named` leaves with shape, axis names and initial scale."""
  weights = layers.shapes(Transformer(c), *(jax.ShapeDtypeStruct((mesh.batch_shards(), 8), jnp.int32),) * 3)
  if c.mtp:
    from r1jax.models import mtp  # which is made of the blocks of this file

    weights = {**weights, "mtp": mtp.declare(c)}
  return weights


def apply(c: config.Model, params, tokens, positions, segments, cache=None, *, routes=None, record=False) -> Output:
  """Runs tokens int32[b, t] through the model; see `Transformer`.

  routes: int[b, t, layers with experts, k], the experts that the token at each
  place goes through, -1 where the router chooses; None: everywhere. record: whether Output.routes
  is wanted, in the smallest integers that hold the number of an expert.
  """
  return Transformer(c, record=record).apply({"params": params}, tokens, positions, segments, cache, routes)


def head(c: config.Model, params):
  """The output projection [d, v] ready to use, vocabulary split over `tensor`."""
  return reshard(params["embedding" if c.tied else "head"], P("tensor", None)).T


def logits(c: config.Model, params, hidden):
  """hidden[b, t, d] -> float32[b, t, v], vocabulary split over `tensor`."""
  return f.linear(hidden, head(c, params), "tensor").astype(jnp.float32)
