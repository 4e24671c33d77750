"""Supervised rows out of stages, files and the playground, and the figures about them."""

import hashlib
import json

import pyarrow
import pyarrow.parquet
import pytest

from r1jax import config
from r1jax.data import statistics
from r1jax.data.completions import COLUMNS, Completions, Made, PlaygroundCompletions
from r1jax.data.sources import Hub
from r1jax.playground import world

WORLD = config.Playground(
  domains=("arithmetic", "facts", "greetings", "translation"), levels=(1,), mix=config.Mix(), documents=1,
  evaluation_problems=4,
)  # fmt: skip


def no_stage(name):
  raise AssertionError(f"the stage {name!r} is not asked for")


def file(tmp_path, *rows, name="rows.jsonl"):
  path = tmp_path / name
  path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
  return str(path)


def read(tmp_path, *rows, **fields):
  source = Completions(path=file(tmp_path, *rows), **fields)
  source.validate()
  source.check()
  return source.open(no_stage)


# ---- files


@pytest.mark.parametrize(
  "row",
  [
    {"prompt": "1+1?", "completion": "<think>so</think>2"},
    {
      "prompt": [{"role": "user", "content": "1+1?"}],
      "completion": [{"role": "assistant", "content": "<think>so</think>2"}],
    },
    {"problem": "1+1?", "solution": "1+1=2", "generation": "<think>so</think>2", "answer": "2"},
    {"question": "1+1?", "response": "<think>so</think>2"},
    {"problem": "1+1?", "solution": "<think>so</think>2"},
    {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>so</think>2"}]},
    {"prompt": "1+1?", "response": "<think>so</think>2", "choices": ["1", "2"]},
  ],
  ids="+".join,
)
def test_the_conventions_of_the_field_are_read(row, tmp_path):
  found = read(tmp_path, row)
  assert [tuple(each) for each in found] == [COLUMNS]
  assert (found[0]["prompt"], found[0]["completion"]) == ("1+1?", "<think>so</think>2")

  assert (found[0]["id"], found[0]["domain"], found[0]["language"]) == ("rows.jsonl:1", "general", "en")
  assert (found[0]["kind"], found[0]["tokens"], found[0]["round"]) == ("open", None, 1)


def test_rows_of_a_hub_data_set_are_read(tmp_path):
  datasets = pytest.importorskip("datasets")
  turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>so</think>2"}]
  datasets.Dataset.from_list([{"messages": turns, "num_tokens": 7}] * 2).save_to_disk(str(tmp_path / "set"))
  source = Completions(source=Hub(dataset=str(tmp_path / "set")), domain="math")
  source.validate()
  source.check()
  found = source.open(no_stage)
  assert [(row["prompt"], row["completion"], row["domain"]) for row in found] == [
    ("1+1?", "<think>so</think>2", "math")
  ] * 2
  assert source.origin()["rows"] == 2
  for wrong in (Completions(), Completions(path="x.jsonl", source=source.source)):
    with pytest.raises(ValueError, match="either path='data.jsonl' or source="):
      wrong.validate()


def test_columns_may_have_any_names(tmp_path):
  row = {"q": "谁?", "a": "我。", "prompt": "no"}
  found = read(tmp_path, row, question="q", completion="a", domain="self", repeat=2)
  assert [(r["prompt"], r["completion"], r["domain"], r["language"]) for r in found] == [
    ("谁?", "我。", "self", "zh")
  ] * 2


def test_parquet_compressed_and_several_files_are_read_in_the_order_of_their_names(tmp_path):
  import gzip

  pyarrow.parquet.write_table(
    pyarrow.Table.from_pylist([{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(3)]), tmp_path / "c.parquet"
  )
  line = lambda name: json.dumps({"prompt": name, "completion": name.upper()}) + "\n"
  (tmp_path / "a.jsonl").write_text(line("x"))
  (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(line("y").encode()))
  source = Completions(path=str(tmp_path / "*"))
  found = source.open(no_stage)
  assert [row["prompt"] for row in found] == ["x", "y", "p0", "p1", "p2"]
  together = b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir()))
  assert source.origin() == {"file": source.path, "sha256": hashlib.sha256(together).hexdigest(), "rows": 5}


