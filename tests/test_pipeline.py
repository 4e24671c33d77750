"""The program as a user runs it: a whole small schedule, killed and started again, and with what goes wrong in it."""

import importlib.metadata
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from r1jax import config
from r1jax.rl.advantages import group_advantages, make_experience
from r1jax.training import optimizer as optimizers, state as states
from r1jax.training.update import update
from r1jax.types import Prompts, Rollouts

ROOT = pathlib.Path(__file__).parents[1]
SMALL = "tests/experiments/small.py"
ENVIRONMENT = os.environ | {
  "JAX_PLATFORMS": "cpu",
  "PYTHONPATH": str(ROOT),
  "JAX_COMPILATION_CACHE_DIR": str(ROOT / "tests" / ".jax_cache"),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


def command(workdir, *flags, experiment=SMALL, moment=None):
  """Runs r1jax.main, or the script that kills it at a moment; the finished process with what it printed."""
  program = ["-m", "r1jax.main"] if moment is None else ["tests/experiments/killed.py", moment]
  arguments = [sys.executable, *program, f"--config={experiment}", f"--workdir={workdir}", *flags]
  ended = subprocess.run(arguments, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=False)
  assert moment is None or ended.returncode == -signal.SIGKILL, ended.stderr
  return ended


def run(workdir, *flags, **options):
  ended = command(workdir, *flags, **options)
  assert ended.returncode == 0, ended.stderr
  return ended


def told(ended):
  """The one sentence with which a run ended for a user's mistake."""
  assert ended.returncode == 2, ended.stderr
  assert ended.stderr.startswith("r1jax: ") and ended.stderr.count("\n") == 1, ended.stderr
  return ended.stderr.removeprefix("r1jax: ").rstrip("\n")


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def untimed(path):
  return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in lines(path)]


def figures(workdir, stage):
  """What results.json says of a stage, timings apart."""
  entry = json.loads((workdir / "results.json").read_text())["stages"][stage]
  return {key: value for key, value in entry.items() if "seconds" not in key}


def contents(workdir):
  return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in workdir.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """(workdir, output) of one uninterrupted run."""
  workdir = tmp_path_factory.mktemp("whole") / "run"
  return workdir, run(workdir).stdout


@pytest.fixture(scope="module")
def base_apart(tmp_path_factory):
  """A workdir in which --stages=base was killed in an update and finished by the same command."""
  workdir = tmp_path_factory.mktemp("apart") / "run"
  command(workdir, "--stages=base", moment="update")
  assert (workdir / "base/checkpoints/2").is_dir() and not (workdir / "base/stage.json").exists()
  run(workdir, "--stages=base")
  return workdir


# ---- a whole run


def test_results_hold_every_figure_a_script_needs(whole):
  results = json.loads((whole[0] / "results.json").read_text())
  assert list(results["stages"]) == ["base", "zero"]
  for stage in results["stages"].values():
    low, high = stage["pass@1_interval"]
    assert 0 <= low <= stage["pass@1"] <= high <= 1
    for key in ("majority@4", "pass@4", "reflection_rate"):
      assert 0 <= stage[key] <= 1
    assert 0 < stage["response_length"] <= 12
    assert len(stage["params_sha256"]) == 64 and stage["seconds"] > 0
    assert set(stage["per_domain"]) == {"arithmetic", "equations"} and set(stage["per_level"]) == {"1"}
  hashes = [stage["params_sha256"] for stage in results["stages"].values()]
  assert hashes[0] != hashes[1]
  assert len(results["config_sha256"]) == 64
  assert results["versions"]["jax"] == importlib.metadata.version("jax")


def test_a_run_leaves_its_curves_log_rollouts_and_samples(whole):
  workdir, output = whole
  for name in ("zero_accuracy.png", "zero_response_length.png"):
    assert (workdir / "report" / name).read_bytes().startswith(b"\x89PNG")
  assert [row["step"] for row in lines(workdir / "base/metrics.jsonl")] == list(range(6))
  assert [row["step"] for row in lines(workdir / "zero/metrics.jsonl")] == list(range(8))
  assert [row["step"] for row in lines(workdir / "zero/curve.jsonl")] == [0, 4, 8]
  assert {row["alarm"] for row in lines(workdir / "zero/alarms.jsonl")} >= {"preflight", "length_explosion"}
  assert all(len(row["responses"]) == len(row["correct"]) == 4 for row in lines(workdir / "zero/samples.jsonl"))
  assert "held-out problems" in output and "pass@1" in output and "results.json" in output


def test_the_metrics_hold_the_health_of_the_run(whole):
  last = lines(whole[0] / "zero/metrics.jsonl")[-2]  # the first update of a rollout
  wanted = "reward/total reward/accuracy reward/format reward/digits reward/parsed rollout/length rollout/truncated "
  wanted += "group/dead policy/kl policy/entropy policy/clip_fraction policy/gradient_norm policy/sampler_mismatch "
  wanted += "expert/max_violation emergence/reflection_rate emergence/language_mixing emergence/self_corrections "
  wanted += "time/rollout time/reward time/train"
  assert not set(wanted.split()) - set(last)
  assert last["policy/sampler_mismatch"] < 1e-4  # sampler and trainer round differently, float32
  assert last["reward/check_failures"] == last["reward/check_timeouts"] == 0


