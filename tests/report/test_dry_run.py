"""The dry run: counts and bytes against sums written out, and nothing is made."""

import dataclasses
import io
import time

from jax import live_arrays  # not the name jax: these tests want no mesh of devices around them
from jax.sharding import use_abstract_mesh
import pytest
import rich.console

from experiments import r1_zero_671b, r1_zero_tiny
from r1jax import config, mesh
from r1jax.report import dry_run
from tests.experiments import recipe


@pytest.fixture
def on_mesh():
  """Enters an abstract mesh of a shape."""
  return lambda *shape: use_abstract_mesh(mesh.abstract(config.Mesh(**dict(zip(mesh.AXES, shape)))))


def deepseek_v3_by_hand():
  """The weights of DeepSeek-V3 without multi-token prediction, and those a token uses (report, 4.2)."""
  d, heads, q, r, rope, nope, value = 7168, 128, 1536, 512, 64, 128, 128
  attention = d * q + q + q * heads * (nope + rope) + d * (r + rope) + r + r * heads * (nope + value)
  attention += heads * value * d
  norms, expert, dense = 2 * d, 3 * d * 2048, 3 * d * 18_432
  outside = 2 * 129_280 * d + d + 61 * (attention + norms) + 3 * dense + 58 * (d * 256 + 256 + expert)
  return outside + 58 * 256 * expert, outside + 58 * 8 * expert


def test_the_671b_counts_as_published(on_mesh):
  with on_mesh(32, 16, 2):
    found = dry_run.parameters(r1_zero_671b.get_config().model)
  assert found == deepseek_v3_by_hand()
  assert round(found.total / 1e9) == 671 and 36e9 < found.active < 38e9


def test_bytes_of_a_device_are_those_of_its_shards(on_mesh):
  experiment = r1_zero_tiny.get_config()
  model, stage = experiment.model, r1_zero_tiny.zero()
  with on_mesh(1, 1, 1):
    whole = dry_run.memory(experiment, stage)
    total = dry_run.parameters(model).total
  assert whole["parameters"] == whole["gradients"] == whole["reference"] == 4 * total
  assert 8 * total <= whole["AdamW moments"] <= 8 * total + 100  # and two counters
  a, s = model.attention, stage.sampling
  entry = 4 * model.layers * (a.latent_rank + a.rope_head)
  prompts = stage.rollout_size // stage.group_size
  assert whole["KV cache"] == entry * (prompts * s.max_prompt + stage.rollout_size * s.max_response)
  with on_mesh(1, 1, 1):
    rounded = dataclasses.replace(stage.optimizer, parameters="masters", moments="bfloat16")
    narrow = dry_run.memory(experiment, dataclasses.replace(stage, optimizer=rounded))
    adapters = dry_run.memory(experiment, dataclasses.replace(stage, lora=config.Lora(rank=2)))
  assert narrow["masters"] == 4 * total and 2 * total < narrow["parameters"] == narrow["reference"] < 2.1 * total
  assert 4 * total <= narrow["AdamW moments"] <= 4 * total + 100 and narrow["gradients"] == 4 * total
  assert adapters["parameters"] == 4 * total + adapters["gradients"]
  assert adapters["gradients"] == adapters["reference"] < total
  with on_mesh(2, 2, 1):
    split = dry_run.memory(experiment, stage)
  assert split["KV cache"] * 4 == whole["KV cache"]
  assert whole["parameters"] / 4 < split["parameters"] < whole["parameters"] / 2  # norms and up-projections less so


def test_every_kind_of_stage_keeps_what_it_needs(on_mesh):
  experiment = recipe.get_config()
  with on_mesh(1, 1, 1):
    kept = {stage.name: dry_run.memory(experiment, stage) for stage in experiment.stages}
    large, dense = (4 * dry_run.parameters(model).total for model in (experiment.model, recipe.dense()))
  training = ["parameters", "gradients", "AdamW moments"]
  assert list(kept["base"]) == list(kept["sft"]) == list(kept["helpful"]) == training
  assert list(kept["rejection"]) == list(kept["pairs"]) == ["parameters", "KV cache"]
  assert list(kept["zero"]) == [*training, "reference", "KV cache"]
  assert list(kept["general"]) == [*training, "reference", "KV cache", "reward models"]
  head = 4 * experiment.model.width
  assert kept["helpful"]["parameters"] == kept["general"]["reward models"] == large + head
  assert kept["student"]["parameters"] == kept["distilled"]["gradients"] == dense  # its parent's model
  a, s = experiment.model.attention, recipe.SAMPLING
  entry = 4 * experiment.model.layers * (a.latent_rank + a.rope_head)
  assert kept["rejection"]["KV cache"] == entry * 8 * (s.max_prompt + 4 * s.max_response)  # of one call


