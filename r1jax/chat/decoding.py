"""One completion, token by token as it is drawn.

The same prefill, cache and draws as r1jax.rl.sampling: with the same random key
the tokens are those of `sample`. Each function is compiled once for a length of
padded prompt and a room of the cache, and serves all questions.
"""

from collections.abc import Iterator
import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P, reshard
import numpy as np

from r1jax import config, mesh
from r1jax.mesh import BATCH
from r1jax.models import transformer
from r1jax.models.attention import Cache
from r1jax.rl import sampling as sampler

ROOM = 1024  # tokens of a completion that the cache holds at first; doubles, so that few programs serve any length
LONGEST = 8  # a prompt may be so many times longer than those the model was trained with


def greedy(sampling: config.Sampling) -> config.Sampling:
  """The likeliest token every time: what a temperature of 0 means."""
  return config.Sampling(
    temperature=1.0, top_k=1, max_prompt=sampling.max_prompt, max_response=sampling.max_response, chunk=sampling.chunk
  )


def padded(ids: list[int], max_prompt: int) -> np.ndarray:
  """int32[1, t] with t the first of max_prompt, 2 max_prompt, 4 max_prompt, ... that holds the prompt.

  Raises:
    ValueError: it is longer than LONGEST times max_prompt.
  """
  if len(ids) > LONGEST * max_prompt:
    raise ValueError(
      f"the question takes {len(ids)} tokens with its template, but this model was trained with {max_prompt}; ask in "
      f"at most {LONGEST * max_prompt}."
    )
  length = max_prompt
  while length < len(ids):
    length *= 2
  return np.pad(np.array([ids], np.int32), [(0, 0), (0, length - len(ids))])


def stream(params, prompt: list[int], key, *, c: config.Model, sampling: config.Sampling, ends) -> Iterator[int]:
  """Draws a completion of `prompt` and yields its tokens, the end token included.

  Stops behind one of `ends` or sampling.max_response tokens. Runs on the current mesh,
  whose batch axes have one shard.

  Args:
    key: the random stream of this completion; that of `sample` is fold_in(fold_in(key, row), i).
  """
  limit, room = sampling.max_response, min(ROOM, sampling.max_response)
  tokens, lengths = mesh.to_global((padded(prompt, sampling.max_prompt), np.array([len(prompt)], np.int32)))
  logits, cache = start(params, tokens, lengths, c=c, room=room)
  token, logits, cache = step(params, logits, cache, key, 0, c=c, sampling=sampling)
  for index in range(1, limit + 1):
    drawn = token
    if index < limit:  # under way while the token before it is shown
      if index == room:
        room = min(2 * room, limit)
        cache = widen(cache, room=room)
      token, logits, cache = step(params, logits, cache, key, index, c=c, sampling=sampling)
    id = np.asarray(drawn).item()
    yield id
    if id in ends:
      return


@functools.partial(jax.jit, static_argnames=("c", "room"))
def start(params, tokens, lengths, *, c: config.Model, room: int):
  """tokens int32[1, t], lengths int32[1] -> logits float32[1, 1, v] of the first token, the cache."""
  return sampler.prefill(c, params, tokens, lengths, 1, room)


@functools.partial(jax.jit, static_argnames=("c", "sampling"), donate_argnames="cache")
def step(params, logits, cache, key, index, *, c: config.Model, sampling: config.Sampling):
  """Draws token number `index` from logits[1, 1, v] -> token int32[1, 1], the next logits, the cache with it."""
  uniform = jax.random.uniform(jax.random.fold_in(key, index))
  token, _, _ = sampler.draw(logits, uniform[None, None], sampling)
  positions = cache.lengths[:, None] + index
  out = transformer.apply(c, params, token, positions, jnp.ones_like(token), cache.replace(index=jnp.int32(index)))
  return token, reshard(transformer.logits(c, params, out.hidden), P(BATCH, None, None)), out.memory


@functools.partial(jax.jit, static_argnames="room")
def widen(cache: Cache, *, room: int) -> Cache:
  """The cache with room for more tokens than it has."""
  own = cache.own
  return cache.replace(own=jnp.pad(own, [(0, 0)] * 3 + [(0, room - own.shape[3])] + [(0, 0)] * (own.ndim - 4)))
