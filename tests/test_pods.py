"""docs/pods.md, Dockerfile and .dockerignore: what they name exists, and what they compute is right.

Nothing here starts a container or asks a cloud: shell is parsed, manifests are
rendered, numbers are held against each other.
"""

import ast
import dataclasses
import functools
import json
import math
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import pytest
import yaml

from configs import models
from r1jax import config, main, mesh
from r1jax.report import dry_run

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs/pods.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# What the cloud would do, but for the one manifest that kubectl reads from its standard input.
STUBS = 'gcloud() { :; }\nkubectl() { if [ "$*" = "apply -f -" ]; then cat; fi; }\n'


def block(word):
  (found,) = (each for each in BLOCKS if word in each)
  return found


@functools.cache
def jobset():
  script = f"set -eu\nREGISTRY=host/project/repository\n{STUBS}{block('kind: JobSet')}"
  done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
  return yaml.safe_load(done.stdout)


def pods():
  """Of the JobSet: the job, and what every pod is made from."""
  (replicated,) = jobset()["spec"]["replicatedJobs"]
  job = replicated["template"]["spec"]
  return job, job["template"]["spec"]


def commands():
  """The arguments of every start of r1jax.main and r1jax.plan: (module, arguments)."""
  found = [("main", pods()[1]["containers"][0]["args"])]
  for text in BLOCKS:
    text = re.sub(r"<<EOF\n.*?^EOF", "", text.replace("\\\n", " "), flags=re.MULTILINE | re.DOTALL)
    again = re.search(r"RUN=\((.*?)\)", text)
    for line in text.replace('"${RUN[@]}"', again[1] if again else "").splitlines():
      if "--config=" in line:
        words = re.split(r"[\s\"()]+", line)
        module = "plan" if "r1jax.plan" in words else "main"
        found.append((module, words[next(i for i, word in enumerate(words) if word.startswith("--config=")) :]))
  return [(module, [word for word in words if word.startswith("--")]) for module, words in found]


@functools.cache
def flags(module):
  done = subprocess.run(
    [sys.executable, "-m", f"r1jax.{module}", "--helpfull"], capture_output=True, text=True, timeout=120, cwd=ROOT
  )
  return set(re.findall(r"^\s+(?:-\w,)?--(?:\[no\])?(\w+)", done.stdout, re.MULTILINE))


def example(name, data):
  """An experiment of the page on its mesh, with its model as the hub describes it."""
  experiment = main.load(str(ROOT / "experiments" / name))
  if isinstance(experiment.model, config.Hub):
    model = dataclasses.replace(models.published(experiment.model.name), published=experiment.model)
    experiment = dataclasses.replace(experiment, model=model)
  return dataclasses.replace(experiment, mesh=dataclasses.replace(experiment.mesh, data=data))


# ---- the page


def test_every_block_is_valid_shell():
  assert len(BLOCKS) >= 8
  for text in BLOCKS:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_every_start_of_ours_names_an_experiment_and_flags_that_exist():
  assert [module for module, _ in commands()].count("main") >= 4
  for module, words in commands():
    main.check_overrides(main.load(str(ROOT / main.experiment_file(words))), words)
    for word in words:
      name = re.match(r"--([\w.\[\]]+)", word)[1]
      assert name.startswith("config") or name in flags(module), f"r1jax.{module} has no flag --{name}"


def test_the_ways_to_find_each_other_are_flags_of_main():
  (rows,) = re.findall(r"\| processes find each other by \|.*?\n\n", PAGE, re.DOTALL)
  named = set(re.findall(r"--(\w+)", rows))
  assert named == {"distributed", "coordinator", "processes", "process"} and named <= flags("main")


@pytest.mark.parametrize(("name", "data"), [("r1_zero_qwen.py:7b", 4), ("r1_zero_tiny.py", 16)])
def test_the_examples_run_on_the_chips_that_the_page_asks_for(name, data):
  assert f"--config=experiments/{name} --config.mesh.data={data}" in PAGE
  experiment = example(name, data)
  experiment.validate()
  chips = experiment.mesh.data * experiment.mesh.expert * experiment.mesh.tensor

  job, pod = pods()
  topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
  per_pod = pod["containers"][0]["resources"]["limits"]["google.com/tpu"]
  assert f"--topology=v5p:{topology}" in PAGE
  assert job["parallelism"] * per_pod == math.prod(map(int, topology.split("x"))) == chips
  assert all(cores == str(2 * chips) for cores in re.findall(r"TYPE=v5p-(\d+)", PAGE))

  slurm = {key: int(value) for key, value in re.findall(r"--([\w-]+)=(\d+)(?=[ \n])", block("#SBATCH"))}
  assert slurm["nodes"] * slurm["ntasks-per-node"] == slurm["nodes"] * slurm["gpus-per-node"] == chips


