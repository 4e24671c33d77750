"""Schedules that cannot work: each refused before anything is trained, in one sentence with the way out."""

import dataclasses
import json
import re
import shutil

import pytest

from r1jax import config, errors, pipeline
from r1jax.data.completions import Completions, Made, PlaygroundCompletions
from r1jax.data.generated import PlaygroundProblems
from r1jax.data.mixture import Mixture
from r1jax.data.preferences import Labels, Pairs
from r1jax.data.sources import Jsonl
from r1jax.data.tokenizer import Tokenizer
from r1jax.rewards import Accuracy, Preference
from r1jax.training.workdir import config_dict
from tests.experiments import recipe


def changed(stage, /, **fields):
  """The recipe with fields of one of its stages replaced."""
  experiment = recipe.get_config()
  assert stage in [s.name for s in experiment.stages]
  stages = tuple(dataclasses.replace(s, **fields) if s.name == stage else s for s in experiment.stages)
  return dataclasses.replace(experiment, stages=stages)


def homeless(*names, **evaluation):
  """Some stages of the recipe, in a run without a playground."""
  experiment = ordered(*names)
  evaluation = dataclasses.replace(experiment.evaluation, **evaluation)
  return dataclasses.replace(experiment, playground=None, evaluation=evaluation)


def changed_evaluation(**fields):
  experiment = recipe.get_config()
  return dataclasses.replace(experiment, evaluation=dataclasses.replace(experiment.evaluation, **fields))


def leaky():
  return dataclasses.replace(recipe.get_config().playground, held_out=0.1)


def ordered(*names):
  """The recipe with some of its stages, in this order."""
  experiment = recipe.get_config()
  return dataclasses.replace(experiment, stages=tuple(map(experiment.stage, names)))


def assert_one_sentence(text, pattern):
  assert re.search(pattern, text), text
  assert "\n" not in text and text.endswith((".", "?")) and len(text) < 400, text


def test_the_recipe_itself_is_accepted():
  recipe.get_config().validate()


