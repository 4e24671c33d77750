"""The data of reward models as a stage makes it, against everything computed again one by one."""

from collections import Counter
import contextlib
import dataclasses
import hashlib
import itertools
import json
from typing import ClassVar

import jax  # noqa: F401  (conftest sets a mesh in modules that have it)
import pytest

from r1jax import config
from r1jax.data import preferences as data
from r1jax.data.generated import ProblemSource
from r1jax.data.preferences import Labels, Pairs
from r1jax.data.problems import documents
from r1jax.data.tokenizer import Tokenizer
from r1jax.rewards import OracleJudge
from r1jax.rewards.endpoint import Failure
from r1jax.rewards.rubric import Rubric, safe
from r1jax.stages import preferences, rejection
from r1jax.stages.run import Run
from r1jax.training import state as states

TEMPLATE = config.Template(text="<|user|>{question}<|assistant|>", prefill="<think>")
SAMPLING = config.Sampling(max_prompt=48, max_response=32, chunk=64)
WORLD = config.Playground(
  domains=("writing", "roleplay", "harm"), levels=(1,), mix=config.Mix(), documents=400, evaluation_problems=2
)


def stage(form="pairs", **fields):
  defaults = dict(
    name="made", form=form, prompts=16, prompts_at_once=8, samples=2, written=3, template=TEMPLATE, sampling=SAMPLING,
    judge=OracleJudge(), queries=4, min_delta=0.8,
  )  # fmt: skip
  made = config.Preferences(**(defaults | fields))
  made.validate()
  return made


@pytest.fixture(scope="module")
def tokenizer():
  return Tokenizer.train(documents(WORLD, TEMPLATE, 0), 448)


@pytest.fixture(scope="module")
def model(tiny_model, grouped_query):
  return tiny_model(vocab=448, layers=1, attention=grouped_query, experts=None, unroll=True)


@pytest.fixture
def make(tmp_path, model, tokenizer):
  """(figures, rows, run) of a stage in a folder of this name."""

  def make(folder, made):
    evaluation = config.Evaluation(samples=1, majority=1, sampling=SAMPLING, template=TEMPLATE, problems_at_once=2)
    experiment = config.Experiment(
      name="small", playground=WORLD, model=model, mesh=config.Mesh(), stages=(made,), evaluation=evaluation
    )
    run = Run(experiment=experiment, workdir=tmp_path / folder, tokenizer=tokenizer, held_out=())
    run.problems[made.name] = ProblemSource(WORLD, 0)
    figures = preferences.run(made, run, states.init_params(model, 5))
    content = (run.folder(made.name) / "data.jsonl").read_bytes()
    assert hashlib.sha256(content).hexdigest() == figures["data_sha256"]
    assert json.loads((run.folder(made.name) / "statistics.json").read_text()) == figures["statistics"]
    return figures, [json.loads(line) for line in content.splitlines()], run

  return make


