"""Published checkpoints of every family against transformers' logits (golden/), in and out bit by bit."""

import dataclasses
import json
import pathlib
import shutil

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from r1jax import config
from r1jax.models import hub, transformer
from r1jax.models.hub import names, published, tensors, writing
from r1jax.rl.sampling import prefill

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir())
TOLERANCE = 2e-5  # of logits of size 4, in float32: what sums in another order differ by
DECODED = ["qwen2_yarn", "qwen3_moe", "deepseek_v2_lite", "deepseek_v3"]
LENGTHS, GROUP, STEPS = np.array([5, 11, 1]), 2, 3


def expected(name):
  file = np.load(GOLDEN / name / "expected.npz")
  return file["tokens"], file["logits"]


def equal(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  jax.tree.map(np.testing.assert_array_equal, left, right)


def same_bits(folder, other):
  """Of all tensors but the selection bias, which is always written in float32."""
  mine, theirs = tensors.listing(folder), tensors.listing(other)
  assert mine.keys() == theirs.keys()
  for name, tensor in mine.items():
    if name.endswith("e_score_correction_bias"):
      assert tensor.code == "F32"
      np.testing.assert_array_equal(tensor.read(), theirs[name].read().astype(np.float32))
    else:
      assert (tensor.code, tensor.shape) == (theirs[name].code, theirs[name].shape), name
      assert tensor.read().tobytes() == theirs[name].read().tobytes(), name


def test_every_golden_case_is_of_a_known_architecture_and_every_architecture_has_one():
  found = {json.loads((GOLDEN / name / "config.json").read_text())["architectures"][0] for name in CASES}
  assert len(found) == 6


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers_at_all_positions(name):
  loaded = hub.load(GOLDEN / name)
  tokens, logits = expected(name)
  found = loaded.apply(loaded.params, tokens)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, logits, atol=TOLERANCE)


@pytest.mark.parametrize("name", DECODED)
def test_prefill_and_cached_decode_have_the_logits_of_transformers_for_ragged_prompts(name):
  loaded = hub.load(GOLDEN / name)
  c, params = loaded.config, loaded.params
  tokens, logits = expected(name)
  rows = np.arange(len(LENGTHS)) % len(tokens)
  prompts = tokens[rows, : LENGTHS.max()]  # behind a prompt's end stand tokens that must not be seen
  given, cache = jax.jit(prefill, static_argnums=(0, 4, 5))(c, params, prompts, LENGTHS, GROUP, STEPS)
  step = jax.jit(lambda *args: (out := transformer.apply(c, *args), transformer.logits(c, params, out.hidden)))
  for i in range(STEPS):
    for g in range(GROUP):
      np.testing.assert_allclose(given[:, g], logits[rows, LENGTHS - 1 + i], atol=TOLERANCE)
    positions = np.broadcast_to(LENGTHS[:, None] + i, (len(LENGTHS), GROUP)).astype(np.int32)
    drawn = np.broadcast_to(tokens[rows, LENGTHS + i][:, None], positions.shape)
    out, given = step(params, drawn, positions, np.ones_like(positions), cache.replace(index=np.int32(i)))
    cache = out.memory


@pytest.mark.parametrize("name", CASES)
def test_what_is_loaded_and_saved_is_the_same_bit_for_bit(name, tmp_path):
  loaded = hub.load(GOLDEN / name)
  hub.save(tmp_path / "out", loaded)
  same_bits(tmp_path / "out", GOLDEN / name)
  fields = json.loads((tmp_path / "out/config.json").read_text())
  assert fields == json.loads((GOLDEN / name / "config.json").read_text())