IMPOSSIBLE = {
  "an unknown parent": (
    lambda: changed("sft", start_from="bsae"),
    r"stage 'sft': start_from names 'bsae', which is no stage; did you mean 'base'\?",
  ),
  "unknown data": (
    lambda: changed("sft", data=(Made(stage="rejections"),)),
    r"stage 'sft': data names 'rejections', which is no stage; did you mean 'rejection'\?",
  ),
  "an unknown reward model": (
    lambda: changed("general", rewards=(Accuracy(), Preference(stage="helpfull"))),
    r"stage 'general': rewards names 'helpfull', which is no stage; did you mean 'helpful'\?",
  ),
  "nothing alike": (
    lambda: changed("zero", start_from="qwen"),
    r"stage 'zero': start_from names 'qwen', which is no stage; earlier ones are \['base'\]\.",
  ),
  "data of a later stage": (
    lambda: ordered("base", "sft", "zero", "rejection"),
    r"stage 'sft': data needs 'rejection', which is not finished by then; put 'rejection' before it\.",
  ),
  "a reward model of a later stage": (
    lambda: ordered("base", "zero", "rejection", "sft", "pairs", "general", "helpful"),
    r"stage 'general': rewards needs 'helpful', which is not finished by then; put 'helpful' before it\.",
  ),
  "a prediction layer to train where there is none": (
    lambda: changed("sft", mtp_weight=0.3),
    r"sft: mtp_weight needs a multi-token prediction layer, which the model of stage 'sft' does not have; set model.mtp=1",
  ),
  "an exam drafted by a layer that is not there": (
    lambda: changed_evaluation(sampling=dataclasses.replace(recipe.get_config().evaluation.sampling, speculate=True)),
    r"evaluation: sampling.speculate needs a multi-token prediction layer",
  ),
  "no playground to be examined on": (
    lambda: homeless("base"),
    r"stage 'base', a Pretrain stage, needs a playground where nothing else is given; set playground or give a source\.",
  ),
  "no playground to ask questions of": (
    lambda: homeless("base", "zero", problems=Jsonl(path="test.jsonl")),
    r"stage 'zero': problems needs a playground where nothing else is given",
  ),
  "an exam that has no end": (
    lambda: changed_evaluation(problems=Mixture(sources=(Jsonl(path="test.jsonl"),))),
    r"evaluation.problems=Mixture\(.* must be one source of rows, such as Jsonl\(path='test.jsonl'\)\.",
  ),
  "a stage that starts from itself": (
    lambda: changed("zero", start_from="zero"),
    r"in a circle: zero -> zero; cut it",
  ),
  "a circle through data": (
    lambda: changed("zero", start_from="sft"),
    r"in a circle: zero -> sft -> rejection -> zero; cut it at one of them\.",
  ),
  "a circle of two": (
    lambda: changed("sft", start_from="general"),
    r"in a circle: sft -> general -> sft; cut it at one of them\.",
  ),
  "data from a policy": (
    lambda: changed("sft", data=(Made(stage="zero"),)),
    r"stage 'sft': data needs completions, but 'zero' makes a policy; name one of \['rejection'\]\.",
  ),
  "a start from data": (
    lambda: changed("sft", start_from="rejection"),
    r"stage 'sft': start_from needs a policy, but 'rejection' makes completions; name one of",
  ),
  "a start from a reward model": (
    lambda: changed("general", start_from="helpful"),
    r"stage 'general': start_from needs a policy, but 'helpful' makes a reward model; name one of",
  ),
  "a policy as reward model": (
    lambda: changed("general", rewards=(Preference(stage="sft"),)),
    r"stage 'general': rewards needs a reward model, but 'sft' makes a policy; name one of",
  ),
  "labels where there are pairs": (
    lambda: changed("helpful", data=(Labels(stage="pairs"),), loss="pointwise"),
    r"stage 'helpful': data needs labelled responses, but 'pairs' makes preference pairs; no stage makes that\.",
  ),
  "pairs for a loss of labels": (
    lambda: changed("helpful", loss="pointwise"),
    r"helpful: loss='pointwise' learns from labels, but pairs of 'pairs' holds pairs\.",
  ),
  "pairs for SFT": (
    lambda: changed("distilled", data=(Pairs(stage="pairs"),)),
    r"stage 'distilled': data needs completions, but pairs of 'pairs' holds preference pairs; give it such as \(Made",
  ),
  "completions for a reward model": (
    lambda: changed("helpful", data=(Made(stage="rejection"),)),
    r"stage 'helpful': data needs preference pairs or labelled responses, but completions of 'rejection' holds compl",
  ),
  "preferences beside completions": (
    lambda: changed("rejection", beside=(Labels(path="labels.jsonl"),)),
    r"stage 'rejection': beside needs completions, but labels.jsonl holds labelled responses",
  ),
  "a path instead of a source": (
    lambda: changed("sft", data=("data.jsonl",)),
    r"stage 'sft': data must be a tuple of sources, such as \(Made\(stage='rejection'\),\)\.",
  ),
  "a source that is in no tuple": (
    lambda: changed("sft", data=Made(stage="rejection")),
    r"stage 'sft': data must be a tuple of sources",
  ),
  "a form of preferences that is none": (
    lambda: changed("pairs", form="pears"),
    r"pairs: form='pears' must be 'pairs' or 'labels'\.",
  ),
  "no data": (lambda: changed("sft", data=()), r"sft: data is empty; give it at least one source of completions\."),
  "a reward model outside RL": (
    lambda: dataclasses.replace(
      ordered("base", "zero", "rejection", "sft", "pairs", "helpful"),
      stages=(
        *ordered("base", "zero", "rejection", "sft", "pairs", "helpful").stages,
        dataclasses.replace(recipe.rejection(), name="second", rewards=(Preference(stage="helpful"),)),
      ),
    ),
    r"second: rewards take the reward model 'helpful', which only an RL stage can ask\.",
  ),
  "questions to random parameters": (
    lambda: changed("rejection", start_from=""),
    r"stage 'rejection': start_from is empty, but a Rejection stage needs a policy; name an earlier stage",
  ),
  "two stages of one name": (
    lambda: changed("distilled", name="sft"),
    r"two stages are named 'sft'; give each its own name\.",
  ),
  "a name that is no folder": (lambda: changed("general", name="rl/general"), r"stage name 'rl/general' must be"),
  "a name that the run needs": (lambda: changed("general", name="tokenizer"), r"stage name 'tokenizer' is taken"),
  "no stages": (ordered, r"stages is empty; a run needs at least one\."),
  "another model than the parent's": (
    lambda: changed("sft", model=dataclasses.replace(recipe.model(), width=64)),
    r"stage 'sft': model.width=64, but 'base', which it starts from, has width=32; leave its model out, or start from",
  ),
  "another vocabulary than the parent's": (
    lambda: changed("distilled", model=dataclasses.replace(recipe.dense(), vocab=640)),
    r"stage 'distilled': model.vocab=640, but 'student', which it starts from, has vocab=512",
  ),
  "a gradient that is clipped to nothing": (
    lambda: changed("sft", optimizer=config.Optimizer(learning_rate=1e-3, clip_norm=0.0)),
    r"sft: optimizer.clip_norm=0.0 must be above 0, or nothing is learned\.",
  ),
  "a learning rate below 0": (
    lambda: changed("zero", optimizer=config.Optimizer(learning_rate=-1e-3)),
    r"zero: optimizer.learning_rate=-0.001 must be at least 0\.",
  ),
  "problems of a world that holds out less": (
    lambda: changed("general", problems=Mixture(sources=(PlaygroundProblems(playground=leaky()),))),
    r"stage 'general': problems makes up questions of a world with held_out=0.1, and this run evaluates on some of them",
  ),
  "completions of a world that holds out less": (
    lambda: changed("sft", data=(PlaygroundCompletions(playground=leaky(), domains=("writing",), count=1),)),
    r"stage 'sft': data makes up questions of a world with held_out=0.1, .* raise it to the 0.2 of playground.held_out\.",
  ),
  "later problems without their update": (
    lambda: changed("general", later_from=4),
    r"general: later_problems and later_from=4 belong together, with later_from above 0 and below steps=8\.",
  ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_a_schedule_that_cannot_work_is_refused_as_soon_as_it_is_read(case):
  make, pattern = IMPOSSIBLE[case]
  with pytest.raises(ValueError) as told:
    make().validate()
  assert_one_sentence(str(told.value), pattern)


# ---- what shows once the folder, the tokenizer and the data are looked at


@pytest.fixture
def refused(tmp_path, monkeypatch):
  """Executes an experiment in which no stage may begin; returns the sentence it was refused with."""

  def started(stage, run):
    pytest.fail(f"stage {stage.name} was begun")

  def run(experiment, only=(), workdir=tmp_path / "run"):
    monkeypatch.setattr(pipeline, "run_stage", started)
    experiment.validate()
    with pytest.raises((ValueError, RuntimeError, OSError)) as told:
      pipeline.execute(experiment, workdir, only)
    assert not (workdir / "config.json").exists()  # a mended config may have the folder
    return errors.sentence(told.value)

  return run


def test_a_reward_model_that_is_neither_trained_nor_asked_for_is_told(refused):
  text = refused(recipe.get_config(), only=("base", "zero", "rejection", "sft", "general"))
  assert_one_sentence(text, r"stage 'general': rewards takes the reward model of 'helpful', which is not finished in")
  assert text.endswith("add it to --stages.")


def test_completions_that_are_neither_made_nor_asked_for_are_told(refused):
  text = refused(recipe.get_config(), only=("base", "sft"))
  assert_one_sentence(text, r"stage 'sft': data takes the completions of 'rejection', which is not finished in")


def test_a_missing_data_file_is_told(refused, tmp_path):
  text = refused(changed("sft", data=(Completions(path=f"{tmp_path}/mine.jsonl"),)))
  assert_one_sentence(text, r"mine\.jsonl")


def test_a_bad_row_of_a_data_file_is_told_with_its_line(refused, tmp_path):
  path = tmp_path / "mine.jsonl"
  path.write_text('{"prompt": "1+1", "completion": "2"}\n{"prompt": "1+2"}\n')
  text = refused(changed("sft", data=(Completions(path=str(path)),)))
  assert_one_sentence(text, r"mine\.jsonl, line 2.*completion")


@pytest.mark.parametrize("stage", ["zero", "sft", "general"])
def test_a_template_that_does_not_hold_the_longest_held_out_question_is_told(refused, stage):
  long = config.Template(text="word " * 30 + "{question}")
  text = refused(changed(stage, template=long))
  assert_one_sentence(text, r"takes \d+ tokens; raise (evaluation\.)?sampling\.max_prompt=(24|40)")


def test_a_model_that_is_too_small_for_the_tokenizer_is_told(refused):
  text = refused(changed("student", model=dataclasses.replace(recipe.dense(), vocab=64)))
  assert_one_sentence(
    text, r"stage 'student': model.vocab=64 is less than the \d+ tokens of the tokenizer; raise it to"
  )


# ---- starts from another run


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
  """The folder of a finished stage of another run, as far as a check looks at it."""
  folder = tmp_path_factory.mktemp("other") / "base"
  (folder / "checkpoints").mkdir(parents=True)
  experiment = recipe.get_config()
  pipeline.tokenizer_of(experiment, folder / "none").save(folder / "tokenizer")
  (folder / "stage.json").write_text(json.dumps({"kind": "Pretrain", "model": config_dict(experiment.model)}))
  (folder.parent / "config.json").write_text(json.dumps(config_dict(experiment)))
  return folder


def starting_from(folder, **fields):
  return changed("sft", start_from=str(folder), **fields)


def test_a_start_from_a_folder_that_is_no_finished_policy_is_told(refused, other_run, tmp_path):
  missing = tmp_path / "nothing"
  text = refused(starting_from(missing))
  assert_one_sentence(text, rf"stage 'sft': start_from='{missing}' is not the folder of a finished stage\.")


def test_a_start_from_a_run_of_another_tokenizer_is_told(refused, other_run, tmp_path):
  workdir = tmp_path / "run"
  documents = [f"nothing like the other corpus {i}" for i in range(50)]
  Tokenizer.train(documents, 300).save(workdir / "tokenizer")
  text = refused(starting_from(other_run), workdir=workdir)
  assert_one_sentence(
    text, r"stage 'sft': start_from='.*/base' was trained with another tokenizer than this run; start"
  )


def test_starts_from_two_runs_of_different_tokenizers_are_told(refused, other_run, tmp_path):
  second = tmp_path / "second"
  shutil.copytree(other_run, second)
  Tokenizer.train([f"nothing like it {i}" for i in range(50)], 300).save(second / "tokenizer")
  experiment = starting_from(other_run)
  stages = tuple(
    dataclasses.replace(s, start_from=str(second)) if s.name == "distilled" else s for s in experiment.stages
  )
  text = refused(dataclasses.replace(experiment, stages=stages))
  assert_one_sentence(text, r"stage 'distilled': start_from='.*/second' was trained with another tokenizer than this")


def test_a_stage_that_is_finished_needs_neither_the_other_run_nor_its_data_any_more(refused, tmp_path):
  experiment = starting_from(tmp_path / "gone", data=(Completions(path=str(tmp_path / "gone.jsonl")),))
  workdir = tmp_path / "run"
  (workdir / "sft").mkdir(parents=True)
  (workdir / "sft/stage.json").write_text("{}")
  bad = tuple(
    dataclasses.replace(s, data=(Completions(path=f"{tmp_path}/mine.jsonl"),)) if s.name == "distilled" else s
    for s in experiment.stages
  )
  text = refused(dataclasses.replace(experiment, stages=bad), workdir=workdir)  # for what it still has to do
  assert_one_sentence(text, r"stage 'distilled': .*mine\.jsonl")
