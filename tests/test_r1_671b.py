"""The paper's recipe at full size: its values, its chain, and that it can be looked at without any of its files."""

import io
import time

from jax import live_arrays
import pytest
import rich.console

from experiments import r1_671b
from r1jax import errors
from r1jax.report import dry_run
from r1jax.rewards.compose import leaves


@pytest.fixture(scope="module")
def experiment():
  experiment = r1_671b.get_config()
  experiment.validate()
  return experiment


def test_it_chains_the_stages_of_the_paper(experiment):
  chain = {stage.name: [name for _, _, name in stage.needs()] for stage in experiment.stages}
  assert chain == {
    "zero": [],
    "cold_start_data": ["zero"],
    "cold_start": ["cold_start_data"],
    "reasoning_rl": ["cold_start"],
    "rejection": ["reasoning_rl"],
    "sft": ["rejection"],
    "helpful_pairs": ["sft"],
    "safety_labels": ["sft"],
    "helpful_rm": ["sft", "helpful_pairs"],
    "safety_rm": ["sft", "safety_labels"],
    "all_scenarios": ["sft", "helpful_rm", "safety_rm"],
  }
  from_base = [stage.name for stage in experiment.stages if not stage.start_from]
  assert from_base == ["zero", "cold_start", "sft"]  # the 800k start from the base again, not from RL
  assert {experiment.model_of(stage).vocab for stage in experiment.stages} == {129_280}
  assert experiment.model.published.name == "deepseek-ai/DeepSeek-V3-Base"


@pytest.mark.parametrize("name", ["zero", "reasoning_rl", "all_scenarios"])
def test_rl_has_the_papers_values(experiment, name):
  stage = experiment.stage(name)
  assert stage.optimizer.learning_rate == 3e-6 and stage.kl == 0.001 and stage.reference_every == 400
  assert stage.clip_high == 10  # for zero: inferred
  assert (stage.group_size, stage.batch_size, stage.rollout_size) == (16, 32 * 16, 16 * 512)
  assert stage.sampling.max_prompt + stage.sampling.max_response == stage.row_length == 32_768
  assert stage.sampling.temperature == (0.7 if name == "all_scenarios" else 1) and stage.sampling.top_p == 1
  weights = {(source.domain, source.path): source.weight for source in stage.problems.sources}
  assert sorted(weights.values()) == [8, 15, 17, 22, 26]
  names = {leaf.reward.name for leaf in leaves(stage.rewards)}
  assert ("language" in names) == (name != "zero")
  assert {leaf.reward.weight for leaf in leaves(stage.rewards)} == {1.0}


def test_general_questions_come_in_the_last_400_updates_and_are_scored_by_reward_models(experiment):
  stage = experiment.stage("all_scenarios")
  assert stage.steps - stage.later_from == 400 and abs(stage.steps - 1700) < 16  # 1,700, in rollouts of 16 updates
  assert {source.domain: source.weight for source in stage.later_problems.sources[5:]} == {
    "helpful": 66,
    "harmless": 12,
  }
  by = lambda domain: {leaf.reward.name for leaf in leaves(stage.rewards) if leaf.applies(domain)}
  assert by("helpful") == {"helpful", "format", "language"}
  assert by("harmless") == {"safe", "format", "language"}
  assert by("math") == by("logic") == {"accuracy", "format", "language"}
  assert by("code") == {"code", "format", "language"} and by("stem") == {"choice", "format", "language"}


def test_supervised_stages_have_the_papers_values(experiment):
  for name in ("cold_start", "sft"):
    stage = experiment.stage(name)
    assert (stage.epochs, stage.rows, stage.length) == (2, 128, 32_768)
    rate = stage.optimizer.learning_rate
    assert (rate, rate * stage.optimizer.final_rate) == (5e-5, pytest.approx(5e-6))
  assert experiment.stage("cold_start_data").sampling.temperature == 1.0
  assert experiment.stage("rejection").ratio == 600 / 200
  pairs, labels = experiment.stage("helpful_pairs"), experiment.stage("safety_labels")
  assert (pairs.queries, pairs.min_delta) == (4, 1.0)
  for stage, prompts in ((pairs, 66_000), (labels, 106_000)):
    assert 0 <= stage.prompts - prompts < r1_671b.SHARDS
  helpful, safety = experiment.stage("helpful_rm"), experiment.stage("safety_rm")
  assert (helpful.loss, helpful.reads) == ("pairwise", "summary")
  assert (safety.loss, safety.reads) == ("pointwise", "response")
  for stage in (helpful, safety):
    assert (stage.rows, stage.length, stage.epochs, stage.optimizer.learning_rate) == (256, 8_192, 1, 6e-6)
    assert stage.optimizer.final_rate == 1


def test_it_is_evaluated_as_in_the_paper(experiment):
  evaluation = experiment.evaluation
  assert (evaluation.sampling.temperature, evaluation.sampling.top_p) == (0.6, 0.95)
  found = {benchmark.name: benchmark.samples for benchmark in evaluation.benchmarks}
  assert (found["aime_2024"], found["math_500"], found["gpqa_diamond"], found["live_code_bench"]) == (64, 16, 64, 8)


def test_a_missing_file_is_one_sentence_that_names_it(experiment):
  sources = [*experiment.stage("all_scenarios").later_problems.sources, *experiment.stage("rejection").problems.sources]
  for source in (*sources, *experiment.stage("safety_labels").problems.sources):
    with pytest.raises(ValueError, match=f"^path={source.path!r} names no file .*[.]$") as error:
      source.open()
    assert errors.sentence(error.value)
  with pytest.raises(ValueError, match=r"^path='data/r1/general.jsonl' names no file"):
    experiment.stage("rejection").beside[0].check()
  for engine in (r1_671b.V3, r1_671b.JUDGE, r1_671b.WRITER):
    engine.validate()


def test_it_is_shown_in_seconds_without_its_files_and_without_an_array(experiment):
  console = rich.console.Console(width=200, record=True, file=io.StringIO())
  before, start = len(live_arrays()), time.process_time()
  dry_run.show(experiment, console)
  assert time.process_time() - start < 10
  assert len(live_arrays()) == before
  text = console.export_text()
  for stage in experiment.stages:
    assert stage.name in text
  assert "parameters: 671,026,419,200" in text
