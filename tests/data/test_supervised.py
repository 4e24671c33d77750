"""Supervised rows: what is trained on, read back from the packed rows and compared with the text."""

import collections

import jax  # noqa: F401  (conftest gives its modules a mesh)
import numpy as np
import pytest

from r1jax import config, mesh
from r1jax.data import problems, supervised
from r1jax.data.prompts import Prompter
from r1jax.data.tokenizer import Tokenizer
from r1jax.types import Problem

TEMPLATE = config.Template(text="<|user|>{question}<|assistant|>")
THINKING = config.Template(text="<|user|>{question}<|assistant|>", prefill="<think>")


def rows(count, seed=0):
  """Completions of many lengths, all different."""
  random = np.random.default_rng(seed)
  digits = lambda: "".join(map(str, random.integers(0, 10, random.integers(1, 30))))
  return [
    {"prompt": f"what is {i}+{n % 7} then?", "completion": f"<think>{i}.{digits()}</think>The answer is {n}."}
    for i, n in enumerate(random.integers(0, 1000, count))
  ]


@pytest.fixture(scope="module")
def tokenizer():
  return Tokenizer.train([row["prompt"] + row["completion"] for row in rows(200)], 320)


def stretches(batch):
  """(tokens, weights) of every packed example of a batch, read back from segments and positions."""
  for tokens, positions, segments, weight in zip(batch.tokens, batch.positions, batch.segments, batch.weight):
    assert not weight[segments == 0].any()
    for number in range(1, segments.max() + 1):
      (where,) = np.nonzero(segments == number)
      assert (np.diff(where) == 1).all() and (positions[where] == np.arange(len(where))).all()
      yield tokens[where].tolist(), weight[where]


def test_the_loss_is_on_completion_and_end_token_and_sums_to_one(tokenizer):
  data = rows(13)
  batches = supervised.Batches(supervised.encode(data, Prompter(TEMPLATE, tokenizer), 96), 96, 4, 1, 0)
  seen = []
  for step in range(len(batches)):
    batch, count = batches[step]
    assert batch.weight.sum() == pytest.approx(1, abs=1e-5)  # float32 sum of shares
    assert np.count_nonzero(batch.weight) == count
    for tokens, weight in stretches(batch):
      trained = [token for token, w in zip(tokens, weight) if w]
      assert (weight[weight > 0] == np.float32(1 / count)).all()
      assert trained[-1] == tokenizer.end and weight[-1] > 0
      seen.append((tokenizer.decode(tokens[: -len(trained)]), tokenizer.decode(trained)))
  expected = [(f"<|user|>{row['prompt']}<|assistant|>", row["completion"]) for row in data]
  assert sorted(seen) == sorted(expected)


@pytest.mark.parametrize("template", [TEMPLATE, THINKING])
def test_the_tokens_trained_on_are_those_that_go_on_where_the_sampler_begins(tokenizer, template):
  data = rows(9)
  examples = supervised.encode(data, Prompter(template, tokenizer), 96)
  asked = [Problem(id="", question=row["prompt"], answer="", kind="open", domain="") for row in data]
  prompts = problems.make_prompts(asked, Prompter(template, tokenizer), 64)
  for row, tokens, size, prompt, length in zip(
    data, examples.tokens, examples.prompts, prompts.tokens, prompts.lengths
  ):
    assert tokens[:size].tolist() == prompt[:length].tolist()
    *response, end = tokens[size:].tolist()
    assert end == tokenizer.end
    assert template.prefill + tokenizer.decode(response) == row["completion"]
    assert response == tokenizer.encode(row["completion"][len(template.prefill) :])


def test_no_piece_reaches_over_the_end_of_the_prompt(tokenizer):
  template, whole = config.Template(text="{question} The ans"), "1+1 The answer is 2."
  (tokens,), (size,), *_ = supervised.encode(
    [{"prompt": "1+1", "completion": "wer is 2."}], Prompter(template, tokenizer), 96
  )
  assert tokens[:size].tolist() == tokenizer.encode("1+1 The ans")
  assert tokens[size:-1].tolist() == tokenizer.encode("wer is 2.")
  assert tokens[:-1].tolist() != tokenizer.encode(whole)  # which has " answer" in one piece


