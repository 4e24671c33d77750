"""r1jax against transformers itself: logits, loss, gradients and exports, where torch and transformers are installed."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from r1jax import config
from r1jax.models import hub
from r1jax.models.hub import names, tensors, writing
from r1jax.models.scoring import next_token_loss
from r1jax.types import TokenBatch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

GOLDEN = pathlib.Path(__file__).parent / "golden"
FAMILIES = ["qwen2_yarn", "qwen3_tied", "qwen3_moe", "llama3", "deepseek_v2", "deepseek_v3"]
SHAPE = (2, 40)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


def theirs(folder):
  return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)


def gradients(model) -> dict[str, np.ndarray]:
  """Of every published tensor; transformers holds the experts of a layer as one parameter, gates above ups."""
  found = {}
  for name, parameter in model.named_parameters():
    value = parameter.grad.numpy()
    owner, _, kind = name.rpartition(".experts.")
    if kind == "gate_up_proj":
      for expert, both in enumerate(value):
        gate, up = np.split(both, 2)
        found[f"{owner}.experts.{expert}.gate_proj.weight"] = gate
        found[f"{owner}.experts.{expert}.up_proj.weight"] = up
    elif kind == "down_proj":
      found |= {f"{owner}.experts.{expert}.down_proj.weight": each for expert, each in enumerate(value)}
    else:
      found[name] = value
  return found


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_gradients_are_those_of_torch(name):
  model, loaded = theirs(GOLDEN / name), hub.load(GOLDEN / name)
  tokens = np.random.default_rng(5).integers(0, loaded.config.vocab, SHAPE).astype(np.int32)
  loss = model(torch.tensor(tokens, dtype=torch.long), labels=torch.tensor(tokens, dtype=torch.long)).loss
  loss.backward()
  positions = np.tile(np.arange(SHAPE[1], dtype=np.int32), (2, 1))
  batch = TokenBatch(
    tokens, positions, np.ones_like(tokens), (positions > 0).astype(np.float32) / (positions > 0).sum()
  )
  c = dataclasses.replace(loaded.config, remat="none")  # which compiles in less time
  if c.experts:  # torch's loss has none of their balance
    c = dataclasses.replace(c, experts=dataclasses.replace(c.experts, balance=0.0))
  run = jax.jit(jax.value_and_grad(lambda p: next_token_loss(c, p, batch)[0]))
  value, gradient = run(loaded.params)
  assert float(value) == pytest.approx(loss.item(), rel=1e-5)
  found = gradients(model)
  table = names.table(c)
  assert {key for key in table if not key.endswith("correction_bias")} == found.keys()
  for key, expected in found.items():
    mine = writing.gather(table[key], gradient)
    scale = max(np.linalg.norm(expected), 1e-6)  # experts that no token went to have none
    assert np.linalg.norm(mine - expected) / scale < 1e-4, key


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_exported_is_loaded_back_by_transformers_with_the_same_logits(name, tmp_path):
  loaded = hub.load(GOLDEN / name)
  tokens = np.random.default_rng(6).integers(0, loaded.config.vocab, SHAPE).astype(np.int32)
  moved = jax.tree.map(lambda x: x + np.float32(1e-3), loaded.params)  # as if trained: no longer exact in bfloat16
  trained = dataclasses.replace(loaded, params=moved)
  hub.save(tmp_path / "out", trained, dtype="float32")
  model = theirs(tmp_path / "out")
  with torch.no_grad():
    logits = model(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
  np.testing.assert_allclose(trained.apply(moved, tokens), logits, atol=2e-5)
  model.save_pretrained(tmp_path / "again")
  mine, back = tensors.listing(tmp_path / "out"), tensors.listing(tmp_path / "again")
  assert mine.keys() == back.keys()
  for key, tensor in mine.items():
    assert tensor.read().tobytes() == back[key].read().tobytes(), key


OURS = {
  "latent with experts": dict(rope_theta=100.0),
  "latent, softmax gates": dict(
    experts=config.Experts(
      routed=8, active=2, shared=1, hidden=16, scoring="softmax", normalize=False, bias_rate=0.0, group_score="max"
    )
  ),
  "latent, dense": dict(experts=None, rope_scaling=config.Yarn(factor=4.0, original_length=8)),
  "biases": dict(experts=None, attention=config.GroupedQueryAttention(heads=4, kv_heads=2, head=8, bias=True)),
  "no biases, YaRN": dict(
    experts=None,
    attention=config.GroupedQueryAttention(heads=4, kv_heads=2, head=8),
    rope_scaling=config.Yarn(factor=4.0, original_length=8),
    tied=True,
  ),
}


@pytest.mark.parametrize("kind", OURS)
def test_a_model_of_ours_is_loaded_by_transformers_with_the_same_logits(kind, tiny_model, random_params, tmp_path):
  c = tiny_model(**OURS[kind])
  ours = hub.Loaded(config=c, params=random_params(c))
  hub.save(tmp_path / "out", ours, dtype="float32")
  tokens = np.random.default_rng(7).integers(0, c.vocab, SHAPE).astype(np.int32)
  with torch.no_grad():
    logits = theirs(tmp_path / "out")(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
  np.testing.assert_allclose(ours.apply(ours.params, tokens), logits, atol=2e-5)
