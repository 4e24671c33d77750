"""config.json in both of its forms, what is refused, and ready configs against what a config.json says."""

import json
import pathlib
import subprocess
import sys
import warnings

import pytest

from configs import models
from r1jax import config
from r1jax.models import hub
from r1jax.models.hub import description, published

GOLDEN = pathlib.Path(__file__).parent / "golden"

# As the hub has them.
QWEN2 = json.loads("""{
  "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
  "hidden_act": "silu", "hidden_size": 1536, "initializer_range": 0.02, "intermediate_size": 8960,
  "max_position_embeddings": 131072, "max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 12,
  "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
  "sliding_window": 131072, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
  "use_cache": true, "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936
}""")
LLAMA = json.loads("""{
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
  "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
  "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
  "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": true,
  "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256
}""")
QWEN3_MOE = json.loads("""{
  "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643,
  "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48,
  "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": true,
  "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
  "num_key_value_heads": 4, "output_router_logits": false, "rms_norm_eps": 1e-06, "rope_scaling": null,
  "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": null, "tie_word_embeddings": false,
  "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
  "vocab_size": 151936
}""")
V2_LITE = json.loads("""{
  "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config"}, "aux_loss_alpha": 0.001,
  "bos_token_id": 100000, "eos_token_id": 100001, "first_k_dense_replace": 1, "hidden_act": "silu",
  "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 10944, "kv_lora_rank": 512,
  "max_position_embeddings": 163840, "model_type": "deepseek_v2", "moe_intermediate_size": 1408, "moe_layer_freq": 1,
  "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": false, "num_attention_heads": 16,
  "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16, "pretraining_tp": 1,
  "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
    "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": true,
  "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy", "torch_dtype": "bfloat16",
  "transformers_version": "4.33.1", "use_cache": true, "v_head_dim": 128, "vocab_size": 102400
}""")
R1 = json.loads("""{
  "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, "bos_token_id": 0, "eos_token_id": 1,
  "ep_size": 1, "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168, "initializer_range": 0.02,
  "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3",
  "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1,
  "norm_topk_prob": true, "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
  "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
  "qk_rope_head_dim": 64, "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3",
    "quant_method": "fp8", "weight_block_size": [128, 128]},
  "rms_norm_eps": 1e-06, "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
    "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": false,
  "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "transformers_version": "4.46.3",
  "use_cache": true, "v_head_dim": 128, "vocab_size": 129280
}""")
PUBLISHED = {
  "Qwen/Qwen2.5-1.5B": QWEN2,
  "meta-llama/Llama-3.2-1B": LLAMA,
  "Qwen/Qwen3-30B-A3B": QWEN3_MOE,
  "deepseek-ai/DeepSeek-V2-Lite": V2_LITE,
  "deepseek-ai/DeepSeek-V3": R1,
}


def put(folder, fields) -> pathlib.Path:
  (folder / "config.json").write_text(json.dumps(fields))
  return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_the_ready_one_and_needs_no_warning(name, tmp_path):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    found = hub.read_config(put(tmp_path, PUBLISHED[name]))
  assert found == models.published(name)


@pytest.mark.parametrize("folder", sorted(GOLDEN.iterdir()), ids=lambda folder: folder.name)
def test_a_config_that_transformers_reads_or_writes_needs_no_warning_and_describes_itself(folder):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    c = hub.read_config(folder)
  assert published.model(description.describe(c)) == c


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_of_ours_written_and_read_is_the_same(name):
  c = models.published(name)
  assert published.model(description.describe(c)) == c


@pytest.mark.parametrize("name", PUBLISHED)
def test_both_forms_of_rotary_positions_mean_the_same(name, tmp_path):
  fields = dict(PUBLISHED[name])
  scaling = dict(fields.pop("rope_scaling", None) or {"rope_type": "default"})
  scaling["rope_type"] = scaling.pop("type", None) or scaling["rope_type"]
  fields["rope_parameters"] = scaling | {"rope_theta": fields.pop("rope_theta")}
  assert hub.read_config(put(tmp_path, fields)) == models.published(name)


