"""The network and the mesh it lies on."""

import math

from r1jax.config.base import at_least, config
from r1jax.config.hub import Hub


@config
class LatentAttention:
  """Multi-head latent attention (DeepSeek-V2 section 2.1, DeepSeek-V3 eq. 1-11)."""

  heads: int
  query_rank: int = 0  # width of the compressed query; 0: queries are not compressed
  latent_rank: int  # width of the compressed keys and values, cached
  nope_head: int  # per-head width of queries and keys without position
  rope_head: int  # per-head width of the rotary part; its key is shared by all heads
  value_head: int  # per-head width of values


@config
class GroupedQueryAttention:
  """Grouped-query attention (Qwen, Llama)."""

  heads: int
  kv_heads: int
  head: int  # per-head width
  bias: bool = False  # biases on query, key and value (Qwen2)
  qk_norm: bool = False  # RMS norm of every query and key head, before rotary positions (Qwen3)


@config
class Yarn:
  """Context extension of rotary positions (DeepSeek-V3 section 4.3).

  With m(x) = 0.1 x ln factor + 1, scores are scaled by m(mscale_all_dim)^2 and
  rotated queries and keys by m(mscale) / m(mscale_all_dim), unless
  attention_factor says by how much. DeepSeek has both at one value, Qwen
  mscale_all_dim = 0.
  """

  factor: float
  original_length: int  # tokens the model was first trained on
  beta_fast: float = 32.0  # pairs that turn more often than this within original_length stay as they are
  beta_slow: float = 1.0  # pairs that turn less often are slowed by the whole factor
  mscale: float = 1.0
  mscale_all_dim: float = 1.0
  attention_factor: float | None = None  # length of rotated queries and keys; None: from mscale
  truncate: bool = True  # whether the range of pairs in between is widened to whole ones

  def _temperature(self, mscale: float) -> float:
    return 0.1 * mscale * math.log(self.factor) + 1 if self.factor > 1 else 1.0

  def score_factor(self) -> float:
    """What scores are multiplied by."""
    return self._temperature(self.mscale_all_dim) ** 2

  def rotated_length(self) -> float:
    """What rotated queries and keys are multiplied by."""
    if self.attention_factor is not None:
      return self.attention_factor
    return self._temperature(self.mscale) / self._temperature(self.mscale_all_dim)

  def validate(self):
    at_least(1, "model.rope_scaling", self, "factor", "original_length")


@config
class Llama3Rope:
  """Context extension of rotary positions in Llama 3.1 and later: slow pairs are slowed, by wavelength."""

  factor: float
  original_length: int  # tokens the model was first trained on
  low_freq_factor: float = 1.0  # pairs that turn less often than this within original_length are slowed by the factor
  high_freq_factor: float = 4.0  # pairs that turn more often stay as they are

  def validate(self):
    at_least(1, "model.rope_scaling", self, "factor", "original_length")
    if self.high_freq_factor <= self.low_freq_factor:
      raise ValueError(
        f"model.rope_scaling.high_freq_factor={self.high_freq_factor} must be above "
        f"low_freq_factor={self.low_freq_factor}."
      )


@config
class Experts:
  """Routed and shared experts (DeepSeek-V3 eq. 12-20; with softmax gates DeepSeek-V2 section 2.2 and Qwen3)."""

  routed: int
  active: int  # routed experts per token
  shared: int  # experts every token passes through
  hidden: int  # width inside one expert
  groups: int = 1  # routing groups; a token goes to at most active_groups of them
  active_groups: int = 1
  group_score: str = "top2"  # what ranks the groups: the sum of a group's two best (V3) or its best, "max" (V2)
  scoring: str = "sigmoid"  # gates: "sigmoid" (V3) or "softmax" (V2, Qwen3), which has no selection bias
  normalize: bool = True  # whether the chosen gates are divided by their sum
  route_scale: float = 1.0  # factor on the gates
  bias_rate: float = 0.001  # step of the selection-only bias after each update; 0 freezes it
  balance: float = 0.0001  # weight of the sequence-wise balance loss
  exchange: float = 2.0  # rows per all-to-all round, times the mean load; more rounds run when it is exceeded

  def validate(self):
    for field, known in (("scoring", ("sigmoid", "softmax")), ("group_score", ("top2", "max"))):
      if getattr(self, field) not in known:
        raise ValueError(f"model.experts.{field}={getattr(self, field)!r} must be {known[0]!r} or {known[1]!r}.")
    if self.scoring == "softmax" and self.bias_rate:
      raise ValueError(
        f"model.experts.bias_rate={self.bias_rate} has no bias to move where scoring='softmax'; set it to 0."
      )
    at_least(1, "model.experts", self, "groups")
    if self.routed % self.groups:
      raise ValueError(f"model.experts.routed={self.routed} must be a multiple of groups={self.groups}.")
    at_least(1, "model.experts", self, "routed", "active", "hidden", "active_groups")
    at_least(0, "model.experts", self, "shared", "exchange")
    reach = self.routed // self.groups * self.active_groups
    if self.active > reach or self.active_groups > self.groups:
      raise ValueError(
        f"model.experts.active={self.active} experts cannot be chosen among the {reach} of active_groups="
        f"{self.active_groups} of {self.groups} groups; lower active or raise active_groups."
      )


