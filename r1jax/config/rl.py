"""The reinforcement learning stage: GRPO, what its first rollout must look like, and what raises an alarm."""

from typing import Any

from r1jax.config.base import at_least, config
from r1jax.config.model import Model
from r1jax.config.stages import Checkpoints, Lora, Optimizer, Stage
from r1jax.config.world import Sampling, Template


@config
class Preflight:
  """What the first rollout must look like; `action` says what a violation does."""

  action: str = "stop"  # "stop" or "warn"
  max_truncated: float = 0.5  # share of responses cut at the length limit
  max_dead_groups: float = 0.95  # share of groups whose rewards are all equal
  min_format: float = 0.01  # share of responses with a format reward
  min_parsed: float = 0.01  # share of responses whose answer can be read


@config
class Alarms:
  """Named warnings during RL."""

  min_entropy: float = 0.01  # nats per token: entropy collapse
  max_truncated: float = 0.5  # share: length explosion
  max_mismatch: float = 0.05  # mean |sampler - trainer| log-prob before the first update of a rollout
  max_dead_groups: float = 0.95  # share of groups without spread
  max_skipped: int = 3  # non-finite steps in a row: stops the run


@config
class RL(Stage):
  """GRPO (DeepSeek-R1 v1 section 2.2, Nature Methods)."""

  name: str = "zero"
  start_from: str = "base"
  steps: int  # policy updates
  group_size: int = 16  # completions sampled per prompt (G in the paper)
  batch_size: int = 512  # completions per update
  rollout_size: int = 8192  # completions per rollout, split at random into mini-batches
  sampling: Sampling
  template: Template
  problems: Any = None  # a Mixture or a source of r1jax.data; None: the playground's, without end
  later_problems: Any = None  # what `problems` gives way to, e.g. with general questions in it
  later_from: int = 0  # update at which it does: the paper's last 400 of 1,700 (v2 3.2.2)
  staleness: int = 0  # rollouts that actors (experiment.actors) draw ahead, each from a copy of the weights on theirs
  importance_cap: float = 2.0  # of p_now / p_drawn, by which a token that older weights drew counts
  prompts_at_once: int = 0  # prompts sampled from in one call, while those before are scored; 0: all of a rollout
  rewards: tuple[Any, ...]  # objects of r1jax.rewards
  reward_workers: int = 2  # processes that score
  reward_limit: float = 2.0  # seconds one check may take before it is killed
  clip_low: float = 0.2
  clip_high: float = 0.2  # the paper's R1 stage: 10
  # Mixture of experts: tokens are trained through the experts that they were sampled through, whatever the router has
  # learned or rounded since, so that old and new log-probs are of one network (arXiv:2510.11370); gates and reference
  # are as ever. What of them the router would still choose is logged as expert/agreement.
  routing_replay: bool = False
  move_bias: bool = True  # whether updates move the router's selection bias, by model.experts.bias_rate
  kl: float = 0.001  # weight of the KL to the reference
  reference_every: int = 400  # updates after which the policy becomes the reference
  normalize_std: bool = True  # divide advantages by the group's standard deviation (eq. 3)
  loss_average: str = "response"  # "response": mean over tokens, then responses; "token"; "constant" (max_response)
  row_length: int  # tokens per packed training row
  microbatch_rows: int  # packed rows whose gradient is computed at one time, over all devices
  lora: Lora | None = None  # adapters to train in place of all parameters
  optimizer: Optimizer
  checkpoints: Checkpoints
  preflight: Preflight
  alarms: Alarms
  evaluate_every: int = 0  # updates between points of the learning curve; 0: none
  curve_samples: int = 16  # completions per problem at each point
  save_rollouts_every: int = 10  # updates between rollouts written as text

  def validate(self):
    at_least(2, self.name, self, "group_size")  # a group of one has no spread
    at_least(1, self.name, self, "steps", "batch_size", "rollout_size", "reward_workers")
    at_least(1, self.name, self, "row_length", "microbatch_rows", "reference_every", "save_rollouts_every")
    at_least(0, self.name, self, "evaluate_every", "clip_low", "clip_high", "kl", "prompts_at_once")
    at_least(0, self.name, self, "staleness", "importance_cap")
    self._check_parts()
    self._check_sizes()
    self._check_updates()
    if self.loss_average not in ("response", "token", "constant"):
      raise ValueError(f"{self.name}: loss_average={self.loss_average!r} must be 'response', 'token' or 'constant'.")
    longest = self.sampling.max_prompt + self.sampling.max_response
    if longest > self.row_length:
      raise ValueError(
        f"{self.name}: row_length={self.row_length} must hold max_prompt + max_response = {longest} tokens; "
        f"raise it to {longest}."
      )

  def _check_parts(self):
    """Raises a ValueError where a part cannot be, whatever the other fields say."""
    self.optimizer.validate(self.name)
    if self.lora is not None:
      self.lora.validate(self.name, self.optimizer)
    self.checkpoints.validate(self.name)
    if self.preflight.action not in ("stop", "warn"):
      raise ValueError(f"{self.name}: preflight.action={self.preflight.action!r} must be 'stop' or 'warn'.")
    if not self.rewards:
      raise ValueError(f"{self.name}: rewards is empty; give it at least one, e.g. (Accuracy(), Format()).")
    for source in (self.problems, self.later_problems):
      if source is not None:
        source.validate()
    self.sampling.validate()
    self.template.validate()

  def _check_sizes(self):
    """Raises a ValueError where groups do not make batches, or these and the calls of the sampler no rollout."""
    b, g, r = self.batch_size, self.group_size, self.rollout_size
    if b % g:
      raise ValueError(
        f"{self.name}: batch_size={b} must be a multiple of group_size={g}; the nearest is {max(g, b - b % g)}."
      )
    if r % b:
      raise ValueError(
        f"{self.name}: rollout_size={r} must be a multiple of batch_size={b}; the nearest is {max(b, r - r % b)}."
      )
    if 1 in (r // g, self.prompts_at_once):
      raise ValueError(f"{self.name}: at least 2 prompts are sampled from in one call; raise rollout_size={r} or "
                       f"prompts_at_once={self.prompts_at_once}.")  # fmt: skip
    if self.prompts_at_once and (r // g) % self.prompts_at_once:
      raise ValueError(
        f"{self.name}: prompts_at_once={self.prompts_at_once} must divide the {r // g} prompts of a rollout "
        f"(rollout_size={r} / group_size={g})."
      )

  def _check_updates(self):
    """Raises a ValueError where something would come due in the middle of a rollout's updates, or never."""
    if (self.later_problems is None) != (self.later_from == 0) or self.later_from >= self.steps:
      raise ValueError(
        f"{self.name}: later_problems and later_from={self.later_from} belong together, with later_from above 0 and "
        f"below steps={self.steps}."
      )
    r, b = self.rollout_size, self.batch_size
    updates = r // b
    for field, value in (
      ("steps", self.steps),
      ("reference_every", self.reference_every),
      ("evaluate_every", self.evaluate_every),
      ("later_from", self.later_from),
      ("checkpoints.every", self.checkpoints.every),
    ):
      if value % updates:
        raise ValueError(
          f"{self.name}: {field}={value} must be a multiple of the {updates} updates of a rollout "
          f"(rollout_size={r} / batch_size={b}); the nearest is {max(updates, value - value % updates)}."
        )

  def bias_rate(self, model: Model) -> float:
    """Step of the router's bias after each update of this stage."""
    return model.bias_rate if self.move_bias else 0.0

  def row_counts(self) -> dict[str, int]:
    prompts = self.rollout_size // self.group_size
    rows = {"microbatch_rows": self.microbatch_rows, "rollout_size / group_size": prompts}
    return rows | ({"prompts_at_once": self.prompts_at_once} if self.prompts_at_once else {})
