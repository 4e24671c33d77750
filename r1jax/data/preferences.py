"""The data of reward models: preference pairs and labelled responses, made by a stage or brought as files.

  Pairs    prompt, chosen, rejected
  Labels   prompt, response, safe (true or false)

A text may be a chat, a list of {"role", "content"}: one user turn as a prompt,
one assistant turn as a response.
"""

import hashlib
import random
from typing import Any, ClassVar, NamedTuple

import numpy as np

from r1jax import config
from r1jax.data import files
from r1jax.data.answers import half_a_character, script_language
from r1jax.data.generated import ProblemSource
from r1jax.data.mixture import Mixed


@config.config
class _Source:
  """Rows of an earlier stage or of a file; exactly one of the two fields is given."""

  stage: str = ""  # name of a Preferences stage
  path: str = ""  # .jsonl (also .gz, .zst) or .parquet, or a glob of them
  form: ClassVar[str]
  texts: ClassVar[tuple[str, ...]]  # columns with responses

  def validate(self):
    if bool(self.stage) == bool(self.path):
      raise ValueError(
        f"{type(self).__name__}: one of stage={self.stage!r} and path={self.path!r} must be given, and not both."
      )

  def title(self) -> str:
    return self.path or f"{self.form} of {self.stage!r}"

  def takes(self) -> list[tuple[str, str]]:
    return [(self.form, self.stage)] if self.stage else []

  def check(self):
    """Reads every row of a file; a bad one is a ValueError that names file and line."""
    if self.path:
      self._rows(self.path)

  def origin(self) -> dict | None:
    """A file with the hash of its bytes and its number of rows; None of a stage, which has a lineage of its own."""
    if self.stage:
      return None
    return {"file": self.path, "sha256": files.digest(self.path), "rows": len(self._rows(self.path))}

  def open(self, run_folder) -> list[dict[str, Any]]:
    """All rows: id, prompt, language, domain and the columns of the form, as text.

    `id` tells prompts apart: that of the problem, or for a file a hash of the prompt.

    Args:
      run_folder: stage name -> its folder.

    Raises:
      ValueError: a row cannot be used, there is none, or the file is not the one that the stage wrote.
    """
    if self.path:
      return self._rows(self.path)
    folder = run_folder(self.stage)
    files.made_by(self.stage, folder, f"{type(self).__name__}(path=...)")
    return self._rows(str(folder / files.MADE))

  def _rows(self, path):
    table = files.open_tables(path)
    if table.faults:
      raise ValueError(table.faults[0])
    rows = [self._row(table[i], table.where(i)) for i in range(len(table))]
    if not rows:
      raise ValueError(f"{self.title()} holds no rows.")
    return rows

  def _row(self, row, where):
    prompt = text(row, "prompt", "user", where)
    if not prompt.strip():
      raise ValueError(f"{where}: field 'prompt' is empty.")
    found = {"id": str(row["id"]) if self.stage else hashlib.sha256(prompt.encode()).hexdigest()[:16]}
    found |= {"prompt": prompt, "domain": str(row.get("domain") or "general")}
    found["language"] = str(row.get("language") or script_language(prompt))
    return found | {name: text(row, name, "assistant", where) for name in self.texts}


@config.config
class Pairs(_Source):
  """Preference pairs: for one prompt, a response that was chosen and one that was rejected."""

  form: ClassVar[str] = "pairs"
  texts: ClassVar[tuple[str, ...]] = ("chosen", "rejected")


@config.config
class Labels(_Source):
  """Single responses, safe or unsafe."""

  form: ClassVar[str] = "labels"
  texts: ClassVar[tuple[str, ...]] = ("response",)

  def _row(self, row, where):
    found, safe = _Source._row(self, row, where), row.get("safe")  # super() and slots do not go together
    if safe not in (True, False) or not isinstance(safe, (bool, int)):
      raise ValueError(f"{where}: field 'safe' must be true or false, but is {safe!r}.")
    return found | {"safe": bool(safe)}


