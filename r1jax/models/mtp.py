"""Multi-token prediction: one more block that predicts the token after the next (DeepSeek-V3 section 2.2, eq. 21-25).

Slot i joins what the model made of tokens up to i with the embedding of token
i + 1, and predicts token i + 2 through the model's own head. As the released
weights have it, and not as eq. 21 is printed, the embedding's half of the
projection comes first; the model's half is its hidden state behind the final
norm.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from r1jax import config, mesh
from r1jax.models import functions as f, layer as layers, transformer


class MultiTokenPrediction(layers.Layer):
  @nn.compact
  def __call__(self, hidden, following, positions, segments, cache=None) -> transformer.Output:
    """hidden[b, t, d] of the model, following[b, t, d] embeddings of the next tokens; see `apply`."""
    c = self.cfg
    following = f.rms_norm(following, self.norm("embed_norm", c.width), c.norm_epsilon)
    hidden = f.rms_norm(hidden, self.norm("hidden_norm", c.width), c.norm_epsilon)
    project = self.weight("project", (2 * c.width, c.width), ("embed", None), 2 * c.width)
    x = f.linear(jnp.concatenate([following, hidden], axis=-1), project)
    x = f.split_tokens(x, None if cache is not None else f.tokens_axis(x.shape[1]))
    block = transformer.stack(c, 1, remat=cache is None)(c, dense=c.experts is None, name="block")
    (x, cache), (entries, routed) = block((x, cache), jnp.arange(1), positions, segments, None)
    x = f.split_tokens(f.rms_norm(x, self.norm("norm", c.width), c.norm_epsilon), None)
    return transformer.output(x, cache if cache is not None else entries, routed)


def declare(c: config.Model):
  """The tree of the layer's own weights; embedding and head are the model's."""
  b, activations = mesh.batch_shards(), jnp.dtype(c.activations)
  wide, integers = jax.ShapeDtypeStruct((b, 8, c.width), activations), jax.ShapeDtypeStruct((b, 8), jnp.int32)
  return layers.shapes(MultiTokenPrediction(c), wide, wide, integers, integers)


def apply(c: config.Model, params, hidden, following, positions, segments, cache=None) -> transformer.Output:
  """The layer on slots whose next token is known: hidden of its output, for `transformer.logits`, predicts token i + 2.

  hidden[b, t, d] as transformer.apply gives it, following int32[b, t] the next
  tokens, positions and segments int32[b, t] of the slots; a segment of 0 where
  there is no next token. Cache and memory as in the model, with one layer.
  """
  embedded = transformer.embed(params["embedding"], following, jnp.dtype(c.activations))
  return MultiTokenPrediction(c).apply({"params": params["mtp"]}, hidden, embedded, positions, segments, cache)
