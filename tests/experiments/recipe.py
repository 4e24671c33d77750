"""A schedule with a stage of every kind, to look at who takes what; its base learns too little to be run to the end."""

import dataclasses

from r1jax import config
from r1jax.data.completions import Made
from r1jax.data.preferences import Pairs
from r1jax.rewards import Accuracy, ByDomain, Format, OracleJudge, Preference
from tests.experiments import small

TEMPLATE = config.Template(text="<|user|>{question}<|assistant|>")
SAMPLING = config.Sampling(max_prompt=40, max_response=16, chunk=16)
OPTIMIZER = config.Optimizer(learning_rate=1e-3, warmup=2, final_rate=0.1)
CHECKPOINTS = config.Checkpoints(every=2)


def get_config() -> config.Experiment:
  """base > zero > rejection > sft > pairs > helpful > general; student > distilled."""
  experiment = dataclasses.replace(
    small.get_config(),
    name="recipe",
    model=model(),
    playground=dataclasses.replace(small.get_config().playground, domains=("arithmetic", "writing")),
    stages=(
      small.base(),
      small.zero(),
      rejection(),
      sft("sft", "base"),
      pairs(),
      reward_model(),
      general(),
      dataclasses.replace(small.base(), name="student", model=dense()),
      sft("distilled", "student"),
    ),
  )
  experiment.evaluation.sampling = SAMPLING
  return experiment


def model() -> config.Model:
  return dataclasses.replace(small.model(), vocab=512)  # letters asked for in writing are many


def dense() -> config.Model:
  attention = config.GroupedQueryAttention(heads=4, kv_heads=2, head=8, bias=True)
  return dataclasses.replace(model(), attention=attention, experts=None, dense_layers=0, tied=True)


def rejection() -> config.Rejection:
  return config.Rejection(
    name="rejection",
    start_from="zero",
    prompts=16,
    prompts_at_once=8,
    samples=4,
    template=TEMPLATE,
    sampling=SAMPLING,
    rewards=(Accuracy(requires_format=False),),
  )


def sft(name: str, start_from: str) -> config.SFT:
  return config.SFT(
    name=name,
    start_from=start_from,
    data=(Made(stage="rejection"),),
    template=TEMPLATE,
    rows=4,
    length=64,
    optimizer=OPTIMIZER,
    checkpoints=CHECKPOINTS,
  )


def pairs() -> config.Preferences:
  return config.Preferences(
    name="pairs",
    start_from="sft",
    prompts=16,
    prompts_at_once=8,
    samples=2,
    template=TEMPLATE,
    sampling=SAMPLING,
    judge=OracleJudge(),
  )


def reward_model() -> config.RewardModel:
  return config.RewardModel(
    name="helpful",
    start_from="sft",
    data=(Pairs(stage="pairs"),),
    template=TEMPLATE,
    rows=4,
    length=64,
    optimizer=OPTIMIZER,
    checkpoints=CHECKPOINTS,
  )


def general() -> config.RL:
  preference = Preference(stage="helpful", name="preference")
  return dataclasses.replace(
    small.zero(),
    name="general",
    start_from="sft",
    template=TEMPLATE,
    sampling=SAMPLING,
    rewards=(ByDomain({"writing": (preference,)}, other=(Accuracy(),)), Format()),
  )