def test_bfloat16_parameters_go_into_several_files_and_come_back(tmp_path):
  loaded = hub.load(GOLDEN / "deepseek_v3", dtype="bfloat16")
  assert {str(x.dtype) for x in jax.tree.leaves(loaded.params["dense_blocks"])} == {"bfloat16"}
  assert loaded.params["blocks"]["experts"]["router_bias"].dtype == np.float32
  hub.save(tmp_path / "out", loaded, max_shard_bytes=20_000)
  files = sorted(file.name for file in (tmp_path / "out").glob("*.safetensors"))
  assert len(files) > 3
  assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
  index = json.loads((tmp_path / "out" / tensors.INDEX).read_text())
  assert set(index["weight_map"].values()) == set(files)
  assert index["metadata"]["total_size"] == sum(t.read().nbytes for t in tensors.listing(tmp_path / "out").values())
  equal(hub.load(tmp_path / "out", dtype="bfloat16").params, loaded.params)


def test_files_are_those_of_the_safetensors_library(tmp_path):
  random = np.random.default_rng(0)
  arrays = {
    "a": random.normal(size=(3, 5)).astype(np.float32),
    "b": random.normal(size=7).astype(ml_dtypes.bfloat16),
    "c": random.normal(size=(2, 2)).astype(np.float16),
  }
  write(tmp_path, arrays)
  theirs = safetensors.numpy.load_file(tmp_path / tensors.SINGLE)
  safetensors.numpy.save_file(arrays, tmp_path / tensors.SINGLE)
  for name, stored in tensors.listing(tmp_path).items():
    for found in (stored.read(), theirs[name]):
      assert found.dtype == arrays[name].dtype
      np.testing.assert_array_equal(found, arrays[name])
  np.testing.assert_array_equal(tensors.listing(tmp_path)["a"].read(slice(1, 3), slice(2, 4)), arrays["a"][1:3, 2:4])


# ---- meshes


@pytest.mark.parametrize(
  "name, shape", [("deepseek_v3", dict(data=2, expert=2)), ("qwen3_moe", dict(expert=2, tensor=2))]
)
def test_every_mesh_gets_the_same_weights_and_gives_them_back(name, shape, on_devices, tmp_path):
  alone = hub.load(GOLDEN / name)
  with on_devices(**shape):
    here = jax.sharding.get_mesh()
    spread = hub.load(GOLDEN / name)
    table = names.table(spread.config)
    for key in list(table)[::5]:
      whole = writing.gather(table[key], alone.params)
      np.testing.assert_array_equal(writing.gather(table[key], spread.params), whole)
  for path, x in jax.tree_util.tree_leaves_with_path(spread.params):
    assert x.sharding.mesh == here, path
    assert len(x.addressable_shards) == here.size
  equal(jax.device_get(spread.params), jax.device_get(alone.params))


@pytest.mark.parametrize(
  "spec", [P(None, "expert", "data", "tensor"), P(None, None, ("data", "expert"), "tensor"), P()]
)
def test_a_weight_gathered_from_hosts_is_the_weight_bit_for_bit(spec, on_devices):
  """What a mesh of several processes does, here on several devices; negative zeros keep their sign."""
  values = np.random.default_rng(0).normal(size=(2, 4, 8, 6)).astype(ml_dtypes.bfloat16)
  values[1, 3, :4] = -0.0
  with on_devices(data=2, expert=2, tensor=2):
    leaf = jax.device_put(values, NamedSharding(jax.sharding.get_mesh(), spec))
    for place in ((1, 3), (1,), ()):
      found = np.asarray(writing._from_all_hosts(leaf, place))
      assert found.tobytes() == values[place].tobytes()


def test_a_mesh_can_be_given_and_apply_goes_to_it():
  tokens, logits = expected("qwen2_tied")
  loaded = hub.load(GOLDEN / "qwen2_tied", mesh=config.Mesh(data=4, tensor=2))
  found = loaded.apply(loaded.params, np.tile(tokens, (2, 1)))
  np.testing.assert_allclose(found, np.tile(logits, (2, 1, 1)), atol=TOLERANCE)
  with pytest.raises(ValueError, match=r"2 rows cannot be split over the mesh's data x expert = 4"):
    loaded.apply(loaded.params, tokens)


