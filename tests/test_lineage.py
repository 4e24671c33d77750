"""That a stage's lineage names what the stage was really made from, also after a kill; and what reads its files."""

import dataclasses
import json
import types

import jax
import pytest

from r1jax import pipeline
from r1jax.data.completions import Completions
from r1jax.stages.run import Run
from r1jax.training import state as states
from r1jax.training.checkpoints import Checkpoints, params_sha256
from r1jax.training.workdir import write_json
from tests.experiments import recipe, small

TOKENIZER = types.SimpleNamespace(sha256="tok", size=8, save=lambda folder: None)


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run of the recipe whose sft learns from a file; no stage does anything, as `killed` says not even that."""
  rows = tmp_path / "rows.jsonl"
  rows.write_text('{"prompt": "1+1", "completion": "2"}\n')
  stages = (
    small.base(),
    dataclasses.replace(recipe.rejection(), start_from="base"),
    dataclasses.replace(recipe.sft("sft", "base"), data=(Completions(path=str(rows)),)),
  )
  experiment = dataclasses.replace(recipe.get_config(), stages=stages)
  for kind in pipeline.STAGES:
    monkeypatch.setitem(pipeline.STAGES, kind, lambda stage, run, params: {"data_sha256": "d", "rows": 1})
  monkeypatch.setattr(pipeline, "examine", lambda stage, run, params: {"params_sha256": "p"})
  monkeypatch.setattr(pipeline, "start_params", lambda stage, run: None)
  run = Run(experiment=experiment, workdir=tmp_path / "run", tokenizer=TOKENIZER, held_out=())
  run.problems["rejection"] = types.SimpleNamespace(fingerprint="problems")
  pipeline.run_stage(stages[0], run)
  return run


def killed(stage, run, monkeypatch):
  """The stage, ended in its middle."""

  def cut(stage, run, params):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setitem(pipeline.STAGES, type(stage), cut)
    with pytest.raises(KeyboardInterrupt):
      pipeline.run_stage(stage, run)


def changed(path, **fields):
  write_json(path, json.loads(path.read_text()) | fields)


def test_the_lineage_is_of_what_the_stage_began_with(run, tmp_path, monkeypatch):
  stage = run.experiment.stage("sft")

  def other_rows(stage, run, params):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1", "completion": "3"}\n')

  begun = pipeline.lineage(stage, run)
  monkeypatch.setitem(pipeline.STAGES, type(stage), other_rows)
  pipeline.run_stage(stage, run)
  assert run.figures("sft")["lineage"] == begun != pipeline.lineage(stage, run)
  assert [path.name for path in run.folder("sft").iterdir()] == ["stage.json"]


def test_a_killed_stage_goes_on_with_what_it_was_begun_with(run, monkeypatch):
  for name in ("rejection", "sft"):
    stage = run.experiment.stage(name)
    killed(stage, run, monkeypatch)
    pipeline.run_stage(stage, run)
    assert run.figures(name)["lineage"] == pipeline.lineage(stage, run)


@pytest.mark.parametrize("what", ["parent", "file", "problems"])
def test_a_killed_stage_does_not_go_on_with_something_else(what, run, tmp_path, monkeypatch):
  stage = run.experiment.stage("sft" if what == "file" else "rejection")
  killed(stage, run, monkeypatch)
  if what == "parent":
    changed(run.folder("base") / "stage.json", params_sha256="other")
  elif what == "file":
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1", "completion": "3"}\n')
  else:
    run.problems["rejection"] = types.SimpleNamespace(fingerprint="others")
  field = {"parent": "parent.params_sha256", "file": r"data\[0\].sha256", "problems": "problems_sha256"}[what]
  with pytest.raises(ValueError, match=rf"stage '{stage.name}' was begun with .* {field}: .*remove .*/{stage.name} to"):
    pipeline.run_stage(stage, run)


def test_a_finished_stage_whose_parent_was_made_anew_is_told(run):
  stage = run.experiment.stage("rejection")
  pipeline.run_stage(stage, run)
  pipeline.run_stage(stage, run)  # as nothing has changed
  changed(run.folder("base") / "stage.json", params_sha256="other")
  with pytest.raises(ValueError, match=r"'rejection' was made from another 'base' than .* remove .*/rejection to make"):
    pipeline.run_stage(stage, run)


def test_parameters_that_are_not_those_of_stage_json_are_told(tmp_path):
  experiment = recipe.get_config()
  run = Run(experiment=experiment, workdir=tmp_path, tokenizer=TOKENIZER, held_out=())
  params = states.init_params(experiment.model, 0)
  with Checkpoints(tmp_path / "base/checkpoints", 1, 1) as checkpoints:
    checkpoints.save_if_due(1, 1, {"params": params}, {})
  write_json(tmp_path / "base/stage.json", {"params_sha256": params_sha256(params)})
  found = pipeline.start_params(experiment.stage("zero"), run)
  assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), found, params))
  changed(tmp_path / "base/stage.json", params_sha256="another")
  with pytest.raises(ValueError, match="stage 'zero': the checkpoint in .*base/checkpoints is not that of its stage"):
    pipeline.start_params(experiment.stage("zero"), run)


def test_samples_with_any_character_are_read_for_the_report(tmp_path):
  problem = {"question": "1+1", "answer": "2"}
  rows = {"base": ("\x85\u2028", False), "zero": ("\x0c2", True)}
  for name, (text, right) in rows.items():
    row = problem | {"responses": [text], "correct": [right]}
    (tmp_path / name).write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
  (sample,) = pipeline.before_and_after({name: tmp_path / name for name in rows})
  assert sample["responses"] == {"base": "\x85\u2028", "zero": "\x0c2"}
