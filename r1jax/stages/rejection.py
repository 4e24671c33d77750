"""Rejection sampling: a policy's completions as data, right and readable ones only (DeepSeek-R1 v1 2.3.3, v2 B.3.2).

Several completions are drawn per question, scored, filtered and refined, a call
of the sampler at a time. calls.jsonl gains a line per call, so that a killed
run goes on with the next one: a call depends on the seed, the stage's name and
its own number alone. At the end general data is mixed in and data.jsonl, whose
columns r1jax.data.completions describes, is written whole.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import contextlib
import functools
import hashlib
import json
import os
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from r1jax import config, mesh
from r1jax.data import completions, files, problems as data, statistics
from r1jax.rewards import Scorer, Workers
from r1jax.rewards.format import final_part, split
from r1jax.rewards.judges import FAILED
from r1jax.stages import evaluate
from r1jax.stages.run import Run
from r1jax.training.workdir import write_json

HOPELESS = 32  # completions of a refiner, all of them wrong, that end the stage


class Asked(NamedTuple):
  """What one call of the sampler gave this process to judge."""

  problems: list  # different questions; the sampler was given as many more as its shape needs
  texts: list[list[str]]  # [p][g]
  lengths: np.ndarray  # int[p, g], tokens drawn
  ended: np.ndarray  # bool[p, g], not cut at the length limit
  prefill: str  # what the template wrote before each


def run(stage: config.Rejection, run: Run, params) -> dict:
  """Samples, keeps and writes <stage>/data.jsonl; goes on where an earlier call was cut off.

  Returns:
    "statistics", as statistics.json; "data_sha256" and "rows" of data.jsonl.

  Raises:
    RuntimeError: nothing is kept.
  """
  folder, policy = run.folder(stage.name), run.policy(stage, params)
  questions = different(run.problems[stage.name], stage.prompts)
  general = [row for source in stage.beside for row in source.open(run.folder)]
  calls = -(-len(questions) // stage.prompts_at_once)
  journal, before = Journal(folder / "calls.jsonl"), None
  with contextlib.ExitStack() as stack:
    if journal.done < calls:
      judging = stack.enter_context(ThreadPoolExecutor(1, "judging"))
      workers = stack.enter_context(Workers(stage.reward_workers, stage.reward_limit))
      scorer = stack.enter_context(Scorer(stage.rewards, workers))
      refine = stack.enter_context(opened_refiner(stage, run.tokenizer, workers, scorer)) if stage.refiner else None
    for call in range(journal.done, calls):
      if run.stop.asked():
        break
      asked = ask(stage, run, policy, questions, call)
      if before:  # it was judged meanwhile
        journal.add(*before.result())
      before = judging.submit(keep, stage, run.tokenizer, scorer, refine, asked)
    if before:
      journal.add(*before.result())
  run.stop.end(f"after {journal.done} of {calls} calls of the sampler")
  counts = journal.counts | {"questions_twice": stage.prompts - len(questions)}
  if not journal.rows:
    raise RuntimeError(nothing_kept(stage, counts))
  rows = journal.rows + beside(stage, run, general, len(journal.rows))
  order = np.random.PCG64(digest(run, stage, "order")).random_raw(len(rows))
  rows = [rows[i] for i in np.argsort(order, kind="stable")]
  return write(folder, rows, statistics.describe(rows, counts))


def different(problems, count: int) -> list:
  """The first `count` problems of an endless row, each question once."""
  found = {}
  for index in range(count):
    problem = problems[index]
    found.setdefault((problem.id, problem.language), problem)
  return list(found.values())


def digest(run: Run, stage: config.Rejection, what: str) -> int:
  """A number that depends on the seed, the stage's name and `what` it is for."""
  return int.from_bytes(hashlib.sha256(f"{run.experiment.seed}/{stage.name}/{what}".encode()).digest()[:4])


