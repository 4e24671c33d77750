"""A published model through SFT, GRPO and out again on a CPU: the whole way of a real one, small.

  python -m r1jax.main --config=experiments/published_tiny.py \\
    '--config.model=hub("folder/")' --config.model.activations=float32
  python -m r1jax.export runs/published_tiny/zero exported

`folder/` is any checkpoint of a supported architecture with a chat template
(README), or "owner/name" of the hub. A model of 10M random weights takes about
10 to 15 minutes on two cores: SFT on sums of the playground, two thirds of them
worked out and a third guessed, then GRPO on other sums. One that can add needs
less.
"""

import dataclasses

from experiments import r1_tiny
from r1jax import config
from r1jax.data.completions import PlaygroundCompletions
from r1jax.data.generated import PlaygroundProblems
from r1jax.rewards import Accuracy, Format

CHAT = config.Chat()
SUMS = dataclasses.replace(
  r1_tiny.WORLD, domains=("arithmetic",), weights=(), levels=(1, 2), languages=("en",), evaluation_problems=64
)
MAX_PROMPT, MAX_RESPONSE = 64, 96  # tokens
SAMPLING = config.Sampling(max_prompt=MAX_PROMPT, max_response=MAX_RESPONSE)


def get_config() -> config.Experiment:
  return config.Experiment(
    name="published_tiny",
    playground=SUMS,
    model=config.hub("Qwen/Qwen2.5-0.5B-Instruct"),
    mesh=config.Mesh(),
    stages=(sft(), zero()),
    evaluation=config.Evaluation(
      samples=16,
      majority=16,
      sampling=dataclasses.replace(SAMPLING, temperature=0.6, top_p=0.95),
      template=CHAT,
      problems_at_once=32,
    ),
  )


def sft() -> config.SFT:
  return config.SFT(
    name="sft",
    data=tuple(
      PlaygroundCompletions(playground=SUMS, domains=("arithmetic",), count=count, style=style)
      for style, count in (("careful", 6000), ("bare", 3000))
    ),
    template=CHAT,
    epochs=1,
    rows=16,
    length=MAX_PROMPT + MAX_RESPONSE,
    optimizer=config.Optimizer(learning_rate=1e-3, warmup=20, final_rate=0.1),
    checkpoints=config.Checkpoints(every=100),
  )


def zero() -> config.RL:
  return config.RL(
    start_from="sft",
    steps=40,
    group_size=8,
    batch_size=128,
    rollout_size=128,
    sampling=SAMPLING,
    template=CHAT,
    problems=PlaygroundProblems(playground=SUMS),
    rewards=(Accuracy(requires_format=False), Format(structure="summary")),
    reference_every=20,
    row_length=MAX_PROMPT + MAX_RESPONSE,
    microbatch_rows=16,
    optimizer=config.Optimizer(learning_rate=1e-4, warmup=5, weight_decay=0.0),
    checkpoints=config.Checkpoints(every=20),
    preflight=config.Preflight(),
    alarms=config.Alarms(),
    evaluate_every=20,
  )