def test_the_jobset_restarts_whatever_is_no_mistake_of_the_user():
  job, pod = pods()
  assert job["completions"] == job["parallelism"] and job["completionMode"] == "Indexed" and job["backoffLimit"] == 0
  assert pod["restartPolicy"] == "Never"  # what podFailurePolicy asks for
  (rule,) = job["podFailurePolicy"]["rules"]
  assert rule == {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}}  # of r1jax.errors.told
  policy = jobset()["spec"]["failurePolicy"]
  assert policy["rules"] == [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]
  assert policy["maxRestarts"] > 0


def test_everything_lies_on_the_disk_that_all_pods_mount():
  _, pod = pods()
  (container,) = pod["containers"]
  (mount,) = container["volumeMounts"]
  assert {volume["name"] for volume in pod["volumes"]} == {mount["name"]}
  (workdir,) = (word.removeprefix("--workdir=") for word in container["args"] if word.startswith("--workdir="))
  for path in (workdir, *(variable["value"] for variable in container["env"])):
    assert path.startswith(mount["mountPath"] + "/")


def test_the_cost_of_a_run_is_its_mean_step_after_compiling(tmp_path):
  seconds = [None, 900.0, 40.0, 50.0, 60.0]
  rows = [{"step": i} | ({"time/step": s} if s else {}) for i, s in enumerate([*seconds, 70.0])]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  _, text = block("chip-hours").split("<<'EOF'\n")
  done = subprocess.run(
    [sys.executable, "-c", text.removesuffix("EOF\n"), str(tmp_path / "metrics.jsonl")],
    capture_output=True, text=True, timeout=60, check=True,
  )  # fmt: skip
  # The row of step 0 has no duration; of the others 900 and 40 are left out: (50 + 60 + 70) / 3 seconds.
  steps, chips, dollars = re.search(r"STEPS, CHIPS, DOLLARS = (\d+), (\d+), ([\d.]+)", text).groups()
  hours = 60 * int(steps) * int(chips) / 3600
  assert done.stdout == f"{hours:,.0f} chip-hours, ${hours * float(dollars):,.0f}\n"


def test_the_sum_of_a_checkpoint_is_that_of_the_model():
  with jax.set_mesh(mesh.make(config.Mesh(), jax.devices()[:1])):
    weights = dry_run.parameters(models.published("Qwen/Qwen2.5-7B")).total
  bytes_a_weight, size = map(int, re.search(r"(\d+) with a reference policy \(`kl` > 0\): (\d+) GB", PAGE).groups())
  assert round(bytes_a_weight * weights / 1e9) == size


# ---- the image


def extras():
  (call,) = (node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if is_setup(node))
  (found,) = (word.value for word in call.keywords if word.arg == "extras_require")
  return {key.value for key in found.keys}


def is_setup(node):
  return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"


def test_the_extras_that_are_installed_exist():
  named = re.findall(r"EXTRAS=([\w,-]+)", DOCKERFILE + PAGE) + re.findall(r"'\.\[([\w,-]+)\]'", PAGE)
  assert {"tpu,hub", "hub"} <= set(named)
  for name in ",".join(named).split(","):
    assert name in extras()


def test_the_image_gets_every_package_and_every_file_that_it_copies():
  lines = (ROOT / ".dockerignore").read_text().splitlines()
  let_through = {line[1:] for line in lines if line.startswith("!")}
  assert "*" in lines and all((ROOT / name).exists() for name in let_through)
  packages = re.search(r"find_packages\(include=\[(.*?)\]", (ROOT / "setup.py").read_text())[1]
  assert {name.rstrip("*") for name in re.findall(r'"(.*?)"', packages)} <= let_through
  for line in re.findall(r"^COPY (.*)", DOCKERFILE, re.MULTILINE):
    for source in shlex.split(line)[:-1]:
      assert source == "." or source.split("/")[0] in let_through
      assert (ROOT / source).exists()


def test_the_image_runs_main_as_a_user_without_rights():
  assert re.findall(r"^ENTRYPOINT (.*)", DOCKERFILE, re.MULTILINE) == ['["python", "-m", "r1jax.main"]']
  (user,) = re.findall(r"^USER (\w+)", DOCKERFILE, re.MULTILINE)
  assert user != "root" and f"useradd --create-home --uid 1000 {user}" in DOCKERFILE
  assert re.search(r"^ARG PYTHON=3\.(\d+)", DOCKERFILE, re.MULTILINE)[1] >= "11"
