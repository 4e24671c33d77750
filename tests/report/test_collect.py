"""What is read of a run is what lies there; what is missing or broken is said, and nothing crashes."""

import json
import math
import random
import shutil

import numpy as np
import pytest

from experiments import r1_zero_tiny
from r1jax.report import collect, emergence, figures, responses, soundness
from r1jax.report.rows import Reader
from r1jax.training import workdir
from tests.report import synthetic_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  return synthetic_run.write(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def mine(made, tmp_path):
  """A copy that a test may spoil."""
  return shutil.copytree(made, tmp_path / "run")


@pytest.fixture(scope="module")
def whole(made):
  return collect.collect(made)


def stage_of(run, name):
  return next(stage for stage in run["stages"] if stage["name"] == name)


def check_of(run, title):
  return next(check for check in run["checks"] if check["title"] == title)


def test_every_stage_is_read_with_what_it_takes(whole):
  assert [stage["state"] for stage in whole["stages"]] == ["finished"] * 16
  taken = {stage["name"]: (stage["start_from"], stage["takes"]) for stage in whole["stages"]}
  assert taken["cold_start"] == ("base", ["cold_start_data"])
  assert taken["sft"] == ("base", ["cold_start_data", "rejection"])
  assert taken["all_scenarios"] == ("sft", ["helpful_rm", "safety_rm"])
  assert taken["zero"] == ("base", [])
  kinds = {stage["name"]: stage["makes"] for stage in whole["stages"]}
  assert kinds["preferences"] == "pairs" and kinds["safety_labels"] == "labels"
  assert kinds["rejection"] == "completions" and kinds["helpful_rm"] == "reward model"
  assert stage_of(whole, "rejection")["rows"] == 120 and len(stage_of(whole, "rejection")["examples"]) == 12
  assert whole["notes"] == []


def test_the_headline_is_the_stage_most_others_lead_to(whole):
  assert whole["headline"] == {"first": "base", "last": "all_scenarios"}


def test_what_each_stage_changed_is_told_where_the_intervals_are_apart(made, whole):
  told = {change["stage"]: change for change in whole["changes"]}
  before = {name: change["before"] for name, change in told.items()}
  assert "base" not in told and before["zero"] == "base" and before["cold_start"] == "zero"
  assert before["sft"] == "reasoning_rl" and before["all_scenarios"] == "sft"
  assert before["student_small_rl"] == "student_small_base"
  for name, change in told.items():
    was, now = (json.loads((made / n / "stage.json").read_text())["suites"] for n in (change["before"], name))
    moved = {suite: (old, new) for suite, old, new in change["suites"]}
    for suite in was:
      (low, high), (old_low, old_high) = now[suite]["interval"], was[suite]["interval"]
      assert (suite in moved) == (max(low, old_low) > min(high, old_high)), (name, suite)
      if suite in moved:
        assert moved[suite] == pytest.approx((was[suite]["score"], now[suite]["score"]), rel=1e-4)
    sizes = [abs(new - old) for old, new in moved.values()]
    assert sizes == pytest.approx(sorted(sizes, reverse=True), abs=1e-4)  # the page rounds to five digits


def test_a_stage_without_figures_is_passed_over_in_what_changed(mine):
  (mine / "cold_start/stage.json").unlink()
  figures = json.loads((mine / "zero/stage.json").read_text())
  figures["suites"] |= {"math": {"score": 0.5, "interval": None}, "code": {"score": None, "interval": [0, 1]}}
  (mine / "zero/stage.json").write_text(json.dumps(figures))
  told = {change["stage"]: change for change in collect.collect(mine)["changes"]}
  assert "cold_start" not in told and told["reasoning_rl"]["before"] == "zero"
  assert not {"math", "code"} & {suite for suite, *_ in told["zero"]["suites"]}


def test_the_config_hash_is_the_one_the_trainer_writes(tmp_path):
  experiment = r1_zero_tiny.get_config()
  workdir.claim(tmp_path, experiment)
  about = collect.collect(tmp_path)["about"]
  assert about["config_sha256"] == workdir.config_sha256(experiment)
  assert about["world"] == "arithmetic, equations; in en and zh"
  assert about["model"].startswith("3 layers of width 128, 8 experts, 2 per token")


def test_points_of_a_long_curve_are_means_of_their_updates(mine):
  rows = [{"step": i, "reward/total": math.sin(i), "policy/kl": None if i % 3 else 2.0 * i} for i in range(1000)]
  synthetic_run.lines(mine / "zero/metrics.jsonl", rows)
  stage = stage_of(collect.collect(mine), "zero")
  every = stage["every"]
  assert every == 5 and len(stage["metrics"]["step"]) == 200
  for i in (0, 77, 199):
    bucket = range(i * every, (i + 1) * every)
    assert stage["metrics"]["step"][i] == bucket[0]
    assert stage["metrics"]["reward/total"][i] == pytest.approx(np.mean([math.sin(j) for j in bucket]), rel=1e-4)
    assert stage["metrics"]["policy/kl"][i] == pytest.approx(np.mean([2.0 * j for j in bucket if j % 3 == 0]), rel=1e-4)
  assert stage["totals"]["reward/total"]["last"] == pytest.approx(math.sin(999), rel=1e-4)


def test_a_broken_line_is_skipped_and_counted(mine):
  path = mine / "zero/samples.jsonl"
  text = path.read_text()
  rows = text.splitlines()
  bad = [
    rows[0][:50],
    "[1, 2]",
    '{"question": "q", "responses": ["a", "b"], "correct": [true]}',
    "\x00",
    '{"responses": 3}',
  ]
  path.write_text("\n".join([*bad[:3], *rows, *bad[3:]]) + "\n" + rows[1][:-9])
  with open(mine / "zero/metrics.jsonl", "a") as file:
    file.write('{"step": 80, "reward/tot')
  run = collect.collect(mine)
  assert run["samples"]["counted"]["zero"]["responses"] == 16 * len(rows)
  assert run["notes"] == [
    "zero/metrics.jsonl: 1 line could not be read and was skipped.",
    "zero/samples.jsonl: 6 lines could not be read and were skipped.",
  ]
  assert check_of(run, "Files")["state"] == "warning" and "7 lines" in check_of(run, "Files")["detail"]


def test_numbers_that_json_does_not_know_become_gaps(mine):
  (mine / "zero/metrics.jsonl").write_text(
    '{"step": 0, "policy/kl": NaN, "policy/entropy": Infinity, "reward/total": 1.5}\n'
  )
  (mine / "zero/curve.jsonl").write_text(
    '{"step": 0, "pass@1": NaN, "per_level": 7, "per_domain": {"a": 1, "b": {"pass@1": 0.5}}}\n'
  )
  stage = stage_of(collect.collect(mine), "zero")
  assert stage["metrics"] == {"step": [0], "reward/total": [1.5]}
  assert stage["curve"] == [{"step": 0, "pass@1": None, "per_level": {}, "per_domain": {"b": {"pass@1": 0.5}}}]
  json.dumps(collect.collect(mine), allow_nan=False)


@pytest.mark.parametrize("text", ["[]", "{", '{"stages": {}}', '{"stages": [{"name": 3}]}'])
def test_a_config_that_is_none_is_told(mine, text):
  (mine / "config.json").write_text(text)
  with pytest.raises(ValueError, match=r"config\.json is no config of a run.*restore it"):
    collect.collect(mine)


def test_a_folder_that_holds_no_run_is_told(tmp_path):
  with pytest.raises(ValueError, match=r"is not the folder of a run: config\.json is missing"):
    collect.collect(tmp_path)
  with pytest.raises(ValueError, match="is no folder"):
    collect.collect(tmp_path / "nowhere")


def test_stages_that_are_open_are_told(tmp_path):
  names = [made.config["name"] for made in synthetic_run.schedule()]
  run = collect.collect(synthetic_run.write(tmp_path, unfinished=("cold_start",), absent=names[4:]))
  assert [stage["state"] for stage in run["stages"]] == ["finished"] * 3 + ["unfinished"] + ["not begun"] * 12
  detail = check_of(run, "Stages")["detail"]
  assert detail.startswith("3 of 16 are finished; cold_start at update 120; not begun: reasoning_rl, ")
  assert run["headline"] == {"first": "base", "last": "zero"}
  nothing = collect.collect(synthetic_run.write(tmp_path / "nothing", absent=names))
  assert nothing["headline"] is None and nothing["samples"]["exams"] == []
  assert collect.collect(tmp_path / "nothing", megabytes=0)["samples"]["problems"] == []


def test_a_run_of_an_earlier_version_is_read(mine):
  """No suites, no lineage, no kind; rewards beside the other fields of a rollout; no scores and no tokens."""
  for path in mine.glob("*/stage.json"):
    old = json.loads(path.read_text())
    synthetic_run.put(path, {key: value for key, value in old.items() if key not in ("suites", "lineage", "kind")})
  for path in mine.glob("*/samples.jsonl"):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    synthetic_run.lines(
      path, [{k: v for k, v in row.items() if k not in ("scores", "tokens", "suite")} for row in rows]
    )
  row = {"step": 0, "id": "a", "question": "q", "answer": "1", "domain": "d", "level": 1, "language": "en", "tokens": 3,
         "response": "r", "ended": False, "reward": 1.0, "accuracy": 0.0, "format": 1.0}  # fmt: skip
  shutil.rmtree(mine / "zero/rollouts")
  (mine / "zero/rollouts").mkdir()
  synthetic_run.lines(mine / "zero/rollouts/step_000000.0.jsonl", [row])
  run = collect.collect(mine)
  assert [note.split(":")[0] for note in run["notes"]] == [
    "No stage holds figures per suite", "No stage holds its lineage",
  ]  # fmt: skip
  assert check_of(run, "Lineage")["state"] == "unknown" and check_of(run, "Config and code")["state"] == "unknown"
  (rollout,) = [rollout for rollout in run["samples"]["rollouts"] if rollout["stage"] == "zero"]
  assert rollout["rewards"] == {"accuracy": 0.0, "format": 1.0} and rollout["right"] is False
  assert rollout["ended"] is False


def test_the_rollouts_of_many_processes_are_read_in_their_order(mine):
  alone = collect.collect(mine)["samples"]["rollouts"]
  for path in list((mine / "zero/rollouts").iterdir()):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for process in range(12):
      part = slice(process * len(rows) // 12, (process + 1) * len(rows) // 12)
      synthetic_run.lines(path.with_name(path.name.replace(".0.", f".{process}.")), rows[part])
  assert collect.collect(mine)["samples"]["rollouts"] == alone


# ---- is it sound


def test_a_parent_that_was_exchanged_is_found(mine):
  stage = json.loads((mine / "sft/stage.json").read_text())
  assert check_of(collect.collect(mine), "Lineage")["state"] == "good"
  synthetic_run.put(mine / "sft/stage.json", stage | {"params_sha256": "0" * 64})
  check = check_of(collect.collect(mine), "Lineage")
  assert check["state"] == "bad"
  for name in ("preferences", "safety_labels", "helpful_rm", "safety_rm", "all_scenarios"):
    assert (
      f"{name} was made from params_sha256 {stage['params_sha256'][:8]} of sft, which is now 00000000"
      in check["detail"]
    )
  assert "rejection was" not in check["detail"]


def test_a_stage_of_another_config_or_code_is_found(mine):
  stage = json.loads((mine / "sft/stage.json").read_text())
  stage["lineage"]["code"] = "r1jax 9.9"
  synthetic_run.put(mine / "sft/stage.json", stage)
  assert check_of(collect.collect(mine), "Config and code")["state"] == "warning"
  stage["lineage"]["config_sha256"] = "f" * 64
  synthetic_run.put(mine / "sft/stage.json", stage)
  check = check_of(collect.collect(mine), "Config and code")
  assert check["state"] == "bad" and "ffffffff" in check["detail"]


def test_an_oracle_that_falls_is_told_as_reward_hacking(mine):
  assert check_of(collect.collect(mine), "Oracle of all_scenarios")["state"] == "good"
  stage = json.loads((mine / "all_scenarios/stage.json").read_text())
  stage["suites"]["helpfulness"]["score"] = 0.123
  synthetic_run.put(mine / "all_scenarios/stage.json", stage)
  check = check_of(collect.collect(mine), "Oracle of all_scenarios")
  assert check["state"] == "warning" and "to 12.3%" in check["detail"]


@pytest.mark.parametrize(
  "key, value, title, state",
  [
    ("policy/skipped", 1.0, "Non-finite updates", "bad"),
    ("policy/sampler_mismatch", 0.3, "Sampler against trainer", "bad"),
    ("reward/check_timeouts", 2.0, "Checks of answers", "warning"),
    ("rollout/truncated", 0.4, "Cut responses", "warning"),
    ("group/dead", 0.96, "Groups without spread", "warning"),
  ],
)
def test_what_went_wrong_in_training_is_found(mine, whole, key, value, title, state):
  assert check_of(whole, title)["state"] == "good"
  path = mine / "reasoning_rl/metrics.jsonl"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  rows[-1][key] = value
  synthetic_run.lines(path, rows)
  check = check_of(collect.collect(mine), title)
  assert check["state"] == state and "reasoning_rl" in check["detail"]


def test_a_reward_model_no_better_than_chance_is_found(mine):
  stage = json.loads((mine / "helpful_rm/stage.json").read_text())
  for low, high, share_safe, state in (
    (0.8, 0.9, None, "good"), (0.45, 0.64, None, "warning"), (0.3, 0.4, None, "bad"),
    (0.8, 0.9, 0.85, "warning"), (0.8, 0.9, 0.1, "warning"), (0.8, 0.84, 0.1, "bad"), (0.8, 0.9, 0.7, "good"),
  ):  # fmt: skip
    found = {"accuracy": (low + high) / 2, "accuracy_interval": [low, high], "share_safe": share_safe}
    synthetic_run.put(mine / "helpful_rm/stage.json", stage | found)
    assert check_of(collect.collect(mine), "Reward model helpful_rm")["state"] == state


def test_alarms_are_told_once_with_their_number(whole):
  (alarm,) = stage_of(whole, "student_small_rl")["alarms"]
  assert (alarm["count"], alarm["first"], alarm["last"]) == (3, 70, 78)
  assert check_of(whole, "Alarms")["detail"] == "entropy_collapse in student_small_rl (3x)."


def test_what_lineage_says_may_be_anything():
  for record in (None, 3, {"data": 7, "parent": "x"}, {"data": [None, {"stage": "a"}], "reward_models": {}}):
    assert len(list(soundness.origins({"figures": {"lineage": record}}))) in (0, 1)


# ---- responses


def test_all_responses_are_counted_and_corrections_are_those_of_emergence(made, whole):
  rows = [json.loads(line) for line in (made / "zero/samples.jsonl").read_text().splitlines()]
  flat = [(text, row["language"], right) for row in rows for text, right in zip(row["responses"], row["correct"])]
  texts, languages, right = zip(*flat)
  share = emergence.emergence(texts, languages, right, ["d"] * len(texts))["self_corrections"]
  counted = whole["samples"]["counted"]["zero"]
  assert counted["responses"] == len(texts)
  assert counted["aha"] == pytest.approx(share * len(texts)) and counted["aha"] > 50


def test_every_response_is_in_a_sample_that_has_room(made, whole):
  rows = [json.loads(line) for line in (made / "sft/samples.jsonl").read_text().splitlines()]
  exams = [exam for exam in whole["samples"]["exams"] if exam["stage"] == "sft"]
  for row, exam in zip(rows, exams, strict=True):
    problem = whole["samples"]["problems"][exam["problem"]]
    assert (problem["id"], problem["question"], problem["suite"]) == (row["id"], row["question"], row["suite"])
    assert (exam["right"], exam["of"]) == (sum(row["correct"]), 16)
    back = [(r["text"], r["right"], r["score"]) for r in exam["responses"] for _ in range(r["count"])]
    assert sorted(back) == sorted(zip(row["responses"], row["correct"], row["scores"]))


@pytest.mark.parametrize("kilobytes", [400, 100, 20, 1])
def test_a_sample_that_must_be_small_is_fair_and_says_so(made, kilobytes):
  samples = collect.collect(made, kilobytes / 1000)["samples"]
  size = len(json.dumps([samples["exams"], samples["aha"], samples["rollouts"]], ensure_ascii=False).encode())
  assert size <= kilobytes * 1000 or kilobytes == 1  # one response of one problem is left in any case
  kept = samples["kept"]
  asked = {stage: [e["problem"] for e in samples["exams"] if e["stage"] == stage] for stage in samples["stages"]}
  assert len(asked) == 10 and len(set(map(tuple, asked.values()))) == 1, "the same problems of every stage"
  assert len(asked["zero"]) == kept["problems"] <= kept["of_problems"] == 54
  assert all(sum(r["count"] for r in exam["responses"]) == min(16, kept["per_problem"]) for exam in samples["exams"])
  assert kept["rollouts"] == len(samples["rollouts"])
  suites = {samples["problems"][place]["suite"] for place in asked["zero"]}
  assert len(suites) >= min(9, kept["problems"] // 2)
  assert all(0 <= item["problem"] < len(samples["problems"]) for item in samples["aha"] + samples["rollouts"])


def test_rows_are_thinned_at_equal_distances():
  for n in (0, 1, 5, 11, 12, 13, 24, 100, 1003):
    kept, count = responses.thinned(iter(range(n)), 12)
    assert count == n and len(kept) == min(n, 12)
    gaps = np.diff(kept)
    assert not len(kept) or kept[0] == 0
    assert n <= 12 or (gaps.min() > 0 and gaps.max() <= 2.1 * n / 12)


def test_a_long_response_loses_its_middle_only():
  text = "".join(random.Random(0).choices("ab\n", k=50_000))
  short = responses.cut(text)
  assert short.startswith(text[:6000]) and short.endswith(text[-6000:]) and "38,000 characters left out" in short
  assert responses.cut(text[:12_000]) == text[:12_000]


def test_lines_are_read_one_by_one(tmp_path):
  """A file of many rows is never held whole."""
  path = tmp_path / "rows.jsonl"
  synthetic_run.lines(path, [{"i": i} for i in range(10)])
  rows = Reader(tmp_path).rows(path)
  assert next(rows) == {"i": 0} and next(rows) == {"i": 1}


# ---- figures


def test_the_papers_figures_are_drawn_as_png_and_svg(whole, tmp_path):
  shown = ("zero", "all_scenarios", "helpful_rm", "safety_rm")  # all of them take long
  run = whole | {"stages": [stage for stage in whole["stages"] if stage["name"] in shown]}
  names = {path.name for path in figures.draw(run, tmp_path)}
  assert names == {path.name for path in tmp_path.iterdir()}
  stems = {"stages", "language", "all_scenarios_reward_models"}
  for stage in ("zero", "all_scenarios"):
    stems |= {f"{stage}_accuracy", f"{stage}_response_length", f"{stage}_levels"}
  assert names == {f"{stem}.{form}" for stem in stems for form in ("png", "svg")}
  assert (tmp_path / "stages.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
  assert "<svg" in (tmp_path / "language.svg").read_text()[:1000]


def test_figures_that_have_no_data_are_left_out(mine, tmp_path):
  for path in [*mine.glob("*/stage.json"), *mine.glob("*/metrics.jsonl")]:
    path.unlink()
  for path in mine.glob("*/curve.jsonl"):
    path.write_text('{"step": 0, "pass@1": 0.5}\n{"step": 1}\n')
  folder = tmp_path / "figures"
  folder.mkdir()
  assert figures.draw(collect.collect(mine), folder) == []
