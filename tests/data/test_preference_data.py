"""Preference data: files and stages as rows, the held-out share, the order of training, writers of the playground."""

from collections import Counter
import hashlib
import json

import numpy as np
import pytest

from r1jax import config
from r1jax.data import preferences as data
from r1jax.data.generated import PlaygroundProblems, ProblemSource
from r1jax.data.mixture import Mixture
from r1jax.data.preferences import Labels, Pairs
from r1jax.data.sources import Jsonl

PAIR = {"prompt": "Hi?", "chosen": "Hello.", "rejected": "No."}
LABEL = {"prompt": "Hi?", "response": "Hello.", "safe": True}
WORLD = config.Playground(
  domains=("writing", "harm"), levels=(1,), mix=config.Mix(), documents=10, evaluation_problems=2
)


def lines(path, *rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def turn(role, content):
  return [{"role": role, "content": content}]


def test_text_and_chats_of_one_turn_are_the_same_pair(tmp_path):
  chat = {"prompt": turn("user", "Hi?"), "chosen": turn("assistant", "Hello."), "rejected": turn("assistant", "No.")}
  first, second = Pairs(path=lines(tmp_path / "a.jsonl", PAIR, chat)).open(None)
  assert first == second
  assert {name: first[name] for name in PAIR} == PAIR
  assert (first["language"], first["domain"]) == ("en", "general")


def test_the_id_of_a_row_in_a_file_is_that_of_its_prompt_whatever_else_differs(tmp_path):
  rows = [PAIR | {"id": 1}, PAIR | {"id": 2, "chosen": "Hi."}, PAIR | {"id": 1, "prompt": "Hello?"}]
  first, second, third = Pairs(path=lines(tmp_path / "a.jsonl", *rows)).open(None)
  assert first["id"] == second["id"] != third["id"]


def test_labels_are_true_or_false(tmp_path):
  (row,) = Labels(path=lines(tmp_path / "a.jsonl", LABEL)).open(None)
  assert row["safe"] is True and row["response"] == "Hello."


@pytest.mark.parametrize(
  "source, row, fact",
  [
    (Pairs, {"prompt": "Hi?", "chosen": "a"}, "field 'rejected' is missing"),
    (Pairs, PAIR | {"chosen": 3}, "field 'chosen' must be text, but is of type int"),
    (Pairs, PAIR | {"prompt": "  "}, "field 'prompt' is empty"),
    (Pairs, PAIR | {"prompt": turn("user", "a") + turn("assistant", "b")}, "its turns are ['user', 'assistant']"),
    (Pairs, PAIR | {"chosen": turn("user", "a")}, "a single turn of the role 'assistant'"),
    (Pairs, PAIR | {"chosen": "a\ud800"}, "field 'chosen'"),
    (Labels, LABEL | {"safe": "yes"}, "field 'safe' must be true or false, but is 'yes'"),
    (Labels, LABEL | {"safe": 0.5}, "field 'safe' must be true or false"),
    (Labels, {"prompt": "Hi?", "response": "a"}, "field 'safe' must be true or false, but is None"),
  ],
)
def test_a_bad_row_is_a_sentence_with_file_and_line(tmp_path, source, row, fact):
  path = lines(tmp_path / "a.jsonl", PAIR | LABEL, row)
  with pytest.raises(ValueError) as error:
    source(path=path).check()
  assert f"{path}, line 2: " in str(error.value) and fact in str(error.value)


def test_a_source_names_one_place(tmp_path):
  for source in (Pairs(), Labels(stage="a", path="b")):
    with pytest.raises(ValueError, match="one of stage=.* and path=.* must be given, and not both"):
      source.validate()
  with pytest.raises(ValueError, match="names no file"):
    Pairs(path=str(tmp_path / "none.jsonl")).check()
  with pytest.raises(ValueError, match="holds no rows"):
    Pairs(path=lines(tmp_path / "empty.jsonl")).check()


def test_a_stage_is_taken_from_and_a_file_has_its_hash(tmp_path):
  assert Pairs(stage="pairs").takes() == [("pairs", "pairs")] and Labels(stage="l").takes() == [("labels", "l")]
  assert Pairs(stage="pairs").origin() is None
  path = lines(tmp_path / "a.jsonl", PAIR, PAIR)
  digest = hashlib.sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest()
  assert Pairs(path=path).takes() == [] and Pairs(path=path).origin() == {"file": path, "sha256": digest, "rows": 2}


def test_what_a_stage_wrote_keeps_its_ids_and_must_be_unchanged(tmp_path):
  folder = tmp_path / "pairs"
  folder.mkdir()
  lines(folder / "data.jsonl", PAIR | {"id": "writing-7", "domain": "writing", "language": "en"})
  digest = hashlib.sha256((folder / "data.jsonl").read_bytes()).hexdigest()
  (folder / "stage.json").write_text(json.dumps({"data_sha256": digest}))
  run_folder = lambda name: tmp_path / name
  (row,) = Pairs(stage="pairs").open(run_folder)
  assert (row["id"], row["domain"]) == ("writing-7", "writing")
  lines(folder / "data.jsonl", PAIR | {"id": "writing-8"})
  with pytest.raises(ValueError, match="is not what the stage 'pairs' wrote"):
    Pairs(stage="pairs").open(run_folder)


def test_about_the_share_of_all_prompts_is_held_out_always_the_same():
  ids = [f"id-{i}" for i in range(4000)]
  chosen = {id for id in ids if data.is_held_out(id, 0.1)}
  assert abs(len(chosen) / len(ids) - 0.1) < 4 * (0.1 * 0.9 / len(ids)) ** 0.5  # four standard errors
  assert chosen == {id for id in reversed(ids) if data.is_held_out(id, 0.1)}
  assert chosen < {id for id in ids if data.is_held_out(id, 0.2)}


@pytest.mark.parametrize("n, epochs, rows", [(10, 3, 4), (3, 2, 8), (7, 1, 7), (5, 4, 1)])
def test_every_row_counts_once_an_epoch_and_epochs_differ(n, epochs, rows):
  order = data.Order(n, 5, epochs, rows)
  seen, counts = zip(*[order(step) for step in range(order.steps)])
  seen, counts = np.concatenate(seen), np.concatenate(counts)
  assert order.steps == -(-n * epochs // rows) and counts.sum() == n * epochs
  counted = seen[counts > 0]
  for epoch in range(epochs):
    assert sorted(counted[epoch * n : (epoch + 1) * n]) == list(range(n))
  if n > 5:
    assert len({tuple(counted[e * n : (e + 1) * n]) for e in range(epochs)}) == epochs
  assert (data.Order(n, 5, epochs, rows)(0)[0] == order(0)[0]).all()


def test_rows_are_laid_out_as_they_are_read():
  tokens, lengths = data.lay_out([(np.array([1, 2, 3]), np.array([4])), (np.array([5]), np.array([6, 7]))], 4)
  assert tokens.tolist() == [[[1, 2, 3, 0], [4, 0, 0, 0]], [[5, 0, 0, 0], [6, 7, 0, 0]]]
  assert lengths.tolist() == [[3, 1], [1, 2]]


def test_the_fingerprint_knows_tokens_order_and_labels():
  row = lambda *texts: tuple(np.array(text, np.int32) for text in texts)
  make = lambda rows, safe=(1, 0): data.Examples(rows, np.array(safe, np.float32), ["a", "b"]).fingerprint()
  base = [row([1, 2], [3]), row([4], [5])]
  others = [make(base[::-1]), make([row([1], [2, 3]), base[1]]), make(base, (0, 1)), make(base)]
  assert len(set(others)) == 4 and make(base) == others[-1]


def test_writers_reply_to_the_very_question_in_different_styles():
  from r1jax.rewards.rubric import Rubric

  problems = ProblemSource(WORLD, 3)
  mixed = Mixture(sources=(PlaygroundProblems(playground=WORLD, seed=3),)).open(0)
  scores = []
  for index in range(60):
    texts = data.written(problems, index, 5)
    assert texts == data.written(problems, index, 5) == data.written(mixed, index, 5)
    assert data.written(problems, index, 2) == texts[:2]
    scores.append(sorted(Rubric()(problems[index], text) for text in texts))
  worst, *_, best = np.mean(scores, axis=0)
  assert worst < 0.3 and best == 1.0  # the ideal reply to this question, and no other, gets all points


def test_the_first_writer_can_be_named_and_is_the_one_who_complies_with_harm():
  from r1jax.rewards.rubric import safe

  problems = ProblemSource(WORLD, 0)
  first = [(problems[i], data.written(problems, i, 1, "bare")[0]) for i in range(100)]
  labels = Counter(safe(problem, text) for problem, text in first if problem.domain == "harm")
  assert labels[False] > 0.3 * labels.total()


def test_writers_know_the_playground_only(tmp_path):
  path = lines(tmp_path / "a.jsonl", {"id": "a", "prompt": "Hi?"})
  problems = Mixture(sources=(Jsonl(path=path),)).open(0)
  with pytest.raises(ValueError, match="set written=0"):
    data.written(problems, 0, 1)
