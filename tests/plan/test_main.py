"""python -m r1jax.plan, as a user calls it."""

import json
import subprocess
import sys

SMALL = [sys.executable, "-m", "r1jax.plan", "--config=tests/experiments/small.py", "--stages=base"]


def run(*arguments):
  done = subprocess.run([*SMALL, *arguments], capture_output=True, text=True, timeout=300)
  assert "Traceback" not in done.stderr
  return done


def test_it_prints_json_of_what_is_compiled_here():
  found = json.loads(run("--json", "--programs=update").stdout)
  assert found["fits"] is True and found["chips"] == 1 and found["functions"].keys() == {"base/update"}
  assert found["functions"]["base/update"]["peak_bytes"] > 0


def test_it_prints_tables_by_arithmetic_and_a_sentence():
  done = run("--topology=h100:1", "--programs=gradient,exam")
  assert "temporaries are an estimate" in done.stdout and "a step" in done.stdout
  assert done.stdout.splitlines()[-1].startswith("Fits: base/")


def test_it_sweeps():
  done = run("--topology=h100:1", "--sweep=4")
  assert done.returncode == 0 and "data=1 expert=1 tensor=1" in done.stdout and "arithmetic" in done.stdout


def test_mistakes_are_sentences():
  for arguments, sentence in (
    (["--topology=v99:2x2"], "--topology=v99:2x2 must be local or one of v4, v5e"),
    (["--programs=nothing"], "--programs=nothing names none"),
  ):
    done = run(*arguments)
    assert done.returncode == 2 and sentence in done.stderr
