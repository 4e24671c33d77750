"""config.Model -> the config.json that transformers and vLLM build the same model from."""

import dataclasses
from typing import Any

from r1jax import config
from r1jax.models.hub import published, rope


def describe(
  c: config.Model,
  dtype: str = "bfloat16",
  context: int = 32_768,
  begin: int | None = None,
  end: int | tuple[int, ...] | None = None,
  pad: int | None = None,
) -> dict[str, Any]:
  """The fields of config.json for a model of ours.

  Latent attention becomes DeepSeek-V3, with softmax gates DeepSeek-V2; grouped queries become Qwen3 where heads are
  normed (Qwen3-MoE with experts), Qwen2 where they have biases, else Llama.

  Args:
    dtype: the weights are stored in, "bfloat16" or "float32".
    context: tokens a server should allow, where rope_scaling does not say.
    begin, end, pad: token ids.

  Raises:
    ValueError: no published architecture computes this; the field in the way is named.
  """
  architecture = architecture_of(c)
  if c.rope_scaling is not None:
    context = int(c.rope_scaling.original_length * c.rope_scaling.factor)
  out = {
    "architectures": [architecture],
    "model_type": _MODEL_TYPE[architecture],
    "vocab_size": c.vocab,
    "hidden_size": c.width,
    "intermediate_size": c.hidden,
    "num_hidden_layers": c.layers,
    "num_attention_heads": c.attention.heads,
    "hidden_act": "silu",
    "rms_norm_eps": c.norm_epsilon,
    "tie_word_embeddings": c.tied,
    "max_position_embeddings": context,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": begin,
    "eos_token_id": list(end) if isinstance(end, tuple) else end,
    "pad_token_id": pad,
    "torch_dtype": dtype,
    **rope.write(c),
  }
  if isinstance(c.attention, config.LatentAttention):
    return out | _latent(c) | _deepseek(c, architecture)
  out |= {"num_key_value_heads": c.attention.kv_heads, "head_dim": c.attention.head}
  if architecture.startswith("Qwen"):
    out |= {"use_sliding_window": False, "sliding_window": None, "max_window_layers": c.layers}
  return out | (_qwen3_moe(c) if c.experts else {})


_MODEL_TYPE = dict(
  zip(published.ARCHITECTURES, ("qwen2", "qwen3", "qwen3_moe", "llama", "deepseek_v2", "deepseek_v3"), strict=True)
)


def architecture_of(c: config.Model) -> str:
  """The published architecture that computes what `c` does; ValueError where there is none."""
  a, e = c.attention, c.experts
  if isinstance(a, config.LatentAttention):
    name = "DeepseekV2ForCausalLM" if e and e.scoring == "softmax" else "DeepseekV3ForCausalLM"
    needed = {"normalize": False} if name == "DeepseekV2ForCausalLM" else {"group_score": "top2"}
    if e and e.groups > 1 and e.scoring == "softmax":
      needed["group_score"] = "max"
    if e and not e.shared:
      raise _impossible("experts.shared", 0, name)
  else:
    name = "LlamaForCausalLM"
    if e or a.qk_norm:
      name = "Qwen3MoeForCausalLM" if e else "Qwen3ForCausalLM"
      for field, value in (("qk_norm", True), ("bias", False)):
        if getattr(a, field) != value:
          raise _impossible(f"attention.{field}", getattr(a, field), name)
    elif a.bias:
      name = "Qwen2ForCausalLM"
    if e and c.dense_layers:
      raise _impossible("dense_layers", c.dense_layers, name)
    needed = {"scoring": "softmax", "shared": 0, "groups": 1, "route_scale": 1.0}
  for field, value in needed.items():
    if e and getattr(e, field) != value:
      raise _impossible(f"experts.{field}", getattr(e, field), name)
  return name


def _impossible(field: str, value: Any, architecture: str) -> ValueError:
  return ValueError(f"model.{field}={value!r} cannot be exported: {architecture}, the nearest, knows no such models.")


def _latent(c: config.Model) -> dict[str, Any]:
  a = c.attention
  return {
    "num_key_value_heads": a.heads,
    "q_lora_rank": a.query_rank or None,
    "kv_lora_rank": a.latent_rank,
    "qk_nope_head_dim": a.nope_head,
    "qk_rope_head_dim": a.rope_head,
    "v_head_dim": a.value_head,
  }


def _deepseek(c: config.Model, architecture: str) -> dict[str, Any]:
  v3 = architecture == "DeepseekV3ForCausalLM"
  # A model without experts is one whose dense layers never end; the numbers of its experts are read by nobody.
  e = c.experts or config.Experts(routed=2, active=1, shared=1, hidden=c.hidden)
  out = {
    "first_k_dense_replace": c.dense_layers if c.experts else c.layers,
    "moe_layer_freq": 1,
    "n_routed_experts": e.routed,
    "n_shared_experts": e.shared,
    "num_experts_per_tok": e.active,
    "moe_intermediate_size": e.hidden,
    "norm_topk_prob": e.normalize,
    "routed_scaling_factor": e.route_scale,
    "scoring_func": e.scoring,
    "n_group": e.groups,
    "topk_group": e.active_groups,
  }
  if v3:
    return out | {"topk_method": "noaux_tc", "num_nextn_predict_layers": c.mtp, "rope_interleave": True}
  return out | {"topk_method": "group_limited_greedy" if e.groups > 1 else "greedy"}


def _qwen3_moe(c: config.Model) -> dict[str, Any]:
  return {
    "num_experts": c.experts.routed,
    "num_experts_per_tok": c.experts.active,
    "moe_intermediate_size": c.experts.hidden,
    "norm_topk_prob": c.experts.normalize,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
  }


def changed(theirs: dict[str, Any], c: config.Model, dtype: str) -> dict[str, Any]:
  """The config.json a model came from, with what saving it changes: the dtype, no quantisation, no code of its own.

  Raises:
    ValueError: it describes another model than `c`.
  """
  given, ours = (dataclasses.asdict(published.computed(model)) for model in (published.model(theirs), c))
  for field, value in given.items():
    if value != ours[field]:
      raise ValueError(
        f"{field}={value!r} in the config.json given, but {field}={ours[field]!r} in the model; give the one the model "
        "came from, or none."
      )
  out = {name: value for name, value in theirs.items() if name not in ("quantization_config", "auto_map")}
  for name in {"torch_dtype", "dtype"} & out.keys() or {"torch_dtype"}:
    out[name] = dtype
  if "num_nextn_predict_layers" in out or c.mtp:
    out["num_nextn_predict_layers"] = c.mtp
  return out
