"""The stages of a run: what each learns from, starts from and how long it lasts."""

from collections.abc import Iterator
import dataclasses
from typing import Any, ClassVar

from r1jax.config.base import at_least, config
from r1jax.config.model import Model
from r1jax.config.world import Sampling, Template


@config
class Optimizer:
  """AdamW with warm-up, then a constant rate or a cosine (DeepSeek-V3 section 4.2)."""

  learning_rate: float
  warmup: int = 0  # steps
  final_rate: float = 1.0  # of learning_rate at the last step, reached along a cosine; 1 is constant
  beta1: float = 0.9
  beta2: float = 0.95
  epsilon: float = 1e-8
  weight_decay: float = 0.1
  clip_norm: float = 1.0  # of the gradient over all parameters
  # What is kept of each matrix (norms and biases are always float32; bytes of each in training/state.py):
  # "float32"; "masters": bfloat16, which forward pass and sampler read, and a float32 master, which the updates add up
  # in; "stochastic": bfloat16 alone, updates rounded at random so that they are right on average. A stage leaves
  # float32 parameters in any case, the masters or what bfloat16 holds: the next one may be of another kind, and
  # masters have what their roundings have lost.
  parameters: str = "float32"
  moments: str = "float32"  # AdamW's; or "bfloat16", as DeepSeek-V3 3.3.2 has them
  offload: bool = False  # the moments are in the host's memory between updates, and cross to the device for each

  def validate(self, stage: str):
    at_least(0, f"{stage}: optimizer", self, "learning_rate", "warmup", "final_rate", "beta1", "beta2", "weight_decay")
    if self.clip_norm <= 0:
      raise ValueError(f"{stage}: optimizer.clip_norm={self.clip_norm} must be above 0, or nothing is learned.")
    for field, known in (("parameters", ("float32", "masters", "stochastic")), ("moments", ("float32", "bfloat16"))):
      if getattr(self, field) not in known:
        raise ValueError(
          f"{stage}: optimizer.{field}={getattr(self, field)!r} must be one of {', '.join(map(repr, known))}."
        )
    for field in ("beta1", "beta2"):
      if self.moments == "bfloat16" and getattr(self, field) > 0.99:
        raise ValueError(
          f"{stage}: optimizer.{field}={getattr(self, field)} changes a moment by less than bfloat16 resolves, 1/256, "
          "so it would never fall; lower it to 0.99, or set moments='float32'."
        )


@config
class Lora:
  """Low-rank adapters, trained in place of the weights W, which stay as they are: W + alpha / rank A B.

  (arXiv:2106.09685.) A finished stage leaves the merged parameters. The router,
  norms, biases, embedding and head are never adapted.
  """

  rank: int = 16
  alpha: float = 32.0  # alpha / rank scales the product
  targets: tuple[str, ...] = ("attention", "feed_forward")  # and "experts": the routed; the shared are "feed_forward"

  def validate(self, stage: str, optimizer: Optimizer):
    at_least(1, f"{stage}: lora", self, "rank")
    if self.alpha <= 0:
      raise ValueError(f"{stage}: lora.alpha={self.alpha} must be above 0.")
    known = ("attention", "feed_forward", "experts")
    if not self.targets or not set(self.targets) <= set(known):
      raise ValueError(f"{stage}: lora.targets={self.targets!r} must be some of {', '.join(map(repr, known))}.")
    if optimizer.parameters == "stochastic":
      raise ValueError(
        f"{stage}: optimizer.parameters='stochastic' has nothing to round with lora; set it to 'masters', which keeps "
        "the frozen weights in bfloat16 and the adapters in float32, or to 'float32'."
      )


@config
class Checkpoints:
  every: int  # steps between saves; the last step is always saved
  keep: int = 2

  def validate(self, stage: str):
    at_least(1, f"{stage}: checkpoints", self, "every", "keep")


