"""Every config dataclass, with units and defaults.

An experiment file builds one `Experiment` from these; `--config.x.y=` on the
command line overrides a field, typed. A class checks itself in `validate`,
which runs after the overrides: a user's mistake is a ValueError that names the
field, both numbers and the way out.
"""

from r1jax.config.base import at_least, config
from r1jax.config.experiment import Evaluation, Experiment
from r1jax.config.hub import Hub, hub, parse_hub
from r1jax.config.model import Experts, GroupedQueryAttention, LatentAttention, Llama3Rope, Mesh, Model, Yarn
from r1jax.config.rl import RL, Alarms, Preflight
from r1jax.config.stages import (
  SFT,
  Checkpoints,
  Lora,
  Optimizer,
  Preferences,
  Pretrain,
  Rejection,
  RewardModel,
  Stage,
)
from r1jax.config.world import Chat, Mix, Playground, Sampling, Template

__all__ = [
  "RL", "SFT", "Alarms", "Chat", "Checkpoints", "Evaluation", "Experiment", "Experts",
  "GroupedQueryAttention", "Hub", "LatentAttention", "Llama3Rope", "Lora", "Mesh", "Mix", "Model",
  "Optimizer", "Playground", "Preferences", "Preflight", "Pretrain", "Rejection", "RewardModel", "Sampling",
  "Stage", "Template", "Yarn", "at_least", "config", "hub", "parse_hub",
]  # fmt: skip
