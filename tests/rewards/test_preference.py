"""One of our own checkpoints as a judge: its replies are those of the sampler."""

import dataclasses
import gc
import shutil
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from r1jax import config
from r1jax.data import problems as data
from r1jax.data.prompts import Prompter
from r1jax.data.tokenizer import Tokenizer
from r1jax.mesh import to_global, to_local
from r1jax.rewards.endpoint import Failure
from r1jax.rewards.judges import Judge
from r1jax.rewards.preference import OwnModel, as_text
from r1jax.rl.sampling import sample
from r1jax.training import optimizer, state
from r1jax.training.checkpoints import Checkpoints
from r1jax.types import Problem

# A failed read leaves futures behind that nobody awaits; Python mentions them when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TEMPLATE = config.Template(text="User: {question} Assistant:", prefill="<think>")
SAMPLING = config.Sampling(temperature=0.9, max_prompt=24, max_response=12, chunk=16)
QUESTIONS = ["What is 3+4?", "Is 7 prime?", "9", "How many?", "3 + 4 is 7"]


@pytest.fixture(scope="module")
def model(tiny_model, grouped_query):
  return tiny_model(vocab=330, attention=grouped_query, experts=None)


@pytest.fixture
def stage(tmp_path, model, random_params):
  """The folder of a finished stage with a random policy, and its tokenizer."""
  train_state = state.create(random_params(model), optimizer.make(config.Optimizer(learning_rate=1e-3), 1))
  with Checkpoints(tmp_path / "base" / "checkpoints", 1, 1) as checkpoints:
    checkpoints.save_if_due(1, 1, train_state, {})
  tokenizer = Tokenizer.train([f"User: {question} Assistant: yes" for question in QUESTIONS] * 20, 330)
  tokenizer.save(tmp_path / "base" / "tokenizer")
  return tmp_path / "base"


@pytest.fixture
def engine(stage, model):
  return OwnModel(stage=str(stage), model=model, template=TEMPLATE, sampling=SAMPLING, at_once=2, seed=3, device=0)


def said(*texts):
  return [[{"role": "user", "content": text}] for text in texts]


def test_replies_equal_what_the_sampler_gives_directly(engine, stage, model, random_params):
  tokenizer = Tokenizer.load(stage / "tokenizer")
  problems = [Problem(str(i), question, "", "text", "") for i, question in enumerate(QUESTIONS)]
  prompts = data.make_prompts(problems, Prompter(TEMPLATE, tokenizer), SAMPLING.max_prompt)
  inputs = to_global((prompts.tokens, prompts.lengths, prompts.rows))
  rollouts = to_local(
    sample(
      random_params(model), *inputs, jax.random.key(3), c=model, sampling=SAMPLING, group_size=1, ends=(tokenizer.end,),
      pad=tokenizer.pad,
    )
  )  # fmt: skip
  expected = [
    "<think>" + tokenizer.decode(tokens[:n].tolist())
    for tokens, n in zip(np.asarray(rollouts.tokens)[:, 0], rollouts.lengths[:, 0])
  ]
  with engine.open() as client:
    found = client.complete(said(*QUESTIONS))  # in three calls of two
    again = client.complete(said(*QUESTIONS))
  assert found == expected == again
  assert len(set(found)) == len(QUESTIONS)


def test_it_answers_from_another_thread_whatever_mesh_the_main_one_has(engine, on_devices):
  replies = []
  with on_devices(data=2), engine.open() as client:
    thread = threading.Thread(target=lambda: replies.append(client.complete(said(*QUESTIONS))))
    thread.start()
    thread.join()
    assert replies == [client.complete(said(*QUESTIONS))]


def test_a_conversation_that_is_too_long_is_declined_and_the_others_are_answered(engine):
  with engine.open() as client:
    alone = client.complete(said("9"))
    first, second = client.complete(said("7 " * 100, "9"))
    assert client.complete([]) == []
  assert isinstance(first, Failure) and first.declined and "more than sampling.max_prompt=24" in first.reason
  assert [second] == alone


def test_a_random_policy_is_a_judge_that_fails(engine):
  longer = dataclasses.replace(engine, sampling=dataclasses.replace(SAMPLING, max_prompt=2048))
  problem = Problem("p", "What is 3+4?", "7", "text", "general")
  with Judge(engine=longer, instructions="Same?").open() as runner:
    (verdict,) = runner.score([problem], ["7"])
  assert (verdict.score, verdict.status) == (None, "judge failed") and "not in the form" in verdict.detail


def test_a_stage_that_is_not_there_or_of_another_model_is_one_sentence(engine, stage, tmp_path):
  missing = dataclasses.replace(engine, stage=str(tmp_path / "zero"))
  with pytest.raises(ValueError, match="own_model.stage=.*has no folder 'checkpoints'"), missing.open():
    pass
  other = dataclasses.replace(engine, model=dataclasses.replace(engine.model, width=64))
  with pytest.raises(ValueError, match="damaged or was written by another model config"), other.open():
    pass
  gc.collect()  # here, where the warnings of what the failed read left behind are ignored
  with pytest.raises(ValueError, match="own_model: device 99 of 8"), dataclasses.replace(engine, device=99).open():
    pass
  shutil.rmtree(stage / "tokenizer")
  with pytest.raises(ValueError, match="has no folder 'tokenizer'"), engine.open():
    pass


def test_a_conversation_is_plain_text_until_somebody_replied():
  turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "7?")]
  messages = [{"role": role, "content": content} for role, content in turns]
  assert as_text(messages[:2]) == "Be brief.\n\nHi"
  assert as_text(messages) == "Be brief.\n\nHi\n\nAssistant: Yes?\n\nUser: 7?"


def test_the_judges_import_no_jax():
  code = "import sys, r1jax.rewards.preference, r1jax.rewards.judges; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