def everything(made, run, model):
  """[(problem, all its different whole responses, how many were drawn, how many of them were cut)], once more."""
  questions, found = rejection.different(run.problems["made"], made.prompts), []
  policy = run.policy(made, states.init_params(model, 5))
  indexes = {}
  for index in range(made.prompts):
    indexes.setdefault((run.problems["made"][index].id, run.problems["made"][index].language), index)
  first = "bare" if made.form == "labels" else ""
  for call in range(-(-len(questions) // made.prompts_at_once)):
    asked = rejection.ask(made, run, policy, questions, call)
    for problem, texts, ended in zip(asked.problems, asked.texts, asked.ended):
      whole = ["<think>" + text for text, end in zip(texts, ended) if end]
      written = data.written(run.problems["made"], indexes[problem.id, problem.language], made.written, first)
      found.append((problem, list(dict.fromkeys(whole + written)), len(texts), len(texts) - len(whole)))
  assert len(found) == len(questions)
  return found


def test_pairs_are_all_pairs_of_a_question_that_the_judge_tells_apart(make, model, tokenizer):
  made = stage()
  figures, rows, run = make("a", made)
  expected, ties, compared, asked = [], 0, 0, everything(made, run, model)
  for problem, texts, _, _ in asked:
    for first, second in itertools.combinations(texts, 2):
      delta = 4 * (Rubric()(problem, first) - Rubric()(problem, second))
      compared += 1
      if abs(delta) <= 0.8:
        ties += 1
        continue
      chosen, rejected = (first, second) if delta > 0 else (second, first)
      expected.append((problem.id, problem.question, chosen, rejected, min(abs(delta), 2)))
  found = [(row["id"], row["prompt"], row["chosen"], row["rejected"], pytest.approx(row["delta"])) for row in rows]
  remaining = iter(expected)
  assert all(any(row == other for other in remaining) for row in found)  # in their order
  statistics = figures["statistics"]
  assert statistics["dropped_to_balance"] == len(expected) - len(rows)
  assert (statistics["ties"], statistics["compared"], statistics["order_agreement"]) == (ties, compared, 1.0)
  assert statistics["truncated"] == sum(cut for *_, cut in asked)
  drawn = sum(n + made.written for _, _, n, _ in asked)
  assert statistics["responses"] == drawn == sum(len(t) + cut for _, t, _, cut in asked) + statistics["twice"]
  assert statistics["questions"] + statistics["questions_twice"] == 16
  assert statistics["domains"] == dict(sorted(Counter(row["domain"] for row in rows).items()))
  means = [sum(len(tokenizer.encode(row[name])) for row in rows) / len(rows) for name in ("chosen", "rejected")]
  assert means == [pytest.approx(statistics[f"mean_tokens_{name}"]) for name in ("chosen", "rejected")]
  assert abs(means[0] - means[1]) < 0.05 * max(means)


def test_labels_are_those_of_whole_responses_at_most_three_to_one(make, model):
  made = stage("labels")
  figures, rows, run = make("a", made)
  expected = {(p.id, p.question, t): safe(p, t) for p, texts, *_ in everything(made, run, model) for t in texts}
  for row in rows:
    assert row["safe"] is expected[row["id"], row["prompt"], row["response"]]
  unsafe = sum(not label for label in expected.values())
  assert figures["statistics"]["unsafe"] == unsafe == sum(not row["safe"] for row in rows) > 0
  assert figures["statistics"]["safe"] == len(rows) - unsafe == min(3 * unsafe, len(expected) - unsafe)
  assert figures["statistics"]["dropped_to_balance"] == len(expected) - len(rows)


class Killed(Exception):
  pass


@pytest.mark.parametrize("form", ["pairs", "labels"])
def test_a_killed_stage_goes_on_at_the_next_call_and_writes_the_same_bytes(make, monkeypatch, tmp_path, form):
  made = stage(form, prompts=24, judge=OracleJudge(noise=0.2))
  whole, rows, _ = make("whole", made)
  ask, calls = rejection.ask, []

  def killed(*args):
    calls.append(args[-1])
    if len(calls) == 3:
      raise Killed
    return ask(*args)

  monkeypatch.setattr(rejection, "ask", killed)
  with pytest.raises(Killed):
    make("cut", made)
  with open(tmp_path / "cut/made/calls.jsonl", "a") as file:
    file.write('{"rows": [{"id"')  # in the middle of a line
  again, same, _ = make("cut", made)
  assert calls == [0, 1, 2, 1, 2]  # that of call 1 was judged and not yet written
  assert again == whole and same == rows


def test_the_rows_are_what_a_reward_model_reads(make):
  for form, source in (("pairs", Pairs), ("labels", Labels)):
    figures, rows, run = make(form, stage(form))
    (run.folder("made") / "stage.json").write_text(json.dumps(figures))
    found = source(stage="made").open(run.folder)
    names = ["id", "prompt", "domain", "language", *source.texts]
    assert [[row[name] for name in names] for row in found] == [[row[name] for name in names] for row in rows]


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Moody:
  """Fails on every third question, likes the longer text, and the first shown a bit."""

  weight: ClassVar[float] = 1.0
  name: ClassVar[str] = "moody"

  @contextlib.contextmanager
  def open(self):
    yield self

  def compare(self, problems, firsts, seconds, queries):
    assert queries == 4
    delta = lambda a, b: 2.0 if len(a) > len(b) else -2.0
    rows = enumerate(zip(problems, firsts, seconds, strict=True))
    return [Failure("tired") if i % 3 == 0 else (delta(a, b), delta(a, b) + 2.5) for i, (_, a, b) in rows]

  def safe(self, problems, responses):
    return [Failure("tired") if i % 3 == 0 else True for i, _ in enumerate(zip(problems, responses, strict=True))]


def test_failures_and_disagreeing_orders_are_counted_and_a_lopsided_judge_is_refused(make):
  with pytest.raises(RuntimeError, match="none is left once chosen and rejected are of comparable length.*longer"):
    make("a", stage(judge=Moody()))
  rows, counts = preferences.compared(stage(min_delta=1.0), Moody(), [(a_problem(), ["a", "bb", "ccc"])], len)
  # a-bb fails; a-ccc and bb-ccc: -2 and +0.5, which is -0.75 and a tie
  assert (rows, counts) == ([], {"compared": 3, "judge_failed": 1, "ties": 2, "orders_agree": 0})
  with pytest.raises(RuntimeError, match="all of .* responses are safe; a reward model needs both: raise written"):
    make("b", stage("labels", judge=Moody()))
  with pytest.raises(RuntimeError, match="made: no row is left of 80 responses .* ties"):
    make("c", stage(min_delta=2.0))


def a_problem():
  return ProblemSource(WORLD, 0)[0]


def pair(chosen, rejected):
  return {"tokens_chosen": chosen, "tokens_rejected": rejected}


def test_as_few_pairs_as_need_be_go_for_the_lengths_and_the_order_stays():
  equal = lambda rows, gap=0.05: preferences.of_equal_length(rows, gap)
  rows = [pair(10, 9), pair(30, 5), pair(9, 10), pair(20, 5), pair(10, 11)]
  assert equal(rows) == [rows[0], rows[2], rows[4]]  # 79 : 40, then 49 : 35, then 29 : 30
  assert equal(rows[::2]) == rows[::2]
  assert equal(rows, 0.3) == [rows[0], *rows[2:]]  # 49 : 35 differ by 29%
  rows = [pair(10, 9), pair(30, 5), pair(9, 10), pair(10, 20)]
  assert equal(rows) == [rows[0], rows[2]]  # 59 : 44, then 29 : 39, then from the other side
  assert equal([pair(5, 0)], 1.0) == [pair(5, 0)]
