"""python -m r1jax.main --config=experiments/r1_zero_tiny.py [--workdir=...] [--config.field=value ...]

A user's mistake ends the program with one sentence and exit code 2; a bug of
ours keeps its traceback (r1jax/errors.py tells them apart).
"""

import dataclasses
import difflib
import importlib.util
import itertools
import pathlib
import re
import sys
import time
import traceback

from absl import app, flags
from ml_collections import config_flags

from r1jax import config as configs, published
from r1jax.errors import told

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment file; --config.x.y=value overrides a field.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default: runs/<experiment's name>.")
STAGES = flags.DEFINE_list("stages", [], "Names of the stages to run; default: all.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print schedule, shapes, parameter count and memory, and stop.")
# Many processes, one command: r1jax/processes.py and docs/pods.md.
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the processes that a TPU pod, Slurm or mpirun started.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, where the cluster does not tell.")
PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes; with --coordinator.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0; with --coordinator.")


class _HubParser(flags.ArgumentParser):
  """--config.model='hub("owner/name")': the only value of a whole model that a command line can write."""

  def parse(self, argument):
    return configs.parse_hub(argument) if isinstance(argument, str) else argument

  def flag_type(self):
    return 'hub("owner/name")'


config_flags.register_flag_parser_for_type(configs.Model, _HubParser())

EXAMPLE = "--config=experiments/r1_zero_tiny.py"
OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)