@config
class Model:
  """A decoder-only transformer: DeepSeek-V3 with experts and latent attention, Qwen or Llama without."""

  vocab: int  # rows of the embedding; a tokenizer trained here has at most as many tokens
  width: int  # of the residual stream
  layers: int
  dense_layers: int = 0  # first layers with a dense feed-forward; all of them where experts is None
  hidden: int  # width inside a dense feed-forward
  attention: LatentAttention | GroupedQueryAttention
  experts: Experts | None = None
  rope_theta: float = 10_000.0
  rope_scaling: Yarn | Llama3Rope | None = None  # context extension of the rotary positions
  norm_epsilon: float = 1e-6
  tied: bool = False  # whether the head is the embedding
  mtp: int = 0  # multi-token prediction layers: 0 or 1 (DeepSeek-V3 section 2.2)
  activations: str = "bfloat16"  # "float32" on CPU
  unroll: bool = False  # lay the layers out one after another instead of scanning: faster on CPU, longer to compile
  remat: str = "full"  # what the backward pass recomputes: "none", "dots" (all but matrix products) or "full"
  head_chunk: int = 2048  # tokens of one device whose logits exist at one time in the loss
  published: Hub | None = None  # the checkpoint that training begins with; None: random weights

  @property
  def bias_rate(self) -> float:
    """Step of the router's bias after each update; 0 without experts."""
    return self.experts.bias_rate if self.experts else 0.0

  def validate(self):
    at_least(1, "model", self, "vocab", "width", "layers", "hidden", "head_chunk")
    at_least(0, "model", self, "dense_layers")
    at_least(1, "model.attention", self.attention, "heads")
    if self.mtp not in (0, 1):
      raise ValueError(f"model.mtp={self.mtp} must be 0 or 1: deeper multi-token prediction is not supported.")
    if self.activations not in ("float32", "bfloat16"):
      raise ValueError(f"model.activations={self.activations!r} must be 'float32' or 'bfloat16'.")
    if self.remat not in ("none", "dots", "full"):
      raise ValueError(f"model.remat={self.remat!r} must be 'none', 'dots' or 'full'.")
    if self.rope_scaling is not None:
      self.rope_scaling.validate()
    if self.experts is not None:
      self.experts.validate()
      if self.dense_layers >= self.layers:
        raise ValueError(
          f"model.dense_layers={self.dense_layers} leaves none of layers={self.layers} for the experts; "
          "lower it or set experts to None."
        )
    if isinstance(self.attention, GroupedQueryAttention) and self.attention.heads % self.attention.kv_heads:
      raise ValueError(
        f"model.attention.heads={self.attention.heads} must be a multiple of kv_heads={self.attention.kv_heads}."
      )


@config
class Mesh:
  """How many devices along each axis; their product must be the number of devices."""

  data: int = 1  # batch and FSDP
  expert: int = 1  # experts, and the batch outside them
  tensor: int = 1  # heads and vocabulary
  # Sampling reads a copy of the weights in the activations' dtype that `data` does not split: else every token gathers
  # what FSDP has split. A chip needs 2 bytes for each weight of its part of experts and heads, while it samples.
  gather: bool = False

  @property
  def shape(self) -> tuple[int, int, int]:
    return self.data, self.expert, self.tensor

  def validate(self):
    at_least(1, "mesh", self, "data", "expert", "tensor")

  def check_rows(self, owner: str, counts: dict[str, int]):
    """Raises a ValueError for a number of rows that the batch axes cannot split."""
    shards = self.data * self.expert
    for field, count in counts.items():
      if count % shards:
        raise ValueError(
          f"{owner}: {field} = {count} cannot be split over the mesh's data x expert = {shards} shards; "
          f"use a multiple of {shards} or another mesh."
        )
