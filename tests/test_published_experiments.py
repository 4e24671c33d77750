"""The experiments on published models: they hold together, and have the paper's values where it has some."""

import dataclasses
import io
import pathlib

import pytest
import rich.console

from configs import models
from experiments import r1_distill, r1_zero_qwen
from r1jax import config, main
from r1jax.data.completions import Completions
from r1jax.report import dry_run

FOLDER = pathlib.Path(__file__).parents[1] / "experiments"
ALL = (
  *(f"r1_zero_qwen.py:{size}" for size in r1_zero_qwen.SIZES),
  *(f"r1_distill.py:{student}" for student in r1_distill.STUDENTS),
  "r1_qwen.py",
  "r1_zero_deepseek_v2_lite.py",
  "r1_zero_deepseek_v2_lite.py:lora",
  "published_tiny.py",
)


def load(name):
  """The experiment with its model as config.json on the hub says it, without asking the hub."""
  experiment = main.load(str(FOLDER / name))
  name = experiment.model.name.removesuffix("-Instruct") if "0.5B" in experiment.model.name else experiment.model.name
  return dataclasses.replace(
    experiment, model=dataclasses.replace(models.published(name), published=experiment.model, activations="bfloat16")
  )


@pytest.mark.parametrize("name", ALL)
def test_it_holds_together_and_its_figures_can_be_looked_at(name):
  experiment = load(name)
  experiment.validate()
  out = io.StringIO()
  dry_run.show(experiment, rich.console.Console(file=out, width=120))
  assert experiment.name in out.getvalue() and "memory of a device" in out.getvalue()


def test_every_experiment_says_its_command_and_its_arguments():
  for name in ALL:
    file, _, argument = name.partition(":")
    text = (FOLDER / file).read_text().split('"""')[1]
    assert f"python -m r1jax.main --config=experiments/{file}" in text
    assert (argument in text and "expect" in text) or file == "published_tiny.py", name


def test_the_students_have_the_papers_learning_rates():
  rates = {"qwen_1.5b": 1e-4, "qwen_7b": 8e-5, "qwen_14b": 7e-5, "qwen_32b": 6e-5, "llama_8b": 5e-5, "llama_70b": 2e-5}
  for student, rate in rates.items():
    experiment = load(f"r1_distill.py:{student}")
    (stage,) = experiment.stages
    assert (stage.optimizer.learning_rate, stage.optimizer.final_rate) == (rate, 0.1)
    assert (stage.rows, stage.length, stage.epochs) == (64, 32_768, 2) and not stage.start_from
    assert isinstance(stage, config.SFT) and isinstance(stage.data[0], Completions)


@pytest.mark.parametrize("name", ["r1_zero_qwen.py:3b", "r1_distill.py:qwen"])
def test_an_unknown_argument_is_told_with_those_there_are(name):
  with pytest.raises(ValueError, match="must be one of .*, as in r1_"):
    main.load(str(FOLDER / name))