def text(row: dict, name: str, role: str, where: str) -> str:
  """A column that is text, or a chat of a single turn of `role`; anything else is a ValueError."""
  value = row.get(name)
  if isinstance(value, list):
    roles = [turn.get("role") if isinstance(turn, dict) else None for turn in value]
    if roles != [role]:
      raise ValueError(
        f"{where}: field {name!r} must be text or a single turn of the role {role!r}, but its turns are {roles}."
      )
    value = value[0].get("content")
  if not isinstance(value, str):
    fact = "is missing" if value is None else f"must be text, but is of type {type(value).__name__}"
    raise ValueError(f"{where}: field {name!r} {fact}.")
  if fact := half_a_character(value):
    raise ValueError(f"{where}: field {name!r} {fact}.")
  return value


class Examples(NamedTuple):
  """What a reward model learns from: n rows of k responses, each a prompt and a text as tokens."""

  sequences: list[tuple[np.ndarray, ...]]  # n of k arrays int32[t], the end token last
  safe: np.ndarray  # float32[n]
  ids: list[str]  # n, of the prompts

  def fingerprint(self) -> str:
    digest = hashlib.sha256(self.safe.tobytes())
    for row in self.sequences:
      for ids in row:
        digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
    return digest.hexdigest()

  def part(self, rows) -> "Examples":
    return Examples([self.sequences[i] for i in rows], self.safe[list(rows)], [self.ids[i] for i in rows])


def lay_out(sequences, length: int) -> tuple[np.ndarray, np.ndarray]:
  """Tokens int32[n, k, length], padded behind, and lengths int32[n, k]."""
  n, k = len(sequences), len(sequences[0])
  tokens, lengths = np.zeros((n, k, length), np.int32), np.zeros((n, k), np.int32)
  for i, row in enumerate(sequences):
    for j, ids in enumerate(row):
      tokens[i, j, : len(ids)] = ids
      lengths[i, j] = len(ids)
  return tokens, lengths


def is_held_out(id: str, share: float) -> bool:
  """Whether a prompt only measures: the same for the same prompt, whatever else there is."""
  return int.from_bytes(hashlib.blake2b(f"held out {id}".encode(), digest_size=8).digest()) < share * 2**64


class Order:
  """Which rows of n a step learns from: every epoch in an order of its own; a function of (seed, step) alone.

  The last step is filled from the order after the last epoch, with weight 0.
  """

  def __init__(self, n: int, seed: int, epochs: int, rows: int):
    self._n, self._seed, self._rows, self._total = n, seed, rows, n * epochs
    self.steps = -(-self._total // rows)

  def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows int[rows] of a step, and whether each counts, float32[rows]."""
    positions = np.arange(step * self._rows, (step + 1) * self._rows)
    orders = {epoch: self._permutation(epoch) for epoch in np.unique(positions // self._n)}
    chosen = np.array([orders[p // self._n][p % self._n] for p in positions])
    return chosen, (positions < self._total).astype(np.float32)

  def _permutation(self, epoch):
    bits = np.random.PCG64(np.random.SeedSequence([self._seed, int(epoch)]))  # raw bits: as in data.mixture
    return np.argsort(bits.random_raw(self._n), kind="stable")


STYLES = ("bare", "careful", "corrected", "slip", "lucky")  # of the playground's writers, of all qualities


def written(problems, index: int, count: int, first: str = "") -> list[str]:
  """What `count` of the playground's writers reply to a problem of an endless row: behaviour policies seldom show.

  The writers are of different styles as far as there are so many; `first` always is the first.

  Raises:
    ValueError: the problem is not the playground's.
  """
  from r1jax.playground import readable, world

  problem = problems[index]
  if isinstance(problems, Mixed):
    source, _, index = problems.locate(index)
    problems = problems.sources[source]
  if not isinstance(problems, ProblemSource):
    raise ValueError("written responses exist for the playground's problems only; set written=0 for other sources.")
  family, _ = world.family_at(problems.playground, "train", problems.seed, index)
  rng = random.Random(f"{problems.seed}/written/{problem.id}/{problem.language}")
  styles = rng.sample(STYLES, len(STYLES))
  if first:
    styles.remove(first)
    styles.insert(0, first)
  return [readable.written(family, problem.language, styles[i % len(styles)], rng) for i in range(count)]
