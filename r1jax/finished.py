"""A finished stage read back from its folder: the model, how it is asked, how it is sampled.

  runs/r1_tiny/config.json         what r1jax.training.workdir.config_dict wrote
  runs/r1_tiny/zero/checkpoints/   the newest one is used
  runs/r1_tiny/zero/tokenizer/
  runs/r1_tiny/zero/stage.json     is there once the stage is finished

Only the parts of the config that are needed become objects again, so a run
whose rewards or data sources are the user's own can be talked to as well.
"""

import contextlib
import dataclasses
import difflib
import functools
import itertools
import json
import pathlib
from typing import Any

from r1jax import config
from r1jax.data.prompts import Prompter
from r1jax.data.tokenizer import open_tokenizer

# What a stage that cannot write left behind, by its class.
_SILENT = {
  "Rejection": "completions, which SFT learns from",
  "Preferences": "preferences, which a reward model learns from",
  "RewardModel": "a reward model, which scores and does not write",
}
_LOOKED_AT = 200  # lines of samples that examples are taken from


@dataclasses.dataclass(frozen=True)
class Stage:
  """A policy on disk, asked with its own template and sampled as the run's evaluation samples it."""

  folder: pathlib.Path
  name: str
  kind: str  # "Pretrain", "SFT" or "RL"
  model: config.Model
  template: config.Template | config.Chat
  sampling: config.Sampling
  tokenizer: Any  # of r1jax.data.tokenizer

  @functools.cached_property
  def prompter(self) -> Prompter:
    return Prompter(self.template, self.tokenizer)

  def params(self):
    """The newest parameters, on the current mesh; ValueError where they are damaged or of another model."""
    from r1jax.training import state
    from r1jax.training.checkpoints import Checkpoints

    with Checkpoints(self.folder / "checkpoints", 1, 1000) as checkpoints:
      return checkpoints.restore_params(state.abstract_params(self.model))

  def examples(self, count: int = 3) -> list[str]:
    """Held-out questions of different domains and languages: in a closed world, what can be asked at all."""
    found = {}
    with contextlib.suppress(FileNotFoundError), open(self.folder / "samples.jsonl") as file:
      for row in map(json.loads, itertools.islice(file, _LOOKED_AT)):
        found.setdefault((row["domain"], row["language"]), row["question"])
    return list(found.values())[:count]


def read(folder: str | pathlib.Path) -> Stage:
  """The finished policy stage in `folder`.

  Raises:
    ValueError: it is no such folder; the sentence says what it is and which one to name.
  """
  folder = pathlib.Path(folder).resolve()
  record = _run_of(folder)
  names = [stage["name"] for stage in record["stages"]]
  if folder.name not in names:
    raise ValueError(f"{folder.name!r} is no stage of the run in {folder.parent}; {_choice(folder.parent, record)}")
  stage = record["stages"][names.index(folder.name)]
  if stage["class"] in _SILENT:
    raise ValueError(f"stage {folder.name!r} made {_SILENT[stage['class']]}; {_choice(folder.parent, record)}")
  if not (folder / "stage.json").exists() or not (folder / "checkpoints").is_dir():
    raise ValueError(f"stage {folder.name!r} in {folder.parent} is not finished; {_choice(folder.parent, record)}")
  evaluation = record["evaluation"]
  return Stage(
    folder=folder,
    name=folder.name,
    kind=stage["class"],
    model=revive(_model_of(stage, record)),
    template=revive(stage.get("template") or evaluation["template"]),
    sampling=revive(evaluation["sampling"]),
    tokenizer=open_tokenizer(folder / "tokenizer"),
  )


def policies(run: pathlib.Path) -> list[str]:
  """Names of the finished stages of a run that can be talked to, in the order of the schedule."""
  return _finished(run, _record(run / "config.json"))


def revive(value: Any) -> Any:
  """The inverse of config_dict for the classes of r1jax.config: a dict with "class" is that dataclass, a list a tuple.

  Raises:
    ValueError: a class or a field that this version of r1jax does not have, or one that is missing.
  """
  if isinstance(value, list):
    return tuple(map(revive, value))
  if not isinstance(value, dict):
    return value
  kind = getattr(config, value.get("class", ""), None)
  if not dataclasses.is_dataclass(kind):
    raise ValueError(f"config.json has a {value.get('class')!r}, which is no class of r1jax.config.")
  known = {field.name for field in dataclasses.fields(kind)}
  given = {name: revive(item) for name, item in value.items() if name != "class"}
  unknown = sorted(given.keys() - known)
  if unknown:
    raise ValueError(
      f"config.json: {kind.__name__} has a field {unknown[0]!r} that this version of r1jax does not know; use the "
      "version that made the run."
    )
  try:
    return kind(**given)
  except TypeError as error:
    raise ValueError(f"config.json: {error}; use the version of r1jax that made the run.") from error


def _run_of(folder: pathlib.Path) -> dict:
  """The config of the run that a stage's folder lies in."""
  if (folder / "config.json").exists():
    raise ValueError(f"{folder} is a whole run; {_choice(folder, _record(folder / 'config.json'))}")
  if (folder.parent / "config.json").exists():
    return _record(folder.parent / "config.json")
  for above in folder.parents[:2]:  # checkpoints/ of a stage, or one of the steps in it
    if (above / "stage.json").exists():
      raise ValueError(f"{folder} is a part of a stage; name its folder: {above}.")
  fact = "has no config.json of a run above it" if folder.is_dir() else "does not exist"
  raise ValueError(f"{folder} {fact}; name the folder of a finished stage, as in runs/<run>/<stage>.")


def _record(path: pathlib.Path) -> dict:
  """config.json of a run."""
  try:
    record = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} cannot be read ({error}).") from error
  if not isinstance(record, dict) or record.get("class") != "Experiment":
    raise ValueError(f"{path} holds no experiment of r1jax.")
  return record


def _model_of(stage: dict, record: dict) -> dict:
  """As Experiment.model_of: the stage's own model, that of the stage it starts from, or the experiment's."""
  parents = {each["name"]: each for each in record["stages"]}
  while not stage.get("model") and stage["start_from"] in parents:
    stage = parents[stage["start_from"]]
  return stage.get("model") or record["model"]


def _finished(run: pathlib.Path, record: dict) -> list[str]:
  names = [stage["name"] for stage in record["stages"] if stage["class"] not in _SILENT]
  return [name for name in names if (run / name / "stage.json").exists() and (run / name / "checkpoints").is_dir()]


def _choice(run: pathlib.Path, record: dict) -> str:
  """The end of a sentence: which stages of a run can be talked to."""
  found = _finished(run, record)
  if not found:
    return "none of its stages can be talked to yet."
  return f"those that can be talked to are {', '.join(found)}, as in {run / found[-1]}."


def nearest(name: str, names: list[str]) -> str:
  """A hint for a misspelt stage."""
  near = difflib.get_close_matches(name, names, 1)
  return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}."
