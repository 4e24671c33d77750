"""From rewards to Experience: group advantages, random mini-batches, packed rows with global weights."""

from typing import NamedTuple

import numpy as np

from r1jax import config, mesh
from r1jax.data.packing import lay_beside, lay_out, pack
from r1jax.types import Experience, Prompts, Rollouts, TokenBatch

EVEN = 1e-6  # rewards closer together than this are equal


class Advantages(NamedTuple):
  values: np.ndarray  # float32[p, g]
  alive: np.ndarray  # bool[p], whether the group's rewards differ


def group_advantages(rewards, normalize_std: bool = True) -> Advantages:
  """A_i = (r_i - mean) / std within each group, population std (DeepSeek-R1 eq. 3): rewards float[p, g].

  A group without spread teaches nothing: its advantages are 0 and it is not
  alive, so it also leaves the loss's denominator and its KL term.
  """
  rewards = np.asarray(rewards, np.float64)
  centred = rewards - rewards.mean(1, keepdims=True)
  std = rewards.std(1, keepdims=True)
  alive = std[:, 0] > EVEN
  if normalize_std:
    centred = centred / np.where(std > EVEN, std, 1.0)
  return Advantages(np.where(alive[:, None], centred, 0).astype(np.float32), alive)


def split_minibatches(count: int, parts: int, seed: int) -> list[np.ndarray]:
  """A random split of all rollouts into `parts` equal mini-batches: the indices of this process's in each.

  The split is of the rollouts of all processes, `count` a process, and the same however many there are.
  """
  index, processes = mesh.part()
  order = np.random.default_rng(seed).permutation(count * processes) - index * count
  return [chosen[(chosen >= 0) & (chosen < count)] for chosen in np.split(order, parts)]


def token_weights(lengths: np.ndarray, average: str, max_response: int) -> np.ndarray:
  """Weight of each token of responses with these lengths, so that a sum over tokens is the loss's mean.

  "response": 1 / (|o_i| N), the paper's; "token": 1 / sum |o_i| (DAPO);
  "constant": 1 / (max_response N) (Dr. GRPO). N and the sum run over all processes.
  """
  count, tokens = mesh.total(np.array([len(lengths), lengths.sum()], np.float64))
  if average == "response":
    return 1.0 / (np.maximum(lengths, 1) * max(count, 1))
  return np.full(len(lengths), 1.0 / (max(tokens, 1) if average == "token" else max_response * max(count, 1)))


def make_experience(prompts: Prompts, rollouts: Rollouts, advantages: Advantages, chosen: np.ndarray, stage: config.RL):
  """Micro-batches of Experience, on the mesh, of the `chosen` rollouts (indices into p * g) whose group is alive.

  Every sequence is a prompt and its completion; the reference log-probs are
  still zero. Rows per micro-batch: stage.microbatch_rows over all processes.
  """
  group, answer = np.divmod(chosen, stage.group_size)
  live = advantages.alive[group]
  group, answer = group[live], answer[live]
  sizes = rollouts.lengths[group, answer]
  weights = token_weights(sizes, stage.loss_average, stage.sampling.max_response)
  sequences, fields = [], []
  for p, g, size, weight in zip(group, answer, sizes, weights):
    head, drawn = prompts.lengths[p], rollouts.tokens[p, g, :size]
    sequences.append(np.concatenate([prompts.tokens[p, :head], drawn]))
    per_token = np.zeros((3, head + size), np.float32)
    per_token[0, head:] = weight
    per_token[1, head:] = advantages.values[p, g]
    per_token[2, head:] = rollouts.log_probs[p, g, :size]
    fields.append(per_token)
  placing = pack([len(s) for s in sequences], stage.row_length)
  rows = mesh.process_rows(stage.microbatch_rows)
  count = int(mesh.total(np.array(-(-placing.rows // rows)), np.max))
  tokens, positions, segments, (weight, advantage, log_probs) = lay_out(
    sequences, placing, count * rows, stage.row_length, fields, count=3
  )
  whole = Experience(
    batch=TokenBatch(tokens, positions, segments, weight),
    advantages=advantage,
    log_probs=log_probs,
    reference_log_probs=np.zeros_like(log_probs),
  )
  if rollouts.routes is not None:
    whole = whole.replace(routes=routes_of(prompts, rollouts, group, answer, placing, tokens.shape))
  return mesh.microbatches(whole, count)


def routes_of(prompts: Prompts, rollouts: Rollouts, group, answer, placing, shape):
  """The recorded routes of packed rollouts (group, answer): int[rows, row_length, layers, k], shape of the first two.

  Padding and the last token of a sequence have -1, the router's own choice: nothing
  is predicted behind them, and the sampler need not have read that token.
  """
  laid = np.full((*shape, *rollouts.routes.shape[3:]), -1, np.promote_types(rollouts.routes.dtype, np.int8))
  heads = (rollouts.prompt_routes[p, : prompts.lengths[p]] for p in group)
  drawn = (rollouts.routes[p, g, : rollouts.lengths[p, g] - 1] for p, g in zip(group, answer))
  return lay_beside(map(np.concatenate, zip(heads, drawn)), placing, laid)
