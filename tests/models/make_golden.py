"""Writes tests/models/golden: tiny checkpoints of every published family, with transformers' own logits.

  python tests/models/make_golden.py           # all of them; or name some

Each case is a folder as the hub has it: config.json and model.safetensors, made
by transformers with random weights, norms and biases (those of a fresh model are
ones and zeros, which hide mistakes). Weights are exact in bfloat16 and stored
so. Beside them lies expected.npz: tokens int32[b, t], and logits
float32[b, t, v] that transformers computes of them in float32 with eager
attention. The fields of the cases are written as the hub's config.json has
them; half of the files are instead saved by transformers, which has another
form for rotary positions. test_hub.py holds r1jax against these files;
test_hub_live.py against transformers itself, where it is installed.
"""

import copy
import json
import pathlib
import sys

import numpy as np
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent / "golden"
ROWS, LENGTH = 2, 40

COMMON = dict(
  vocab_size=64,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  hidden_act="silu",
  max_position_embeddings=512,
  initializer_range=0.02,
  rms_norm_eps=1e-6,
  use_cache=True,
  bos_token_id=1,
  eos_token_id=2,
  attention_dropout=0.0,
  torch_dtype="bfloat16",
)
QWEN2 = COMMON | dict(
  architectures=["Qwen2ForCausalLM"],
  model_type="qwen2",
  num_key_value_heads=2,
  max_window_layers=2,
  sliding_window=512,
  use_sliding_window=False,
  rope_theta=1_000_000.0,
  tie_word_embeddings=True,
)
QWEN3 = QWEN2 | dict(
  architectures=["Qwen3ForCausalLM"], model_type="qwen3", head_dim=16, attention_bias=False, rope_scaling=None
)
QWEN3_MOE = QWEN3 | dict(
  architectures=["Qwen3MoeForCausalLM"],
  model_type="qwen3_moe",
  num_experts=8,
  num_experts_per_tok=3,
  moe_intermediate_size=16,
  norm_topk_prob=True,
  decoder_sparse_step=1,
  mlp_only_layers=[],
  router_aux_loss_coef=0.001,
  tie_word_embeddings=False,
)
LLAMA = COMMON | dict(
  architectures=["LlamaForCausalLM"],
  model_type="llama",
  num_key_value_heads=2,
  attention_bias=False,
  mlp_bias=False,
  pretraining_tp=1,
  rms_norm_eps=1e-5,
  rope_theta=500_000.0,
  tie_word_embeddings=False,
)
DEEPSEEK = COMMON | dict(
  num_hidden_layers=3,
  num_key_value_heads=4,
  attention_bias=False,
  first_k_dense_replace=1,
  kv_lora_rank=16,
  q_lora_rank=24,
  qk_nope_head_dim=8,
  qk_rope_head_dim=4,
  v_head_dim=12,
  moe_intermediate_size=16,
  moe_layer_freq=1,
  n_routed_experts=8,
  num_experts_per_tok=3,
  rope_theta=10_000,
  tie_word_embeddings=False,
)
V2 = DEEPSEEK | dict(
  architectures=["DeepseekV2ForCausalLM"],
  model_type="deepseek_v2",
  n_shared_experts=2,
  norm_topk_prob=False,
  scoring_func="softmax",
  seq_aux=True,
  aux_loss_alpha=0.001,
)
V3 = DEEPSEEK | dict(
  architectures=["DeepseekV3ForCausalLM"],
  model_type="deepseek_v3",
  n_shared_experts=1,
  norm_topk_prob=True,
  scoring_func="sigmoid",
  topk_method="noaux_tc",
  n_group=4,
  topk_group=2,
  routed_scaling_factor=2.5,
  num_nextn_predict_layers=0,
)
YARN = dict(type="yarn", factor=4.0, original_max_position_embeddings=16)
LLAMA3 = dict(
  rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
LITE = YARN | dict(factor=40, beta_fast=32, beta_slow=1, mscale=0.707, mscale_all_dim=0.707)
LONG = YARN | dict(factor=40, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0)

CASES = {
  "qwen2_tied": QWEN2,
  "qwen2_yarn": QWEN2 | dict(tie_word_embeddings=False, num_key_value_heads=1, rms_norm_eps=1e-2, rope_scaling=YARN),
  "qwen3_tied": QWEN3,
  "qwen3_yarn": QWEN3
  | dict(
    tie_word_embeddings=False,
    num_key_value_heads=4,
    rope_theta=100.0,
    rope_scaling=YARN
    | dict(original_max_position_embeddings=64, attention_factor=1.3, truncate=False, beta_fast=4.0, beta_slow=0.5),
  ),
  "qwen3_moe": QWEN3_MOE,
  "qwen3_moe_unnormalised": QWEN3_MOE | dict(norm_topk_prob=False, num_experts_per_tok=1, tie_word_embeddings=True),
  "llama_plain": LLAMA | dict(head_dim=16, tie_word_embeddings=True),
  "llama3": LLAMA | dict(rope_scaling=LLAMA3, num_key_value_heads=1),
  "deepseek_v2_lite": V2
  | dict(q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1, routed_scaling_factor=1.0, rope_scaling=LITE),
  "deepseek_v2": V2 | dict(topk_method="group_limited_greedy", n_group=4, topk_group=2, routed_scaling_factor=16.0),
  "deepseek_v3": V3 | dict(rope_scaling=LONG),
  "deepseek_v3_plain": V3
  | dict(q_lora_rank=None, n_group=1, topk_group=1, norm_topk_prob=False, rope_interleave=False, rms_norm_eps=1e-2),
}
SAVED_BY_TRANSFORMERS = {
  "qwen2_yarn",
  "qwen3_yarn",
  "qwen3_moe_unnormalised",
  "llama3",
  "deepseek_v2",
  "deepseek_v3_plain",
}


def make(name: str, fields: dict):
  """The folder of one case."""
  config = transformers.AutoConfig.for_model(**copy.deepcopy(fields))  # which writes into nested ones
  model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
  generator = torch.Generator().manual_seed(sum(map(ord, name)))
  with torch.no_grad():
    for key, tensor in model.state_dict().items():
      drawn = torch.randn(tensor.shape, generator=generator)
      if tensor.ndim > 1:
        drawn *= tensor.shape[-1] ** -0.5
      else:
        drawn = 0.2 * drawn + ("norm" in key)
      tensor.copy_(drawn.bfloat16())
    tokens = torch.randint(config.vocab_size, (ROWS, LENGTH), generator=generator)
    logits = model(tokens).logits
  folder = FOLDER / name
  model.bfloat16().save_pretrained(folder)
  (folder / "generation_config.json").unlink()
  if name not in SAVED_BY_TRANSFORMERS:
    (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
  np.savez(folder / "expected.npz", tokens=tokens.numpy().astype(np.int32), logits=logits.numpy())


if __name__ == "__main__":
  torch.set_num_threads(1)
  for name, fields in CASES.items():
    if not sys.argv[1:] or name in sys.argv[1:]:
      make(name, fields)
