"""Exams: what is asked, how often, what counts as right. The policy is a stub that answers as the test says."""

import dataclasses
import os
import pathlib
import signal
import types

import jax
import numpy as np
import pytest

from configs import benchmarks
from r1jax import config, mesh, processes
from r1jax.data.prompts import Prompter
from r1jax.errors import Stopped
from r1jax.rewards import Accuracy, Scorer, Workers
from r1jax.stages import evaluate, rejection, rl, run
from r1jax.types import Problem, Rollouts
from tests.experiments import small

ROWS = pathlib.Path(__file__).parent / "data/benchmark_rows"
SAMPLING = config.Sampling(max_prompt=400, max_response=200)


class Letters:
  """A tokenizer whose tokens are the letters."""

  pad = end = 0
  ends = (0,)

  def encode(self, text):
    return [ord(letter) for letter in text]

  def encode_question(self, template, question):
    return self.encode(template.replace("{question}", question))

  def decode(self, tokens):
    return "".join(map(chr, tokens))


ASKED = run.Policy(None, None, Prompter(config.Template(text="User: {question} You:"), Letters()))


class Policy:
  """In place of `evaluate.draw`: answer(prompt, row's random key, sample) -> text; notes what it was asked."""

  def __init__(self, monkeypatch, answer):
    self.answer, self.calls = answer, []
    monkeypatch.setattr(evaluate, "draw", self.draw)

  def draw(self, run, policy, prompts, key, sampling, group, record_routes=False):
    asked = ["".join(map(chr, row[:n])) for row, n in zip(prompts.tokens, prompts.lengths)]
    self.calls.append(asked)
    texts = [[self.answer(text, int(row), i) for i in range(group)] for text, row in zip(asked, prompts.rows)]
    lengths = np.array([[len(text) for text in group] for group in texts])
    tokens = np.zeros((*lengths.shape, SAMPLING.max_response), int)
    for p, group_texts in enumerate(texts):
      for g, text in enumerate(group_texts):
        tokens[p, g, : len(text)] = [ord(letter) for letter in text]
    return Rollouts(tokens, lengths, lengths > 0, tokens * 0.0, tokens * 0.0)


@pytest.fixture(scope="module")
def a_run():
  return types.SimpleNamespace(
    experiment=small.get_config(), tokenizer=Letters(), held_out=(), stop=types.SimpleNamespace(asked=lambda: False)
  )


def answers(run, exam):
  with Workers(1) as workers, Scorer(exam.rewards, workers) as grader:
    found = evaluate.answer(run, ASKED, exam, grader)
  return found, evaluate.summarize(exam, found)


def test_a_benchmark_is_asked_with_its_template_and_graded_by_its_own_reward(a_run, monkeypatch):
  entry = dataclasses.replace(
    benchmarks.gpqa_diamond(path=str(ROWS / "gpqa_diamond.jsonl")), samples=8, sampling=SAMPLING
  )
  exam = evaluate.benchmark(entry, a_run.experiment.evaluation)
  gold = {problem.question: problem.answer for problem in exam.problems}
  right = lambda text: next(letter for question, letter in gold.items() if question in text)
  # The letter alone, which no rule for numbers would read; right in the first 3 of every 4 samples.
  policy = Policy(monkeypatch, lambda text, row, i: f"ANSWER: {right(text) if i < 3 else 'J'}")
  found, figures = answers(a_run, exam)
  assert found.correct.tolist() == [[True, True, True, False] * 2] * len(gold)
  assert figures["pass@1"] == 0.75 and figures["pass@8"] == 1.0 and "majority@0" not in figures
  for asked in policy.calls:
    for text in asked:
      assert text.startswith("User: Answer the following multiple choice question.") and text.endswith(" You:")


