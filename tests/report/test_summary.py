"""The end of a run in the terminal, read back from what is printed."""

import io
import re

import pytest
import rich.console

from r1jax.report import summary


def policy(score, **fields):
  """What stage.json of a policy says, as far as the table reads it."""
  suite = lambda x: {"score": x, "interval": [x - 0.02, x + 0.03], "majority": None, "tokens": 9.0}
  figures = {
    "kind": "RL",
    "pass@1": score,
    "pass@1_interval": [score - 0.01, score + 0.03],
    "majority@16": score + 0.1,
    "pass@64": score + 0.2,
    "response_length": 100 * score,
    "reflection_rate": score / 2,
    "seconds": 61.0,
    "suites": {"math": suite(score), "harmlessness": suite(0.5), "language": suite(1 - score / 2)},
  }
  return figures | fields


def printed(stages, width=80, samples=(), styles=False):
  console = rich.console.Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
  summary.show({"stages": stages}, samples, console)
  return console.export_text(styles=styles)


def rows(text):
  """Cells of every printed table row, by the row's name, over all tables."""
  found = {}
  for line in text.splitlines():
    if line.startswith("│"):
      name, *cells = (cell.strip() for cell in line.strip("│").split("│"))
      found.setdefault(name, []).extend(cells)
  return found


MANY = {f"stage_{i}": policy(0.1 + 0.05 * i) for i in range(11)}


def test_every_figure_of_every_stage_stands_in_its_row():
  found = rows(printed(MANY))
  scores = [0.1 + 0.05 * i for i in range(11)]
  assert found["math"] == [f"{100 * s:.1f} ±2.5" for s in scores]
  assert found["language"] == [f"{100 * (1 - s / 2):.1f} ±2.5" for s in scores]
  assert found["pass@1"] == [f"{100 * s:.1f} ±2.0" for s in scores]
  assert found["majority@16"] == [f"{100 * (s + 0.1):.1f}" for s in scores]
  assert found["pass@64"] == [f"{100 * (s + 0.2):.1f}" for s in scores]
  assert found["tokens"] == [f"{100 * s:.1f}" for s in scores]
  assert found["reflective, %"] == [f"{50 * s:.1f}" for s in scores]
  assert found["seconds"] == ["61"] * 11


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_wider_than_the_terminal_and_no_figure_is_cut(width):
  stages = MANY | {"student_small_distilled": policy(1.0)}
  text = printed(stages, width)
  assert max(map(len, text.splitlines())) <= width
  assert "…" not in text and text.count("±2.5") == 3 * 12
  assert text.count("┏") == {40: 12, 80: 3, 200: 1}[width]


def test_the_best_of_a_row_is_bold_and_a_row_of_equals_has_none():
  text = printed(MANY | {"last": policy(0.6)}, styles=True)
  bold = re.findall(r"\x1b\[1m *(\d+\.\d(?: ±\d\.\d)?)", text)
  # math, language, pass@1, majority, pass@k; stage_10 and last are as good
  assert sorted(bold) == sorted(["60.0 ±2.5"] * 2 + ["95.0 ±2.5"] + ["60.0 ±2.0"] * 2 + ["70.0"] * 2 + ["80.0"] * 2)
  assert not re.findall(r"\x1b\[1m *\d+\.\d ±", printed({"only": policy(0.3)}, styles=True))


def test_a_suite_that_a_stage_has_no_figure_for_is_a_dash():
  empty = {"score": None, "interval": None, "majority": None, "tokens": None}
  stages = {
    "base": policy(0.2, suites={"math": policy(0.2)["suites"]["math"], "readability": empty}),
    "zero": policy(0.4),
    "old": {"pass@1": 0.3},
  }
  found = rows(printed(stages))
  assert found["readability"] == ["-", "-", "-"]
  assert found["harmlessness"] == ["-", "50.0 ±2.5", "-"]
  assert found["pass@1"] == ["20.0 ±2.0", "40.0 ±2.0", "30.0"]


def test_figures_are_rounded_to_what_a_column_holds():
  sure = {"score": 1.0, "interval": [0.86, 1.0]}
  vague = {"score": 0.0421, "interval": [0.01, 0.2699]}
  found = rows(printed({"base": policy(0.2, suites={"math": sure, "code": vague})}))
  assert found["math"] == ["100 ±7.0"] and found["code"] == ["4.2 ±13"]


def test_benchmarks_have_rows_of_their_own():
  exam = {"problems": 30, "samples": 64, "pass@1": 0.125, "pass@1_interval": [0.1, 0.2]}
  found = rows(printed({"base": policy(0.2), "zero": policy(0.4, benchmarks={"aime_2024": exam})}))
  assert found["aime_2024"] == ["-", "12.5 ±5.0"]


def test_data_stages_and_reward_models_are_told_beside_the_policies():
  total = {"rows": 400, "rounds": 1.0, "tokens": 61.26}
  reasons = {"truncated": 3, "wrong": 1480, "repetition": 77, "mixed languages": 212}
  made = {"kind": "Rejection", "rows": 400, "seconds": 3.0}
  made["statistics"] = {"groups": {"total": total}, "responses": 2400, "kept": 400, "left_out": reasons}
  pairs = {
    "kind": "Preferences",
    "rows": 60,
    "statistics": {"pairs": 60, "mean_delta": 1.25, "domains": {"writing": 60}},
  }
  critic = {"kind": "RewardModel", "accuracy": 0.87, "accuracy_interval": [0.8, 0.9], "calibration": []}
  text = printed({"base": policy(0.1), "rejection": made, "pairs": pairs, "helpful_rm": critic}, width=200)
  found = rows(text)
  expected = "tokens 61.3, responses 2,400, kept 400; left out: wrong 1,480, mixed languages 212, repetition 77"
  assert found["rejection"] == ["400", expected]
  assert found["pairs"] == ["60", "mean delta 1.25"]
  assert "reward model helpful_rm: accuracy 87.0 ±5.0 % on held-out prompts" in text
  assert found["math"] == ["10.0 ±2.5"]  # no columns but the policy's


def test_a_run_of_data_alone_and_one_of_nothing_are_shown():
  assert printed({}) == ""
  assert "held-out problems" not in printed({"rejection": {"rows": 4, "statistics": {}}})


def test_of_many_answers_the_first_and_the_last_are_shown():
  names = ["base", "zero", "general"]
  sample = {
    "question": "What is 1+1? [bold]",
    "answer": "2",
    "responses": {name: f"<think>{name} thinks</think>" for name in names},
    "correct": {"base": False, "zero": True, "general": True},
  }
  text = printed({name: policy(0.1) for name in names}, samples=[sample])
  assert "What is 1+1? [bold]  (answer: 2)" in text
  assert "base: wrong" in text and "general: right" in text and "zero thinks" not in text
  alone = {"responses": {"base": "2"}, "correct": {"base": True}}
  assert printed({"base": policy(0.1)}, samples=[sample | alone]).count("base: right") == 1
