"""What every stage of a run shares."""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
import threading
from typing import Any, NamedTuple

import jax

from r1jax import config, processes
from r1jax.data.prompts import Prompter
from r1jax.data.tokenizer import Tokenizer
from r1jax.training import state as states
from r1jax.training.checkpoints import Checkpoints, params_sha256
from r1jax.types import Problem


class Policy(NamedTuple):
  """Weights that can be asked, and how."""

  model: config.Model
  params: Any
  prompter: Prompter
  mesh: jax.sharding.Mesh | None = None  # where they lie; None: on the current one


@dataclasses.dataclass(kw_only=True)
class Run:
  experiment: config.Experiment
  workdir: pathlib.Path
  tokenizer: Tokenizer
  held_out: tuple[Problem, ...]  # the evaluation problems of the playground
  actors: jax.sharding.Mesh | None = None  # the devices that sample, where they are others than train
  benchmarks: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # evaluate.Exam by name
  problems: dict[str, Any] = dataclasses.field(default_factory=dict)  # what each stage asks, by the stage's name
  drawing: Any = dataclasses.field(default_factory=threading.Lock)  # one call at a time on the actors' devices
  stop: processes.Stop = dataclasses.field(default_factory=processes.Stop)  # whether it is to save and end

  def folder(self, stage: str) -> pathlib.Path:
    """Where a stage lies: its name in this run's folder, or as it stands where it has a "/"."""
    return pathlib.Path(stage) if "/" in stage else self.workdir / stage

  def finished(self, stage: str) -> bool:
    """As process 0 sees it: to others a file of its may appear later."""
    return processes.by_first((self.folder(stage) / "stage.json").exists)

  def figures(self, stage: str) -> dict:
    """What a finished stage says of itself."""
    return processes.by_first(lambda: json.loads((self.folder(stage) / "stage.json").read_text()))

  def restore(self, stage: str, abstract_params, taker: str):
    """The newest parameters of a finished stage, for the stage `taker`; ValueError where they are not of its hash."""
    folder = self.folder(stage)
    with Checkpoints(folder / "checkpoints", 1, 1000) as checkpoints:
      params = checkpoints.restore_params(abstract_params=abstract_params)
    if params_sha256(params) != self.figures(stage)["params_sha256"]:
      raise ValueError(
        f"stage {taker!r}: the checkpoint in {folder / 'checkpoints'} is not that of its stage.json; restore it, or "
        f"remove {folder} to make it again."
      )
    return params

  def prompter(self, stage: config.Stage) -> Prompter:
    """What asks in the stage's own template, or in that of the evaluation where it has none."""
    template = getattr(stage, "template", None) or self.experiment.evaluation.template
    return Prompter(template, self.tokenizer)

  def policy(self, stage: config.Stage, params) -> Policy:
    """The stage's weights, in the layout they are sampled from, and how they are asked."""
    model = self.experiment.model_of(stage)
    if self.actors is not None:
      params = jax.block_until_ready(states.send(params, model, self.actors))
    elif self.experiment.mesh.gather:
      params = jax.block_until_ready(states.for_sampling(params, c=model))
    return Policy(model, params, self.prompter(stage), self.actors)