@pytest.mark.parametrize(
  ("rows", "fact"),
  [
    ([{"prompt": "p", "completion": "c"}, {"prompt": "p"}], r"rows.jsonl, line 2: field 'completion' is missing"),
    ([{"prompt": "p", "completion": " "}], r"rows.jsonl, line 1: field 'completion' is empty"),
    ([{"prompt": "", "completion": "c"}], r"rows.jsonl, line 1: field 'prompt' is empty"),
    (
      [{"prompt": "p", "completion": 1.5}, {"prompt": {"a": 1}, "completion": "c"}],
      r"line 2: field 'prompt' must be text",
    ),
    ([{"text": "p"}], r"line 1: columns 'text' have neither prompt and completion, .* Completions\(question="),
    ([], "holds no rows"),
    (
      [{"messages": [{"role": role, "content": "x"} for role in ("user", "assistant", "user", "assistant")]}],
      "line 1: 3 turns come before the completion, but a prompt is one turn",
    ),
    ([{"messages": [{"role": r, "content": "x"} for r in ("system", "user", "assistant")]}], "line 1: 2 turns come"),
    ([{"prompt": "p", "completion": "half \ud800 a pair"}], "line 1: .*half a surrogate"),
  ],
)
def test_a_bad_row_is_told_before_the_run(rows, fact, tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  with pytest.raises(ValueError, match=fact):
    Completions(path=str(path)).check()


def test_a_missing_file_and_half_a_mapping_are_told(tmp_path):
  with pytest.raises(ValueError, match="names no file"):
    Completions(path=str(tmp_path / "none.jsonl")).check()
  with pytest.raises(ValueError, match="give both or neither"):
    Completions(path="x", question="q").validate()
  with pytest.raises(ValueError, match="repeat=0 must be at least 1"):
    Completions(path="x", repeat=0).validate()


# ---- stages


def made(folder, rows):
  content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
  (folder / "data.jsonl").write_bytes(content)
  (folder / "stage.json").write_text(json.dumps({"data_sha256": hashlib.sha256(content).hexdigest()}))


def test_what_a_stage_made_is_read_and_read_again_as_a_users_file(tmp_path):
  rows = [
    dict(zip(COLUMNS, (f"a/{i}", f"q\u2028{i}", f"<think>x</think>{i}", "arithmetic", "en", "number", str(i), 2, 5, "rejection", 1)))
    for i in range(3)
  ]  # fmt: skip
  made(tmp_path, rows)
  source = Made(stage="rejection", repeat=2)
  source.validate()
  source.check()
  assert source.takes() == [("completions", "rejection")]
  assert source.open({"rejection": tmp_path}.__getitem__) == rows * 2
  again = Completions(path=str(tmp_path / "data.jsonl")).open(no_stage)
  assert [row | {"source": "rejection"} for row in again] == rows


def test_a_changed_file_of_a_stage_is_refused(tmp_path):
  made(tmp_path, [{"id": "a"}])
  (tmp_path / "data.jsonl").write_text("{}\n")
  with pytest.raises(ValueError, match=r"data.jsonl is not what the stage 'x' wrote.*Completions\(path="):
    Made(stage="x").open(lambda _: tmp_path)


def test_a_stage_of_another_run_is_taken_by_its_file():
  with pytest.raises(ValueError, match=r"Made.stage='other/run' must be the name .* Completions\(path="):
    Made(stage="other/run").validate()


def test_only_sources_that_no_stage_makes_have_an_origin():
  assert [hasattr(kind, "origin") for kind in (Made, Completions, PlaygroundCompletions)] == [False, True, True]


# ---- the playground


def test_the_best_writer_answers_the_worlds_general_questions():
  source = PlaygroundCompletions(playground=WORLD, domains=("facts", "greetings"), count=40, seed=3)
  source.validate()
  source.check()
  rows = source.open(no_stage)
  assert len(rows) == 40 and {row["domain"] for row in rows} == {"facts", "greetings"}
  assert all(tuple(row) == COLUMNS and row["source"] == "playground (careful)" for row in rows)
  problem, completion = world.completion_at(WORLD, 3, 7, ("facts", "greetings"), "careful")
  assert (rows[7]["prompt"], rows[7]["completion"]) == (problem.question, completion)
  assert not any(world.is_held_out(row["id"], WORLD.held_out) for row in rows)
  content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
  assert source.origin()["sha256"] == hashlib.sha256(content.encode()).hexdigest()


def test_a_domain_that_the_world_has_not_is_told():
  with pytest.raises(ValueError, match="domains"):
    PlaygroundCompletions(playground=WORLD, domains=("cooking",), count=1).check()


def test_a_style_that_no_writer_has_is_told():
  with pytest.raises(ValueError, match="style='best' must be one of 'careful'"):
    PlaygroundCompletions(playground=WORLD, domains=("facts",), count=1, style="best").validate()


# ---- figures


def row(domain, tokens, kind="number", **fields):
  return {"domain": domain, "kind": kind, "tokens": tokens, "round": 1, "source": "s"} | fields


def test_domains_count_for_the_rows_of_the_papers_table():
  groups = {
    "math": [row("arithmetic", 1), row("math", 1), row("algebra", 1, "expression")],
    "code": [row("program", 1, "program"), row("contests", 1, "program")],
    "stem": [row("choice", 1, "choice"), row("stem", 1), row("physics", 1, "choice")],
    "logic": [row("logic", 1, "text"), row("riddles", 1, "text")],
    "general": [row(d, 1, "text") for d in ("facts", "translation", "harm", "general")] + [row("poems", 1, "open")],
  }
  for name, rows in groups.items():
    assert [statistics.group(each) for each in rows] == [name] * len(rows)


def test_the_table_has_averages_per_group_and_in_total():
  table = statistics.table([row("math", 10), row("math", 20), row("general", 3, "open", round=4)])
  assert table == {
    "math": {"rows": 2, "rounds": 1.0, "tokens": 15.0},
    "general": {"rows": 1, "rounds": 4.0, "tokens": 3.0},
    "total": {"rows": 3, "rounds": 2.0, "tokens": 11.0},
  }


def test_nested_counts_add_up():
  a, b = {"n": 1, "by": {"x": 2}}, {"n": 3, "by": {"x": 1, "y": 5}, "new": {"z": 1}}
  assert statistics.add(a, b) == {"n": 4, "by": {"x": 3, "y": 5}, "new": {"z": 1}}
  assert a == {"n": 1, "by": {"x": 2}}
