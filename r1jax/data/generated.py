"""Sources that make up their problems: reasoning-gym tasks and the playground."""

import dataclasses
import hashlib
import json
from typing import Any

from r1jax import config
from r1jax.data.answers import script_language
from r1jax.data.filters import NOTHING_KNOWN, Context, check_weight
from r1jax.data.sources import ENDLESS, Report, Source

SAMPLE = 1000  # problems of the playground that are looked at to describe it


@config.config
class ReasoningGym(Source):
  """A task of reasoning-gym. Its problems are of the kind "gym": r1jax.rewards.GymScore asks the task itself.

  Every entry is made once when the source is opened, and again when it is asked for.
  """

  task: str  # e.g. "leg_counting"
  size: int  # entries
  seed: int = 0
  parameters: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)  # of the task's own config

  def validate(self):
    Source.validate(self)
    config.at_least(1, self.title(), self, "size")
    try:
      json.dumps(self.parameters)
    except TypeError as error:
      raise ValueError(f"{self.title()}: parameters must be plain JSON values: {error}.") from None
    if self.mapping or self.kind:
      raise ValueError(f"{self.title()}: mapping and kind must be left out; entries have the task's own form.")

  def title(self) -> str:
    return f"reasoning-gym {self.task}"

  def table(self):
    return _Entries(self)

  def reader(self):
    return self._problem

  def _problem(self, entry, where, id):
    from r1jax.types import Problem

    if not isinstance(entry["question"], str) or not entry["question"].strip():
      raise ValueError(f"{where}: field 'question' is empty.")
    gym = {"task": self.task, "size": self.size, "seed": self.seed, "parameters": self.parameters}
    return Problem(
      id=id,
      question=entry["question"],
      answer="" if entry["answer"] is None else str(entry["answer"]),  # None: many are right
      kind="gym",
      domain=self.domain or entry["category"],
      language=self.language or script_language(entry["question"]),
      columns={"gym": gym, "entry": {key: entry[key] for key in ("question", "answer", "metadata")}},
    )


class _Entries:
  """The entries of a task as rows."""

  def __init__(self, source: ReasoningGym):
    try:
      import reasoning_gym
    except ImportError:
      raise ValueError(f"{source.title()} needs the package reasoning-gym: pip install r1jax[reasoning-gym]") from None
    self._source, self.faults = source, []
    try:
      self._entries = reasoning_gym.create_dataset(source.task, size=source.size, seed=source.seed, **source.parameters)
    except (ValueError, TypeError, AssertionError) as error:
      raise ValueError(f"{source.title()} cannot be made with {source.parameters}: {error}") from error

  def __len__(self) -> int:
    return self._source.size

  def where(self, i: int) -> str:
    return f"{self._source.title()}, entry {i + 1}"

  def id(self, i: int) -> str:
    return f"{self._source.task}:{i + 1}"

  def __getitem__(self, i: int) -> dict[str, Any]:
    return {**self._entries[i], "category": self._entries.category}


@config.config
class PlaygroundProblems:
  """The training problems of the built-in world: endless, and held out from evaluation by construction."""

  playground: config.Playground
  seed: int | None = None  # None: the run's
  weight: float = 1.0  # share of a mixture, relative to the other sources

  def validate(self):
    check_weight(self.title(), self.weight)

  def title(self) -> str:
    return "playground"

  def open(self, context: Context = NOTHING_KNOWN, filters: tuple[Any, ...] = ()) -> "ProblemSource":
    """Filters are a ValueError: an endless source cannot be read through."""
    self.validate()
    if filters:
      raise ValueError(
        f"filters {', '.join(each.name for each in filters)} cannot be applied to the endless playground; "
        "choose its domains, levels and languages, and give filters to the other sources."
      )
    return ProblemSource(self.playground, context.seed if self.seed is None else self.seed)


class ProblemSource:
  """The training problems of the playground by index."""

  ids = ()

  def __init__(self, playground: config.Playground, seed: int):
    self.playground, self.seed = playground, seed

  def __len__(self) -> int:
    return ENDLESS

  def __getitem__(self, index: int):
    from r1jax.playground import world

    return world.problem_at(self.playground, "train", self.seed, index)

  @property
  def fingerprint(self) -> str:
    p = self.playground
    world = (tuple(p.domains), tuple(p.weights), tuple(p.levels), tuple(p.languages), p.held_out, self.seed)
    return hashlib.sha256(repr(world).encode()).hexdigest()

  @property
  def report(self) -> Report:
    """Of the first SAMPLE problems."""
    report = Report("playground", read=SAMPLE)
    for i in range(SAMPLE):
      report.count(self[i])
    return report
