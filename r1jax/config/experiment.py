"""A whole run, and what must hold between its parts."""

import dataclasses
import difflib
import math
from typing import Any

from r1jax.config.base import at_least, config
from r1jax.config.model import Mesh, Model
from r1jax.config.rl import RL
from r1jax.config.stages import Pretrain, Stage
from r1jax.config.world import Playground, Sampling, Template


@config
class Evaluation:
  """Pass@1 over k samples, pass@k, majority vote on the held-out problems (DeepSeek-R1 v2 D.1)."""

  samples: int = 64  # completions per problem
  majority: int = 16  # votes
  sampling: Sampling
  template: Template
  problems: Any = None  # a source of r1jax.data, as Jsonl(path=...); None: the playground's held-out ones
  problems_at_once: int  # problems sampled from in one call
  samples_at_once: int = 0  # completions of each in one call, at most; 0: as many as vote. Fewer need a smaller cache
  benchmarks: tuple[Any, ...] = ()  # of r1jax.data.benchmarks, each with its own samples; see configs/benchmarks.py

  def validate(self):
    at_least(1, "evaluation", self, "samples", "majority")
    at_least(0, "evaluation", self, "samples_at_once")
    at_least(2, "evaluation", self, "problems_at_once")  # jax cannot vmap over one sharded prompt
    names = [benchmark.name for benchmark in self.benchmarks]
    if len(set(names)) < len(names):
      raise ValueError(f"evaluation.benchmarks={names} must have different names.")
    for benchmark in self.benchmarks:
      benchmark.validate()
    if self.samples % self.majority:
      nearest = max(self.majority, self.samples - self.samples % self.majority)
      raise ValueError(
        f"evaluation.samples={self.samples} must be a multiple of majority={self.majority}; the nearest is {nearest}."
      )
    self.sampling.validate()
    self.template.validate()
    if self.problems is not None:
      if not hasattr(self.problems, "table"):
        raise ValueError(
          f"evaluation.problems={self.problems!r:.80} must be one source of rows, such as Jsonl(path='test.jsonl')."
        )
      self.problems.validate()

  def group(self, samples: int) -> int:
    """Completions per problem in one call of an exam of so many in all, in equal calls."""
    return math.gcd(samples, self.samples_at_once or self.majority)