def test_rollouts_are_saved_with_the_value_of_every_reward(whole):
  files = sorted((whole[0] / "zero/rollouts").iterdir())
  assert [file.name for file in files] == [f"step_{step:06d}.0.jsonl" for step in (0, 2, 4, 6)]
  for row in lines(files[0]):
    assert set(row["rewards"]) == {"accuracy", "format", "digits"} and set(row["statuses"]) == {"accuracy"}
    assert row["reward"] == pytest.approx(sum(row["rewards"].values()), abs=1e-6)  # float32 sums
    assert row["rewards"]["digits"] == pytest.approx(
      sum(map(str.isdigit, row["response"])) / max(len(row["response"]), 1)
    )
    assert {"id", "question", "answer", "domain", "language", "tokens", "ended"} <= set(row)
  assert len(lines(files[0])) == 16


def test_tensorboard_reads_every_step(whole):
  (file,) = (whole[0] / "zero/tensorboard").iterdir()
  events = [Event.FromString(raw) for raw in RawEventFileLoader(str(file)).Load()]
  assert [event.step for event in events if event.summary.value] == list(range(8))


def test_the_same_command_after_the_end_reports_and_does_nothing_else(whole):
  workdir, output = whole
  before = contents(workdir)
  again = run(workdir).stdout
  after = contents(workdir)
  assert before.keys() == after.keys()
  changed = {path.relative_to(workdir).parts[0] for path, (_, time) in after.items() if before[path][1] != time}
  assert changed <= {"results.json", "report"}
  assert before[workdir / "results.json"][0] == after[workdir / "results.json"][0]
  table = lambda text: text[text.index("held-out") : text.rindex("results.json holds")]
  assert table(again) == table(output)


# ---- kill -9 and the same command again


def test_pretraining_killed_in_an_update_ends_with_the_same_bits(whole, base_apart):
  assert figures(base_apart, "base") == figures(whole[0], "base")
  for name in ("metrics.jsonl", "alarms.jsonl", "samples.jsonl"):
    assert untimed(base_apart / "base" / name) == untimed(whole[0] / "base" / name)


