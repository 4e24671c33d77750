"""Problems and corpus as grain pipelines: random access, split by process, resumable."""

import grain
import jax
import numpy as np

from r1jax import config, mesh
from r1jax.data.filters import Context
from r1jax.data.generated import ProblemSource
from r1jax.data.mixture import Part
from r1jax.data.packing import lay_out, pack
from r1jax.data.prompts import Prompter
from r1jax.data.tokenizer import Tokenizer
from r1jax.playground import corpus, world
from r1jax.types import Problem, Prompts, TokenBatch

READ = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)  # cheap rows: more would compete with the rollouts
GENERAL_SUITES = world.GENERAL_SUITES  # that need no reasoning


def problem_batches(playground: config.Playground, seed: int, count: int):
  """`batches` of the playground's training problems."""
  return batches(ProblemSource(playground, seed), count)


def batches(problems, count: int) -> "Batches":
  """This process's part of an endless row of problems (a Mixed or a ProblemSource), `count` at a time over all.

  The parts (`mesh.part`), in their order, are the next `count` problems of the
  row, however many processes there are: so are the random keys of their rollouts.
  """
  index, parts = mesh.part()
  data = grain.MapDataset.source(Part(problems, count, index, parts)).batch(count // parts, batch_fn=list)
  return Batches(iter(data.to_iter_dataset(READ)), problems.fingerprint)


class Batches:
  """Iterator over lists of problems that can be saved and continued."""

  def __init__(self, iterator, fingerprint: str):
    self._iterator, self._fingerprint = iterator, fingerprint

  def __iter__(self):
    return self

  def __next__(self) -> list[Problem]:
    return next(self._iterator)

  def get_state(self) -> dict:
    """JSON values, the same on every process."""
    return {"iterator": self._iterator.get_state(), "problems": self._fingerprint}

  def set_state(self, state: dict):
    """Continues where `state` was taken; ValueError where the problems, weights or seed are not the same any more."""
    if state["problems"] != self._fingerprint:
      raise ValueError(
        "the training problems are not those this run was begun with: their files, filters, weights or the seed "
        "have changed; restore them, or start in a new workdir."
      )
    self._iterator.set_state(state["iterator"])


def held_out_problems(experiment: config.Experiment) -> tuple[Problem, ...]:
  """The evaluation set: the rows of `evaluation.problems`, or else problems that training and corpus never show.

  Raises:
    ValueError: a row that cannot be read, or a world with too few problems.
  """
  source = experiment.evaluation.problems
  if source is None:
    return world.evaluation_problems(experiment.playground, experiment.seed)
  opened = source.open(Context(seed=experiment.seed))
  return tuple(opened[i] for i in range(len(opened)))


def suite(domain: str) -> str:
  """The row of the stage table that a domain counts for; a domain of no family is a suite of its own."""
  return world.suite(domain) if domain in world.FAMILIES else domain


def suite_of(problem: Problem) -> str:
  """`suite` of its domain, unless a problem of the playground names one of its own."""
  own = problem.columns.get("suite") if problem.domain in world.FAMILIES else None
  return own or suite(problem.domain)


def documents(playground: config.Playground, template: config.Template, seed: int) -> list[str]:
  """The corpus the tiny base model reads, as text; part of it asks with `template`, which is plain text."""
  if not isinstance(template, config.Template):
    raise ValueError("the playground's corpus asks in plain text; make evaluation.template a Template, not a Chat.")
  return corpus.documents(playground, template, seed)


def make_prompts(problems, prompter: Prompter, length: int, first_row: int = 0, owner: str = "sampling") -> Prompts:
  """Encodes the prompts; one longer than `length` tokens is a ValueError that names the problem.

  Args:
    first_row: random key of the first prompt; the others count on.
    owner: the field whose max_prompt `length` is, for that sentence.
  """
  encoded = [prompter.encode(problem.question) for problem in problems]
  tokens = np.zeros((len(problems), length), np.int32)
  for row, (problem, ids) in enumerate(zip(problems, encoded)):
    if len(ids) > length:
      raise ValueError(f"problem {problem.id!r} takes {len(ids)} tokens; raise {owner}.max_prompt={length} to hold it.")
    tokens[row, : len(ids)] = ids
  lengths = np.array([len(ids) for ids in encoded], np.int32)
  rows = first_row + mesh.part()[0] * len(problems) + np.arange(len(problems), dtype=np.int32)
  return Prompts(tokens, lengths, rows.astype(np.int32), tuple(problems))


def packed_rows(documents, tokenizer: Tokenizer, length: int) -> TokenBatch:
  """The corpus as packed rows (numpy); a document longer than a row is cut into pieces.

  Weight 1 wherever a token is predicted.
  """
  encoded = [np.array([*ids, tokenizer.end], np.int32) for ids in tokenizer.encode_batch(documents)]
  pieces = [ids[i : i + length] for ids in encoded for i in range(0, len(ids), length)]
  placing = pack([len(p) for p in pieces], length)
  tokens, positions, segments, _ = lay_out(pieces, placing, placing.rows, length)
  return TokenBatch(tokens, positions, segments, (positions > 0).astype(np.float32))


def row_batches(rows: TokenBatch, seed: int, count: int):
  """Iterator over TokenBatch of `count` rows over all processes, shuffled anew every epoch, this process's part."""
  data = grain.MapDataset.source(np.arange(len(rows.tokens))).seed(seed).shuffle().repeat()
  index, parts = mesh.part()
  data = data[index::parts]
  take = lambda index: jax.tree.map(lambda x: x[np.asarray(index)], rows)
  return iter(data.batch(mesh.process_rows(count)).map(take).to_iter_dataset(READ))


def normalize(batch: TokenBatch) -> TokenBatch:
  """Divides the weights by their sum over all processes."""
  return batch.replace(weight=batch.weight / mesh.total(batch.weight.sum(dtype=np.float64)).astype(np.float32))
