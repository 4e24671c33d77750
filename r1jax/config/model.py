"""The network and the mesh it lies on."""

from r1jax.config.base import at_least, config


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


@config
class Yarn:
  """Context extension of rotary positions (DeepSeek-V3 section 4.3)."""

  factor: float
  original_length: int  # tokens the model was first trained on
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  mscale: float = 1.0
  mscale_all_dim: float = 1.0


@config
class Experts:
  """Routed and shared experts (DeepSeek-V3 eq. 12-20)."""

  routed: int
  active: int  # routed experts per token
  shared: int  # experts every token passes through
  hidden: int  # width inside one expert
  groups: int = 1  # routing groups; a token goes to at most active_groups of them
  active_groups: int = 1
  route_scale: float = 1.0  # factor on the normalised gates
  bias_rate: float = 0.001  # step of the selection-only bias after each update; 0 freezes it
  balance: float = 0.0001  # weight of the sequence-wise balance loss
  exchange: float = 2.0  # rows per all-to-all round, times the mean load; more rounds run when it is exceeded

  def validate(self):
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
  yarn: Yarn | None = None
  norm_epsilon: float = 1e-6
  tied: bool = False  # whether the head is the embedding
  activations: str = "bfloat16"  # "float32" on CPU
  unroll: bool = False  # lay the layers out one after another instead of scanning: faster on CPU, longer to compile
  remat: str = "full"  # what the backward pass recomputes: "none", "dots" (all but matrix products) or "full"
  head_chunk: int = 2048  # tokens of one device whose logits exist at one time in the loss

  @property
  def bias_rate(self) -> float:
    """Step of the router's bias after each update; 0 without experts."""
    return self.experts.bias_rate if self.experts else 0.0

  def validate(self):
    at_least(1, "model", self, "vocab", "width", "layers", "hidden", "head_chunk")
    at_least(0, "model", self, "dense_layers")
    at_least(1, "model.attention", self.attention, "heads")
    if self.activations not in ("float32", "bfloat16"):
      raise ValueError(f"model.activations={self.activations!r} must be 'float32' or 'bfloat16'.")
    if self.remat not in ("none", "dots", "full"):
      raise ValueError(f"model.remat={self.remat!r} must be 'none', 'dots' or 'full'.")
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
