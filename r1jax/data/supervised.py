"""Supervised examples: prompt and completion as tokens, packed into rows that a step number finds again.

An example is the prompt in its template, the completion and the end token. The
loss is on the last two alone, a mean over the response tokens of a step's rows,
over all processes. Rows are packed best-fit (DeepSeek-R1 v2 B.1) and pass
`epochs` times (B.4.2), in a new order each time.
"""

from collections.abc import Mapping, Sequence
import hashlib
from typing import Any, NamedTuple

import numpy as np

from r1jax import mesh
from r1jax.data.packing import Placing, lay_out, pack
from r1jax.data.prompts import Prompter
from r1jax.types import TokenBatch


class Examples(NamedTuple):
  """Encoded examples that fit into a row."""

  tokens: list[np.ndarray]  # n of int32[t]: prompt, completion, end token
  prompts: np.ndarray  # int[n], tokens of each prompt
  left_out: int  # examples longer than a row
  longest: int  # tokens of the longest example, the left out ones included

  def fingerprint(self) -> str:
    """SHA-256 of all tokens and where the loss begins in each example."""
    digest = hashlib.sha256(self.prompts.astype(np.int64).tobytes())
    for tokens in self.tokens:
      digest.update(np.int64(len(tokens)).tobytes() + tokens.tobytes())
    return digest.hexdigest()


def encode(rows: Sequence[Mapping[str, Any]], prompter: Prompter, length: int) -> Examples:
  """Encodes rows with "prompt" and "completion" (texts); examples of more than `length` tokens are left out.

  Raises:
    ValueError: a completion does not begin with what the template writes for it.
  """
  examples = prompter.examples((row["prompt"] for row in rows), (row["completion"] for row in rows))
  sizes = [len(prompt) + len(response) for prompt, response in examples]
  kept = [example for example, size in zip(examples, sizes) if size <= length]
  return Examples(
    [np.array([*prompt, *response], np.int32) for prompt, response in kept],
    np.array([len(prompt) for prompt, _ in kept], int),
    len(rows) - len(kept),
    max(sizes, default=0),
  )


class Batches:
  """Packed rows of a whole stage by step: any batch can be made at once, so nothing has to be saved to go on.

  The rows pass `epochs` times, each exactly so often. Passes follow one another
  without a seam: a step may hold the end of one and the beginning of the next,
  and only the very last step is filled up, with empty rows.
  """

  def __init__(self, examples: Examples, length: int, count: int, epochs: int, seed: int):
    """`length` is in tokens; `count` rows are in a step, over all processes."""
    self.examples, self.length, self.count = examples, length, count
    placing = pack([len(tokens) for tokens in examples.tokens], length)
    self.offsets, self.rows = placing.offset, placing.rows
    by_row = np.argsort(placing.row, kind="stable")  # examples, those of one row together
    self.members = np.split(by_row, np.cumsum(np.bincount(placing.row, minlength=self.rows))[:-1])
    responses = np.array([len(tokens) for tokens in examples.tokens]) - examples.prompts
    self.responses = np.bincount(placing.row, responses, self.rows)  # response tokens of a row
    passes = [np.random.default_rng((seed, epoch)).permutation(self.rows) for epoch in range(epochs)]
    empty = np.full(-epochs * self.rows % count, -1)
    self.order = np.concatenate([*passes, empty]).reshape(-1, count)  # row of every place of every step; -1 is empty

  def __len__(self) -> int:
    """Steps."""
    return len(self.order)

  def __getitem__(self, step: int) -> tuple[TokenBatch, int]:
    """This process's rows of a step (numpy), and its response tokens over all processes; weights are shares of them."""
    chosen = self.order[step]
    total = int(self.responses[chosen[chosen >= 0]].sum())
    index, parts = mesh.part()
    mine = chosen[index::parts]
    assert len(mine) == mesh.process_rows(self.count)
    members = [self.members[row] if row >= 0 else np.array([], int) for row in mine]
    flat = np.concatenate(members)
    places = Placing(np.repeat(np.arange(len(mine)), [len(m) for m in members]), self.offsets[flat], len(mine))
    sequences = [self.examples.tokens[i] for i in flat]
    shares = [(np.arange(len(s)) >= self.examples.prompts[i])[None] / total for i, s in zip(flat, sequences)]
    tokens, positions, segments, (weight,) = lay_out(sequences, places, len(mine), self.length, shares, count=1)
    return TokenBatch(tokens, positions, segments, weight), total