@config
class Stage:
  """What all stages have. `makes` says what a finished one leaves for those after it."""

  name: str
  start_from: str = ""  # an earlier stage, or (with a "/") the folder of a finished one of another run; "": random
  model: Model | None = None  # None: that of the stage it starts from, or the experiment's
  makes: ClassVar[str] = "policy"  # "policy", "completions", "pairs", "labels" or "reward model"

  def needs(self) -> list[tuple[str, str, str]]:
    """(field, what, name of the stage that makes it) of everything this stage takes from others."""
    found = [("start_from", "policy", self.start_from)] if self.start_from and "/" not in self.start_from else []
    return found + [
      (field, what, name) for field, part in self.parts() if hasattr(part, "takes") for what, name in part.takes()
    ]

  def parts(self) -> Iterator[tuple[str, Any]]:
    """(field, object) of every dataclass in this stage, however deep."""
    for field in dataclasses.fields(self):
      for part in _dataclasses_in(getattr(self, field.name)):
        yield field.name, part

  def row_counts(self) -> dict[str, int]:
    """Numbers of rows that are split over the mesh."""
    return {}


def _dataclasses_in(value) -> Iterator[Any]:
  if isinstance(value, (tuple, list)):
    for item in value:
      yield from _dataclasses_in(item)
  elif dataclasses.is_dataclass(value) and not isinstance(value, type):
    yield value
    for field in dataclasses.fields(value):
      yield from _dataclasses_in(getattr(value, field.name))


