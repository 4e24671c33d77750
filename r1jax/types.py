"""The nouns that travel between the parts of r1jax, with their shapes.

One convention for sequences: position i holds token i, and every per-token
number (log-prob, advantage, weight) at i belongs to token i.

Letters: p prompts, g group (completions of one prompt), t time, b rows.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from flax import struct
import jax

Array = jax.Array


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
  """One question with its exact answer."""

  id: str  # the same for the same problem in another language: the key of the held-out split
  question: str
  answer: str  # the gold answer, in the notation of `kind`
  # How it is checked: "number", "expression", "target", "choice", "text"; "program" by tests, "gym" by its task,
  # "instructions" one by one; "open" has no gold answer and needs a judge or a reward model.
  kind: str
  domain: str  # e.g. "arithmetic"
  level: int = 1  # difficulty, 1 is the easiest
  language: str = "en"  # ISO 639-1 code of the question: what the reasoning is to be written in
  # What else the row of a data set holds (tests, options, schema, ...): for rewards.
  columns: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

  def fields(self) -> dict[str, Any]:
    """All but the columns, to be written beside a response."""
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "columns"}


@dataclasses.dataclass(frozen=True, slots=True)
class Prompts:
  """The questions of one rollout that belong to this process, ready to be sampled from."""

  tokens: Any  # int32[p, t] numpy, padded on the right
  lengths: Any  # int32[p] numpy, tokens that are not padding
  rows: Any  # int32[p] numpy, position of each prompt in the whole (all-process) batch: its random key
  problems: tuple[Problem, ...]  # p of them

  def part(self, start: int, stop: int) -> "Prompts":
    """Some of the prompts; each keeps its random key."""
    return Prompts(self.tokens[start:stop], self.lengths[start:stop], self.rows[start:stop], self.problems[start:stop])


@struct.dataclass
class Rollouts:
  """Completions drawn from a policy, a group per prompt."""

  tokens: Array  # int32[p, g, t], padded after the end token with the padding id
  lengths: Array  # int32[p, g], tokens drawn, the end token included
  ended: Array  # bool[p, g], whether the end token was drawn (else: cut at the length limit)
  log_probs: Array  # float32[p, g, t], of each token under the policy at temperature 1; 0 at padding
  draw_log_probs: Array  # float32[p, g, t], under the distribution it was drawn from (temperature, top-k, top-p)
  # Experts that each token went through when it was read, where they are recorded. They mean nothing from a
  # completion's last token on, which the sampler need not read, and at the padding of a prompt.
  routes: Array | None = None  # unsigned[p, g, t, layers, k]
  prompt_routes: Array | None = None  # unsigned[p, s, layers, k]


@struct.dataclass
class TokenBatch:
  """Rows of packed sequences to learn from by next-token prediction.

  Positions restart at 0 in every packed sequence; tokens attend within their
  own segment only. `weight` already holds the global denominator, so a loss is
  a plain sum over tokens and may be split into micro-batches at will.
  """

  tokens: Array  # int32[b, t]
  positions: Array  # int32[b, t], index of the token in its own sequence
  segments: Array  # int32[b, t], 1, 2, ... in a row; 0 is padding
  weight: Array  # float32[b, t], share of this token in the loss; 0 where it is not trained on


@struct.dataclass
class Experience:
  """A TokenBatch of rollouts with all that the GRPO loss needs per token."""

  batch: TokenBatch
  advantages: Array  # float32[b, t]
  log_probs: Array  # float32[b, t], under the policy that sampled (temperature 1)
  reference_log_probs: Array  # float32[b, t], under the frozen reference policy
  routes: Array | None = None  # int[b, t, layers, k], experts that the tokens go through; -1: those the router chooses
