"""Evaluation on held-out problems and benchmarks: pass@1 over k samples, pass@k, majority vote (DeepSeek-R1 v2 D.1)."""

import dataclasses
import json
import pathlib

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from r1jax import config, mesh
from r1jax.data import problems as data
from r1jax.report import emergence, statistics
from r1jax.rewards import (
  Accuracy,
  ByDomain,
  CodeTests,
  Instructions,
  LanguageConsistency,
  Readable,
  Rewards,
  Rubric,
  Scorer,
  Workers,
  extract_answer,
  join,
)
from r1jax.rl.sampling import sample
from r1jax.stages.run import Policy, Run
from r1jax.types import Problem

# An answer counts wherever it stands: the gain to be measured is reasoning, not tags.
ACCURACY = Accuracy(requires_format=False)
GRADERS = {"program": CodeTests(requires_format=False), "instructions": Instructions(), "open": Rubric()}
LANGUAGE = LanguageConsistency(no_words=None)
READABLE = Readable(summary=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Exam:
  """Problems with how they are asked, sampled and graded: the held-out ones, or a benchmark's."""

  problems: tuple[Problem, ...]
  asked: tuple[Problem, ...]  # the same with the questions that go into the template
  samples: int  # completions per problem
  majority: int  # votes; 0: no vote
  group: int  # completions per problem in one call
  sampling: config.Sampling
  rewards: tuple  # what grades
  pass_by: str = ""  # the reward that is 1 where an answer is right; empty: whichever grades it


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
  """What a policy wrote to every problem of an exam."""

  responses: list[list[str]]  # [problems][k]
  lengths: np.ndarray  # int[problems, k], tokens
  correct: np.ndarray  # bool[problems, k]
  scores: np.ndarray  # float[problems, k], the mark of each
  scored: Rewards  # of problems x k
  prefill: str  # what the template wrote before every response


def held_out(evaluation: config.Evaluation, problems: tuple[Problem, ...], samples: int = 0) -> Exam:
  """The exam of the playground's held-out problems, with another number of samples if one is given.

  The sandbox is opened only where there are programs to run.
  """
  rewards = (ByDomain({p.domain: GRADERS.get(p.kind, ACCURACY) for p in problems}),)
  samples = samples or evaluation.samples
  group = evaluation.group(samples)
  return Exam(problems, problems, samples, evaluation.majority, group, evaluation.sampling, rewards)


def benchmark(entry, evaluation: config.Evaluation) -> Exam:
  """The exam of an entry of `evaluation.benchmarks`; reads its rows, and a bad one is a ValueError."""
  problems = entry.problems()
  asked = tuple(dataclasses.replace(p, question=entry.ask(p)) for p in problems)
  group = evaluation.group(entry.samples)  # the turns are put together before the vote
  return Exam(
    problems, asked, entry.samples, entry.majority, group, entry.sampling, entry.rewards, entry.rewards[0].name
  )


def decode(tokenizer, rollouts) -> list[list[str]]:
  """Texts of rollouts (numpy leaves), [p][g], without the end token."""
  texts = lambda p: [tokenizer.decode(t[:n].tolist()) for t, n in zip(rollouts.tokens[p], rollouts.lengths[p])]
  return [texts(p) for p in range(len(rollouts.tokens))]


def answer(run: Run, policy: Policy, exam: Exam, grader: Scorer) -> Answers | None:
  """Samples every problem of an exam, in calls of one shape, and grades with `grader`, which has the exam's rewards.

  Every process samples its part of each call, one of those that hold it grades it, and all have all answers.

  Returns: None where the run is to stop, which is asked before each call.
  """
  e, prompter, at_once = run.experiment, policy.prompter, run.experiment.evaluation.problems_at_once
  index, parts = mesh.part()
  share = at_once // parts
  starts = range(index * share, len(exam.asked) + index * share, at_once)  # of this process's part of each call
  rows = [i for start in starts for i in range(start, min(start + share, len(exam.asked)))]
  responses, lengths = {i: [] for i in rows}, {i: [] for i in rows}
  for turn in range(exam.samples // exam.group):
    key = jax.random.fold_in(jax.random.key(e.seed + 1), turn)
    for start in starts:
      if run.stop.asked():
        return None
      mine = exam.asked[start : start + share]
      padded = mine + exam.asked[:1] * (share - len(mine))  # one compiled shape
      prompts = data.make_prompts(padded, prompter, exam.sampling.max_prompt, start - index * share)
      rollouts = draw(run, policy, prompts, key, exam.sampling, exam.group)
      for i, texts, sizes in zip(range(start, start + len(mine)), decode(run.tokenizer, rollouts), rollouts.lengths):
        responses[i].extend(texts)
        lengths[i].extend(sizes.tolist())
  texts = [t for i in rows for t in responses[i]]
  sizes = [n for i in rows for n in lengths[i]]
  rewards = None
  if rows and mesh.speaks():
    asked = [exam.problems[i] for i in rows for _ in responses[i]]
    rewards = grader.score(asked, texts, prompter.prefill, np.array(sizes)).to_json()
  return put_together(exam, prompter.prefill, mesh.of_parts([rows, texts, sizes, rewards]))


def put_together(exam: Exam, prefill: str, parts: list) -> Answers:
  """The answers of all processes, in the order of the problems.

  Args:
    parts: [numbers of the problems, texts, lengths, rewards] of each, the last three with a row per completion.
  """
  rows, texts, sizes = ([x for part in parts for x in part[i]] for i in range(3))
  order, k = np.argsort(rows), exam.samples
  responses = [texts[i * k : (i + 1) * k] for i in order]
  lengths = np.array(sizes).reshape(-1, k)[order]
  scored = join([Rewards.of_json(part[3]) for part in parts if part[3]])
  scored = scored.take((order[:, None] * k + np.arange(k)).reshape(-1))
  scores = (scored.columns[exam.pass_by] if exam.pass_by else scored.total).reshape(lengths.shape)
  by_rubric = np.array([p.kind == "open" for p in exam.problems])[:, None]  # there is no right or wrong: full marks
  graded = exam.pass_by == "" and not by_rubric.all()
  right = np.where(by_rubric | (not graded), scores >= 1, scored.right.reshape(lengths.shape))
  return Answers(responses, lengths, right, scores, scored, prefill)


def draw(run: Run, policy: Policy, prompts, key, sampling: config.Sampling, group: int, record_routes: bool = False):
  """`sample` on this process's prompts: Rollouts with numpy leaves."""
  if policy.mesh is None:
    return _draw(policy, prompts, key, sampling, group, record_routes)
  with run.drawing, jax.set_mesh(policy.mesh):
    key = jax.device_put(key, NamedSharding(policy.mesh, P()))
    return _draw(policy, prompts, key, sampling, group, record_routes)


def _draw(policy: Policy, prompts, key, sampling, group, record_routes):
  tokens, lengths, rows = mesh.to_global((prompts.tokens, prompts.lengths, prompts.rows))
  rollouts = sample(
    policy.params, tokens, lengths, rows, key, c=policy.model, sampling=sampling, group_size=group,
    ends=policy.prompter.ends, pad=policy.prompter.pad, record_routes=record_routes,
  )  # fmt: skip
  return mesh.to_local(rollouts)


def summarize(exam: Exam, answers: Answers) -> dict:
  """The figures of one stage on one exam for results.json.

  Overall, per level and per language: the problems that need reasoning, all of
  them where the exam has no others. Per domain and per suite: all.
  """
  of = np.array([data.suite_of(p) for p in exam.problems])
  reasoning = ~np.isin(of, list(data.GENERAL_SUITES))
  counted = reasoning if reasoning.any() else ~reasoning
  k, rows = answers.lengths.shape[1], np.flatnonzero(counted)
  of_each = lambda name: [getattr(p, name) for p in exam.problems for _ in range(k)]
  texts = [text for responses in answers.responses for text in responses]
  seen = emergence.emergence(
    texts, of_each("language"), answers.correct.reshape(-1), of_each("domain"), np.repeat(counted, k)
  )
  domains = seen.pop("per_domain")
  read = [[extract_answer(t, answers.prefill, strict=False) for t in responses] for responses in answers.responses]
  problems, correct, lengths = [exam.problems[i] for i in rows], answers.correct[rows], answers.lengths[rows]
  overall = statistics.accuracy(correct, [read[i] for i in rows], exam.majority)
  overall |= {"response_length": float(lengths.mean())} | seen
  for name in ("level", "language"):
    labels = [getattr(p, name) for p in problems]
    overall[f"per_{name}"] = statistics.breakdown(labels, correct, response_length=lengths)
  by_domain = statistics.breakdown([p.domain for p in exam.problems], answers.correct, response_length=answers.lengths)
  per_domain = {domain: figures | domains[domain] for domain, figures in by_domain.items()}
  return overall | {"per_domain": per_domain, "suites": suites(exam, answers, read, of)}


def suites(exam: Exam, answers: Answers, read, of) -> dict[str, dict]:
  """The rows of the stage table: a score per suite of the playground, and two that look at all reasoning.

  `read` are the answers as text, [problems][k], `of` the suites of the problems. A language score is the share of
  words in the question's language, where a response has words (every problem
  counts alike, and one without such a response not at all); a readable response
  has nothing against it and a summary in words.
  """
  found = {}
  for name in dict.fromkeys(of):
    rows = of == name
    vote = None
    if exam.majority and name not in data.GENERAL_SUITES:
      vote = statistics.majority_at(exam.majority, answers.correct[rows], [r for r, row in zip(read, rows) if row])
    found[name] = suite(answers.scores, rows, answers.lengths) | {"majority": vote}
  reasoning = ~np.isin(of, list(data.GENERAL_SUITES))
  if reasoning.any():
    for name, reward in (("language", LANGUAGE), ("readability", READABLE)):
      marks = np.full(answers.lengths.shape, np.nan)
      for i in np.flatnonzero(reasoning):
        marks[i] = np.array([reward(exam.problems[i], t, answers.prefill) for t in answers.responses[i]], float)
      found[name] = suite(marks, ~np.isnan(marks).all(1), answers.lengths) | {"majority": None}
  return found


def suite(marks, rows, lengths) -> dict:
  """One row of the stage table from marks float[problems, k]; NaN where a mark does not apply."""
  if not rows.any():
    return {"score": None, "interval": None, "tokens": None, "problems": 0, "samples": 0}
  return {
    "score": float(np.nanmean(marks[rows], axis=1).mean()),
    "interval": list(statistics.interval(marks[rows])),
    "tokens": float(lengths[rows].mean()),
    "problems": int(rows.sum()),
    "samples": marks.shape[1],
  }


def sit(run: Run, policy: Policy, exam: Exam) -> Answers:
  """`answer` with checking processes of its own; ends the run where it is to stop."""
  with Workers() as workers, Scorer(exam.rewards, workers) as grader:
    answers = answer(run, policy, exam, grader)
  if answers is None:
    run.stop.end("in an exam, which will begin again")
  return answers


def take(run: Run, policy: Policy, exams: dict[str, Exam], folder: pathlib.Path) -> dict[str, dict]:
  """The figures of every exam by its name; the samples are written to <folder>/<name>.jsonl."""
  figures = {}
  for name, exam in exams.items():
    answers = sit(run, policy, exam)
    counts = {"problems": len(exam.problems), "samples": exam.samples}
    scores = {key: value for key, value in answers.scored.summary().items() if key.startswith("reward/")}
    figures[name] = counts | summarize(exam, answers) | scores
    if jax.process_index() == 0:
      folder.mkdir(parents=True, exist_ok=True)
      save_samples(exam, answers, folder / f"{name}.jsonl")
  return figures


def save_samples(exam: Exam, answers: Answers, path: pathlib.Path):
  """Writes every response, its score, whether it is right and its tokens, a line per problem."""
  columns = zip(exam.problems, answers.responses, answers.correct, answers.scores, answers.lengths)
  lines = [
    json.dumps(
      p.fields() | {"suite": data.suite_of(p), "responses": texts, "correct": right.tolist()}
      | {"scores": np.round(scores, 4).tolist(), "tokens": tokens.tolist()},
      ensure_ascii=False,
    )
    for p, texts, right, scores, tokens in columns
  ]  # fmt: skip
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")