def test_the_vote_of_a_benchmark_is_over_its_own_number_of_samples(a_run, monkeypatch):
  entry = dataclasses.replace(
    benchmarks.aime_2024(path=str(ROWS / "aime_2024.jsonl")), samples=8, majority=8, sampling=SAMPLING
  )
  exam = evaluate.benchmark(entry, a_run.experiment.evaluation)
  gold = {problem.question: problem.answer for problem in exam.problems}
  right = lambda text: next(answer for question, answer in gold.items() if question in text)
  Policy(monkeypatch, lambda text, row, i: f"\\boxed{{{right(text) if i in (1, 2) else 900 + i}}}")
  found, figures = answers(a_run, exam)
  assert figures["pass@1"] == 1 / 2 and figures["majority@8"] == 1.0
  assert found.scored.columns["accuracy"].sum() == 4 * len(gold)


def test_held_out_problems_of_every_kind_are_graded_wherever_the_answer_stands(a_run, monkeypatch):
  problems = (
    Problem("a", "1+1", "2", "number", "arithmetic"),
    Problem("b", "capital", "B", "choice", "choice"),
    Problem("c", "half", "1/2", "expression", "algebra"),
  )
  texts = {"1+1": "1+1=2", "capital": "<answer>B</answer>", "half": "it is 0.5"}
  Policy(monkeypatch, lambda text, row, i: texts[text[6:-5]] if i % 2 else "no")
  exam = evaluate.held_out(a_run.experiment.evaluation, problems)
  found, figures = answers(a_run, exam)
  assert found.correct.tolist() == [[False, True, False, True]] * 3
  assert figures["per_domain"]["algebra"]["pass@1"] == 0.5


def test_a_rollout_is_sampled_in_as_many_calls_as_the_stage_says(a_run, monkeypatch):
  problems = [Problem(f"p{i}", f"{i}+0", str(i), "number", "arithmetic") for i in range(6)]
  policy = Policy(monkeypatch, lambda text, row, i: f"<think>t</think><answer>{row + (i == 3)}</answer>")
  asking = ASKED._replace(prompter=Prompter(config.Template(text="{question}"), a_run.tokenizer))
  for at_once, calls in ((0, 1), (2, 3), (3, 2)):
    stage = dataclasses.replace(small.zero(), prompts_at_once=at_once, group_size=4)
    policy.calls.clear()
    with Workers(1) as workers, Scorer(stage.rewards, workers) as scorer:
      _, rollouts, texts, scores, *_ = rl.roll_out(a_run, stage, scorer, {}, problems, 0, asking)
      rewards = rl.join([score.result() for score in scores])
    assert len(policy.calls) == calls == len(scores) and [text for asked in policy.calls for text in asked] == [
      p.question for p in problems
    ]
    assert rewards.columns["accuracy"].reshape(6, 4).tolist() == [[1, 1, 1, 0]] * 6
    assert rollouts.tokens.shape[:2] == (6, 4) and texts[5][0] == "<think>t</think><answer>5</answer>"


def test_a_language_score_counts_problems_alike_however_many_of_their_responses_have_words(a_run, monkeypatch):
  problems = tuple(Problem(f"p{i}", f"{i}+0", str(i), "number", "arithmetic") for i in range(4))
  thoughts = {0: ["so it is"] * 4, 1: ["因为", "1", "1", "1"], 2: ["因为", "2", "2", "2"], 3: ["3"] * 4}
  Policy(monkeypatch, lambda text, row, i: f"<think>{thoughts[int(text[6])][i]}</think>1")
  _, figures = answers(a_run, evaluate.held_out(a_run.experiment.evaluation, problems))
  language = figures["suites"]["language"]
  assert language["score"] == pytest.approx(1 / 3) and language["problems"] == 3
  assert language["interval"][0] <= language["score"] <= language["interval"][1]