def test_a_completion_that_does_not_begin_with_the_prefill_is_refused(tokenizer):
  row = {"prompt": "hello", "completion": "Hi there."}
  with pytest.raises(ValueError, match=r"'Hi there.' to 'hello' does not begin with template.prefill='<think>'"):
    supervised.encode([row], Prompter(THINKING, tokenizer), 96)


def test_examples_longer_than_a_row_are_left_out_and_counted(tokenizer):
  data = rows(20)
  sizes = [
    len(tokenizer.encode(f"<|user|>{row['prompt']}<|assistant|>")) + len(tokenizer.encode(row["completion"])) + 1
    for row in data
  ]
  limit = sorted(sizes)[11]
  examples = supervised.encode(data, Prompter(TEMPLATE, tokenizer), limit)
  assert [len(tokens) for tokens in examples.tokens] == [size for size in sizes if size <= limit]
  assert examples.left_out == sum(size > limit for size in sizes) > 0
  assert examples.longest == max(sizes)


@pytest.mark.parametrize(("epochs", "count"), [(1, 1), (2, 4), (3, 5), (2, 64)])
def test_every_example_is_seen_once_an_epoch_and_only_the_last_step_is_filled_up(tokenizer, epochs, count):
  data = rows(23)
  batches = supervised.Batches(supervised.encode(data, Prompter(TEMPLATE, tokenizer), 80), 80, count, epochs, 7)
  assert 1 < batches.rows < len(data)
  assert len(batches) == -(-epochs * batches.rows // count)
  seen = collections.Counter()
  for step in range(len(batches)):
    batch, _ = batches[step]
    assert batch.tokens.shape == (count, 80)
    empty = (batch.segments == 0).all(1)
    assert not empty.any() or step == len(batches) - 1
    seen.update(tokenizer.decode(tokens) for tokens, _ in stretches(batch))
  assert seen == {f"<|user|>{row['prompt']}<|assistant|>{row['completion']}": epochs for row in data}


def test_every_epoch_has_its_own_order_and_every_seed_its_own(tokenizer):
  examples = supervised.encode(rows(40), Prompter(TEMPLATE, tokenizer), 80)
  order = lambda seed: supervised.Batches(examples, 80, 1, 2, seed).order.ravel()
  first, second = np.split(order(3), 2)
  assert sorted(first) == sorted(second) and (first != second).any()
  assert (order(3) == order(3)).all() and (order(3) != order(4)).any()


def test_the_rows_of_all_processes_are_those_of_one(tokenizer, monkeypatch, on_devices):
  examples = supervised.encode(rows(23), Prompter(TEMPLATE, tokenizer), 80)
  batches = supervised.Batches(examples, 80, 4, 2, 0)
  with on_devices(data=4):
    for step in range(len(batches)):
      whole, count = batches[step]
      parts = []
      for process in range(2):
        monkeypatch.setattr(mesh, "part", lambda process=process: (process, 2))
        parts.append(batches[step])
      monkeypatch.undo()
      assert {part[1] for part in parts} == {count}
      for field in ("tokens", "positions", "segments", "weight"):
        woven = np.stack([getattr(part, field) for part, _ in parts], 1).reshape(4, 80)
        np.testing.assert_array_equal(woven, getattr(whole, field))


def test_a_fingerprint_tells_other_examples_apart(tokenizer):
  of = lambda data, template: supervised.encode(data, Prompter(template, tokenizer), 96).fingerprint()
  data = rows(5)
  changed = [*data[:-1], data[-1] | {"completion": data[-1]["completion"].replace("</think>", "")}]
  shifted = config.Template(text="<|user|>{question}<|assistant|>", prefill="<think>")
  assert of(data, TEMPLATE) == of(rows(5), TEMPLATE)
  assert len({of(data, TEMPLATE), of(changed, TEMPLATE), of(data[::-1], TEMPLATE), of(data, shifted)}) == 4
