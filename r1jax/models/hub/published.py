"""config.json of a published checkpoint -> config.Model.

Six architectures are known. What would change the result and is not supported
is an error that names the field and its value; a field nobody here knows is
named in one warning.
"""

import dataclasses
import pathlib
from typing import Any

from r1jax import config
from r1jax.models.hub import rope
from r1jax.models.hub.fields import CONFIG, Fields, read_fields

ARCHITECTURES = (
  "Qwen2ForCausalLM",
  "Qwen3ForCausalLM",
  "Qwen3MoeForCausalLM",
  "LlamaForCausalLM",
  "DeepseekV2ForCausalLM",
  "DeepseekV3ForCausalLM",
)
# Fields that would change the result, and the values that leave it as it is; absent is fine.
ONLY = {
  "hidden_act": ("silu",),
  "attention_bias": (False, None),
  "mlp_bias": (False, None),
  "use_sliding_window": (False, None),
  "use_mrope": (False, None),
  "partial_rotary_factor": (1, None),
  "decoder_sparse_step": (1,),
  "mlp_only_layers": ([], None),
  "moe_layer_freq": (1,),
}


def read_config(folder: str | pathlib.Path, mtp: bool = False) -> config.Model:
  """The model that a published checkpoint's config.json describes.

  What no config.json says has its default: activations are "bfloat16", nothing is unrolled, the balance loss of
  experts has the weight of DeepSeek-V3's report.

  Args:
    folder: has config.json.
    mtp: whether to take the multi-token prediction layer along, an error where the checkpoint has none.

  Raises:
    ValueError: an architecture or a value that is not supported, by name.
  """
  return model(read_fields(folder), pathlib.Path(folder) / CONFIG, mtp)


def model(values: dict[str, Any], path: str | pathlib.Path = CONFIG, mtp: bool = False) -> config.Model:
  """The model of the fields of a config.json; `path` is what errors call it."""
  fields = Fields(values, path)
  architecture = _architecture(fields)
  for name, allowed in ONLY.items():
    fields.only(name, *allowed)
  if any(kind != "full_attention" for kind in fields.take("layer_types", [])):
    raise fields.unsupported("layer_types", "every layer attends to the whole context")
  block_shape(fields)
  deepseek = architecture.startswith("Deepseek")
  heads = fields.take("num_attention_heads")
  attention = _latent(fields, heads) if deepseek else _grouped_query(fields, heads, architecture)
  layers = fields.take("num_hidden_layers")
  dense, experts = _EXPERTS.get(architecture, _dense)(fields, layers)
  theta, scaling = rope.read(fields, deepseek)
  predicted = fields.take("num_nextn_predict_layers", 0)
  if mtp and predicted != 1:
    raise ValueError(
      f"{path}: num_nextn_predict_layers={predicted}, but mtp=True reads exactly one multi-token prediction layer."
    )
  found = config.Model(
    vocab=fields.take("vocab_size"),
    width=fields.take("hidden_size"),
    layers=layers,
    dense_layers=dense if experts else 0,
    hidden=fields.take("intermediate_size"),
    attention=attention,
    experts=experts,
    rope_theta=theta,
    rope_scaling=scaling,
    norm_epsilon=fields.take("rms_norm_eps", 1e-6),
    tied=fields.take("tie_word_embeddings", False),
    mtp=int(mtp),
  )
  fields.warn_of_the_rest()
  found.validate()
  return found


def _architecture(fields: Fields) -> str:
  names = fields.take("architectures")
  if not isinstance(names, list) or len(names) != 1 or names[0] not in ARCHITECTURES:
    raise fields.unsupported("architectures", f"the architectures that are: {', '.join(ARCHITECTURES)}")
  return names[0]


def block_shape(fields: Fields) -> tuple[int, int] | None:
  """Sides of the blocks of fp8 weights that share a scale; None where weights are not quantised."""
  found = fields.take("quantization_config", None)
  if found is None:
    return None
  sides = found.get("weight_block_size")
  if found.get("quant_method") != "fp8" or not isinstance(sides, list) or len(sides) != 2:
    raise fields.unsupported("quantization_config", "only fp8 weights with a weight_block_size are")
  return tuple(sides)


