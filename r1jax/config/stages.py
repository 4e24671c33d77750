"""The stages of a run: what each learns from, starts from and how long it lasts; RL is in rl.py."""

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
