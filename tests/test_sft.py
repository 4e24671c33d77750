"""Supervised fine-tuning: the loss against one example at a time, an uninterrupted stage against a killed one."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import config, mesh, pipeline
from r1jax.data import supervised
from r1jax.data.prompts import Prompter
from r1jax.data.tokenizer import Tokenizer
from r1jax.models import transformer
from r1jax.models.scoring import next_token_loss
from r1jax.stages import evaluate, sft
from r1jax.stages.run import Run
from r1jax.training import state as states, update as updates
from r1jax.types import Problem
from tests.experiments import small

TEMPLATE = config.Template(text="<|user|>{question}<|assistant|>")


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Sums:
  """A source of completions: small sums in words, some longer than others."""

  count: int = 24
  seed: int = 0

  def validate(self):
    pass

  def check(self):
    pass

  def takes(self):
    return []

  def origin(self):
    return {"file": "sums", "rows": self.count}

  def open(self, folder):
    return [
      {"prompt": f"What is {i}+{i}?", "completion": f"<think>{'i+i=' * (i % 3)}{i + i}</think>The answer is {i + i}."}
      for i in range(self.seed, self.seed + self.count)
    ]


def stage(**fields) -> config.SFT:
  defaults = dict(
    name="sft",
    data=(Sums(),),
    template=TEMPLATE,
    rows=4,
    length=96,
    optimizer=config.Optimizer(learning_rate=3e-3, final_rate=0.1),
    checkpoints=config.Checkpoints(every=2),
  )
  made = config.SFT(**(defaults | fields))
  made.validate()
  return made


@pytest.fixture(scope="module")
def tokenizer():
  return Tokenizer.train([row["prompt"] + row["completion"] for row in Sums(count=200).open(None)], 320)


@pytest.fixture(scope="module")
def model(tokenizer, tiny_model):
  return tiny_model(vocab=tokenizer.size, layers=2)


@pytest.fixture(scope="module")
def new_run(tokenizer, model, tmp_path_factory):
  """Makes a run of a stage in a folder of its own."""

  def make(stage):
    experiment = dataclasses.replace(small.get_config(), model=model, stages=(stage,))
    return Run(experiment=experiment, workdir=tmp_path_factory.mktemp("run"), tokenizer=tokenizer, held_out=())

  return make


@pytest.fixture(scope="module")
def finished(new_run, model, random_params, on_devices):
  """(run, parameters) of one uninterrupted stage."""
  run = new_run(stage())
  with on_devices():
    return run, jax.device_get(sft.run(stage(), run, random_params(model)))


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def assert_equal(found, expected):
  for a, b in zip(jax.tree.leaves(jax.device_get(found)), jax.tree.leaves(jax.device_get(expected)), strict=True):
    assert a.tobytes() == b.tobytes()


# ---- the loss


@pytest.fixture(scope="module")
def examples(tokenizer):
  return supervised.encode(Sums(count=17).open(None), Prompter(TEMPLATE, tokenizer), 96)


def test_the_loss_and_gradient_of_packed_rows_are_those_of_one_example_at_a_time(
  model, random_params, examples, tokenizer
):
  model = dataclasses.replace(model, experts=dataclasses.replace(model.experts, balance=0.0))  # which counts rows
  params = random_params(model)

  def alone(params, tokens, size, prompt):
    """Summed cross-entropy of what follows the prompt, in a row of its own."""
    at = jnp.arange(96)[None]
    real = at < size
    out = transformer.apply(model, params, tokens[None], at * real, real.astype(jnp.int32))
    p = jax.nn.log_softmax(transformer.logits(model, params, out.hidden))
    trained = (at >= prompt) & real
    chosen = jax.nn.one_hot(tokens, model.vocab) * trained[..., None]
    return -(p[:, :-1] * chosen[:, 1:]).sum()

  slow = jax.jit(jax.value_and_grad(alone))
  parts = [
    slow(params, np.pad(tokens, (0, 96 - len(tokens))), len(tokens), prompt)
    for tokens, prompt in zip(examples.tokens, examples.prompts)
  ]
  total = sum(len(tokens) for tokens in examples.tokens) - examples.prompts.sum()
  expected = jax.tree.map(lambda *leaves: sum(leaves) / total, *parts)
  batches = supervised.Batches(examples, 96, 8, 1, 0)
  assert len(batches) == 1 and batches.rows < len(examples.tokens)  # all in one step, several in a row, one row empty
  batch, count = batches[0]
  assert count == total and (batch.segments == 0).all(1).any()
  fast = jax.jit(jax.value_and_grad(lambda p, b: next_token_loss(model, p, b)[0]))
  found = fast(params, mesh.to_global(batch))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6, rtol=1e-4), found, expected)


def test_the_gradient_is_the_same_for_every_number_of_micro_batches_and_devices(
  model, random_params, examples, on_devices
):
  batch, _ = supervised.Batches(examples, 96, 8, 1, 0)[0]
  loss = functools.partial(next_token_loss, model)

  def gradient(count):
    params, parts = random_params(model), mesh.microbatches(batch, count)
    total = updates.zeros(params, parts[0], loss=loss)
    for part in parts:
      total = updates.accumulate(params, total, part, loss=loss)
    return jax.device_get(total)

  expected = gradient(1)
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6, rtol=1e-4)  # float32 sums in another order
  for count in (2, 4):
    jax.tree.map(close, gradient(count), expected)
  with on_devices(data=2, expert=2):
    jax.tree.map(close, gradient(1), expected)


# ---- the stage


class Killed(Exception):
  pass


def test_a_stage_killed_in_an_update_ends_as_if_it_had_not_been(new_run, finished, model, random_params, monkeypatch):
  whole, expected = finished
  run, calls = new_run(stage()), []

  def fails(*args, **kwargs):
    calls.append(args)
    if len(calls) in (2, 6):  # before the first checkpoint, and in the fourth step of the second attempt
      raise Killed
    return updates.update(*args, **kwargs)

  monkeypatch.setattr(sft, "update", fails)
  for _ in range(2):
    with pytest.raises(Killed):
      sft.run(stage(), run, random_params(model))
  assert_equal(sft.run(stage(), run, random_params(model)), expected)
  assert len(calls) == 2 + 4 + 2  # steps 0-1, 0-3, and from the checkpoint of step 2 on
  timeless = lambda row: {key: value for key, value in row.items() if not key.startswith("time/")}
  logs = [[timeless(row) for row in lines(r.workdir / "sft/metrics.jsonl")] for r in (whole, run)]
  assert logs[0] == logs[1] and len(logs[0]) == 4


def test_the_log_counts_the_response_tokens_of_every_step(finished):
  run, _ = finished
  rows = lines(run.workdir / "sft/metrics.jsonl")
  written = [len(run.tokenizer.encode(row["completion"])) + 1 for row in Sums().open(None)]
  assert sum(row["sft/response_tokens"] for row in rows) == 2 * sum(written)
  assert rows[-1]["policy/loss"] < rows[0]["policy/loss"]
  assert "expert/max_violation" in rows[0]


def test_other_data_than_a_stage_was_begun_with_is_refused(finished, model, random_params):
  with pytest.raises(ValueError, match="stage 'sft': its examples are not those this run was begun with"):
    sft.run(stage(data=(Sums(seed=1),)), finished[0], random_params(model))


def test_examples_that_are_too_long_are_told_once(new_run, model, random_params):
  short = stage(length=25, epochs=1)
  run = new_run(short)
  first = sft.run(short, run, random_params(model))
  assert_equal(sft.run(short, run, random_params(model)), first)  # nothing is left to do
  assert lines(run.workdir / "sft/metrics.jsonl")  # which an alarm without a step would have begun anew
  (row,) = lines(run.workdir / "sft/alarms.jsonl")
  assert row["step"] == 0 and row["alarm"] == "left_out"
  assert "of 24 examples are longer than length=25 tokens and left out; length=31 would hold them" in row["message"]


def test_a_stage_without_an_example_that_fits_says_what_would_hold_them(new_run):
  with pytest.raises(
    RuntimeError, match=r"stage 'sft': 24 of 24 examples are longer than length=4 tokens .* length=31"
  ):
    sft.run(stage(length=4), new_run(stage()), None)


def test_what_is_learned_by_heart_is_what_the_sampler_writes(new_run, model, random_params):
  by_heart = stage(data=(Sums(count=6),), epochs=150, rows=2, checkpoints=config.Checkpoints(every=1000))
  run = new_run(by_heart)
  params = sft.run(by_heart, run, random_params(model))
  rows = Sums(count=6).open(None)
  asked = [Problem(id="", question=row["prompt"], answer="", kind="open", domain="") for row in rows]
  sampling = config.Sampling(temperature=0.1, max_prompt=24, max_response=64, chunk=64)
  prompts = evaluate.data.make_prompts(asked, Prompter(TEMPLATE, run.tokenizer), sampling.max_prompt)
  drawn = evaluate.draw(run, run.policy(by_heart, params), prompts, jax.random.key(0), sampling, 1)
  assert [texts[0] for texts in evaluate.decode(run.tokenizer, drawn)] == [row["completion"] for row in rows]
  assert drawn.ended.all()


# ---- dense students


def test_pretraining_sft_and_rl_run_on_a_dense_student_of_its_own(tmp_path):
  """Next to the experiment's model with experts, whose metrics a dense one has none of."""
  attention = config.GroupedQueryAttention(heads=4, kv_heads=2, head=8, bias=True)
  dense = dataclasses.replace(small.model(), attention=attention, experts=None, dense_layers=0, tied=True)
  tuned = stage(start_from="base", data=(Sums(count=12),), epochs=1)
  stages = (
    dataclasses.replace(small.base(), model=dense, steps=2),
    tuned,
    dataclasses.replace(small.zero(), start_from="sft", steps=2, reference_every=2, evaluate_every=0),
  )
  experiment = dataclasses.replace(small.get_config(), stages=stages)
  experiment.validate()
  results = pipeline.execute(experiment, tmp_path / "run")
  hashes = {figures["params_sha256"] for figures in results["stages"].values()}
  assert len(hashes) == 3
  for name in ("base", "sft", "zero"):
    rows = lines(tmp_path / "run" / name / "metrics.jsonl")
    assert rows and not [key for row in rows for key in row if key.startswith("expert/")]
    params = states.abstract_params(experiment.model_of(experiment.stage(name)))
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    assert any("bias" in n for n in names) and not any("experts" in n for n in names)
