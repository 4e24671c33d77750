"""The one table between our tree of weights and the tensors of a published checkpoint.

A published matrix is [out, in], ours [in, out] or a part of it: of a fused one
(DeepSeek's kv_b_proj holds keys and values), of one layer, of one expert. So
everything is: take some rows, transpose, put them at a place of a stacked
weight. Saving goes the same way back.

DeepSeek turns neighbouring pairs (2i, 2i + 1) of a rotary part, we the pairs
(i, i + half): the rows of what is rotated are permuted on the way, which leaves
every score as it is.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from r1jax import config


class Piece(NamedTuple):
  """Rows of a published tensor, and where they go."""

  path: tuple[str, ...]  # of a weight in our tree
  place: tuple[int, ...] = ()  # layer, or layer and expert, in it
  rows: np.ndarray | None = None  # int[n], the published rows in the order of ours; None: all as they are
  transposed: bool = False  # whether the rows are columns of ours


class Published(NamedTuple):
  """One tensor of a published checkpoint."""

  shape: tuple[int, ...]
  pieces: tuple[Piece, ...]
  quantizable: bool = False  # whether it may be stored as fp8 in scaled blocks (DeepSeek-V3 section 3.3)
  copy_of: str | None = None  # the tensor whose values it repeats


def table(c: config.Model, interleaved: bool = True) -> dict[str, Published]:
  """Every tensor of the checkpoint of `c`, by its published name.

  `interleaved` says whether a latent attention's rotary pairs are neighbours in the checkpoint, as DeepSeek's are.
  The multi-token prediction layer follows the others where model.mtp = 1 (DeepSeek-V3 section 2.2).
  """
  embedding = Published((c.vocab, c.width), (Piece(("embedding",)),))
  found = {"model.embed_tokens.weight": embedding}
  dense = c.dense_layers if c.experts else c.layers
  for layer in range(c.layers):
    stack, index = ("dense_blocks", layer) if layer < dense else ("blocks", layer - dense)
    found |= _block(c, f"model.layers.{layer}.", (stack,), index, layer < dense, interleaved)
  found["model.norm.weight"] = Published((c.width,), (Piece(("norm",)),))
  head = Published((c.vocab, c.width), (Piece(("head",)),))
  if not c.tied:
    found["lm_head.weight"] = head
  if c.mtp:
    prefix = f"model.layers.{c.layers}."
    found |= _block(c, prefix, ("mtp", "block"), 0, c.experts is None, interleaved)
    for name, own in (("enorm", "embed_norm"), ("hnorm", "hidden_norm"), ("shared_head.norm", "norm")):
      found[f"{prefix}{name}.weight"] = Published((c.width,), (Piece(("mtp", own)),))
    project = Piece(("mtp", "project"), transposed=True)
    found[f"{prefix}eh_proj.weight"] = Published((c.width, 2 * c.width), (project,))
    source = "model.embed_tokens.weight"
    found[f"{prefix}embed_tokens.weight"] = embedding._replace(copy_of=source)
    copied = embedding._replace(copy_of=source) if c.tied else head._replace(copy_of="lm_head.weight")
    found[f"{prefix}shared_head.head.weight"] = copied
  return found


def _block(c, prefix, path, layer, dense, interleaved) -> dict[str, Published]:
  latent = isinstance(c.attention, config.LatentAttention)
  attention = _latent(c, interleaved) if latent else _grouped_query(c)
  found = {}
  for name, own in (("input_layernorm", "attention_norm"), ("post_attention_layernorm", "feed_forward_norm")):
    found[f"{prefix}{name}.weight"] = Published((c.width,), (Piece((*path, own), (layer,)),))
  for name, shape, parts in attention:
    pieces = tuple(Piece((*path, "attention", own), (layer,), rows, len(shape) > 1) for own, rows in parts)
    found[f"{prefix}self_attn.{name}"] = Published(shape, pieces, quantizable=len(shape) > 1)
  if dense:
    return found | _feed_forward(c.width, c.hidden, f"{prefix}mlp.", (*path, "feed_forward"), (layer,))
  return found | _experts(c, f"{prefix}mlp.", (*path, "experts"), layer)


def _grouped_query(c) -> Iterator[tuple[str, tuple[int, ...], list]]:
  """Published name below self_attn, shape, and [(our name, rows)] of each tensor of the attention."""
  a = c.attention
  for name, own, heads in (("q", "query", a.heads), ("k", "key", a.kv_heads), ("v", "value", a.kv_heads)):
    yield f"{name}_proj.weight", (heads * a.head, c.width), [(own, None)]
    if a.bias:
      yield f"{name}_proj.bias", (heads * a.head,), [(f"{own}_bias", None)]
    if a.qk_norm and name != "v":
      yield f"{name}_norm.weight", (a.head,), [(f"{own}_norm", None)]
  yield "o_proj.weight", (c.width, a.heads * a.head), [("out", None)]


def _latent(c, interleaved) -> Iterator[tuple[str, tuple[int, ...], list]]:
  """As _grouped_query: queries' heads are [nope | rope], the expanded latent's [key | value]."""
  a = c.attention
  pairs = np.arange(a.rope_head)
  if interleaved:
    pairs = pairs.reshape(-1, 2).T.reshape(-1)
  of_heads = lambda width, rows: (np.arange(a.heads)[:, None] * width + rows).reshape(-1)
  query = a.nope_head + a.rope_head
  rows = of_heads(query, np.concatenate([np.arange(a.nope_head), a.nope_head + pairs]))
  if a.query_rank:
    yield "q_a_proj.weight", (a.query_rank, c.width), [("query_down", None)]
    yield "q_a_layernorm.weight", (a.query_rank,), [("query_norm", None)]
    yield "q_b_proj.weight", (a.heads * query, a.query_rank), [("query_up", rows)]
  else:
    yield "q_proj.weight", (a.heads * query, c.width), [("query", rows)]
  rows = np.concatenate([np.arange(a.latent_rank), a.latent_rank + pairs])
  yield "kv_a_proj_with_mqa.weight", (a.latent_rank + a.rope_head, c.width), [("kv_down", rows)]
  yield "kv_a_layernorm.weight", (a.latent_rank,), [("kv_norm", None)]
  width = a.nope_head + a.value_head
  keys, values = of_heads(width, np.arange(a.nope_head)), of_heads(width, np.arange(a.nope_head, width))
  yield "kv_b_proj.weight", (a.heads * width, a.latent_rank), [("key_up", keys), ("value_up", values)]
  yield "o_proj.weight", (c.width, a.heads * a.value_head), [("out", None)]


def _feed_forward(width, hidden, prefix, path, place) -> dict[str, Published]:
  shapes = {"gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)}
  return {
    f"{prefix}{name}_proj.weight": Published(shape, (Piece((*path, name), place, None, True),), quantizable=True)
    for name, shape in shapes.items()
  }


def _experts(c, prefix, path, layer) -> dict[str, Published]:
  e = c.experts
  router = Piece((*path, "router"), (layer,), transposed=True)
  found = {f"{prefix}gate.weight": Published((e.routed, c.width), (router,))}
  if e.scoring == "sigmoid":
    bias = Piece((*path, "router_bias"), (layer,))
    found[f"{prefix}gate.e_score_correction_bias"] = Published((e.routed,), (bias,))
  for expert in range(e.routed):
    found |= _feed_forward(c.width, e.hidden, f"{prefix}experts.{expert}.", path, (layer, expert))
  if e.shared:
    found |= _feed_forward(c.width, e.shared * e.hidden, f"{prefix}shared_experts.", (*path, "shared"), (layer,))
  return found


def scale_shape(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, int]:
  """Shape of the block scales of a matrix: one float32 for every block, those at the edges cut off."""
  return tuple(-(-size // side) for size, side in zip(shape, block))