def main(program=None):
  """Parses, runs (`program` in the place of `run`), and tells a user's mistake in a sentence on stderr, exit code 2."""
  try:
    sys.exit(told("r1jax", lambda: app.run(program or run, flags_parser=parse)))
  except KeyboardInterrupt:
    print("r1jax: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
    sys.exit(130)


def run(argv):
  if len(argv) > 1:
    raise ValueError(f"unknown argument {argv[1]!r}; fields are overridden as --config.field=value.")
  if DRY_RUN.value:
    from r1jax.report import dry_run

    dry_run.show(chosen(weights=False)[0])
    return None
  from r1jax import processes  # and with it jax, after the flags: a mistake in them is told at once

  given = COORDINATOR.value, PROCESSES.value, PROCESS.value
  if DISTRIBUTED.value or any(x is not None for x in given) or processes.expected():
    try:
      processes.join(*given)
    except RuntimeError as error:  # of the cluster, and no mistake of the command
      print(f"r1jax: {error}", file=sys.stderr)
      return 1
  return processes.together(train)


def train():
  import jax

  from r1jax import mesh, pipeline

  experiment, workdir = chosen(weights=True)
  if jax.config.jax_compilation_cache_dir is None:  # JAX_COMPILATION_CACHE_DIR names another
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path("~/.cache/r1jax/xla").expanduser()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  started = time.monotonic()
  with jax.set_mesh(mesh.learner(experiment)):
    pipeline.execute(experiment, workdir, tuple(STAGES.value))
  if jax.process_index() == 0:
    print(f"{workdir}/results.json holds every figure; {time.monotonic() - started:.0f} seconds in all.")


def chosen(weights: bool) -> tuple[configs.Experiment, pathlib.Path]:
  """The experiment that the flags name, with its models read from the hub, and the folder of the run."""
  workdir = pathlib.Path(WORKDIR.value or f"runs/{CONFIG.value.name}")
  experiment = published.resolve(CONFIG.value, workdir, weights)
  experiment.validate()
  names = [stage.name for stage in experiment.stages]
  unknown = [name for name in STAGES.value if name not in names]
  if unknown:
    raise ValueError(f"--stages names {unknown[0]!r}, which is no stage of {experiment.name}; its stages are {names}.")
  return experiment, workdir


# ---- the command line


def parse(args: list[str]) -> list[str]:
  """absl's parser, with every mistake a sentence: the experiment file and the overrides are looked at first."""
  if not {"--help", "-help", "--helpfull", "--helpshort"} & set(args):
    check_overrides(load(experiment_file(args)), args)
  try:
    rest = flags.FLAGS(args)
  except flags.IllegalFlagValueError as error:
    flag, value = re.match(r"flag --(\S+?)=(.*?): ", str(error), re.DOTALL).groups()
    raise ValueError(f"--{flag}={value} must be of type {flags.FLAGS[flag].flag_type()}.") from error
  except flags.Error as error:
    raise ValueError(" ".join(str(error).split())) from error
  if flags.FLAGS["verbosity"].using_default_value:
    flags.FLAGS.verbosity = -1  # warnings; absl would show what orbax says of every file
  return rest


def experiment_file(args: list[str]) -> str:
  """The value of --config, the last one given."""
  given = [after.split("=", 1)[1] for after in args if re.match(r"--?config=", after)]
  given += [after for before, after in itertools.pairwise(args) if before in ("--config", "-config")]
  if not given:
    raise ValueError(f"no experiment given; try {EXAMPLE}")
  return given[-1]


def load(path: str) -> configs.Experiment:
  """What get_config() of an experiment file returns; what is wrong with the file is told with its line.

  What follows a colon, as in experiments/r1_distill.py:qwen_7b, is the argument of get_config.
  """
  name, *argument = path.split(":", 1)
  file = pathlib.Path(name)
  if not file.is_file():
    near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*.py")], 1)
    hint = f"did you mean {file.parent / near[0]}?" if near else f"try {EXAMPLE}"
    raise ValueError(f"--config={path}: there is no such file; {hint}")
  spec = importlib.util.spec_from_file_location("experiment", file)
  if spec is None:
    raise ValueError(f"--config={path} must be a Python file, with the ending .py.")
  module = sys.modules["experiment"] = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    experiment = module.get_config(*argument) if hasattr(module, "get_config") else None
  except SyntaxError as error:
    raise ValueError(f"{error.filename}, line {error.lineno}: {error.msg}.") from error
  except Exception as error:  # whatever the user's code raises; elsewhere it is passed on
    last = traceback.extract_tb(error.__traceback__)[-1]
    if pathlib.Path(last.filename).resolve() != file.resolve():
      raise
    raise ValueError(f"{path}, line {last.lineno}: {type(error).__name__}: {error}") from error
  if not isinstance(experiment, configs.Experiment):
    what = f"returns a {type(experiment).__name__}" if hasattr(module, "get_config") else "is missing"
    raise ValueError(f"{path}: get_config() {what}; it must return an r1jax.config.Experiment.")
  return experiment


def check_overrides(experiment: configs.Experiment, args: list[str]):
  """Follows every --config.x.y= through the experiment; a field that is not there is named, with the nearest."""
  for arg in args:
    if match := OVERRIDE.fullmatch(arg):
      path, value = match.groups()
      holder, walked = experiment, ""
      for part in re.findall(r"\[-?\d+\]|[^.\[\]]+", path):
        holder = step_into(holder, part, walked, path)
        walked += part if part.startswith("[") or not walked else f".{part}"
      if path.endswith("model") and value and value.startswith("hub("):
        configs.parse_hub(value)
      elif _holds_fields(holder) and value != "None":
        raise ValueError(f"--config.{path} is a whole {type(holder).__name__}; override its fields one by one.")


def step_into(holder, part: str, walked: str, path: str):
  """The field or element `part` of `holder`, which is the field `walked` of the experiment."""
  where = walked or "the experiment"
  if part.startswith("["):
    if not isinstance(holder, tuple):
      raise ValueError(f"--config.{path}: {where} is no tuple, so {part} has no meaning.")
    if int(part[1:-1]) not in range(-len(holder), len(holder)):
      raise ValueError(f"--config.{path}: {where} has {len(holder)} elements, from [0] to [{len(holder) - 1}].")
    return holder[int(part[1:-1])]
  if isinstance(holder, tuple):
    raise ValueError(f"--config.{path}: {where} is a tuple; write {where}[0].{part} for its first element.")
  names = [f.name for f in dataclasses.fields(holder)] if dataclasses.is_dataclass(holder) else []
  if part not in names:
    near = difflib.get_close_matches(part, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}."
    if not names:
      raise ValueError(f"--config.{path}: {where} is {holder!r} in this experiment, which has no fields.")
    raise ValueError(f"--config.{path}: {where} has no field {part!r}; {hint}")
  return getattr(holder, part)


def _holds_fields(value) -> bool:
  return dataclasses.is_dataclass(value) or (isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)))


if __name__ == "__main__":
  main()
