"""Makes the data of reward models: a policy's responses, compared or labelled by a judge (DeepSeek-R1 v2 3.1, B.3.1).

Several responses are drawn per question, and some may come from the
playground's writers. Of pairs the judge is asked several times, half of them in
each order; ties are dropped, then pairs until chosen and rejected are of
comparable length. Of single responses it says whether they are safe. Resumable
like rejection sampling: calls.jsonl gains a line per call.
"""

import collections
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import contextlib
import hashlib
import itertools
import statistics

import numpy as np

from r1jax import config
from r1jax.data import preferences as data
from r1jax.rewards.endpoint import Failure
from r1jax.stages import rejection
from r1jax.stages.run import Run

MAJORITY = 3  # labels of one class per label of the other, at most


def run(stage: config.Preferences, run: Run, params) -> dict:
  """Samples, has judged and writes <stage>/data.jsonl; goes on where an earlier call was cut off.

  Returns:
    "statistics", as statistics.json; "data_sha256" and "rows" of data.jsonl.

  Raises:
    RuntimeError: no pair is left, or all labels are the same.
  """
  folder, policy = run.folder(stage.name), run.policy(stage, params)
  problems = run.problems[stage.name]
  questions, places = rejection.different(problems, stage.prompts), places_of(problems, stage)
  calls, journal, before = -(-len(questions) // stage.prompts_at_once), rejection.Journal(folder / "calls.jsonl"), None
  with contextlib.ExitStack() as stack:
    if journal.done < calls:
      judging = stack.enter_context(ThreadPoolExecutor(1, "judging"))
      judge = stack.enter_context(stage.judge.open())
    for call in range(journal.done, calls):
      if run.stop.asked():
        break
      asked = rejection.ask(stage, run, policy, questions, call)
      if before:  # it was judged meanwhile
        journal.add(*before.result())
      before = judging.submit(judged, stage, run.tokenizer, judge, asked, places)
    if before:
      journal.add(*before.result())
  run.stop.end(f"after {journal.done} of {calls} calls of the sampler")
  left, counts = balanced(stage, journal.rows, journal.counts)
  counts |= {"questions_twice": stage.prompts - len(questions)}
  return rejection.write(folder, left, describe(stage, left, counts))


def places_of(problems, stage: config.Preferences) -> dict:
  """What writers replied to each question, by id and language."""
  if not stage.written:
    return {}
  found, first = {}, "bare" if stage.form == "labels" else ""  # who has something unsafe to say, if anybody has
  for index in range(stage.prompts):
    key = problems[index].id, problems[index].language
    if key not in found:
      found[key] = data.written(problems, index, stage.written, first)
  return found


def judged(stage: config.Preferences, tokenizer, judge, asked: rejection.Asked, written: dict) -> tuple[list, dict]:
  """(rows, counts) of one call, this process's part."""
  counts, groups = Counter(questions=len(asked.problems)), []
  for problem, texts, ended in zip(asked.problems, asked.texts, asked.ended):
    drawn = [asked.prefill + text for text, whole in zip(texts, ended) if whole]
    by_writers = written.get((problem.id, problem.language), [])
    different = list(dict.fromkeys([*drawn, *by_writers]))
    groups.append((problem, different))
    counts += Counter(responses=len(texts) + len(by_writers), truncated=len(texts) - len(drawn))
    counts["twice"] += len(drawn) + len(by_writers) - len(different)
  length = lambda text: len(tokenizer.encode(text))
  rows, more = (compared if stage.form == "pairs" else labelled)(stage, judge, groups, length)
  return rows, dict(counts) | more


def compared(stage: config.Preferences, judge, groups, length) -> tuple[list[dict], dict]:
  """Every two responses of a question as a row, the better one chosen; ties and failures are counted."""
  asked = [(problem, *pair) for problem, texts in groups for pair in itertools.combinations(texts, 2)]
  deltas = judge.compare(*map(list, zip(*asked)), stage.queries) if asked else []
  rows, counts = [], Counter(compared=len(asked))
  for (problem, first, second), found in zip(asked, deltas, strict=True):
    if isinstance(found, Failure):
      counts["judge_failed"] += 1
      continue
    delta = statistics.fmean(found)
    counts["orders_agree"] += bool(np.sign(found[0]) == np.sign(found[1]))
    if not abs(delta) > stage.min_delta:
      counts["ties"] += 1
      continue
    chosen, rejected = (first, second) if delta > 0 else (second, first)
    rows.append(
      {"id": problem.id, "prompt": problem.question, "chosen": chosen, "rejected": rejected, "delta": abs(delta)}
      | {"domain": problem.domain, "language": problem.language}
      | {"tokens_chosen": length(chosen), "tokens_rejected": length(rejected)}
    )
  return rows, dict(counts)


def labelled(stage: config.Preferences, judge, groups, length) -> tuple[list[dict], dict]:
  """Every response of a question as a row with its label."""
  del stage
  asked = [(problem, text) for problem, texts in groups for text in texts]
  labels = judge.safe(*map(list, zip(*asked))) if asked else []
  rows = [
    {"id": problem.id, "prompt": problem.question, "response": text, "safe": label}
    | {"domain": problem.domain, "language": problem.language, "tokens": length(text)}
    for (problem, text), label in zip(asked, labels, strict=True)
    if not isinstance(label, Failure)
  ]
  return rows, {"labelled": len(asked), "judge_failed": len(asked) - len(rows)}


def balanced(stage: config.Preferences, rows: list[dict], counts: dict) -> tuple[list[dict], dict]:
  """The rows that are kept, in their order, and the counts with how many were not; RuntimeError where none can be."""
  counts = dict.fromkeys(("judge_failed", "ties", "truncated", "twice"), 0) | counts
  if not rows:
    raise RuntimeError(
      f"{stage.name}: no row is left of {counts['responses']} responses ({counts['truncated']} truncated, "
      f"{counts['twice']} twice, {counts['ties']} ties, {counts['judge_failed']} times the judge failed); raise "
      "samples or written, or lower min_delta."
    )
  kept = of_equal_length(rows, stage.length_gap) if stage.form == "pairs" else of_both_labels(stage, rows)
  return kept, counts | {"dropped_to_balance": len(rows) - len(kept)}


def of_equal_length(rows: list[dict], gap: float) -> list[dict]:
  """Pairs of which the mean lengths of chosen and rejected differ by less than the share `gap` (v2 B.3.1).

  Those that differ most towards the longer side go first: the fewest pairs are
  lost. A reward model would learn length where it tells the two apart.
  """
  difference = [row["tokens_chosen"] - row["tokens_rejected"] for row in rows]
  kept = collections.deque(sorted(range(len(rows)), key=difference.__getitem__))
  chosen, rejected = (sum(row[name] for row in rows) for name in ("tokens_chosen", "tokens_rejected"))
  while gap < 1 and kept and abs(chosen - rejected) >= gap * max(chosen, rejected):
    row = rows[kept.pop() if chosen > rejected else kept.popleft()]
    chosen, rejected = chosen - row["tokens_chosen"], rejected - row["tokens_rejected"]
  if not kept:
    which = "longer" if sum(difference) > 0 else "shorter"
    raise RuntimeError(
      f"of {len(rows)} pairs none is left once chosen and rejected are of comparable length, as nearly all chosen "
      f"responses are {which}; ask more questions, draw more samples or raise length_gap."
    )
  return [rows[i] for i in sorted(kept)]


def of_both_labels(stage: config.Preferences, rows: list[dict]) -> list[dict]:
  """At most MAJORITY rows of one label per row of the other, those with the smallest hashes."""
  labels = [row["safe"] for row in rows]
  fewer = min((True, False), key=labels.count)
  if not labels.count(fewer):
    raise RuntimeError(
      f"{stage.name}: all of {len(rows)} responses are {'unsafe' if fewer else 'safe'}; a reward model needs both: "
      "raise written, or ask more questions that tempt."
    )
  key = lambda i: hashlib.sha256(f"{rows[i]['id']}\n{rows[i]['prompt']}\n{rows[i]['response']}".encode()).digest()
  more = sorted((i for i, label in enumerate(labels) if label is not fewer), key=key)
  dropped = set(more[MAJORITY * labels.count(fewer) :])
  return [row for i, row in enumerate(rows) if i not in dropped]


def describe(stage: config.Preferences, rows: list[dict], counts: dict) -> dict:
  """statistics.json: what is in the rows, and what became of the rest."""
  mean = lambda name: statistics.fmean(row[name] for row in rows)
  domains = dict(sorted(Counter(row["domain"] for row in rows).items()))
  if stage.form == "labels":
    safe = sum(row["safe"] for row in rows)
    found = {"labels": len(rows), "safe": safe, "unsafe": len(rows) - safe, "mean_tokens": mean("tokens")}
    return found | counts | {"domains": domains}
  agree = counts["orders_agree"] / max(counts["compared"] - counts["judge_failed"], 1)
  return {
    "pairs": len(rows),
    "mean_delta": mean("delta"),
    "mean_tokens_chosen": mean("tokens_chosen"),
    "mean_tokens_rejected": mean("tokens_rejected"),
    "order_agreement": agree,  # share of comparisons in which both orders have the same sign
    **counts,
    "domains": domains,
  }