def ask(stage: config.Rejection, run: Run, policy, questions: list, call: int) -> Asked:
  """Draws this process's completions of one call; empty where another process has the same ones, and judges them."""
  at_once = stage.prompts_at_once
  mine = questions[call * at_once : (call + 1) * at_once]
  padded = mine + questions[:1] * (at_once - len(mine))  # one compiled shape
  index, parts = mesh.part()
  part = slice(index * at_once // parts, (index + 1) * at_once // parts)
  prompts = data.make_prompts(padded[part], policy.prompter, stage.sampling.max_prompt)
  key = jax.random.fold_in(jax.random.key(digest(run, stage, "sampling")), call)
  rollouts = evaluate.draw(run, policy, prompts, key, stage.sampling, stage.samples)
  texts, n = evaluate.decode(run.tokenizer, rollouts), len(mine[part]) if mesh.speaks() else 0
  return Asked(mine[part][:n], texts[:n], rollouts.lengths[:n], rollouts.ended[:n], policy.prompter.prefill)


def keep(stage: config.Rejection, tokenizer, scorer: Scorer, refine, asked: Asked) -> tuple[list[dict], dict]:
  """(rows, counts) of one call, this process's part. A response is left out for one reason, the first that holds.

  Args:
    refine: as `opened_refiner` gives it; None: what is kept stays as it was written.
  """
  domains = {p.domain: Counter() for p in asked.problems}
  left_out, chosen = Counter(), []
  flat = [p for p in asked.problems for _ in range(stage.samples)]
  texts = [text for group in asked.texts for text in group]
  rewards = scorer.score(flat, texts, asked.prefill, asked.lengths.reshape(-1)) if flat else None
  for p, problem in enumerate(asked.problems):
    good = {}  # tokens of each different response that is kept so far
    for g, text in enumerate(asked.texts[p]):
      reason, right = against(stage, asked, rewards, p, g), rewards.right[p * stage.samples + g]
      domains[problem.domain] += Counter(responses=1, right=int(right), accepted=int(not reason))
      if reason or text in good:
        left_out[reason or "duplicate"] += 1
      else:
        good[text] = int(asked.lengths[p, g])
    domains[problem.domain]["questions"] += 1
    shortest = sorted(good, key=good.__getitem__)  # the first drawn of equals
    left_out["over keep"] += len(shortest[stage.keep :])
    chosen += [(problem, text) for text in shortest[: stage.keep]]
  whole = [(problem, asked.prefill + text) for problem, text in chosen]
  kept, lost = refine(whole) if refine else (whole, Counter())
  domains_kept = Counter(problem.domain for problem, _ in kept)
  names = ("questions", "responses", "right", "accepted")
  domains = {d: {name: n[name] for name in names} | {"kept": domains_kept[d]} for d, n in domains.items()}
  counts = {name: sum(numbers[name] for numbers in domains.values()) for name in (*names, "kept")}
  rows = [completions.row_of(p, text, len(tokenizer.encode(text)), stage.name) for p, text in kept]
  return rows, counts | {"left_out": dict(+(left_out + lost)), "domains": domains}


def against(stage: config.Rejection, asked: Asked, rewards, p: int, g: int) -> str:
  """Why response g to question p is left out, in a word or two; "" where nothing is against it."""
  i = p * stage.samples + g
  if not asked.ended[p, g]:
    return "truncated"
  if not rewards.right[i]:
    return FAILED if any(column[i] == FAILED for column in rewards.statuses.values()) else "wrong"
  return filtered(stage, asked.problems[p], asked.texts[p][g], asked.prefill)


def filtered(stage: config.Rejection, problem, text: str, prefill: str) -> str:
  """The first thing a filter has against a response, without its numbers."""
  found = (reason for each in stage.filters for reason in each.reasons(problem, text, prefill))
  return next(found, "").partition(":")[0]


@contextlib.contextmanager
def opened_refiner(stage: config.Rejection, tokenizer, workers, scorer: Scorer):
  """Yields `refined` of this stage: responses -> what is kept of the refiner's completions, and what is lost."""
  with contextlib.ExitStack() as stack:
    if stage.refined_rewards:
      scorer = stack.enter_context(Scorer(stage.refined_rewards, workers))
    refiner = stack.enter_context(stage.refiner.open())
    yield functools.partial(refined, stage, tokenizer, scorer, refiner)


def refined(stage: config.Rejection, tokenizer, scorer: Scorer, refiner, chosen: list) -> tuple[list, Counter]:
  """(problem, completion) of what is kept of (problem, response), and how many are lost, by reason.

  What the refiner returns must be right and pass the filters, as what it was given did.

  Raises:
    RuntimeError: HOPELESS or more completions of one call, and none is right: sampling on would be in vain.
  """
  if not chosen:
    return [], Counter()
  parts = [{"think": split(t).think, "answer": final_part(t, strict=False), "response": t} for _, t in chosen]
  found = refiner.refine(parts, [problem for problem, _ in chosen])
  new = [(problem, text) for (problem, _), text in zip(chosen, found, strict=True) if text is not None]
  lost = told_by(refiner, len(found) - len(new))
  lengths = [len(tokenizer.encode(text)) for _, text in new]
  right = scorer.score([p for p, _ in new], [text for _, text in new], tokens=lengths).right if new else []
  if len(new) >= HOPELESS and not any(right):
    raise RuntimeError(
      f"{stage.name}: none of {len(new)} completions of the refiner is right, such as {new[0][1]!r:.200}; change "
      "refiner, or let refined_rewards read what it writes, e.g. (Accuracy(requires_format=False),)."
    )
  kept = []
  for (problem, text), still in zip(new, right, strict=True):
    if reason := filtered(stage, problem, text, "") if still else "wrong":
      lost[f"refiner: {reason}"] += 1
    else:
      kept.append((problem, text))
  return kept, lost


def told_by(refiner, missing: int) -> Counter:
  """Why so many responses have no completion, as far as the refiner says it."""
  said = Counter({f"refiner: {reason}": n for reason, n in getattr(refiner, "failures", {}).items()})
  getattr(refiner, "failures", {}).clear()
  return +(said + Counter({"refiner: none": missing - said.total()}))


def beside(stage: config.Rejection, run: Run, rows: list[dict], sampled: int) -> list[dict]:
  """The general rows that go with so many sampled ones: those that a shuffle puts first."""
  order = np.argsort(np.random.PCG64(digest(run, stage, "beside")).random_raw(len(rows)), kind="stable")
  rows = [rows[i] for i in order[: int(sampled / stage.ratio) if stage.ratio else len(rows)]]
  return [row | {"tokens": len(run.tokenizer.encode(row["completion"]))} for row in rows]


def nothing_kept(stage: config.Rejection, counts: dict) -> str:
  """One sentence: the counts by reason, and what to change."""
  left_out = Counter(counts["left_out"])
  reasons = ", ".join(f"{number} {reason}" for reason, number in left_out.most_common())
  most = next(iter(dict(left_out.most_common())), "")
  change = {
    "truncated": "raise sampling.max_response",
    "wrong": "raise samples or prompts, ask easier problems, or let rewards read what this policy writes",
    FAILED: "see to the judge in rewards",
    "refiner: wrong": "change refiner, or let refined_rewards read what it writes",
  }.get(most, "change refiner" if most.startswith("refiner") else "loosen filters")
  return f"{stage.name}: none of {counts['responses']} responses is kept: {reasons}; {change}."


def write(folder: pathlib.Path, rows: list[dict], figures: dict) -> dict:
  """Writes data.jsonl and statistics.json, each whole or not at all, and returns the figures of stage.json."""
  content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
  if jax.process_index() == 0:
    aside = folder / f".{files.MADE}.tmp"
    with open(aside, "wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(aside, folder / files.MADE)
    write_json(folder / "statistics.json", figures)
  return {"statistics": figures, "data_sha256": hashlib.sha256(content).hexdigest(), "rows": len(rows)}


class Journal:
  """What the calls gave so far, a line each: {"rows": [...], "counts": {...}}, of all processes in their order."""

  def __init__(self, path: pathlib.Path):
    self.path, self.rows, self.counts, self.done = path, [], {}, 0
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    for line in content[:whole].splitlines():
      self._take(json.loads(line))
    if whole < len(content) and jax.process_index() == 0:  # a kill in the middle of a line
      os.truncate(path, whole)

  def _take(self, call: dict):
    self.rows += call["rows"]
    self.counts = statistics.add(self.counts, call["counts"])
    self.done += 1

  def add(self, rows: list[dict], counts: dict):
    """Adds this process's part of the next call; every process is to call it."""
    parts = mesh.of_parts({"rows": rows, "counts": counts})
    call = {"rows": [row for part in parts for row in part["rows"]], "counts": {}}
    for part in parts:
      call["counts"] = statistics.add(call["counts"], part["counts"])
    if jax.process_index() == 0:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      with open(self.path, "ab") as file:
        file.write(json.dumps(call, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    self._take(call)