def test_without_any_mesh_one_device_is_taken():
  tokens, logits = expected("qwen2_tied")
  with jax.set_mesh(None):
    loaded = hub.load(GOLDEN / "qwen2_tied")
    np.testing.assert_allclose(loaded.apply(loaded.params, tokens), logits, atol=TOLERANCE)
    assert loaded.mesh.size == 1


def test_apply_can_be_differentiated_and_compiled():
  loaded = hub.load(GOLDEN / "qwen2_tied")
  tokens, _ = expected("qwen2_tied")
  gradient = jax.jit(jax.grad(lambda p, t: loaded.apply(p, t).mean()))(loaded.params, tokens)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


# ---- what does not fit


def checkpoint(folder, name="qwen2_tied", **fields):
  """A copy of a golden case whose config.json has other fields; and its tensors, to be changed and written back."""
  shutil.copytree(GOLDEN / name, folder)
  values = json.loads((folder / "config.json").read_text())
  (folder / "config.json").write_text(json.dumps(values | fields))
  return {key: t.read() for key, t in tensors.listing(folder).items()}


def write(folder, arrays):
  tensors.write(folder / tensors.SINGLE, {k: (x.dtype, x.shape) for k, x in arrays.items()}, arrays.items())


def test_missing_extra_and_misshapen_tensors_are_told_at_once(tmp_path):
  arrays = checkpoint(tmp_path / "bad")
  del arrays["model.norm.weight"], arrays["model.layers.1.mlp.up_proj.weight"]
  arrays["model.layers.0.self_attn.o_proj.bias"] = np.zeros(32, np.float32)
  arrays["model.layers.0.self_attn.k_proj.bias"] = np.zeros(17, np.float32)
  arrays["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(4, np.float32)  # a buffer of old checkpoints
  arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"]  # of a tied model: its embedding
  write(tmp_path / "bad", arrays)
  with pytest.raises(ValueError) as error:
    hub.load(tmp_path / "bad")
  text = str(error.value)
  assert "(4 tensors differ)" in text
  assert "model.norm.weight is missing" in text
  assert "model.layers.1.mlp.up_proj.weight is missing" in text
  assert "model.layers.0.self_attn.o_proj.bias is extra" in text
  assert "model.layers.0.self_attn.k_proj.bias has shape [17], not [16]" in text


def test_of_many_wrong_tensors_twenty_are_named_and_the_rest_counted(tmp_path):
  checkpoint(tmp_path / "bad", num_hidden_layers=6)
  with pytest.raises(ValueError, match=r"\(48 tensors differ\).*; and 28 more"):
    hub.load(tmp_path / "bad")


def test_pickled_weights_are_refused(tmp_path):
  checkpoint(tmp_path / "pickled")
  (tmp_path / "pickled" / tensors.SINGLE).rename(tmp_path / "pickled/pytorch_model.bin")
  with pytest.raises(ValueError, match=r"pickled weights \(pytorch_model.bin\).*convert them to safetensors"):
    hub.load(tmp_path / "pickled")
  (tmp_path / "pickled/pytorch_model.bin").unlink()
  with pytest.raises(ValueError, match="neither model.safetensors nor"):
    hub.load(tmp_path / "pickled")


def test_a_cut_off_file_is_told(tmp_path):
  checkpoint(tmp_path / "cut")
  file = tmp_path / "cut" / tensors.SINGLE
  whole = file.read_bytes()
  for size in (4, 100, len(whole) - 1):
    file.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or cut off"):
      hub.load(tmp_path / "cut")


def test_an_index_whose_files_are_not_all_there_is_told(tmp_path):
  arrays = checkpoint(tmp_path / "sharded")
  (tmp_path / "sharded" / tensors.SINGLE).unlink()
  places = {name: "model-00001-of-00002.safetensors" for name in arrays} | {"model.norm.weight": "model-2.safetensors"}
  (tmp_path / "sharded" / tensors.INDEX).write_text(json.dumps({"weight_map": places}))
  with pytest.raises(ValueError, match="lacks 2 of the 2 files of its index, model-00001-of-00002.safetensors first"):
    hub.load(tmp_path / "sharded")
  places["model.norm.weight"] = "../qwen2_tied/model.safetensors"
  (tmp_path / "sharded" / tensors.INDEX).write_text(json.dumps({"weight_map": places}))
  with pytest.raises(ValueError, match="does not lie in the folder itself"):
    hub.load(tmp_path / "sharded")


def test_a_folder_is_not_written_over_and_nothing_is_left_of_a_failure(tmp_path):
  loaded = hub.load(GOLDEN / "qwen2_tied")
  hub.save(tmp_path / "out", loaded)
  with pytest.raises(ValueError, match="already exists"):
    hub.save(tmp_path / "out", loaded)
  loaded.config.layers = 3
  with pytest.raises(ValueError, match=r"layers=2 in the config.json given, but layers=3 in the model"):
    hub.save(tmp_path / "other", loaded)
  assert [file.name for file in tmp_path.iterdir()] == ["out"]


# ---- fp8


def quantised(folder, block=(8, 8)):
  """DeepSeek-V3 with fp8 weights in scaled blocks, cut off at the edges; and what each means, computed here."""
  arrays = checkpoint(
    folder, "deepseek_v3", quantization_config={"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": list(block)}
  )
  random, meant = np.random.default_rng(0), {}
  for name, tensor in names.table(hub.read_config(folder)).items():
    if not tensor.quantizable:
      continue
    rows, columns = tensor.shape
    weight = (random.normal(size=tensor.shape) * 100).astype(ml_dtypes.float8_e4m3fn)
    scale = random.uniform(0.5e-3, 2e-3, names.scale_shape(tensor.shape, block)).astype(np.float32)
    meant[name] = np.empty(tensor.shape, np.float32)
    for i, j in np.ndindex(rows, columns):
      meant[name][i, j] = np.float32(weight[i, j]) * scale[i // block[0], j // block[1]]
    arrays[name], arrays[f"{name}_scale_inv"] = weight, scale
  write(folder, arrays)
  return meant


def test_fp8_weights_are_their_value_times_the_scale_of_their_block(tmp_path):
  meant = quantised(tmp_path / "fp8")
  loaded = hub.load(tmp_path / "fp8")
  table = names.table(loaded.config)
  for name, weight in meant.items():
    np.testing.assert_array_equal(writing.gather(table[name], loaded.params), weight)
  hub.save(tmp_path / "out", loaded)
  fields = json.loads((tmp_path / "out/config.json").read_text())
  assert "quantization_config" not in fields
  name = "model.layers.1.self_attn.kv_a_proj_with_mqa.weight"
  stored = tensors.listing(tmp_path / "out")[name]
  np.testing.assert_array_equal(stored.read(), meant[name].astype(ml_dtypes.bfloat16))


def test_an_fp8_weight_needs_its_scale_and_a_scale_its_weight(tmp_path):
  quantised(tmp_path / "fp8")
  arrays = {name: t.read() for name, t in tensors.listing(tmp_path / "fp8").items()}
  name = "model.layers.0.self_attn.o_proj.weight"
  del arrays[f"{name}_scale_inv"]
  arrays["model.norm.weight_scale_inv"] = np.zeros((1, 1), np.float32)
  write(tmp_path / "fp8", arrays)
  with pytest.raises(ValueError, match=rf"{name}_scale_inv is missing; model.norm.weight_scale_inv is extra"):
    hub.load(tmp_path / "fp8")


# ---- the multi-token prediction layer


def with_mtp(folder):
  """A copy of the golden DeepSeek-V3 with a layer of its own shapes behind the last."""
  arrays = checkpoint(folder, "deepseek_v3", num_nextn_predict_layers=1)
  c = hub.read_config(folder)
  c.mtp = 1
  random = np.random.default_rng(1)
  for name, tensor in names.table(c).items():
    if tensor.copy_of:
      arrays[name] = arrays[tensor.copy_of]
    elif name not in arrays:
      arrays[name] = random.normal(size=tensor.shape).astype(ml_dtypes.bfloat16)
  write(folder, arrays)
  return arrays


def test_the_multi_token_prediction_layer_is_loaded_where_it_is_wanted(tmp_path):
  arrays = with_mtp(tmp_path / "mtp")
  plain, loaded = hub.load(tmp_path / "mtp"), hub.load(tmp_path / "mtp", mtp=True)
  assert plain.config.mtp == 0
  assert "mtp" not in plain.params
  project = np.asarray(arrays["model.layers.3.eh_proj.weight"], np.float32)
  np.testing.assert_array_equal(loaded.params["mtp"]["project"], project.T)
  up = np.asarray(arrays["model.layers.3.mlp.experts.5.up_proj.weight"], np.float32)
  np.testing.assert_array_equal(loaded.params["mtp"]["block"]["experts"]["up"][0, 5], up.T)
  hub.save(tmp_path / "with", loaded)
  hub.save(tmp_path / "without", plain)
  same_bits(tmp_path / "with", tmp_path / "mtp")
  same_bits(tmp_path / "without", GOLDEN / "deepseek_v3")
  predicted = [
    json.loads((tmp_path / n / "config.json").read_text())["num_nextn_predict_layers"] for n in ("with", "without")
  ]
  assert predicted == [1, 0]


def test_a_multi_token_prediction_layer_with_a_head_of_its_own_is_told(tmp_path):
  arrays = with_mtp(tmp_path / "mtp")
  arrays["model.layers.3.shared_head.head.weight"] = -arrays["lm_head.weight"]
  write(tmp_path / "mtp", arrays)
  with pytest.raises(ValueError, match=r"shared_head.head.weight differs from lm_head.weight.*mtp=False"):
    hub.load(tmp_path / "mtp", mtp=True)
  hub.load(tmp_path / "mtp")


def test_a_checkpoint_without_that_layer_cannot_give_it():
  with pytest.raises(ValueError, match=r"num_nextn_predict_layers=0, but mtp=True"):
    hub.load(GOLDEN / "deepseek_v3", mtp=True)


# ---- models of ours


@pytest.mark.parametrize("kind", ["tiny", "tiny softmax", "tiny dense", "qwen2", "qwen3", "llama", "qwen3 experts"])
def test_a_model_of_ours_comes_back_from_its_export(kind, tiny_model, grouped_query, random_params, tmp_path):
  experts = config.Experts(
    routed=8, active=2, shared=0, hidden=16, scoring="softmax", normalize=kind != "tiny softmax", bias_rate=0.0
  )
  normed = config.GroupedQueryAttention(heads=4, kv_heads=2, head=8, qk_norm=True)
  c = {
    "tiny": lambda: tiny_model(rope_theta=100.0),
    "tiny softmax": lambda: tiny_model(experts=dataclasses.replace(experts, shared=2)),
    "tiny dense": lambda: tiny_model(experts=None, rope_scaling=config.Yarn(factor=4.0, original_length=32)),
    "qwen2": lambda: tiny_model(experts=None, attention=grouped_query, tied=True),
    "qwen3": lambda: tiny_model(experts=None, attention=normed, norm_epsilon=1e-5),
    "llama": lambda: tiny_model(
      experts=None,
      attention=config.GroupedQueryAttention(heads=4, kv_heads=1, head=8),
      rope_scaling=config.Llama3Rope(factor=4.0, original_length=32),
    ),
    "qwen3 experts": lambda: tiny_model(experts=experts, attention=normed, dense_layers=0),
  }[kind]()
  params = random_params(c)
  hub.save(tmp_path / "out", hub.Loaded(config=c, params=params), dtype="float32")
  again = hub.load(tmp_path / "out")
  equal(again.params, params)
  assert published.computed(again.config) == published.computed(c)
