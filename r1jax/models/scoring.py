"""Log-probabilities of given tokens, in chunks, and the losses that need nothing else."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P, reshard

from r1jax import config, mesh
from r1jax.mesh import BATCH
from r1jax.models import functions as f, mtp, transformer
from r1jax.types import TokenBatch


def _entropy(z, norm, chosen):
  del chosen
  return norm - (jax.nn.softmax(z) * z).sum(-1)


def _is_likeliest(z, norm, chosen):
  del norm
  return (chosen >= z.max(-1)).astype(jnp.float32)


def log_probs(c: config.Model, params, hidden, targets, beside=_entropy):
  """Log-probability of targets int32[b, t] and entropy of the distribution, at hidden[b, t, d]: two float32[b, t].

  `beside` puts another figure of the distribution in the entropy's place.
  Logits of at most about `head_chunk` tokens exist at one time on a device; the
  backward pass computes them again. The head is gathered once for all chunks.
  """
  b, t = targets.shape
  chunks = min(t, -(-b * t // (c.head_chunk * mesh.batch_shards())))
  while t % chunks:
    chunks += 1

  head = transformer.head(c, params)

  @jax.checkpoint
  def score(hidden, targets):
    z = reshard(f.linear(hidden, head, "tensor").astype(jnp.float32), P(BATCH, None, None))
    norm = jax.nn.logsumexp(z, axis=-1)
    chosen = jnp.take_along_axis(z, targets[..., None], axis=-1)[..., 0]
    return chosen - norm, jax.lax.stop_gradient(beside(z, norm, chosen))

  if chunks == 1:
    return score(hidden, targets)
  split = lambda x: jnp.moveaxis(x.reshape(b, chunks, t // chunks, *x.shape[2:]), 1, 0)
  out = jax.lax.map(lambda pair: score(*pair), (split(hidden), split(targets)))
  return tuple(jnp.moveaxis(x, 0, 1).reshape(b, t) for x in out)


def token_log_probs(c: config.Model, params, batch: TokenBatch, routes=None):
  """Log-prob of every token given those before it in its segment, the entropy there, and the model's output.

  float32[b, t] each; position 0 of a segment has no prediction of its own and holds 0. With `routes`
  [b, t, layers, k] tokens go through these experts; see `transformer.apply`.
  """
  out = transformer.apply(c, params, batch.tokens, batch.positions, batch.segments, routes=routes)
  following = jnp.pad(batch.tokens[:, 1:], ((0, 0), (0, 1)))
  values, entropy = log_probs(c, params, out.hidden, following)
  inside = batch.positions > 0
  shift = lambda x: jnp.where(inside, jnp.pad(x[:, :-1], ((0, 0), (1, 0))), 0.0)
  return shift(values), shift(entropy), out


def balance_loss(c: config.Model, out: transformer.Output, batch: TokenBatch):
  """The sequence-wise balance loss (DeepSeek-V3 eq. 17-20), each row counted by its share of the loss."""
  if c.experts is None or c.experts.balance == 0:
    return 0.0
  return c.experts.balance * (out.balance * batch.weight.sum(1)).sum()


def next_token_loss(c: config.Model, params, batch: TokenBatch, mtp_weight: float = 0.0):
  """Cross-entropy of the weighted tokens, the loss of pretraining and SFT; and `mtp_weight` times `draft_loss`."""
  values, _, out = token_log_probs(c, params, batch)
  value = -(batch.weight * values).sum()
  metrics = {"policy/loss": jax.lax.stop_gradient(value)}
  loss = value + balance_loss(c, out, batch)
  if mtp_weight == 0:
    return loss, (metrics, out.load)
  if c.mtp == 0:
    raise ValueError(f"mtp_weight={mtp_weight} needs a model with a layer to train; set model.mtp=1 or mtp_weight=0.")
  drafted, accepted, draft = draft_loss(c, params, batch, out.hidden)
  metrics |= {"mtp/loss": jax.lax.stop_gradient(drafted), "mtp/accepted": accepted}
  return loss + mtp_weight * drafted + balance_loss(c, draft, batch), (metrics, jnp.concatenate([out.load, draft.load]))


def draft_loss(c: config.Model, params, batch: TokenBatch, hidden):
  """Multi-token prediction of the weighted tokens (DeepSeek-V3 eq. 21-25), from the model's hidden[b, t, d].

  Every token counts with its weight in the main loss, but for the first two of a
  segment, which have no token that lies two before them. Nothing is held
  back from the gradient: it reaches the embedding, the head and the whole model.

  Returns: the cross-entropy, the weight of tokens that are the layer's first
  choice (both summed over the batch), and the layer's output.
  """
  after = lambda x, n: jnp.pad(x[:, n:], ((0, 0), (0, n)))
  following = after(batch.segments, 1) == batch.segments  # eq. 22: the last slot of a sequence knows no next token
  segments = jnp.where(following, batch.segments, 0)
  out = mtp.apply(c, params, hidden, after(batch.tokens, 1), batch.positions, segments)
  values, likeliest = log_probs(c, params, out.hidden, after(batch.tokens, 2), _is_likeliest)
  weight = after(jnp.where(batch.positions > 1, batch.weight, 0.0), 2)
  return -(weight * values).sum(), (weight * likeliest).sum(), out
