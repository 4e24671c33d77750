"""A published model through SFT, RL and out again, as a user does it; what is in the way is one sentence."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from r1jax import config, export, pipeline, published
from r1jax.data.completions import PlaygroundCompletions
from r1jax.data.sources import Jsonl
from r1jax.data.tokenizer import open_tokenizer
from r1jax.models import hub
from r1jax.training.workdir import write_json
from tests.experiments import small

ROWS = str(pathlib.Path(__file__).parent / "experiments/rows.jsonl")
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = (
  "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}"
)
MODEL = config.Model(
  vocab=328,  # a few more rows than the tokenizer has tokens, as published
  width=32,
  layers=2,
  hidden=48,
  attention=config.GroupedQueryAttention(heads=4, kv_heads=2, head=8, bias=True),
  tied=True,
  activations="float32",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, random_params):
  """A base Qwen2 of random weights, with a byte-level tokenizer and a chat template that writes <think>."""
  at = tmp_path_factory.mktemp("hub")
  model = tokenizers.Tokenizer(models.BPE())
  model.pre_tokenizer, model.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=list(CONTROL), initial_alphabet=alphabet)
  model.train_from_iterator(["What is 7+8? The answer is 15. wait"] * 20, trainer)
  model.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")])
  model.save(str(at / "tokenizer.json"))
  about = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "chat_template": CHAT}
  write_json(at / "tokenizer_config.json", about)
  from r1jax import mesh

  with jax.set_mesh(mesh.make(config.Mesh(), jax.devices()[:1])):
    loaded = hub.Loaded(config=MODEL, params=random_params(MODEL), tokenizer=open_tokenizer(at))
    return hub.save(at / "model", loaded, dtype="float32")


def experiment(folder, **fields) -> config.Experiment:
  """SFT of the published model, then RL and an exam on the rows of a file, all in its chat template."""
  chat, sampling = config.Chat(), config.Sampling(max_prompt=128, max_response=12, chunk=16)
  sft = config.SFT(
    name="sft",
    data=(PlaygroundCompletions(playground=small.get_config().playground, domains=("arithmetic",), count=8),),
    template=chat,
    epochs=1,
    rows=4,
    length=160,
    optimizer=config.Optimizer(learning_rate=1e-3),
    checkpoints=config.Checkpoints(every=2),
  )
  zero = dataclasses.replace(
    small.zero(),
    start_from="sft",
    steps=2,
    problems=Jsonl(path=ROWS),
    template=chat,
    sampling=sampling,
    row_length=144,
    evaluate_every=0,
  )
  whole = dataclasses.replace(
    small.get_config(),
    playground=None,
    model=config.hub(str(folder), activations="float32", unroll=True, remat="none"),
    stages=(sft, zero),
    evaluation=dataclasses.replace(
      small.get_config().evaluation, problems=Jsonl(path=ROWS), sampling=sampling, template=chat
    ),
  )
  return dataclasses.replace(whole, **fields)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
  """The workdir of that run."""
  from r1jax import mesh

  workdir = tmp_path_factory.mktemp("run")
  resolved = published.resolve(experiment(folder), workdir)
  resolved.validate()
  with jax.set_mesh(mesh.make(config.Mesh(), jax.devices()[:1])):
    pipeline.execute(resolved, workdir)
  return workdir


def test_training_begins_with_the_published_weights_and_tokenizer(folder, finished):
  figures = json.loads((finished / "sft/stage.json").read_text())
  assert figures["lineage"]["published"]["name"] == str(folder) and figures["lineage"]["parent"] is None
  assert open_tokenizer(finished / "tokenizer").sha256 == open_tokenizer(folder).sha256
  rollout = json.loads(next((finished / "zero/rollouts").glob("*.jsonl")).read_text().splitlines()[0])
  assert "<|im_end|>" not in rollout["response"]  # drawn or not, it is no text
  assert json.loads((finished / "zero/stage.json").read_text())["lineage"]["published"] is None


def test_the_exam_is_the_rows_of_the_file(finished):
  rows = [json.loads(line) for line in pathlib.Path(ROWS).read_text().splitlines()]
  asked = [json.loads(line) for line in (finished / "zero/samples.jsonl").read_text().splitlines()]
  assert [(row["question"], row["answer"]) for row in asked] == [(row["problem"], row["answer"]) for row in rows]


def test_an_exported_stage_is_the_stage(folder, finished, tmp_path):
  out = export.export(str(finished / "zero"), str(tmp_path / "out"), "float32")
  loaded, before = hub.load(out), hub.load(folder)
  from r1jax import finished as stages

  params = stages.read(finished / "zero").params()
  jax.tree.map(np.testing.assert_array_equal, loaded.params, params)
  assert any((a != b).any() for a, b in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(before.params)))
  end, turn_end = (CONTROL.index(name) for name in ("<|endoftext|>", "<|im_end|>"))
  assert open_tokenizer(folder).ends == (end,)  # a base ends documents; the chat that it was trained on ends turns
  assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [turn_end, end]
  assert (
    loaded.tokenizer.ends == (turn_end, end) and loaded.tokenizer.chat.turn_end() == before.tokenizer.chat.turn_end()
  )
  fields = json.loads((out / "config.json").read_text())
  assert fields["architectures"] == ["Qwen2ForCausalLM"] and fields["vocab_size"] == MODEL.vocab
  with pytest.raises(ValueError, match="exists already; name a new folder"):
    export.export(str(finished / "zero"), str(out))


def test_a_model_that_is_not_there_is_one_sentence(folder, tmp_path):
  for name in ("nowhere/at/all", str(folder / "none")):
    with pytest.raises(ValueError, match="there is no folder .*; name one, or a model of the hub"):
      published.resolve(experiment(name), tmp_path)


def test_a_model_in_full_keeps_its_fields_and_gains_the_commit(folder, tmp_path, monkeypatch):
  stated = dataclasses.replace(MODEL, remat="dots", published=config.hub("some/model"))
  whole = dataclasses.replace(experiment(folder), model=stated)
  monkeypatch.setattr(published.hub, "resolve", lambda *_: folder)
  monkeypatch.setattr(published.hub, "commit", lambda _: "abc")
  found = published.resolve(whole, tmp_path).model
  assert found == dataclasses.replace(stated, published=config.hub("some/model", "abc"))
  assert published.resolve(whole, tmp_path, weights=False).model == stated  # only looked at: nobody is asked


def test_a_second_tokenizer_wants_a_run_of_its_own(folder, tmp_path):
  other = tmp_path / "other"
  shutil.copytree(folder, other)
  path = other / "tokenizer_config.json"
  write_json(path, json.loads(path.read_text()) | {"chat_template": CHAT + " "})
  whole = experiment(folder)
  student = dataclasses.replace(whole.stages[0], name="student", model=config.hub(str(other), activations="float32"))
  whole = published.resolve(dataclasses.replace(whole, stages=(*whole.stages, student)), tmp_path)
  with pytest.raises(ValueError, match="stage 'student': .*other has another tokenizer than this run"):
    pipeline.execute(whole, tmp_path / "run")
