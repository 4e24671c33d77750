"""Filters: by length, pass rate, language, domain and level."""

import json

import pytest

from r1jax import config
from r1jax.data import problems as data
from r1jax.data.filters import Context, MaxPromptLength, Only, PassRate
from r1jax.data.prompts import Prompter
from r1jax.data.sources import Jsonl
from r1jax.data.tokenizer import Tokenizer
from r1jax.types import Problem


def problem(id="1", **fields):
  return Problem(**({"id": id, "question": "2+2?", "answer": "4", "kind": "number", "domain": "math"} | fields))


def reason(each, problem, **known):
  each.validate()
  return each.open(Context(**known))(problem)


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def test_a_prompt_longer_than_allowed_with_its_template_is_dropped():
  tokenizer = Tokenizer.train(["Solve it: what is two and two?"] * 20, 300)
  template = config.Template(text="Solve it: {question}", prefill="<think>")
  prompter = Prompter(template, tokenizer)
  length = lambda problem: len(prompter.encode(problem.question))
  asked = problem(question="what is two and two?")
  exact = len(tokenizer.encode("Solve it: what is two and two?<think>"))
  assert length(asked) == exact
  assert data.make_prompts([asked], prompter, exact).lengths.tolist() == [exact]
  assert reason(MaxPromptLength(tokens=exact), asked, prompt_length=length) == ""
  assert (
    reason(MaxPromptLength(tokens=exact - 1), asked, prompt_length=length) == f"{exact} tokens, more than {exact - 1}"
  )
  with pytest.raises(ValueError, match="needs a tokenizer and a template"):
    reason(MaxPromptLength(tokens=1), asked)


@pytest.mark.parametrize("rate, kept", [(0.0, False), (0.19, False), (0.2, True), (0.5, True), (0.8, True), (1, False)])
def test_pass_rates_are_kept_between_the_bounds_both_included(rate, kept):
  each = PassRate(low=0.2, high=0.8, column="stats.rate")
  assert (reason(each, problem(columns={"stats": {"rate": rate}})) == "") == kept


def test_pass_rates_may_stand_in_a_file(tmp_path):
  path = write(
    tmp_path / "rates.jsonl",
    [{"id": "1", "pass_rate": 0.5}, {"id": 2, "pass_rate": 1.0}, {"id": "1", "pass_rate": 0.5}],
  )
  each = PassRate(high=0.9, file=path).open(Context())
  assert each(problem("1")) == "" and each(problem("2")) == "pass rate 1 outside [0, 0.9]"


def test_a_problem_without_a_rate_is_an_error_unless_told_otherwise(tmp_path):
  path = write(tmp_path / "rates.jsonl", [{"id": "1", "pass_rate": None}])
  for each in (PassRate(), PassRate(file=path)):
    with pytest.raises(ValueError, match="problem '1' has no 'pass_rate' in .*; add it, or set PassRate.missing"):
      reason(each, problem())
  assert reason(PassRate(missing="keep"), problem()) == ""
  assert reason(PassRate(missing="drop"), problem()) == "no pass rate"


def test_a_row_without_a_usable_rate_is_a_bad_row_told_with_its_line(tmp_path):
  rows = [
    {"id": f"r{i}", "question": "2+2?", "answer": "4", "pass_rate": rate} for i, rate in enumerate((0.5, None, 7))
  ]
  path = write(tmp_path / "a.jsonl", rows)
  with pytest.raises(ValueError, match=r"a.jsonl, line 2: problem 'r1' has no 'pass_rate' in its row.* on_bad_row="):
    Jsonl(path=path, filters=(PassRate(),)).open()
  problems = Jsonl(path=path, filters=(PassRate(),), on_bad_row="skip").open()
  assert [problems[i].id for i in range(len(problems))] == ["r0"] and problems.report.bad == 2
  assert "a.jsonl, line 3: problem 'r2': field 'pass_rate' must be a share" in problems.report.reasons[1]


def test_rates_that_are_none_are_told(tmp_path):
  for rate in (1.5, -0.1, float("nan"), "0.5", [0.5]):
    with pytest.raises(ValueError, match="problem '1'.* 'pass_rate'"):
      reason(PassRate(), problem(columns={"pass_rate": rate}))
    path = write(tmp_path / "rates.jsonl", [{"id": "0", "pass_rate": 0.1}, {"id": "1", "pass_rate": rate}])
    with pytest.raises(ValueError, match="rates.jsonl, line 2: field 'pass_rate' must be a share within"):
      PassRate(file=path).open(Context())
  for rows, fact in (
    ([{"pass_rate": 0.1}], "line 1: field 'id' must be text, but is None"),
    ([{"id": "1", "pass_rate": 0.1}, {"id": "1", "pass_rate": 0.2}], "line 2: id '1' has two rates, 0.1 and 0.2"),
  ):
    with pytest.raises(ValueError, match=fact):
      PassRate(file=write(tmp_path / "rates.jsonl", rows)).open(Context())
  with pytest.raises(ValueError, match="names no file"):
    PassRate(file=str(tmp_path / "none.jsonl")).open(Context())


def test_only_keeps_what_is_asked_for():
  assert reason(Only(), problem()) == ""
  assert reason(Only(levels=(1, 2), languages=("en",), domains=("math", "code"), kinds=("number",)), problem()) == ""
  assert reason(Only(levels=(3,)), problem()) == "level 1"
  assert reason(Only(languages=("zh",)), problem()) == "language 'en'"
  assert reason(Only(domains=("code",)), problem()) == "domain 'math'"
  assert reason(Only(kinds=("program",)), problem()) == "kind 'number'"


@pytest.mark.parametrize(
  "each, fact",
  [
    (MaxPromptLength(tokens="9"), "tokens='9' must be at least 1"),
    (PassRate(low="0"), "low='0' and high=1.0 must be in order"),
    (Only(levels=1), "Only.levels=1 must be a tuple, as \\(1,\\)"),
    (MaxPromptLength(tokens=0), "tokens=0 must be at least 1"),
    (PassRate(low=0.5, high=0.2), "low=0.5 and high=0.2 must be in order"),
    (PassRate(high=50), "within \\[0, 1\\]"),
    (PassRate(missing="ignore"), "missing='ignore' must be 'error', 'keep' or 'drop'"),
    (Only(domains="math"), "domains='math' must be a tuple"),
  ],
)
def test_settings_that_make_no_sense_are_refused_before_any_file_is_read(each, fact):
  with pytest.raises(ValueError, match=fact):
    Jsonl(path="missing.jsonl", filters=(each,)).open()


def test_what_was_dropped_is_reported_with_the_filter_and_why(tmp_path, caplog):
  rows = [
    {"id": i, "question": f"{i}+1?", "answer": str(i), "level": i % 3 + 1, "pass_rate": i / 10} for i in range(11)
  ]
  source = Jsonl(path=write(tmp_path / "a.jsonl", rows), filters=(Only(levels=(1, 2)), PassRate(low=0.1, high=0.9)))
  problems = source.open()
  assert [problems[i].id for i in range(len(problems))] == ["1", "3", "4", "6", "7", "9"]
  assert problems.report.lines()[:2] == [
    {"source": source.path, "id": "0", "filter": "pass_rate", "why": "pass rate 0 outside [0.1, 0.9]"},
    {"source": source.path, "id": "2", "filter": "only", "why": "level 3"},
  ]
  assert f"{source.path}: 6 of 11 rows are used\n  2 dropped by pass_rate\n  3 dropped by only" in caplog.text