def test_questions_of_a_rollout_that_are_asked_in_parts_need_the_cache_of_a_part(on_mesh):
  experiment = recipe.get_config()
  whole = recipe.general()
  part = dataclasses.replace(whole, prompts_at_once=2)
  with on_mesh(1, 1, 1):
    caches = [dry_run.memory(experiment, stage)["KV cache"] for stage in (whole, part)]
  assert whole.rollout_size // whole.group_size == 4 and caches[0] == 2 * caches[1]


def test_the_schedule_says_what_every_stage_takes_and_does():
  console = rich.console.Console(width=240, record=True, file=io.StringIO())
  experiment = recipe.get_config()
  dry_run.show(experiment, console)
  text = console.export_text()
  printed = text[text.index("schedule") : text.index("weights")]
  rows = []
  for line in printed.splitlines()[4:]:
    if line.startswith("│"):
      rows.append(tuple(part.strip() for part in line.strip("│").split("│")))
  by_stage, name = {}, ""
  names = [stage.name for stage in experiment.stages]
  for first, takes, work in rows:
    name = first if first in names else name
    by_stage.setdefault(name, []).append((first, takes, work))
  column = lambda name, i: [row[i] for row in by_stage[name] if row[i]]
  assert list(by_stage) == names
  assert column("base", 0) == ["base", "Pretrain"] and column("base", 1) == ["parameters: random"]
  assert column("rejection", 1) == ["parameters: zero"]
  assert column("rejection", 2) == ["16 questions: 8 at once x 4, each up to 16 tokens"]
  assert column("distilled", 1) == ["parameters: student", "completions: rejection"]
  assert column("distilled", 2)[0] == "2 epochs: 4 rows x 64 = 256 tokens"
  assert column("distilled", 2)[1] == "learning rate 0.001, warm-up 2, cosine to 0.0001"
  assert column("helpful", 1) == ["parameters: sft", "pairs: pairs"]
  assert column("helpful", 2)[0] == "1 epoch: 4 pairs x 64 = 512 tokens"
  assert column("general", 1) == ["parameters: sft", "reward model: helpful"]
  assert column("general", 2)[0] == "8 steps: 8 of 16 rollouts (4 questions x 4), each up to 16 tokens"
  assert text.count("router_bias") == 1 and text.count("key_bias") == 1  # each model once
  assert "weights (float32) of student, distilled" in text


@pytest.mark.parametrize("experiment", [r1_zero_671b, r1_zero_tiny])
def test_the_run_is_shown_in_seconds_and_no_array_is_made(experiment):
  console = rich.console.Console(width=160, record=True, file=io.StringIO())
  before, start = len(live_arrays()), time.process_time()
  dry_run.show(experiment.get_config(), console)
  assert time.process_time() - start < 10
  assert len(live_arrays()) == before
  text = console.export_text()
  for word in ("zero", "blocks/experts/router_bias", "expert, data, tensor", "AdamW moments", "KV cache"):
    assert word in text, word


def test_a_batch_that_the_mesh_cannot_split_is_refused():
  experiment = dataclasses.replace(r1_zero_671b.get_config(), mesh=config.Mesh(data=64, expert=16))
  with pytest.raises(ValueError, match=r"zero: microbatch_rows = 512 cannot be split .* = 1024 shards"):
    experiment.validate()


def test_the_671b_holds_the_papers_values():
  experiment = r1_zero_671b.get_config()
  experiment.validate()
  (stage,) = experiment.stages
  assert stage.optimizer.learning_rate == 3e-6 and stage.kl == 0.001 and stage.sampling.temperature == 1
  assert (stage.group_size, stage.batch_size, stage.rollout_size) == (16, 32 * 16, 16 * 512)
  assert (stage.steps, stage.reference_every) == (10_400, 400)
  assert stage.sampling.max_prompt + stage.sampling.max_response == 32_768
  assert stage.template.text.endswith("User: {question}. Assistant:") and not stage.template.prefill
