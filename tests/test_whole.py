"""The whole of R1 in a small run: what it leaves, where all of it comes from, and that no kill changes anything."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.experiments import whole

ROOT = pathlib.Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
  "JAX_PLATFORMS": "cpu",
  "PYTHONPATH": str(ROOT),
  "JAX_COMPILATION_CACHE_DIR": str(ROOT / "tests" / ".jax_cache"),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
pytestmark = pytest.mark.timeout(1200)
STAGES = {stage.name: stage for stage in whole.get_config().stages}


def run(workdir, *program):
  arguments = [sys.executable, *program, "--config=tests/experiments/whole.py", f"--workdir={workdir}"]
  return subprocess.run(arguments, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("whole") / "run"
  ended = run(folder, "-m", "r1jax.main")
  assert ended.returncode == 0, ended.stderr
  return folder


def results(workdir):
  return json.loads((workdir / "results.json").read_text())["stages"]


def hashes(workdir):
  return {name: stage.get("params_sha256") or stage["data_sha256"] for name, stage in results(workdir).items()}


def test_every_stage_is_finished_in_order_and_measured(workdir):
  found = results(workdir)
  assert list(found) == list(STAGES)
  for name, stage in STAGES.items():
    assert found[name]["kind"] == type(stage).__name__
    if stage.makes == "policy":
      assert {"math", "code", "logic", "choice", "factual", "instructions", "helpfulness", "harmlessness", "language",
              "readability"} <= set(found[name]["suites"])  # fmt: skip
      rows = [json.loads(line) for line in (workdir / name / "samples.jsonl").read_text().splitlines()]
      assert len(rows) == 36 and all(len(row["scores"]) == len(row["tokens"]) == 2 for row in rows)


def test_data_is_what_its_hash_says_and_has_the_columns_that_are_promised(workdir):
  columns = {
    "completions": {"id", "prompt", "completion", "domain", "language", "source", "tokens"},
    "pairs": {"id", "prompt", "chosen", "rejected", "delta"},
    "labels": {"id", "prompt", "response", "safe"},
  }
  for name, stage in STAGES.items():
    if stage.makes in columns:
      content = (workdir / name / "data.jsonl").read_bytes()
      assert hashlib.sha256(content).hexdigest() == results(workdir)[name]["data_sha256"]
      rows = [json.loads(line) for line in content.splitlines()]
      assert rows and all(columns[stage.makes] <= set(row) for row in rows)


def test_the_lineage_of_every_stage_leads_back_to_random_parameters(workdir):
  found = results(workdir)
  for name, stage in STAGES.items():
    lineage = found[name]["lineage"]
    assert (lineage["parent"] or {}).get("stage", "") == stage.start_from
    sources = [lineage["parent"], *lineage["data"], *lineage["reward_models"]]
    made = {source["stage"]: source for source in sources if source and "stage" in source}
    assert set(made) == {needed for _, _, needed in stage.needs()}
    for other, source in made.items():
      assert source.items() >= {k: v for k, v in found[other].items() if k in ("params_sha256", "data_sha256")}.items()


def test_the_page_of_the_run_is_made(workdir):
  page = (workdir / "report/index.html").read_text()
  assert all(name in page for name in STAGES)


def test_a_kill_in_every_stage_changes_nothing(workdir, tmp_path):
  for name in STAGES:
    ended = run(tmp_path / "run", "tests/experiments/killed.py", f"stage:{name}")
    assert ended.returncode == -signal.SIGKILL, (name, ended.stderr)
    assert not (tmp_path / "run" / name / "stage.json").exists()
  ended = run(tmp_path / "run", "-m", "r1jax.main")
  assert ended.returncode == 0, ended.stderr
  assert hashes(tmp_path / "run") == hashes(workdir)