@config
class Experiment:
  """A whole run: the world, the model, the machine, the schedule."""

  name: str
  seed: int = 0
  playground: Playground | None = None  # None: everything is asked from sources of problems
  model: Model
  mesh: Mesh
  actors: Mesh | None = None  # of the devices that sample, behind those of `mesh`; None: the same do both
  stages: tuple[Any, ...]  # subclasses of Stage, each after those it takes something from
  evaluation: Evaluation

  def validate(self):
    self.model.validate()
    self.mesh.validate()
    if self.playground is None:
      self._check_no_playground()
    else:
      self.playground.mix.validate()
      at_least(1, "playground", self.playground, "documents", "evaluation_problems")
    for stage in self.stages:
      _check_sources(stage)
      stage.validate()
      self.mesh.check_rows(stage.name, stage.row_counts())
      votes = self.evaluation.majority
      if isinstance(stage, RL) and stage.evaluate_every and (stage.curve_samples < 1 or stage.curve_samples % votes):
        raise ValueError(
          f"{stage.name}: curve_samples={stage.curve_samples} must be a multiple of evaluation.majority={votes}."
        )
    self._check_actors()
    self._check_schedule()
    self.evaluation.validate()
    self.mesh.check_rows("evaluation", {"problems_at_once": self.evaluation.problems_at_once})

  def stage(self, name: str) -> Stage:
    return next(stage for stage in self.stages if stage.name == name)

  def model_of(self, stage: Stage) -> Model:
    """The stage's own model, or that of the stage it starts from, or the experiment's."""
    if stage.model is None and stage.start_from and "/" not in stage.start_from:
      return self.model_of(self.stage(stage.start_from))
    return stage.model or self.model

  def _check_no_playground(self):
    """Raises a ValueError where something takes its questions, its corpus or its tokenizer from the playground."""
    takers = [f"stage {stage.name!r}: problems" for stage in self.stages if getattr(stage, "problems", self) is None]
    takers += [f"stage {stage.name!r}, a Pretrain stage," for stage in self.stages if isinstance(stage, Pretrain)]
    takers += ["evaluation.problems"] if self.evaluation.problems is None else []
    foreign = self.model.published or any("/" in stage.start_from for stage in self.stages)
    takers += [] if foreign else ["the tokenizer of a model that is not published"]
    if takers:
      raise ValueError(f"{takers[0]} needs a playground where nothing else is given; set playground or give a source.")

  def _check_actors(self):
    """Raises a ValueError where actors cannot take the prompts of a call, or a stage needs what is not there."""
    if self.actors is None:
      ahead = next((stage for stage in self.stages if getattr(stage, "staleness", 0)), None)
      if ahead is not None:
        raise ValueError(
          f"{ahead.name}: staleness={ahead.staleness} needs devices that sample while others train; set actors, or "
          "staleness=0."
        )
      return
    self.actors.validate()
    self.actors.check_rows("evaluation on actors", {"problems_at_once": self.evaluation.problems_at_once})
    for stage in self.stages:
      if getattr(stage, "staleness", 0) and any(what == "reward model" for _, what, _ in stage.needs()):
        raise ValueError(
          f"{stage.name}: staleness={stage.staleness} would score with a reward model on devices that train meanwhile; "
          "set staleness=0, or reward without one."
        )
      prompts = {name: n for name, n in stage.row_counts().items() if "rollout" in name or "prompts" in name}
      self.actors.check_rows(f"{stage.name} on actors", prompts)

  def _check_schedule(self):
    """Raises a ValueError where a stage takes something that no earlier stage makes, or of another model."""
    names = [stage.name for stage in self.stages]
    _check_names(names)
    for i, stage in enumerate(self.stages):
      if stage.makes != "policy" and not stage.start_from and not self.model_of(stage).published:
        raise ValueError(
          f"stage {stage.name!r}: start_from is empty, but a {type(stage).__name__} stage needs a policy; name an "
          "earlier stage that trains one."
        )
      for field, what, name in stage.needs():
        if name not in names:
          near = difflib.get_close_matches(name, names, 1)
          hint = f"did you mean {near[0]!r}?" if near else f"earlier ones are {names[:i]}."
          raise ValueError(f"stage {stage.name!r}: {field} names {name!r}, which is no stage; {hint}")
        made = self.stage(name).makes
        if made != what:
          makers = [other.name for other in self.stages if other.makes == what]
          hint = f"name one of {makers}." if makers else "no stage makes that."
          raise ValueError(f"stage {stage.name!r}: {field} needs {_A[what]}, but {name!r} makes {_A[made]}; {hint}")
      later = [(field, name) for field, _, name in stage.needs() if names.index(name) >= i]
      if later:
        field, name = later[0]
        circle = self._circle(stage.name)
        if circle:
          raise ValueError(f"stages need each other in a circle: {' -> '.join(circle)}; cut it at one of them.")
        raise ValueError(
          f"stage {stage.name!r}: {field} needs {name!r}, which is not finished by then; put {name!r} before it."
        )
      self._check_model(stage)
      self._check_drafts(stage)
      self._check_routes(stage)
      self._check_split(stage)

  def _circle(self, start: str) -> list[str]:
    """Names from `start` along what each needs, back to `start`; empty where there is no way back."""
    paths, seen = [[start]], set()
    while paths:
      path = paths.pop()
      for _, _, name in self.stage(path[-1]).needs():
        if name == start:
          return [*path, start]
        if name not in seen:
          seen.add(name)
          paths.append([*path, name])
    return []

  def _check_drafts(self, stage: Stage):
    """Raises a ValueError where a multi-token prediction layer is to be trained or to draft, and there is none."""
    if self.model_of(stage).mtp:
      return
    exams = {"evaluation": self.evaluation} | {each.name: each for each in self.evaluation.benchmarks}
    takers = {stage.name: stage} | (exams if stage.makes == "policy" else {})
    for owner, taker in takers.items():
      drafts = hasattr(taker, "sampling") and taker.sampling.speculate
      field = "mtp_weight" if getattr(taker, "mtp_weight", 0) else "sampling.speculate" if drafts else ""
      if field:
        raise ValueError(
          f"{owner}: {field} needs a multi-token prediction layer, which the model of stage {stage.name!r} does not "
          f"have; set model.mtp=1, or leave {field} out."
        )

  def _check_routes(self, stage: Stage):
    """Raises a ValueError where experts are to be replayed, and there are none."""
    if isinstance(stage, RL) and stage.routing_replay and self.model_of(stage).experts is None:
      raise ValueError(
        f"{stage.name}: routing_replay=True needs a mixture of experts, and the model of this stage has none; set it "
        "to False, or give the stage a model with experts."
      )

  def _check_split(self, stage: Stage):
    """Raises a ValueError where a stage has a world of its own that does not hold out what this run evaluates on."""
    ours = self.playground.held_out if self.playground and self.evaluation.problems is None else 0.0
    for field, part in stage.parts():
      if isinstance(part, Playground) and part.held_out < ours:
        raise ValueError(
          f"stage {stage.name!r}: {field} makes up questions of a world with held_out={part.held_out}, and this run "
          f"evaluates on some of them; raise it to the {ours} of playground.held_out."
        )

  def _check_model(self, stage: Stage):
    if stage.model is None:
      return
    stage.model.validate()
    if not stage.start_from or "/" in stage.start_from:
      return
    parent = self.model_of(self.stage(stage.start_from))
    if parent != stage.model:
      field = next(
        f.name for f in dataclasses.fields(parent) if getattr(parent, f.name) != getattr(stage.model, f.name)
      )
      raise ValueError(
        f"stage {stage.name!r}: model.{field}={getattr(stage.model, field)!r}, but {stage.start_from!r}, which it "
        f"starts from, has {field}={getattr(parent, field)!r}; leave its model out, or start from another stage."
      )


