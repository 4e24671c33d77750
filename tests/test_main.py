"""The command line: every mistake of a user is one sentence, every bug keeps its traceback."""

import errno
import os
import pathlib
import subprocess
import sys

from absl import flags
import numpy as np
import pytest

from r1jax import config, errors, main, mesh
from r1jax.rewards import Scorer, Workers
from r1jax.rl.advantages import group_advantages
from r1jax.training.workdir import claim
from r1jax.types import Problem

ROOT = pathlib.Path(__file__).parents[1]
TINY = f"--config={ROOT}/experiments/r1_zero_tiny.py"


@pytest.fixture
def told(monkeypatch, capsys):
  """Runs main in this process with arguments; returns the one line it ends with."""

  def run(*args):
    monkeypatch.setattr(sys, "argv", ["r1jax", *args])
    flags.FLAGS.unparse_flags()
    with pytest.raises(SystemExit) as end:
      main.main()
    error = capsys.readouterr().err
    assert end.value.code == 2, error
    assert error.startswith("r1jax: ") and error.count("\n") == 1
    return error.removeprefix("r1jax: ").rstrip("\n")

  return run


def raised(function, *args):
  with pytest.raises((ValueError, RuntimeError, OSError)) as error:
    function(*args)
  return error.value


@pytest.mark.parametrize(
  ("args", "sentence"),
  [
    (["--config.modle.layers=3"], "--config.modle.layers: the experiment has no field 'modle'; did you mean 'model'?"),
    (["--config.model.layres=3"], "--config.model.layres: model has no field 'layres'; did you mean 'layers'?"),
    (["--config.stages[1].stpes=7"], "--config.stages[1].stpes: stages[1] has no field 'stpes'; did you mean 'steps'?"),
    (["--config.stages[7].steps=7"], "--config.stages[7].steps: stages has 2 elements, from [0] to [1]."),
    (
      ["--config.stages.steps=7"],
      "--config.stages.steps: stages is a tuple; write stages[0].steps for its first element.",
    ),
    (["--config.seed[0]=7"], "--config.seed[0]: seed is no tuple, so [0] has no meaning."),
    (
      ["--config.model.rope_scaling.factor=7"],
      "--config.model.rope_scaling.factor: model.rope_scaling is None in this experiment, which has no fields.",
    ),
    (
      ["--config.model.attention=7"],
      "--config.model.attention is a whole LatentAttention; override its fields one by one.",
    ),
    (["--config.model.layers=abc"], "--config.model.layers=abc must be of type int."),
    (["--config.stages[1].kl=small"], "--config.stages[1].kl=small must be of type float."),
    (
      ["--config.stages[1].batch_size=100"],
      "zero: batch_size=100 must be a multiple of group_size=16; the nearest is 96.",
    ),
    (
      ["--stages=base,zeroo"],
      "--stages names 'zeroo', which is no stage of r1_zero_tiny; its stages are ['base', 'zero'].",
    ),
    (["train"], "unknown argument 'train'; fields are overridden as --config.field=value."),
    (["--wrokdir=x"], "Unknown command line flag 'wrokdir'. Did you mean: workdir ?"),
    (["--dry_run=perhaps"], "--dry_run=perhaps must be of type bool."),
  ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(told, args, sentence):
  assert told(TINY, *args) == sentence


def test_a_missing_experiment_is_one_sentence_with_the_nearest_file(told):
  assert told() == "no experiment given; try --config=experiments/r1_zero_tiny.py"
  assert told("--config.seed=3").startswith("no experiment given")
  near = ROOT / "experiments" / "r1_zero_tny.py"
  found = f"--config={near}: there is no such file; did you mean {near.with_name('r1_zero_tiny.py')}?"
  assert told(f"--config={near}") == found


@pytest.mark.parametrize(
  ("text", "sentence"),
  [
    ("x = 1", "{}: get_config() is missing; it must return an r1jax.config.Experiment."),
    ("def get_config():\n  return {}", "{}: get_config() returns a dict; it must return an r1jax.config.Experiment."),
    ("def get_config(:", "{}, line 1: invalid syntax."),
    ("import nothing_like_it", "{}, line 1: ModuleNotFoundError: No module named 'nothing_like_it'"),
    (
      "from r1jax import config\n\ndef get_config():\n  return config.Checkpoints(evry=3)",
      "{}, line 4: TypeError: Checkpoints.__init__() got an unexpected keyword argument 'evry'",
    ),
  ],
)
def test_a_mistake_in_the_experiment_file_is_one_sentence_with_its_line(told, tmp_path, text, sentence):
  file = tmp_path / "mine.py"
  file.write_text(text)
  assert told(f"--config={file}") == sentence.format(file)


def in_a_process(*args):
  command = [sys.executable, "-m", "r1jax.main", TINY, *args]
  env = os.environ | {"JAX_PLATFORMS": "cpu"}
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False, env=env)


@pytest.mark.parametrize("hindrance", ["a file", "another config", "an impossible world"])
def test_a_workdir_that_cannot_be_ours_is_one_sentence(tmp_path, hindrance):
  workdir, extra = tmp_path / "run", []
  experiment = main.load(TINY.removeprefix("--config="))
  if hindrance == "a file":
    workdir.write_text("")
    sentence = f"--workdir={workdir} cannot be written (File exists); choose another --workdir."
  elif hindrance == "another config":
    experiment.stages[1].steps = 32
    claim(workdir, experiment)
    sentence = (
      f"--workdir={workdir} holds a run of another config: stages[1].steps: 32 -> 64 (theirs -> ours); choose another "
      "--workdir, or give the command that started it."
    )
    extra = ["--config.stages[1].steps=64"]
  else:
    extra = ["--config.playground.levels=7"]
    sentence = "playground.levels=(7,) must be one or more of (1, 2, 3)."
  ended = in_a_process(f"--workdir={workdir}", *extra)
  assert (ended.returncode, ended.stderr) == (2, f"r1jax: {sentence}\n")
  assert workdir.exists() == (hindrance != "an impossible world")


def test_what_r1jax_raises_is_a_sentence_and_what_others_raise_is_a_bug():
  assert "needs 7 devices" in errors.sentence(raised(mesh.make, config.Mesh(data=7)))
  assert errors.sentence(raised(group_advantages, "no rewards")) is None  # numpy refused what we gave it
  assert errors.sentence(raised(np.concatenate, [])) is None
  assert errors.sentence(raised(pathlib.Path("no/such/file").read_text)) is None


def test_a_reward_that_always_raises_is_one_sentence():
  with Workers(1, 2.0) as workers, Scorer((Broken(),), workers) as scorer:
    error = raised(scorer.score, [Problem("p", "?", "1", "number", "d")] * 32, ["1"] * 32)
  assert errors.sentence(error).startswith("reward 'broken' raised on every one of the first 32 responses")


class Broken:
  name, weight = "broken", 1.0

  def __call__(self, problem, response, prefill):
    raise KeyError("mine")


def test_a_full_disk_is_one_sentence_whoever_meets_it():
  def write():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")

  sentence = "No space left on device (metrics.jsonl); mend that, and the same command goes on"
  assert errors.sentence(raised(write)).startswith(sentence)


def test_a_bug_keeps_its_traceback(monkeypatch, told):
  monkeypatch.setattr(config.Experiment, "validate", lambda self: np.concatenate([]))
  with pytest.raises(ValueError, match="at least one array"):
    told(TINY)
