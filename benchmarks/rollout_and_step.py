"""Speed of sampling and of a GRPO step, split into rollout, reward, reference and training.

  python -m benchmarks.rollout_and_step --shape=peer

`tiny` is the model of experiments/r1_zero_tiny.py; `peer` is the shape on which
other RL trainers have been measured: 4 layers, hidden 256, 4 heads, 2 key heads,
feed-forward 768, vocabulary 512, 32 tokens of prompt, 128 of completion, 8
prompts x 8. Every completion has full length, because no end token can be
drawn. What runs is the trainer's own code; prompts are random, and so are the
values that stand in for the rewards of real answers.
"""

import dataclasses
import functools
import resource
import statistics
import time

from absl import app, flags
import jax
import numpy as np

from configs import models
from experiments.r1_zero_tiny import zero
from r1jax import config, mesh
from r1jax.rewards import Scorer, Workers
from r1jax.rl import grpo
from r1jax.rl.advantages import group_advantages, make_experience
from r1jax.rl.sampling import sample
from r1jax.stages.rl import add_reference, copy
from r1jax.training import optimizer as optimizers, state as states
from r1jax.training.update import update
from r1jax.types import Problem, Prompts

SHAPE = flags.DEFINE_enum("shape", "tiny", ["tiny", "peer"], "Which model and batch.")
STEPS = flags.DEFINE_integer("steps", 5, "Steps whose median is reported, after one that compiles.")
MICROBATCH_ROWS = flags.DEFINE_integer("microbatch_rows", 16, "Packed rows whose gradient is computed at one time.")

NEVER = -1  # an end token that no vocabulary holds
PARTS = ("rollout", "reward", "reference", "train")


@dataclasses.dataclass
class Case:
  model: config.Model
  stage: config.RL
  prompts: int


def tiny() -> Case:
  sampling = config.Sampling(max_prompt=48, max_response=80)
  return Case(models.tiny(vocab=352), at(sampling, group=16, prompts=16, row=128), 16)


def peer() -> Case:
  model = config.Model(
    vocab=512, width=256, layers=4, hidden=768, tied=True, activations="float32", unroll=True, remat="none",
    head_chunk=8192, attention=config.GroupedQueryAttention(heads=4, kv_heads=2, head=64),
  )  # fmt: skip
  return Case(model, at(config.Sampling(max_prompt=32, max_response=128), group=8, prompts=8, row=160), 8)


def at(sampling: config.Sampling, group: int, prompts: int, row: int) -> config.RL:
  """The RL stage of r1_zero_tiny with this batch."""
  sizes = {"group_size": group, "batch_size": group * prompts, "rollout_size": group * prompts}
  rows = {"row_length": row, "microbatch_rows": MICROBATCH_ROWS.value}
  return dataclasses.replace(zero(), sampling=sampling, **sizes, **rows)


def random_prompts(case: Case, rng) -> Prompts:
  p, t = case.prompts, case.stage.sampling.max_prompt
  problem = Problem("benchmark", "?", "0", "number", "benchmark", 1, "en")
  tokens = rng.integers(4, case.model.vocab, (p, t), np.int32)
  return Prompts(tokens, np.full(p, t, np.int32), np.arange(p, dtype=np.int32), (problem,) * p)


def measure(case: Case, kl: float, steps: int) -> list[dict[str, float]]:
  """Seconds of every part for 1 + `steps` steps; the first one compiles."""
  stage = dataclasses.replace(case.stage, kl=kl)
  optimizer = optimizers.make(stage.optimizer, steps + 1)
  params = states.init_params(case.model, 0)
  state, reference = states.create(params, optimizer), copy(params)
  loss = functools.partial(grpo.loss, case.model, stage)
  bias_rate = case.model.bias_rate
  rng, rows = np.random.default_rng(0), []
  with Workers(stage.reward_workers, stage.reward_limit) as workers, Scorer(stage.rewards, workers) as scorer:
    for step in range(1 + steps):
      clock = Clock()
      prompts = random_prompts(case, rng)
      arrays = mesh.to_global((prompts.tokens, prompts.lengths, prompts.rows))
      rollouts = sample(
        state.params, *arrays, jax.random.key(step), c=case.model, sampling=stage.sampling,
        group_size=stage.group_size, ends=(NEVER,), pad=0,
      )  # fmt: skip
      rollouts = mesh.to_local(rollouts)
      assert rollouts.lengths.min() == stage.sampling.max_response
      clock.stop("rollout")
      problems = [p for p in prompts.problems for _ in range(stage.group_size)]
      scorer.score(problems, ["<think>1+1=2</think><answer>2</answer>"] * len(problems))
      rewards = rng.random((case.prompts, stage.group_size))
      advantages = group_advantages(rewards)
      experience = make_experience(prompts, rollouts, advantages, np.arange(rewards.size), stage)
      clock.stop("reward")
      if kl:
        experience = jax.block_until_ready(add_reference(case.model, reference, state.params, experience))
      clock.stop("reference")
      state, metrics = update(state, experience, loss=loss, optimizer=optimizer, bias_rate=bias_rate)
      assert np.isfinite(float(metrics["policy/loss"]))
      jax.block_until_ready(state)
      clock.stop("train")
      rows.append(clock.seconds)
  return rows


class Clock:
  """Seconds since the last stop, by part."""

  def __init__(self):
    self.seconds, self.last = {}, time.perf_counter()

  def stop(self, part: str):
    now = time.perf_counter()
    self.seconds[part], self.last = now - self.last, now


def report(case: Case, kl: float, rows: list[dict[str, float]]):
  first, rest = rows[0], rows[1:]
  median = {part: statistics.median(row[part] for row in rest) for part in PARTS}
  step = statistics.median(sum(row.values()) for row in rest)
  completions = case.prompts * case.stage.group_size
  drawn = completions * case.stage.sampling.max_response
  trained = completions * (case.stage.sampling.max_prompt + case.stage.sampling.max_response)
  print(f"{SHAPE.value}, kl={kl}: {completions} completions, {drawn} tokens drawn, {trained} trained on, a step")
  print(f"  rollout   {median['rollout']:8.3f} s  {drawn / median['rollout']:10,.0f} tokens/s")
  print(f"  reward    {median['reward']:8.3f} s")
  print(f"  reference {median['reference']:8.3f} s")
  print(f"  train     {median['train']:8.3f} s  {trained / median['train']:10,.0f} tokens/s")
  print(f"  step      {step:8.3f} s   (median of {len(rest)}; the first, which compiles: {sum(first.values()):.1f} s)")


def main(argv):
  del argv
  case = {"tiny": tiny, "peer": peer}[SHAPE.value]()
  with jax.set_mesh(mesh.make(config.Mesh())):
    for kl in (0.0, 0.001):
      report(case, kl, measure(case, kl, STEPS.value))
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(f"peak memory {peak:.2f} GiB, jax {jax.__version__} on {jax.devices()[0].platform}")


if __name__ == "__main__":
  app.run(main)
