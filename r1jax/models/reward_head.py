"""A scalar head on the transformer: what a reward model scores responses with, and its losses.

DeepSeek-R1 v2 3.1 and B.3.1: the policy's architecture with one more weight.
"""

from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P

from r1jax import config
from r1jax.mesh import BATCH
from r1jax.models import transformer
from r1jax.models.layer import Named

NAME = "reward_head"


@struct.dataclass
class Responses:
  """Rows of a reward model: pairs (k = 2: chosen, rejected) or single responses (k = 1).

  Every response, with its prompt before it, is a sequence of its own: a pair
  costs the attention of two rows of t tokens and not that of one of 2 t.
  """

  tokens: jax.Array  # int32[b, k, t]: prompt, text, end token, padding
  lengths: jax.Array  # int32[b, k], the end token included
  safe: jax.Array  # float32[b], 1 or 0; the pairwise loss does not read it
  weight: jax.Array  # float32[b], share of the row in the loss; the global denominator is in it


def declare(c: config.Model) -> dict:
  """The weights of a reward model: those of the policy and `reward_head` float32[d], which starts at 0."""
  return {**transformer.declare(c), NAME: Named(jax.ShapeDtypeStruct((c.width,), jnp.float32), (None,))}


def add(c: config.Model, params) -> dict:
  """A policy's parameters with a head that scores everything 0; the policy's are shared, not copied."""
  everywhere = NamedSharding(jax.sharding.get_mesh(), P())
  return {**params, NAME: jax.device_put(jnp.zeros(c.width, jnp.float32), everywhere)}


def read(params, hidden):
  """Scores float32[b, t] at hidden[b, t, d]."""
  return jnp.einsum("btd,d->bt", hidden.astype(jnp.float32), params[NAME])


def scores(c: config.Model, params, tokens, positions, segments):
  """The score at every token of int32[b, t] inputs, float32[b, t]; a sequence's is that at its end token."""
  return read(params, _body(c, params, tokens, positions, segments).hidden)


def end_scores(c: config.Model, params, tokens, lengths):
  """Scores float32[b, k] of the responses tokens int32[b, k, t], lengths int32[b, k]; and the model's output."""
  b, k, t = tokens.shape
  flat = jax.lax.reshape(tokens, (b * k, t), out_sharding=P(BATCH, None))
  last = jax.lax.reshape(lengths, (b * k, 1), out_sharding=P(BATCH, None)) - 1
  positions = jnp.broadcast_to(jnp.arange(t, dtype=jnp.int32), (b * k, t), out_sharding=P(BATCH, None))
  out = _body(c, params, flat, positions, (positions <= last).astype(jnp.int32))
  values = jnp.take_along_axis(read(params, out.hidden), last, axis=1)
  return jax.lax.reshape(values, (b, k), out_sharding=P(BATCH, None)), out


def pairwise_loss(c: config.Model, params, batch: Responses):
  """-log sigmoid(chosen - rejected), averaged over pairs (DeepSeek-R1 v2 B.3.1)."""
  values, out = end_scores(c, params, batch.tokens, batch.lengths)
  margin = values[:, 0] - values[:, 1]
  right = (margin > 0) + 0.5 * (margin == 0)
  return _summed(c, batch, out, jax.nn.softplus(-margin), right)


def pointwise_loss(c: config.Model, params, batch: Responses):
  """Cross-entropy of safe against unsafe, the score being the logit of safe, averaged over responses."""
  values, out = end_scores(c, params, batch.tokens, batch.lengths)
  logit = values[:, 0]
  each = jax.nn.softplus(logit) - batch.safe * logit
  return _summed(c, batch, out, each, (logit > 0) == (batch.safe > 0.5))


LOSSES = {"pairwise": pairwise_loss, "pointwise": pointwise_loss}


def _body(c, params, tokens, positions, segments):
  policy = {name: value for name, value in params.items() if name != NAME}
  return transformer.apply(c, policy, tokens, positions, segments)


def _summed(c, batch, out, each, right):
  """(loss with the experts' balance, (metrics, load)) as training.update wants it."""
  value = (batch.weight * each).sum()
  metrics = {
    "reward_model/loss": jax.lax.stop_gradient(value),
    "reward_model/accuracy": (batch.weight * right).sum(),
  }
  if c.experts is None or c.experts.balance == 0:
    return value, (metrics, out.load)
  b, k = batch.lengths.shape  # the balance of a pair is the mean of its two sequences (DeepSeek-V3 eq. 17-20)
  balance = jax.lax.reshape(out.balance, (b, k), out_sharding=P(BATCH, None)).mean(1)
  return value + c.experts.balance * (balance * batch.weight).sum(), (metrics, out.load)
