"""r1jax.main, killed with SIGKILL at a chosen moment: python killed.py <moment> --config=... [flags].

A moment is one of those below, or stage:<name>: in the middle of that stage.
"""

import os
import signal
import sys
import time

from r1jax import main, pipeline
from r1jax.stages import evaluate, pretrain, reward_model, rl, sft


def kill_at(owner, name: str, call: int, after: bool = False):
  """Wraps owner.name so that its call number `call` (from 1) kills the process, before or `after` it has run."""
  original, calls = getattr(owner, name), []

  def wrapped(*args, **kwargs):
    calls.append(name)
    result = original(*args, **kwargs) if len(calls) < call or after else None
    if len(calls) == call:
      os.kill(os.getpid(), signal.SIGKILL)
    return result

  setattr(owner, name, wrapped)


def in_an_update():
  """The sixth update of pretraining: the checkpoint of step 2 is complete, that of step 4 may be."""
  kill_at(pretrain, "update", 6)


def in_a_rollout():
  """The fourth rollout, once the checkpoint of step 6 is complete and the device has begun to sample."""
  draw, rollouts = evaluate.draw, []

  def counted(run, policy, prompts, *rest):
    if prompts.problems[0] not in run.held_out:  # not for the learning curve
      rollouts.append(prompts)
      if len(rollouts) == 4:
        while list((run.workdir / "zero/checkpoints").glob("*.orbax-checkpoint-tmp*")):
          time.sleep(0.01)
        kill_at(evaluate, "sample", 1, after=True)
    return draw(run, policy, prompts, *rest)

  evaluate.draw = counted


def in_a_checkpoint():
  """A checkpoint's arrays are on disk and its folder still has its temporary name."""
  rename = os.rename

  def cut(source, target, **kwargs):
    if "orbax-checkpoint-tmp" in str(source):
      os.kill(os.getpid(), signal.SIGKILL)
    return rename(source, target, **kwargs)

  os.rename = cut


def in_stage(name: str):
  """After the second update of a stage, or the second call of the sampler in one that makes data."""
  run_stage = pipeline.run_stage

  def armed(stage, run):
    if stage.name == name:
      sampled = stage.makes in ("completions", "pairs", "labels")
      for owner in (evaluate,) if sampled else (pretrain, sft, rl, reward_model):
        kill_at(owner, "draw" if sampled else "update", 2, after=True)
    return run_stage(stage, run)

  pipeline.run_stage = armed


if __name__ == "__main__":
  moment = sys.argv.pop(1)
  if moment.startswith("stage:"):
    in_stage(moment.removeprefix("stage:"))
    sys.exit(main.main())
  {"update": in_an_update, "rollout": in_a_rollout, "checkpoint": in_a_checkpoint}[moment]()
  main.main()
