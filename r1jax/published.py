"""Published checkpoints as the models of an experiment: every Hub becomes the Model of its config.json.

A Model that names a checkpoint as `published` stays as it is, with the commit added.
"""

import dataclasses
import json
import pathlib

from r1jax import config
from r1jax.models import hub


def resolve(experiment: config.Experiment, workdir: pathlib.Path, weights: bool = True) -> config.Experiment:
  """The experiment with a Model in the place of every Hub.

  A model of the hub is pinned to a commit: that of `revision`, or the one this
  run was begun with, or the newest.

  Args:
    weights: whether the weights are fetched, too, or only what describes the model.

  Raises:
    ValueError: as hub.resolve and hub.read_config.
  """
  begun = _begun_with(workdir)

  def model(each):
    if isinstance(each, config.Hub):
      return model_of(each, begun, weights)
    if each is None or each.published is None or not weights:
      return each
    return dataclasses.replace(each, published=pinned(each.published, begun, weights)[0])

  stages = tuple(dataclasses.replace(stage, model=model(stage.model)) for stage in experiment.stages)
  return dataclasses.replace(experiment, model=model(experiment.model), stages=stages)


def pinned(wanted: config.Hub, begun: dict[str, str], weights: bool) -> tuple[config.Hub, pathlib.Path]:
  """`wanted` with the commit that it names, and the folder where that lies."""
  revision = wanted.revision or begun.get(wanted.name)
  folder = hub.resolve(wanted.name, revision or None, weights)
  if pathlib.Path(wanted.name).expanduser().is_dir():
    return wanted, folder
  return dataclasses.replace(wanted, revision=hub.commit(folder) or wanted.revision), folder


def model_of(wanted: config.Hub, begun: dict[str, str], weights: bool) -> config.Model:
  """The model that `wanted` names, which keeps it with its commit as `published`."""
  found, folder = pinned(wanted, begun, weights)
  return dataclasses.replace(hub.read_config(folder, wanted.mtp), published=found, **wanted.layout)


def folder_of(model: config.Model, weights: bool = True) -> pathlib.Path:
  """Where the checkpoint of a model lies that `resolve` has made."""
  return hub.resolve(model.published.name, model.published.revision or None, weights)


def _begun_with(workdir: pathlib.Path) -> dict[str, str]:
  """Commits of the models that the run in `workdir` was begun with, by name."""
  path = pathlib.Path(workdir) / "config.json"
  if not path.exists():
    return {}
  try:
    record = json.loads(path.read_text())
    models = [record["model"], *(stage["model"] for stage in record["stages"])]
    found = [model["published"] for model in models if model and model.get("published")]
    return {each["name"]: each["revision"] for each in found if each["revision"]}
  except (ValueError, KeyError, TypeError, AttributeError):  # whoever claims the folder says what is wrong with it
    return {}