def _grouped_query(fields: Fields, heads: int, architecture: str) -> config.GroupedQueryAttention:
  qwen3 = architecture.startswith("Qwen3")
  return config.GroupedQueryAttention(
    heads=heads,
    kv_heads=fields.take("num_key_value_heads", heads),
    head=fields.take("head_dim", 128 if qwen3 else fields.take("hidden_size") // heads),
    bias=architecture == "Qwen2ForCausalLM",
    qk_norm=qwen3,
  )


def _latent(fields: Fields, heads: int) -> config.LatentAttention:
  fields.only("num_key_value_heads", heads, None)
  fields.only("rope_interleave", True, False, None)  # whether pairs are permuted on the way
  rope_head = fields.take("qk_rope_head_dim")
  # Written by transformers, and no more than sums of the others.
  fields.only("head_dim", rope_head, None)
  fields.only("qk_head_dim", rope_head + fields.take("qk_nope_head_dim"), None)
  return config.LatentAttention(
    heads=heads,
    query_rank=fields.take("q_lora_rank", 0),
    latent_rank=fields.take("kv_lora_rank"),
    nope_head=fields.take("qk_nope_head_dim"),
    rope_head=rope_head,
    value_head=fields.take("v_head_dim"),
  )


# ---- experts: each reader returns the number of dense layers and the experts, None where no layer has any


def _dense(fields: Fields, layers: int):
  return layers, None


def _qwen3_moe(fields: Fields, layers: int):
  return 0, config.Experts(
    routed=fields.take("num_local_experts", None) or fields.take("num_experts"),  # transformers 5 has the former
    active=fields.take("num_experts_per_tok"),
    shared=0,
    hidden=fields.take("moe_intermediate_size"),
    scoring="softmax",
    normalize=fields.take("norm_topk_prob"),
    bias_rate=0.0,
  )


def _deepseek_v2(fields: Fields, layers: int):
  """Greedy, or limited to groups by their best; gates are never normalised (released configs all say so)."""
  fields.only("scoring_func", "softmax")
  fields.only("norm_topk_prob", False, None)
  fields.only("topk_method", "greedy", "group_limited_greedy")
  limited = fields.take("topk_method") == "group_limited_greedy"
  fields.taken |= {"n_group", "topk_group"}
  return _deepseek(
    fields,
    layers,
    groups=fields.take("n_group") if limited else 1,
    active_groups=fields.take("topk_group") if limited else 1,
    group_score="max" if limited else "top2",
    scoring="softmax",
    normalize=False,
    bias_rate=0.0,
  )


def _deepseek_v3(fields: Fields, layers: int):
  fields.only("scoring_func", "sigmoid")
  fields.only("topk_method", "noaux_tc")
  return _deepseek(
    fields,
    layers,
    groups=fields.take("n_group"),
    active_groups=fields.take("topk_group"),
    normalize=fields.take("norm_topk_prob"),
  )


def _deepseek(fields: Fields, layers: int, **routing):
  dense = fields.take("first_k_dense_replace")
  experts = config.Experts(
    routed=fields.take("n_routed_experts"),
    active=fields.take("num_experts_per_tok"),
    shared=fields.take("n_shared_experts", 0),
    hidden=fields.take("moe_intermediate_size"),
    route_scale=fields.take("routed_scaling_factor"),
    **routing,
  )
  return dense, experts if dense < layers else None


_EXPERTS = {
  "Qwen3MoeForCausalLM": _qwen3_moe,
  "DeepseekV2ForCausalLM": _deepseek_v2,
  "DeepseekV3ForCausalLM": _deepseek_v3,
}


def computed(c: config.Model) -> config.Model:
  """`c` with what changes no result set to one value: equal where two models compute the same of the same weights."""
  experts = c.experts and dataclasses.replace(c.experts, bias_rate=0.0, balance=0.0, exchange=0.0)
  if experts and experts.groups == 1:
    experts.group_score = "top2"
  return dataclasses.replace(
    c,
    dense_layers=c.dense_layers if experts else 0,
    experts=experts,
    rope_scaling=rope.plain(c),
    activations="float32",
    unroll=False,
    remat="none",
    head_chunk=1,
    published=None,
    mtp=0,
  )
