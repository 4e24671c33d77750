"""Reward hacking, seen: RL against a reward model that a naive judge has taught (DeepSeek-R1 v2 B.5, Figure 6).

  python -m r1jax.main --config=experiments/r1_tiny.py
  python -m r1jax.main --config=experiments/r1_reward_hacking_tiny.py

Both branches start from the SFT stage of the first run and train on general
questions alone, much longer than r1_tiny does; lengths are not balanced, which
would leave out most of the gushing replies. The judge of `naive` likes courtesy,
which the oracle wants once and not more: its reward model's score rises while
the oracle's falls. That of `honest` sees what the oracle sees.
"""

import dataclasses

from experiments import r1_tiny
from r1jax import config
from r1jax.data.preferences import Pairs
from r1jax.rewards import ByDomain, Format, OracleJudge, Preference

START = "runs/r1_tiny/sft"  # the folder of the stage that both branches start from


def get_config() -> config.Experiment:
  return dataclasses.replace(
    r1_tiny.get_config(),
    name="r1_reward_hacking_tiny",
    stages=(*branch("honest", OracleJudge()), *branch("naive", OracleJudge(bias=0.5))),
  )


def branch(name: str, judge: OracleJudge) -> tuple[config.Stage, ...]:
  """Pairs by this judge, a reward model of them, RL against it."""
  pairs, _, helpful, _ = r1_tiny.reward_models()
  pairs = dataclasses.replace(pairs, name=f"{name}_pairs", start_from=START, judge=judge, written=3, length_gap=1.0)
  helpful = dataclasses.replace(helpful, name=f"{name}_rm", start_from=START, data=(Pairs(stage=pairs.name),))
  rewards = (Preference(stage=helpful.name, name="helpful"), Format(structure="flexible"))
  rl = dataclasses.replace(
    r1_tiny.zero(f"{name}_rl", START),
    problems=r1_tiny.only(*r1_tiny.OPEN),
    steps=60,
    template=r1_tiny.CHAT,
    rewards=(ByDomain(dict.fromkeys(r1_tiny.OPEN, rewards)),),
    kl=0.0001,
  )
  return pairs, helpful, rl