def test_yarn_of_qwen_lengthens_queries_and_keys_and_that_of_deepseek_scales_scores(tmp_path):
  scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
  plain = hub.read_config(put(tmp_path, QWEN2 | {"rope_scaling": scaling})).rope_scaling
  assert plain.rotated_length() == pytest.approx(1.13863, abs=1e-5)  # 0.1 ln 4 + 1
  assert plain.score_factor() == 1
  given = scaling | {"attention_factor": 1.5, "truncate": False}
  given = hub.read_config(put(tmp_path, QWEN2 | {"rope_scaling": given})).rope_scaling
  assert (given.rotated_length(), given.truncate) == (1.5, False)
  both = scaling | {"mscale": 1.0, "mscale_all_dim": 1.0}
  both = hub.read_config(put(tmp_path, QWEN2 | {"rope_scaling": both})).rope_scaling
  assert (both.rotated_length(), both.score_factor()) == (1, 1)
  lite = hub.read_config(put(tmp_path, V2_LITE)).rope_scaling
  assert lite.rotated_length() == 1
  assert lite.score_factor() == pytest.approx(1.2608038**2, rel=1e-6)  # 0.0707 ln 40 + 1


REFUSED = {
  "architectures": (QWEN2, {"architectures": ["MistralForCausalLM"]}, r'architectures=\["MistralForCausalLM"\] is not'),
  "no architecture": (QWEN2, {"architectures": None}, "the field 'architectures' is missing"),
  "field missing": (QWEN2, {"hidden_size": None}, "the field 'hidden_size' is missing"),
  "sliding window": (QWEN2, {"use_sliding_window": True}, "use_sliding_window=true is not supported; only false is"),
  "layer types": (QWEN2, {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types=.* is not supported"),
  "activation": (QWEN2, {"hidden_act": "gelu"}, 'hidden_act="gelu" is not supported; only "silu" is'),
  "mrope": (QWEN2, {"use_mrope": True}, "use_mrope=true is not supported"),
  "biases": (LLAMA, {"attention_bias": True}, "attention_bias=true is not supported"),
  "biases of the mlp": (LLAMA, {"mlp_bias": True}, "mlp_bias=true is not supported"),
  "partial": (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported"),
  "partial, newer": (
    LLAMA,
    {"rope_scaling": None, "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}},
    "rope_parameters=.*heads are rotated whole",
  ),
  "kind of rope": (LLAMA, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 'kinds that are: "default", "yarn"'),
  "part of rope": (QWEN2, {"rope_scaling": {"type": "default", "alpha": 2}}, "what 'alpha' does to the positions"),
  "rope incomplete": (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "has no 'low_freq_factor'"),
  "half of mscale": (
    V2_LITE,
    {"rope_scaling": {"type": "yarn", "factor": 4, "mscale_all_dim": 1.0}},
    "mscale and mscale_all_dim are either both given",
  ),
  "sparse step": (QWEN3_MOE, {"decoder_sparse_step": 2}, "decoder_sparse_step=2 is not supported; only 1 is"),
  "dense layers": (QWEN3_MOE, {"mlp_only_layers": [0]}, r"mlp_only_layers=\[0\] is not supported"),
  "layer frequency": (R1, {"moe_layer_freq": 2}, "moe_layer_freq=2 is not supported"),
  "scoring": (R1, {"scoring_func": "softmax"}, 'scoring_func="softmax" is not supported; only "sigmoid" is'),
  "routing": (V2_LITE, {"topk_method": "noaux_tc"}, 'topk_method="noaux_tc" is not supported'),
  "normalised": (V2_LITE, {"norm_topk_prob": True}, "norm_topk_prob=true is not supported"),
  "key heads": (R1, {"num_key_value_heads": 64}, "num_key_value_heads=64 is not supported; only 128 is"),
  "quantisation": (R1, {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config=.*only fp8"),
  "odd groups": (R1, {"n_group": 7}, "model.experts.routed=256 must be a multiple of groups=7"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_supported_is_one_error_that_names_it(what, tmp_path):
  fields, change, message = REFUSED[what]
  with pytest.raises(ValueError, match=message) as error:
    hub.read_config(put(tmp_path, fields | change))
  assert "\n" not in str(error.value)


def test_unknown_fields_are_named_in_one_warning(tmp_path):
  fields = QWEN2 | {"soft_cap": 30.0, "new_norm": "layer", "off": False, "none": None, "empty": []}
  with pytest.warns(UserWarning, match=r'does not know are ignored: soft_cap=30.0, new_norm="layer"\.$') as caught:
    hub.read_config(put(tmp_path, fields))
  assert len(caught) == 1


def test_no_config_and_a_broken_one_are_one_sentence(tmp_path):
  with pytest.raises(ValueError, match=r"config.json cannot be read .*name the folder of a published checkpoint"):
    hub.read_config(tmp_path)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(ValueError, match="config.json cannot be read"):
    hub.read_config(tmp_path)
  (tmp_path / "config.json").write_text("[]")
  with pytest.raises(ValueError, match="config.json holds no fields"):
    hub.read_config(tmp_path)


def test_reading_a_config_needs_no_jax(tmp_path):
  code = "import sys; from r1jax.models import hub; hub.read_config(sys.argv[1]); assert 'jax' not in sys.modules"
  subprocess.run([sys.executable, "-c", code, str(put(tmp_path, R1))], check=True, cwd=GOLDEN.parents[2])


# ---- the way out


def grouped(**fields):
  return config.GroupedQueryAttention(heads=4, kv_heads=2, head=8, **fields)


def softmax(**fields):
  return config.Experts(routed=4, active=2, shared=0, hidden=8, scoring="softmax", bias_rate=0.0, **fields)


IMPOSSIBLE = {
  "experts without normed heads": (dict(attention=grouped(), experts=softmax()), "attention.qk_norm=False .*Qwen3Moe"),
  "normed heads with biases": (dict(attention=grouped(qk_norm=True, bias=True)), "attention.bias=True .*Qwen3ForC"),
  "sigmoid gates": (
    dict(attention=grouped(qk_norm=True), experts=config.Experts(routed=4, active=2, shared=0, hidden=8)),
    "experts.scoring='sigmoid' cannot be exported",
  ),
  "dense layers": (
    dict(attention=grouped(qk_norm=True), experts=softmax(), dense_layers=1),
    "dense_layers=1 cannot be exported",
  ),
  "latent without shared experts": (dict(experts=softmax(normalize=False)), "experts.shared=0 cannot be exported"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_model_that_no_architecture_computes_is_told(what):
  fields, message = IMPOSSIBLE[what]
  latent = config.LatentAttention(heads=4, latent_rank=16, nope_head=8, rope_head=4, value_head=8)
  c = config.Model(**dict(vocab=32, width=32, layers=2, hidden=48, attention=latent) | fields)
  c.validate()
  with pytest.raises(ValueError, match=message):
    description.describe(c)


def test_ids_of_tokens_and_the_dtype_are_in_the_config_of_a_model_of_ours():
  fields = description.describe(models.tiny(), "float32", context=512, begin=2, end=(1, 5), pad=0)
  assert [fields[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [2, [1, 5], 0]
  assert (fields["torch_dtype"], fields["max_position_embeddings"]) == ("float32", 512)
  assert fields["architectures"] == ["DeepseekV3ForCausalLM"]


def test_what_saving_changes_is_changed_in_the_config_it_came_from():
  c = models.deepseek_v3_671b()
  fields = description.changed(R1, c, "bfloat16")
  kept = {name: value for name, value in R1.items() if name not in ("auto_map", "quantization_config")}
  assert fields == kept | {"num_nextn_predict_layers": 0}