def _check_names(names: list[str]):
  """Raises a ValueError where the stages cannot have these names."""
  if not names:
    raise ValueError("stages is empty; a run needs at least one.")
  for name in names:
    if names.count(name) > 1:
      raise ValueError(f"two stages are named {name!r}; give each its own name.")
    if not name or "/" in name or name.startswith("."):
      raise ValueError(f"stage name {name!r} must be the name of a folder.")
    if name in _TAKEN:
      raise ValueError(f"stage name {name!r} is taken: the run keeps a {name} of its own there; choose another.")


def _check_sources(stage: Stage):
  """Raises a ValueError where the data of a stage is not of the kind that it learns from."""
  learns = ("pairs", "labels") if stage.makes == "reward model" else ("completions",)
  for field, forms in (("data", learns), ("beside", ("completions",))):
    sources = getattr(stage, field, ())
    example = "(Pairs(stage='pairs'),)" if "pairs" in forms else "(Made(stage='rejection'),)"
    if not isinstance(sources, tuple) or not all(hasattr(source, "takes") for source in sources):
      raise ValueError(f"stage {stage.name!r}: {field} must be a tuple of sources, such as {example}.")
    for source in sources:
      form = getattr(source, "form", "completions")
      if form not in forms:
        raise ValueError(
          f"stage {stage.name!r}: {field} needs {' or '.join(_A[form] for form in forms)}, but {source.title()} holds "
          f"{_A[form]}; give it such as {example}."
        )


_TAKEN = ("tokenizer", "report", "config.json", "results.json")  # what a run has in its folder beside its stages

# What a stage makes, as a sentence says it.
_A = {
  "policy": "a policy",
  "completions": "completions",
  "pairs": "preference pairs",
  "labels": "labelled responses",
  "reward model": "a reward model",
}
