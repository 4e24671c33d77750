"""One run on several processes, which die, are told to stop, and go on in another number."""

import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from r1jax import errors, mesh, pipeline, processes
from r1jax.rl.advantages import split_minibatches
from r1jax.stages import evaluate, watch
from r1jax.training import state as states
from r1jax.training.checkpoints import Checkpoints
from tests.experiments import small

ROOT = pathlib.Path(__file__).parents[1]
# A large epsilon makes AdamW's step nearly proportional to the gradient: with a small one the sign of a gradient that
# is all rounding decides about a whole step.
FLAGS = [
  "--config=tests/experiments/small.py", "--config.mesh.data=2", "--config.mesh.expert=2",
  "--config.stages[0].optimizer.epsilon=0.01", "--config.stages[0].optimizer.learning_rate=0.03",
  "--config.stages[1].optimizer.epsilon=0.01", "--config.stages[1].optimizer.learning_rate=0.02",
  "--config.stages[1].steps=16",
]  # fmt: skip


class Job:
  """`count` processes of r1jax.main, with 4 devices in all; `killed` is (a process, the moment of killed.py)."""

  def __init__(self, workdir: pathlib.Path, count: int, killed=(None, "")):
    with socket.socket() as free:
      free.bind(("localhost", 0))
      port = free.getsockname()[1]
    self.folder, self.processes = workdir.with_name(f"{workdir.name}_{count}_{time.time_ns()}"), []
    self.folder.mkdir()
    environment = os.environ | {
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": str(4 // count),
      "JAX_COMPILATION_CACHE_DIR": str(ROOT / "tests/.jax_cache"),
    }
    for i in range(count):
      program = ["tests/experiments/killed.py", killed[1]] if i == killed[0] else ["-m", "r1jax.main"]
      others = [f"--coordinator=localhost:{port}", f"--processes={count}", f"--process={i}"] if count > 1 else []
      command = [sys.executable, *program, *FLAGS, f"--workdir={workdir}", *others]
      log = open(self.folder / f"{i}.log", "wb")
      self.processes.append(
        subprocess.Popen(command, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
      )

  def log(self, process: int) -> str:
    return (self.folder / f"{process}.log").read_text(errors="replace")

  def codes(self, seconds: float) -> list[int]:
    """Exit codes of all, which are killed where they take longer."""
    end = time.monotonic() + seconds
    try:
      return [p.wait(max(1, end - time.monotonic())) for p in self.processes]
    finally:
      for p in self.processes:
        p.kill()


def params(workdir: pathlib.Path, stage: str):
  with Checkpoints(workdir / stage / "checkpoints", 1, 1000) as checkpoints:
    return jax.device_get(checkpoints.restore_params(states.abstract_params(small.get_config().model)))


def rollouts(workdir: pathlib.Path, step: int) -> list[dict]:
  """The rollouts of a step in the order of the processes that drew them."""
  files = sorted((workdir / "zero/rollouts").glob(f"step_{step:06d}.*.jsonl"))
  return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The run of one process with four devices."""
  workdir = tmp_path_factory.mktemp("processes") / "alone"
  job = Job(workdir, 1)
  assert job.codes(300) == [0], job.log(0)
  return workdir


@pytest.mark.timeout(900)
def test_a_run_of_four_processes_that_die_and_stop_ends_on_fewer_as_that_of_one(alone):
  workdir = alone.with_name("many")

  job = Job(workdir, 4, killed=(2, "rollout"))
  job.processes[2].wait(300)
  died = time.monotonic()
  codes = job.codes(60)
  assert time.monotonic() - died < 60 and codes[2] == -signal.SIGKILL and 0 not in codes, codes
  told = [i for i in (0, 1, 3) if "another process is gone" in job.log(i) or "another task died" in job.log(i)]
  assert told == [0, 1, 3], [job.log(i)[-2000:] for i in (0, 1, 3)]

  job = Job(workdir, 2)
  first = time.monotonic()
  while not rollouts(workdir, 6) and time.monotonic() - first < 200 and job.processes[0].poll() is None:
    time.sleep(0.05)
  job.processes[1].send_signal(signal.SIGTERM)
  assert job.codes(120) == [143, 143], job.log(0)
  assert "stopped by SIGTERM after update" in job.log(0)
  with Checkpoints(workdir / "zero/checkpoints", 1, 1000) as checkpoints:
    stopped = checkpoints.steps()[-1]
  assert f"update {stopped} of 'zero'" in job.log(0) and 6 <= stopped < 14

  job = Job(workdir, 2, killed=(0, "checkpoint"))
  codes = job.codes(300)
  assert codes[0] == -signal.SIGKILL and codes[1] in (1, -signal.SIGABRT), codes

  job = Job(workdir, 1)
  assert job.codes(300) == [0], job.log(0)
  for step in range(0, 16, 2):  # each was drawn by another number of processes
    one, many = rollouts(alone, step), rollouts(workdir, step)
    assert [row["question"] for row in one] == [row["question"] for row in many]
    assert [row["response"] for row in one] == [row["response"] for row in many]
  for stage in ("base", "zero"):
    # float32 sums in another order, through 6 and 16 updates
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), params(workdir, stage), params(alone, stage))
  samples = [json.loads((folder / "zero/stage.json").read_text())["response_length"] for folder in (alone, workdir)]
  assert samples[0] == samples[1]


def test_a_launcher_that_starts_several_is_noticed():
  assert not processes.expected({})
  assert not processes.expected({"SLURM_STEP_NUM_TASKS": "1", "TPU_WORKER_HOSTNAMES": "one"})
  assert processes.expected({"SLURM_STEP_NUM_TASKS": "8"})
  assert processes.expected({"OMPI_COMM_WORLD_SIZE": "2"})
  assert processes.expected({"TPU_WORKER_HOSTNAMES": "one,two"})


@pytest.mark.parametrize(
  "given",
  [("host:1", 2, None), ("host", 2, 0), ("host:1", 2, 2), (None, 2, 0)],
  ids=["no index", "no port", "beyond", "nobody"],
)
def test_processes_that_are_not_wholly_named_are_one_sentence(given):
  with pytest.raises(ValueError, match="give all three"):
    processes.join(*given)


def test_sigterm_is_noticed_once_and_the_handler_before_comes_back():
  before = signal.getsignal(signal.SIGTERM)
  with processes.Stop() as stop:
    assert not stop.asked()
    stop.end("nowhere")
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked() and stop.asked()
    with pytest.raises(processes.Stopped, match="stopped by SIGTERM after update 3; the same command goes on"):
      stop.end("after update 3")
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_stopped_in_its_exams_takes_them_again_and_ends_as_one_that_never_was(tmp_path, monkeypatch):
  made, draw, asked = small.get_config(), evaluate.draw, []
  zero = dataclasses.replace(made.stage("zero"), start_from="", steps=4, evaluate_every=2)
  made = dataclasses.replace(made, stages=(zero,))

  def execute(folder: str, call: int = 0) -> int | None:
    """Runs until SIGTERM comes in call number `call` of the sampler for exams (two make one), and gives the exit code."""
    asked.clear()

    def stopping(run, policy, prompts, *rest):
      if prompts.problems[0] in run.held_out:
        asked.append(prompts)
        if len(asked) == call:
          os.kill(os.getpid(), signal.SIGTERM)
      return draw(run, policy, prompts, *rest)

    monkeypatch.setattr(evaluate, "draw", stopping)
    code = errors.told("r1jax", lambda: pipeline.execute(made, tmp_path / folder) and 0)
    assert code == 0 or len(asked) == call  # none after it
    return code

  assert execute("whole") == 0 and len(asked) == 8
  folder = tmp_path / "stopped/zero"
  curve = lambda: [point["step"] for point in watch.Curve(folder).points()]
  assert execute("stopped", 3) == 143  # the point at the second update
  assert curve() == [0] and (folder / "checkpoints/2").is_dir()
  assert execute("stopped", 3) == 143  # that again, and the last one
  assert curve() == [0, 2] and (folder / "checkpoints/4").is_dir()
  assert execute("stopped", 3) == 143  # that again, and the exam
  assert curve() == [0, 2, 4] and not (folder / "samples.jsonl").exists() and not (folder / "stage.json").exists()
  assert execute("stopped") == 0 and len(asked) == 4
  for name in ("samples.jsonl", "curve.jsonl"):
    assert (folder / name).read_text() == (tmp_path / "whole/zero" / name).read_text()
  sha256 = lambda run: json.loads((tmp_path / run / "zero/stage.json").read_text())["params_sha256"]
  assert sha256("stopped") == sha256("whole")


def test_what_a_process_was_given_otherwise_is_named(monkeypatch):
  processes.agree({"config": {"seed": (1, 2)}})
  monkeypatch.setattr(processes, "gather", lambda value: [{"config": {"seed": [1, 3]}}, value])
  with pytest.raises(ValueError, match="process 0 has another config than process 0"):
    processes.agree({"config": {"seed": (1, 2)}})


def test_a_death_that_orbax_has_wrapped_is_seen(monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  try:
    try:
      raise RuntimeError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")
    except RuntimeError as cause:
      raise ValueError("the save failed") from cause
  except ValueError as error:
    assert processes.lost(error).startswith("another process is gone (UNKNOWN: Gloo AllGather failed")
  assert processes.lost(ValueError("a bug")) is None


def test_a_mini_batch_is_of_the_same_rollouts_however_many_processes_draw_them(monkeypatch):
  one = split_minibatches(24, 3, 5)
  parts = []
  for index in range(4):
    monkeypatch.setattr(mesh, "part", lambda index=index: (index, 4))
    parts.append(split_minibatches(6, 3, 5))
  for i, chosen in enumerate(one):
    found = np.concatenate([part[i] + 6 * index for index, part in enumerate(parts)])
    assert sorted(found) == sorted(chosen)


def test_processes_along_tensor_hold_the_same_part_of_a_batch():
  assert mesh.holders({0: {0, 1}, 1: {2, 3}}, 4) == ((0,), (1,))
  assert mesh.holders({0: {2, 3}, 1: {0, 1}}, 4) == ((1,), (0,))  # however the mesh lays the devices out
  assert mesh.holders({0: {0}, 1: {0}, 2: {1}, 3: {1}}, 2) == ((0, 1), (2, 3))
  with pytest.raises(ValueError, match="3 shards cannot be split over 2 processes: two of them share"):
    mesh.holders({0: {0, 1}, 1: {1, 2}}, 3)
