"""How much of the rewards' time hides behind the rollout, when a rollout is sampled in parts.

  python -m benchmarks.overlap

The model, sampler and batch are those of experiments/r1_zero_tiny.py (random
weights, so every response is long); what runs is the stage's own `roll_out`.
`waiting` is a reward like a judge's, that waits for another machine;
`computing` keeps a core busy, which on a small machine the sampler wants too.
"""

import dataclasses
import pathlib
import statistics
import tempfile
import time
from typing import ClassVar

from absl import app, flags
import jax

from experiments import r1_zero_tiny
from r1jax import config, mesh
from r1jax.data import problems as data
from r1jax.pipeline import tokenizer_of
from r1jax.rewards import Accuracy, Format, Scorer, Workers, join
from r1jax.stages.rl import roll_out
from r1jax.stages.run import Run
from r1jax.training import state as states

MILLISECONDS = flags.DEFINE_float("milliseconds", 10.0, "What the extra reward takes per response.")
PARTS = flags.DEFINE_integer("parts", 4, "Parts of a rollout that is sampled in parts.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Rollouts whose median is reported, after one that compiles.")


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Waiting:
  seconds: float
  weight: float = 1.0
  name: ClassVar[str] = "waiting"

  def __call__(self, problem, response, prefill):
    time.sleep(self.seconds)
    return 0.0


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Computing(Waiting):
  name: ClassVar[str] = "computing"

  def __call__(self, problem, response, prefill):
    end = time.process_time() + self.seconds
    while time.process_time() < end:
      pass
    return 0.0


def measure(run: Run, stage: config.RL, params, scorer: Scorer) -> tuple[float, float]:
  """Median seconds of (the rollout until its last token, what the rewards take beyond that)."""
  batches = data.problem_batches(run.experiment.playground, 0, stage.rollout_size // stage.group_size)
  rows = []
  for step in range(1 + REPEATS.value):
    problems, start = next(batches), time.perf_counter()
    scores = roll_out(run, stage, scorer, {}, problems, step, run.policy(stage, params)).scores
    sampled = time.perf_counter()
    join([score.result() for score in scores])
    rows.append((sampled - start, time.perf_counter() - sampled))
  return tuple(map(statistics.median, zip(*rows[1:])))


def main(argv):
  del argv
  experiment = r1_zero_tiny.get_config()
  stage = r1_zero_tiny.zero()
  prompts = stage.rollout_size // stage.group_size
  kinds = {"none": None, "waiting": Waiting, "computing": Computing}
  print(f"{stage.rollout_size} responses a rollout; the extra reward takes {MILLISECONDS.value:g} ms a response")
  print("| extra reward | parts | rollout, s | rewards after it, s | both, s |\n|---|---|---|---|---|")
  with jax.set_mesh(mesh.make(experiment.mesh)), tempfile.TemporaryDirectory() as folder:
    tokenizer = tokenizer_of(experiment, pathlib.Path(folder))
    run = Run(experiment=experiment, workdir=pathlib.Path(folder), tokenizer=tokenizer, held_out=())
    params = states.init_params(experiment.model, 0)
    for (kind, extra), parts in ((k, p) for k in kinds.items() for p in (1, PARTS.value)):
      rewards = (Accuracy(), Format()) + ((extra(seconds=MILLISECONDS.value / 1000),) if extra else ())
      case = dataclasses.replace(stage, prompts_at_once=prompts // parts)
      with Workers(stage.reward_workers) as workers, Scorer(rewards, workers) as scorer:
        rollout, after = measure(run, case, params, scorer)
      print(f"| {kind} | {parts} | {rollout:.2f} | {after:.2f} | {rollout + after:.2f} |", flush=True)


if __name__ == "__main__":
  app.run(main)
