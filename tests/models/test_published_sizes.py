"""Ready configs of published models have the parameters that were published; all tensors of DeepSeek-V3, by name."""

import collections
import math
import time

import jax
import pytest

from configs import models
from r1jax import config, mesh
from r1jax.models.hub import names
from r1jax.training.state import abstract_params

TOTALS = {
  "Qwen/Qwen2.5-0.5B": 494_032_768,
  "Qwen/Qwen2.5-1.5B": 1_543_714_304,
  "Qwen/Qwen2.5-7B": 7_615_616_512,
  "Qwen/Qwen2.5-14B": 14_770_033_664,
  "Qwen/Qwen2.5-32B": 32_763_876_352,
  "Qwen/Qwen2.5-Math-1.5B": 1_543_714_304,
  "Qwen/Qwen2.5-Math-7B": 7_615_616_512,
  "Qwen/Qwen3-0.6B": 596_049_920,
  "Qwen/Qwen3-30B-A3B": 30_532_122_624,
  "meta-llama/Llama-3.1-8B": 8_030_261_248,
  "meta-llama/Llama-3.2-1B": 1_235_814_400,
  "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
  "deepseek-ai/DeepSeek-V2-Lite": 15_706_484_224,
  "deepseek-ai/DeepSeek-V3": 671_026_419_200,
}


def elements(table) -> int:
  return sum(math.prod(tensor.shape) for tensor in table.values())


@pytest.mark.parametrize("name", models.PUBLISHED)
def test_a_published_model_has_as_many_parameters_as_published(name):
  c = models.published(name)
  c.validate()
  table = names.table(c)
  biases = sum(tensor.shape[0] for key, tensor in table.items() if key.endswith("e_score_correction_bias"))
  assert elements(table) == TOTALS[name]
  nowhere = mesh.abstract(config.Mesh())
  with jax.sharding.use_abstract_mesh(nowhere):
    sizes = [x.size for x in jax.tree.leaves(abstract_params(c))]
  assert sum(sizes) == TOTALS[name]
  assert biases == (58 * 256 if name.endswith("V3") else 0)


def test_an_unknown_published_model_is_one_sentence():
  with pytest.raises(ValueError, match="there is no model 'Qwen/Qwen9' here; there are"):
    models.published("Qwen/Qwen9")


def test_all_tensors_of_deepseek_r1_have_their_published_names_and_shapes():
  """The released checkpoint: 91,991 tensors in 163 files, fp8 with a scale for every 128 x 128 block."""
  start = time.process_time()
  c = models.deepseek_v3_671b()
  c.mtp = 1
  table = names.table(c)
  shapes = {name: tensor.shape for name, tensor in table.items()}
  scales = {
    f"{name}_scale_inv": names.scale_shape(tensor.shape, (128, 128))
    for name, tensor in table.items()
    if tensor.quantizable
  }
  assert time.process_time() - start < 5
  assert len(shapes) + len(scales) == 91_991
  assert elements(table) == 684_489_845_504
  assert sum(map(math.prod, scales.values())) == 41_540_496
  expected = published_shapes()
  assert {name: list(shape) for name, shape in (shapes | scales).items()} == expected


def published_shapes() -> dict[str, list[int]]:
  """What the released index and files hold, written out."""
  fp8 = {
    "self_attn.q_a_proj": ([1536, 7168], [12, 56]),
    "self_attn.q_b_proj": ([24576, 1536], [192, 12]),
    "self_attn.kv_a_proj_with_mqa": ([576, 7168], [5, 56]),
    "self_attn.kv_b_proj": ([32768, 512], [256, 4]),
    "self_attn.o_proj": ([7168, 16384], [56, 128]),
  }
  dense = {
    "mlp.gate_proj": ([18432, 7168], [144, 56]),
    "mlp.up_proj": ([18432, 7168], [144, 56]),
    "mlp.down_proj": ([7168, 18432], [56, 144]),
  }
  expert = {
    "gate_proj": ([2048, 7168], [16, 56]),
    "up_proj": ([2048, 7168], [16, 56]),
    "down_proj": ([7168, 2048], [56, 16]),
  }
  owners = ["mlp.shared_experts", *(f"mlp.experts.{i}" for i in range(256))]
  sparse = {f"{owner}.{name}": shapes for owner in owners for name, shapes in expert.items()}
  found = {"model.embed_tokens.weight": [129280, 7168], "model.norm.weight": [7168], "lm_head.weight": [129280, 7168]}
  for layer in range(62):
    at = f"model.layers.{layer}"
    for name, (weight, scale) in (fp8 | (dense if layer < 3 else sparse)).items():
      found[f"{at}.{name}.weight"], found[f"{at}.{name}.weight_scale_inv"] = weight, scale
    norms = ("input_layernorm", 7168), ("post_attention_layernorm", 7168)
    norms += ("self_attn.q_a_layernorm", 1536), ("self_attn.kv_a_layernorm", 512)
    found |= {f"{at}.{name}.weight": [size] for name, size in norms}
    if layer >= 3:
      found |= {f"{at}.mlp.gate.weight": [256, 7168], f"{at}.mlp.gate.e_score_correction_bias": [256]}
  return found | {
    "model.layers.61.embed_tokens.weight": [129280, 7168],
    "model.layers.61.enorm.weight": [7168],
    "model.layers.61.hnorm.weight": [7168],
    "model.layers.61.eh_proj.weight": [7168, 14336],
    "model.layers.61.shared_head.norm.weight": [7168],
    "model.layers.61.shared_head.head.weight": [129280, 7168],
  }


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V2-Lite"])
def test_every_part_of_our_weights_comes_from_exactly_one_published_tensor(name):
  c = models.published(name)
  filled = collections.Counter()
  for tensor in names.table(c).values():
    for piece in tensor.pieces:
      rows = tensor.shape[0] if piece.rows is None else len(set(piece.rows.tolist()))
      filled[piece.path] += rows * math.prod(tensor.shape[1:])
  nowhere = mesh.abstract(config.Mesh())
  with jax.sharding.use_abstract_mesh(nowhere):
    leaves = jax.tree_util.tree_leaves_with_path(abstract_params(c))
  assert filled == {tuple(key.key for key in path): x.size for path, x in leaves}