def test_overall_figures_are_of_the_problems_that_need_reasoning(a_run, monkeypatch):
  rubric = {"rubric": [{"any": ["cat"], "points": 1}]}
  problems = (
    Problem("a", "1+1", "2", "number", "arithmetic"),
    Problem("b", "cat", "", "open", "writing", columns=rubric),
    Problem("c", "dog", "", "open", "writing", columns=rubric),
  )
  Policy(monkeypatch, lambda text, row, i: "2" if i == 0 else "the cat")
  found, figures = answers(a_run, evaluate.held_out(a_run.experiment.evaluation, problems))
  assert found.scores.tolist() == [[1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1]]
  assert figures["pass@1"] == 0.25 and figures["per_language"]["en"]["problems"] == 1
  assert figures["response_length"] == pytest.approx((1 + 3 * 7) / 4)
  assert figures["per_domain"]["writing"]["pass@1"] == figures["suites"]["helpfulness"]["score"] == 0.75
  assert figures["suites"]["math"]["majority"] == 0 and figures["suites"]["helpfulness"]["majority"] is None


def test_an_exam_ends_between_its_calls_where_the_run_is_to_stop(a_run, monkeypatch):
  problems = tuple(Problem(f"p{i}", f"{i}+0", str(i), "number", "arithmetic") for i in range(12))  # 4 in a call

  def answer(text, row, i):
    os.kill(os.getpid(), signal.SIGTERM)
    return "1"

  policy, exam = Policy(monkeypatch, answer), evaluate.held_out(a_run.experiment.evaluation, problems)
  with processes.Stop() as stop, Workers(1) as workers, Scorer(exam.rewards, workers) as grader:
    stopping = types.SimpleNamespace(**vars(a_run) | {"stop": stop})
    assert evaluate.answer(stopping, ASKED, exam, grader) is None
    assert len(policy.calls) == 1
    with pytest.raises(Stopped, match="in an exam, which will begin again; the same command goes on"):
      evaluate.sit(stopping, ASKED, exam)
  assert len(policy.calls) == 1


def test_of_processes_that_hold_the_same_rows_only_the_first_scores_them(a_run, monkeypatch):
  problems = tuple(Problem(f"p{i}", f"{i}+0", str(i), "number", "arithmetic") for i in range(4))
  Policy(monkeypatch, lambda text, row, i: f"<think>t</think><answer>{row + (i == 3)}</answer>")
  monkeypatch.setattr(mesh, "part", lambda: (0, 1))
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  submit, submitted = Scorer.submit, []
  monkeypatch.setattr(Scorer, "submit", lambda self, *batch: submitted.append(batch) or submit(self, *batch))

  def two(ask):
    """What ask() gives the first of two such processes, and the second."""
    said = []
    monkeypatch.setattr(mesh, "of_parts", lambda value: said.append(value) or said[:1])
    submitted.clear()
    for first in (True, False):
      monkeypatch.setattr(mesh, "speaks", lambda first=first: first)
      yield ask()
      assert len(submitted) == 1

  exam = evaluate.held_out(a_run.experiment.evaluation, problems)
  one, other = (found for found, _ in two(lambda: answers(a_run, exam)))
  assert one.correct.tolist() == other.correct.tolist() == [[True, True, True, False]] * 4
  assert one.scored.statuses == other.scored.statuses

  stage = dataclasses.replace(small.zero(), rewards=(Accuracy(),), group_size=4)
  with Workers(1) as workers, Scorer(stage.rewards, workers) as scorer:
    one, other = two(lambda: rl.of_part(rl.roll_out(a_run, stage, scorer, {}, problems, 0, ASKED).scores))
  assert one.total.tolist() == other.total.tolist() == [1, 1, 1, 0] * 4

  stage = config.Rejection(
    name="rejection", prompts=4, prompts_at_once=4, samples=4, keep=4, rewards=(Accuracy(),),
    template=small.TEMPLATE, sampling=SAMPLING,
  )  # fmt: skip
  with Workers(1) as workers, Scorer(stage.rewards, workers) as scorer:
    asked = lambda: rejection.ask(stage, a_run, ASKED, list(problems), 0)
    one, other = two(lambda: rejection.keep(stage, Letters(), scorer, None, asked()))
  assert len(one[0]) == 4 and one[1]["right"] == 12
  assert other[0] == [] and other[1]["questions"] == other[1]["responses"] == 0
