"""The chain of experiments/r1_tiny.py with every stage cut to seconds: models that learn to stop, if anything.

Without its ablation, the prompted data and all but one student.
"""

import dataclasses
from typing import ClassVar

from experiments import r1_tiny
from r1jax import config
from r1jax.rewards import Format, Verdict
from tests.experiments import small

SAMPLING = config.Sampling(max_prompt=r1_tiny.MAX_PROMPT, max_response=32)
EVERY = config.Checkpoints(every=2)


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Odd:
  """Finds a response of an odd length right: something passes, whatever six steps of pretraining teach."""

  weight: float = 1.0
  name: ClassVar[str] = "odd"
  grades: ClassVar[bool] = True

  def __call__(self, problem, response, prefill=""):
    odd = len(response) % 2
    return Verdict(float(odd), "right" if odd else "wrong")


LEFT_OUT = ("cold_few_shot", "cold_zero_shot", "reasoning_rl_plain", "student_small_rl", "student_large")


def quick(stage: config.Stage) -> config.Stage:
  """The stage in a few steps."""
  change = {"model": stage.model and dataclasses.replace(small.model(), vocab=r1_tiny.VOCAB, experts=None)}
  if isinstance(stage, config.Pretrain):
    change |= {"steps": 100, "rows": 8, "checkpoints": config.Checkpoints(every=50)}  # enough to end a response
  elif isinstance(stage, config.RL):
    odd = (Odd(), Format()) if stage.name != "all_scenarios" else stage.rewards
    change |= {
      "steps": 4, "group_size": 4, "batch_size": 8, "rollout_size": 16, "sampling": SAMPLING, "microbatch_rows": 4,
      "reference_every": 2, "checkpoints": EVERY, "evaluate_every": 0, "rewards": odd,
      "preflight": config.Preflight(action="warn"), "later_from": 2 if stage.later_problems else 0,
    }  # fmt: skip
  elif isinstance(stage, config.SFT):
    data = tuple(source for source in stage.data if source.stage not in LEFT_OUT)
    change |= {"epochs": 3, "rows": 1, "checkpoints": EVERY, "data": data}
  elif isinstance(stage, config.Rejection):
    sampling = dataclasses.replace(SAMPLING, max_prompt=stage.sampling.max_prompt)
    beside = tuple(dataclasses.replace(source, count=8) for source in stage.beside)
    change |= {
      "prompts": 8, "prompts_at_once": 4, "samples": 2, "sampling": sampling, "rewards": (Odd(),), "refiner": None,
      "filters": (), "beside": beside,
    }  # fmt: skip
  elif isinstance(stage, config.Preferences):
    change |= {"prompts": 16, "prompts_at_once": 8, "sampling": SAMPLING}
  elif isinstance(stage, config.RewardModel):
    change |= {"rows": 4, "held_out": 0.3, "checkpoints": EVERY}
  return dataclasses.replace(stage, **change)


def get_config() -> config.Experiment:
  whole = r1_tiny.get_config()
  evaluation = {"samples": 2, "majority": 2, "sampling": SAMPLING, "problems_at_once": 12}
  return dataclasses.replace(
    whole,
    name="whole",
    playground=dataclasses.replace(r1_tiny.WORLD, documents=2000, evaluation_problems=36),
    model=dataclasses.replace(small.model(), vocab=r1_tiny.VOCAB),
    stages=tuple(quick(stage) for stage in whole.stages if not stage.name.startswith(LEFT_OUT)),
    evaluation=dataclasses.replace(whole.evaluation, **evaluation),
  )