@config
class _InRows(Stage):
  """What the stages have that learn from rows of tokens."""

  rows: int  # per step, over all processes
  length: int  # tokens per row
  microbatches: int = 1
  optimizer: Optimizer
  checkpoints: Checkpoints

  def validate(self):
    at_least(1, self.name, self, "rows", "length", "microbatches")
    self.optimizer.validate(self.name)
    self.checkpoints.validate(self.name)
    if self.rows % self.microbatches:
      raise ValueError(f"{self.name}: rows={self.rows} must be a multiple of microbatches={self.microbatches}.")

  def row_counts(self) -> dict[str, int]:
    return {"rows / microbatches": self.rows // self.microbatches}


@config
class _Asking(Stage):
  """What the stages have that make data by asking a policy."""

  problems: Any = None  # a Mixture or a source of r1jax.data; None: the playground's
  prompts: int  # questions asked
  prompts_at_once: int  # in one sampling call
  samples: int  # responses per question
  template: Template
  sampling: Sampling

  def validate(self):
    at_least(1, self.name, self, "prompts", "samples")
    at_least(2, self.name, self, "prompts_at_once")  # jax cannot vmap over one sharded prompt
    if self.prompts % self.prompts_at_once:
      nearest = max(self.prompts_at_once, self.prompts - self.prompts % self.prompts_at_once)
      raise ValueError(
        f"{self.name}: prompts={self.prompts} must be a multiple of prompts_at_once={self.prompts_at_once}; "
        f"the nearest is {nearest}."
      )
    self.template.validate()
    self.sampling.validate()
    if self.problems is not None:
      self.problems.validate()

  def row_counts(self) -> dict[str, int]:
    return {"prompts_at_once": self.prompts_at_once}


@config
class Pretrain(_InRows):
  """Next-token prediction on the playground's corpus, in packed rows."""

  name: str = "base"
  steps: int
  mtp_weight: float = 0.0  # of the multi-token prediction loss, 0.3 then 0.1 in DeepSeek-V3 4.2; needs model.mtp=1

  def validate(self):
    at_least(1, self.name, self, "steps")
    at_least(0, self.name, self, "mtp_weight")
    _InRows.validate(self)


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
    self.optimizer.validate(self.name)
    if self.lora is not None:
      self.lora.validate(self.name, self.optimizer)
    self.checkpoints.validate(self.name)
    if self.preflight.action not in ("stop", "warn"):
      raise ValueError(f"{self.name}: preflight.action={self.preflight.action!r} must be 'stop' or 'warn'.")
    if not self.rewards:
      raise ValueError(f"{self.name}: rewards is empty; give it at least one, e.g. (Accuracy(), Format()).")
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
    for source in (self.problems, self.later_problems):
      if source is not None:
        source.validate()
    if (self.later_problems is None) != (self.later_from == 0) or self.later_from >= self.steps:
      raise ValueError(
        f"{self.name}: later_problems and later_from={self.later_from} belong together, with later_from above 0 and "
        f"below steps={self.steps}."
      )
    if self.prompts_at_once and (r // g) % self.prompts_at_once:
      raise ValueError(
        f"{self.name}: prompts_at_once={self.prompts_at_once} must divide the {r // g} prompts of a rollout "
        f"(rollout_size={r} / group_size={g})."
      )
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
    if self.loss_average not in ("response", "token", "constant"):
      raise ValueError(f"{self.name}: loss_average={self.loss_average!r} must be 'response', 'token' or 'constant'.")
    longest = self.sampling.max_prompt + self.sampling.max_response
    if longest > self.row_length:
      raise ValueError(
        f"{self.name}: row_length={self.row_length} must hold max_prompt + max_response = {longest} tokens; "
        f"raise it to {longest}."
      )
    self.sampling.validate()
    self.template.validate()

  def bias_rate(self, model: Model) -> float:
    """Step of the router's bias after each update of this stage."""
    return model.bias_rate if self.move_bias else 0.0

  def row_counts(self) -> dict[str, int]:
    prompts = self.rollout_size // self.group_size
    rows = {"microbatch_rows": self.microbatch_rows, "rollout_size / group_size": prompts}
    return rows | ({"prompts_at_once": self.prompts_at_once} if self.prompts_at_once else {})


@config
class SFT(_InRows):
  """Supervised fine-tuning on completions: the loss is on the responses only, rows are packed.

  An example longer than a row is left out and counted.
  """

  data: tuple[Any, ...]  # of r1jax.data.completions: Made(stage=...), Completions(path=...), PlaygroundCompletions(...)
  template: Template  # around the prompts, and what the stage is evaluated with
  epochs: int = 2  # 2-3 in the paper (DeepSeek-R1 v2 B.4.2)
  lora: Lora | None = None  # adapters to train in place of all parameters
  mtp_weight: float = 0.0  # of the multi-token prediction loss, 0.3 then 0.1 in DeepSeek-V3 4.2; needs model.mtp=1

  def validate(self):
    at_least(1, self.name, self, "epochs")
    at_least(0, self.name, self, "mtp_weight")
    _InRows.validate(self)
    if self.lora is not None:
      self.lora.validate(self.name, self.optimizer)
    self.template.validate()
    if not self.data:
      raise ValueError(f"{self.name}: data is empty; give it at least one source of completions.")
    for source in self.data:
      source.validate()


@config
class Rejection(_Asking):
  """Rejection sampling: completions of a policy, only right and readable ones (DeepSeek-R1 v1 2.3.3, v2 B.3.2)."""

  makes: ClassVar[str] = "completions"
  keep: int = 1  # at most, per question: the shortest of the right ones
  rewards: tuple[Any, ...]  # what says right or wrong; a Judge for questions without a rule
  reward_workers: int = 2
  reward_limit: float = 2.0  # seconds one check may take
  filters: tuple[Any, ...] = ()  # objects whose reasons(problem, response, prefill) say why a response is left out
  refiner: Any = None  # of r1jax.data.refine: rewrites what is kept; None: as it was written
  refined_rewards: tuple[Any, ...] = ()  # what must find the refiner's completions right; empty: `rewards`
  beside: tuple[Any, ...] = ()  # general data, as SFT.data
  ratio: float = 3.0  # rows sampled per row of general data (600k : 200k in the paper); 0: all of it

  def validate(self):
    _Asking.validate(self)
    at_least(1, self.name, self, "keep", "reward_workers")
    at_least(0, self.name, self, "ratio")
    if not self.rewards:
      raise ValueError(f"{self.name}: rewards is empty; give it what tells right from wrong, e.g. (Accuracy(),).")
    if self.keep > self.samples:
      raise ValueError(f"{self.name}: keep={self.keep} of samples={self.samples} cannot be kept; lower it.")
    if models := [name for _, what, name in self.needs() if what == "reward model"]:
      raise ValueError(f"{self.name}: rewards take the reward model {models[0]!r}, which only an RL stage can ask.")
    for each in self.filters:
      if not hasattr(each, "reasons"):
        raise ValueError(f"{self.name}: filters: {each!r} has no method reasons(problem, response, prefill).")
    for each in (self.refiner, *self.beside):
      if each is not None:
        each.validate()


@config
class Preferences(_Asking):
  """Makes the data of a reward model: pairs by preference, or single responses labelled safe or unsafe.

  DeepSeek-R1 v2 3.1 and B.3.1: several queries of a judge per pair, both
  orders, ties dropped, lengths of chosen and rejected balanced.
  """

  form: str = "pairs"  # "pairs" or "labels"
  samples: int = 4  # of pairs, each is compared with each
  written: int = 0  # more responses per question, by the playground's writers: behaviour that a policy seldom shows
  judge: Any  # of r1jax.rewards: compares pairs ("pairs") or tells safe from unsafe ("labels")
  queries: int = 4  # of the judge per pair, half of them in each order
  min_delta: float = 1.0  # on the scale -2..2; closer pairs are ties
  length_gap: float = 0.05  # between the mean tokens of all chosen and all rejected, as a share of the longer; 1: any

  @property
  def makes(self) -> str:
    return self.form

  def validate(self):
    if self.form not in ("pairs", "labels"):
      raise ValueError(f"{self.name}: form={self.form!r} must be 'pairs' or 'labels'.")
    _Asking.validate(self)
    at_least(2 if self.form == "pairs" else 1, self.name, self, "samples")
    at_least(0, self.name, self, "min_delta", "written")
    if not 0 < self.length_gap <= 1:
      raise ValueError(f"{self.name}: length_gap={self.length_gap} must be above 0 and at most 1.")
    if self.queries < 2 or self.queries % 2:
      raise ValueError(f"{self.name}: queries={self.queries} must be even and at least 2: half of them in each order.")


@config
class RewardModel(_InRows):
  """A policy's transformer with a scalar head, trained on preferences (DeepSeek-R1 v2 3.1, B.3.1).

  Each pair's response, or single one, has a row of its own; a longer example is left out and counted.
  """

  makes: ClassVar[str] = "reward model"
  data: tuple[Any, ...]  # of r1jax.data.preferences: Pairs(...), Labels(...)
  loss: str = "pairwise"  # "pairwise": -log sigmoid(chosen - rejected); "pointwise": cross-entropy of safe or unsafe
  reads: str = "summary"  # what it scores: the "summary" (helpfulness) or the whole "response" (safety)
  template: Template  # around the prompts
  held_out: float = 0.1  # share of the prompts that only measure accuracy and calibration
  epochs: int = 1
  rows: int = 256

  def validate(self):
    at_least(1, self.name, self, "epochs")
    _InRows.validate(self)
    self.template.validate()
    for field, value, known in (
      ("loss", self.loss, ("pairwise", "pointwise")),
      ("reads", self.reads, ("summary", "response")),
    ):
      if value not in known:
        raise ValueError(f"{self.name}: {field}={value!r} must be one of {', '.join(map(repr, known))}.")
    if not 0 < self.held_out < 1:
      raise ValueError(f"{self.name}: held_out={self.held_out} must be above 0 and below 1.")
    if not self.data:
      raise ValueError(f"{self.name}: data is empty; give it at least one source of preferences.")
    form = "pairs" if self.loss == "pairwise" else "labels"
    for source in self.data:
      source.validate()
      if source.form != form:
        raise ValueError(
          f"{self.name}: loss={self.loss!r} learns from {form}, but {source.title()} holds {source.form}."
        )