def test_rl_killed_in_a_rollout_and_in_a_checkpoint_ends_with_the_same_bits(whole, base_apart):
  folder = base_apart / "zero"
  command(base_apart, "--stages=zero", moment="rollout")
  assert (folder / "checkpoints/6").is_dir() and not (folder / "stage.json").exists()
  command(base_apart, "--stages=zero", moment="checkpoint")
  assert list((folder / "checkpoints").glob("8.orbax-checkpoint-tmp*/*"))
  assert not (folder / "checkpoints/8").exists() and not (folder / "stage.json").exists()
  run(base_apart, "--stages=zero")
  assert figures(base_apart, "zero") == figures(whole[0], "zero")
  files = sorted(path.relative_to(whole[0]) for path in (whole[0] / "zero").rglob("*.jsonl"))
  assert len(files) == 8
  for file in files:
    assert untimed(base_apart / file) == untimed(whole[0] / file), file
  assert not list((folder / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


# ---- what goes wrong in a run


def test_a_stage_whose_parent_is_not_finished_is_one_sentence(tmp_path):
  sentence = "stage 'zero': start_from takes the policy of 'base', which is not finished in "
  assert told(command(tmp_path / "run", "--stages=zero")).startswith(sentence)


def test_rewards_that_sometimes_raise_or_hang_are_counted_and_the_run_goes_on(tmp_path):
  run(tmp_path / "run", experiment="tests/experiments/unruly.py")
  row = lines(tmp_path / "run/zero/metrics.jsonl")[0]
  saved = lines(tmp_path / "run/zero/rollouts/step_000000.0.jsonl")
  numbers = [sum(map(ord, row["response"])) for row in saved]
  raised, hung = sum(n % 4 == 0 for n in numbers), sum(n % 8 == 1 for n in numbers)
  assert raised and hung
  assert (row["reward/check_failures"], row["reward/check_timeouts"]) == (raised, hung)
  for n, row in zip(numbers, saved, strict=True):
    assert row["rewards"]["unruly"] == (0 if n % 4 == 0 or n % 8 == 1 else len(row["response"]))
  alarms = {row["alarm"]: row["message"] for row in lines(tmp_path / "run/zero/alarms.jsonl")}
  assert alarms["reward_failures"].startswith(f"{raised} checks failed") and "'mine'" in alarms["reward_failures"]
  assert alarms["reward_timeouts"].startswith(f"{hung} checks of 'unruly' exceeded their limit")


@pytest.fixture(scope="module")
def from_files(tmp_path_factory):
  """The workdir of a run on rows of a file, with composed rewards and a benchmark."""
  workdir = tmp_path_factory.mktemp("files") / "run"
  run(workdir, experiment="tests/experiments/from_files.py")
  return workdir


def test_a_stage_learns_from_rows_of_a_file_scored_by_a_composition(from_files):
  saved = [row for path in sorted((from_files / "zero/rollouts").iterdir()) for row in lines(path)]
  questions = {row["problem"]: row["source"] for row in lines(ROOT / "tests/experiments/rows.jsonl")}
  assert len(saved) == 2 * 16 and {row["question"] for row in saved} == {q for q in questions if len(q) < 24}
  for row in saved:
    book, text = questions[row["question"]] == "book", row["response"]
    digits = min(max(sum(c.isdigit() for c in text) / max(len(text), 1), 0.1), 0.5)
    brief = {} if book else {"brief": 12 - len(text)}
    assert row["rewards"] == pytest.approx({"accuracy": 0, "digits": digits, "format": 0, **brief})
    assert row["statuses"] == {"accuracy": "gate closed"}
    assert row["reward"] == pytest.approx(digits + brief.get("brief", 0))


def test_a_rollout_sampled_in_parts_is_the_rollout_sampled_at_once(from_files, tmp_path):
  run(tmp_path / "run", "--config.stages[0].prompts_at_once=0", experiment="tests/experiments/from_files.py")
  for path in sorted((from_files / "zero/rollouts").iterdir()):
    assert lines(path) == lines(tmp_path / "run/zero/rollouts" / path.name)


def test_every_stage_is_measured_on_the_benchmarks(from_files):
  entry = figures(from_files, "zero")["benchmarks"]["gsm8k"]
  samples = lines(from_files / "zero/benchmarks/gsm8k.jsonl")
  assert entry["problems"] == len(samples) == 2 and entry["samples"] == 4
  assert entry["pass@1"] == np.mean([row["correct"] for row in samples])
  assert [row["question"][:8] for row in samples] == ["Tom buys", "Mia had "]  # without the benchmark's template


def test_a_bad_row_of_the_data_is_told_before_training(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+2", "answer": ""}\n')
  sentence = told(
    command(
      tmp_path / "run",
      f"--config.stages[0].problems.sources[0].path={path}",
      experiment="tests/experiments/from_files.py",
    )
  )
  assert str(path) in sentence and "line 2" in sentence and "answer" in sentence


@pytest.fixture
def small_disk(tmp_path):
  """A folder on a disk that holds one checkpoint of the small model and part of a second; makes room when called."""
  folder = tmp_path / "disk"
  folder.mkdir()
  mount = lambda options: subprocess.run(
    ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
  )
  if not shutil.which("mount") or mount("size=1m").returncode:
    pytest.skip("needs the right to mount a tmpfs")
  yield folder, lambda: mount("remount,size=16m")
  subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_with_room_the_run_goes_on(whole, small_disk):
  disk, make_room = small_disk
  sentence = told(command(disk / "run", "--stages=base"))
  assert "the checkpoint of step 4 could not be written" in sentence and "that of step 2 is intact" in sentence
  assert len(sentence) < 300
  assert [path.name for path in (disk / "run/base/checkpoints").iterdir()] == ["2"]
  assert make_room().returncode == 0
  run(disk / "run", "--stages=base")
  assert figures(disk / "run", "base") == figures(whole[0], "base")


# ---- honesty


def test_where_all_rewards_of_a_group_are_equal_no_parameter_changes(tiny_model, random_params):
  model, rng = tiny_model(), np.random.default_rng(0)
  stage = config.RL(
    steps=2,
    group_size=4,
    batch_size=8,
    rollout_size=8,
    kl=1.0,
    sampling=config.Sampling(max_prompt=4, max_response=6),
    template=config.Template(text="{question}"),
    rewards=(),
    row_length=16,
    microbatch_rows=2,
    optimizer=config.Optimizer(learning_rate=0.1, weight_decay=0.1),
    checkpoints=config.Checkpoints(every=1),
    preflight=config.Preflight(),
    alarms=config.Alarms(),
  )
  prompts = Prompts(rng.integers(4, 24, (2, 4)), np.array([4, 3]), np.arange(2), ())
  numbers = rng.normal(size=(2, 4, 6)).astype(np.float32)
  rollouts = Rollouts(
    rng.integers(4, 24, (2, 4, 6)), rng.integers(1, 7, (2, 4)), np.ones((2, 4), bool), numbers, numbers
  )
  optimizer = optimizers.make(stage.optimizer, stage.steps)
  state = states.create(random_params(model), optimizer)
  before = jax.device_get(state)
  for rewards in (np.zeros((2, 4)), np.array([[0.1] * 4, [1.1] * 4])):
    experience = make_experience(prompts, rollouts, group_advantages(rewards), np.arange(8), stage)
    state, _ = update(state, experience, loss=None, optimizer=optimizer, bias_rate=0.1)
  after = jax.device_get(state)
  assert after.step == 2
  for a, b in zip(
    jax.tree.leaves((before.params, before.optimizer)), jax.tree.leaves((after.params, after.optimizer)), strict=True
  ):
    assert a.tobytes() == b.tobytes()
