"""What is seen of an RL run while it goes: metrics, preflight, alarms, rollouts as text, the learning curve."""

import json
import pathlib

import jax
import numpy as np

from r1jax import config, mesh
from r1jax.report import emergence
from r1jax.rewards import Format, Rubric, mean
from r1jax.rewards.compose import given
from r1jax.stages import evaluate
from r1jax.training import metrics as watching

RUBRIC = Rubric()
WEIGHTED = ("policy/kl", "policy/entropy", "policy/clip_fraction", "policy/sampler_mismatch", "expert/agreement")


def describe(prompts, rollouts, rewards, advantages, texts, prefill="", models=()) -> dict[str, float]:
  """Metrics of one rollout over all processes: rewards, lengths, groups without spread, emergence, the oracle.

  Args:
    prefill: what the template wrote before every text.
    models: names of the rewards that are reward models'.
  """
  flat = [text for group in texts for text in group]
  languages = [p.language for p, group in zip(prompts.problems, texts) for _ in group]
  domains = [p.domain for p, group in zip(prompts.problems, texts) for _ in group]
  seen = emergence.emergence(flat, languages, rewards.right, domains)
  mean_of = {
    "rollout/length": rollouts.lengths.mean(),
    "rollout/truncated": 1 - rollouts.ended.mean(),
    "group/dead": 1 - advantages.alive.mean(),
    "emergence/reflection_rate": seen["reflection_rate"],
    "emergence/language_mixing": seen["language_mixing"],
    "emergence/self_corrections": seen["self_corrections"],
  }
  sums = rewards.sums() | {key: (float(value), 1) for key, value in mean_of.items()}  # as many rollouts everywhere
  sums |= oracle(prompts, rewards, texts, prefill, models)
  found = dict(zip(sums, mesh.total(np.array(list(sums.values()))).tolist()))
  absent = {"oracle/rubric"} | {f"{part}/{name}" for part in ("oracle", "reward") for name in models}
  return mean({key: pair for key, pair in found.items() if pair[1] or key not in absent})


def oracle(prompts, rewards, texts, prefill, models) -> dict[str, tuple[float, int]]:
  """(sum, rows) of what rubrics say: of all rows that have one, and beside each reward model of those it was asked.

  What a reward model is trained to imitate, and what the policy is not rewarded by: reward hacking shows here.
  """
  marks = []
  for problem, group in zip(prompts.problems, texts):
    readable = RUBRIC.check(problem) is None  # a column of this name in a user's data may be something else
    marks += [RUBRIC(problem, text, prefill) if readable else None for text in group]
  marks = np.array(marks, float)  # NaN for None
  columns = {"rubric": marks} | {name: np.where(np.isfinite(rewards.columns[name]), marks, np.nan) for name in models}
  return {f"oracle/{name}": (float(np.nansum(x)), int(np.isfinite(x).sum())) for name, x in columns.items()}


class Watch:
  """All that looks on while a stage trains: it changes nothing, but stops a hopeless run with its reason."""

  def __init__(self, stage: config.RL, run, log, scorer, exam, grader):
    self.stage, self.run, self.log, self.scorer = stage, run, log, scorer
    self.exam, self.grader = exam, grader  # of the learning curve
    self.prefill = run.prompter(stage).prefill
    self.skipped = 0  # updates in a row with a non-finite gradient
    self.seen = -1  # the last update whose numbers were looked at
    self.models = sorted({reward.name for _, reward in given(stage.rewards)})  # rewards that are reward models'
    self.described_before: list[dict[str, float]] | None = None  # of the rollouts so far; None: not read yet

  def curve(self, step: int, policy):
    """Draws a point of the learning curve where one is due (every so often, and at the end), or none if stopped."""
    every = self.stage.evaluate_every
    if not every or (step % every and step != self.stage.steps):
      return
    if answers := evaluate.answer(self.run, policy, self.exam, self.grader):
      Curve(self.run.folder(self.stage.name)).add({"step": step} | evaluate.summarize(self.exam, answers))

  def rollout(self, step: int, drawn, rewards, advantages):
    """Measures and saves a fresh rollout; raises RuntimeError where preflight says stop."""
    prefill, (prompts, rollouts, texts) = self.prefill, drawn[:3]
    self.described = describe(prompts, rollouts, rewards, advantages, texts, prefill, self.models)
    self.described["time/rollout_tokens_per_second"] = float(rollouts.lengths.sum() * mesh.part()[1] / drawn.seconds)
    self.described["rollout/behind"] = drawn.behind
    self.checks(step, rewards)
    self.hacking(step)
    if step % self.stage.save_rollouts_every < self.stage.rollout_size // self.stage.batch_size:
      save_rollouts(self.run.folder(self.stage.name), step, prompts, rollouts, rewards, texts)
    if step == 0:
      self.preflight(prompts)

  def checks(self, step: int, rewards):
    """Names the rewards' checks that raised or hung; they score 0, which teaches something wrong."""
    everywhere = mesh.of_parts([rewards.failures, rewards.killed])
    if failures := [sentence for part, _ in everywhere for sentence in part]:
      self.log.alarm("reward_failures", f"{len(failures)} checks failed and score 0; the first: {failures[0]}", step)
    counts = {name: sum(part[name] for _, part in everywhere) for name in rewards.killed}
    if killed := {name: number for name, number in counts.items() if number}:
      checks = " and ".join(f"{number} checks of {name!r}" for name, number in killed.items())
      self.log.alarm("reward_timeouts", f"{checks} exceeded their limit of time or memory, and score 0.", step)

  def hacking(self, step: int):
    """Raises an alarm where a reward model is more and more content, and the oracle less and less."""
    if not self.models:
      return
    if self.described_before is None:
      self.described_before = self.rollouts_before(step)
    self.described_before.append(self.described)
    for name in self.models:
      if sentence := watching.reward_hacking(self.described_before, name):
        self.log.alarm("reward_hacking", sentence, step)

  def rollouts_before(self, step: int) -> list[dict[str, float]]:
    """What the log says of the rollouts before this one, when a run goes on."""
    path, updates = self.run.folder(self.stage.name) / "metrics.jsonl", self.stage.rollout_size // self.stage.batch_size
    rows = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [row for row in rows if row["step"] < step and row["step"] % updates == 0]

  def preflight(self, prompts):
    mine = [fact for p in prompts.problems if (fact := self.scorer.check(p))]
    facts = [fact for part in mesh.of_parts(mine) for fact in part]
    prefill, rewards = self.prefill, self.stage.rewards
    if prefill and self.described.get("reward/format") == 0 and any(isinstance(r, Format) for r in rewards):
      facts.append(f"the template already writes {prefill!r}, and no response completes it; check template.prefill.")
    found = watching.preflight(self.described, self.stage.preflight, facts)
    if found and self.stage.preflight.action == "stop":
      raise RuntimeError(
        "the first rollout looks hopeless: " + " ".join(found) + " Set preflight.action=warn to train all the same."
      )
    for sentence in found:
      self.log.alarm("preflight", sentence, 0)

  def update(self, step: int, metrics, first: bool):
    """Hands one update's metrics to the log, and looks at those of the update before, which the device has by now.

    Sampler and policy are the same weights only in the `first` update of a rollout that no older weights drew: only
    there is a mismatch one.
    """
    weight = metrics.get("policy/weight")  # 1, but for averages by a constant
    means = {key: metrics[key] / weight for key in WEIGHTED if key in metrics}
    metrics = metrics | means
    metrics = {k: v for k, v in metrics.items() if first or k != "policy/sampler_mismatch"}
    self.look(self.log.write(step, metrics | self.described))

  def settle(self):
    """Looks at the last update of a rollout, so that a checkpoint never runs ahead of the log."""
    self.look(self.log.flush())

  def look(self, numbers: dict[str, float]):
    """Raises the alarms of an update; too many skipped in a row are a RuntimeError."""
    if not numbers or self.log.step == self.seen:
      return
    self.seen = self.log.step
    for name, sentence in watching.raised(numbers, self.stage.alarms).items():
      self.log.alarm(name, sentence)
    self.skipped = self.skipped + 1 if numbers.get("policy/skipped") else 0
    if self.skipped > self.stage.alarms.max_skipped:
      raise RuntimeError(
        f"{self.skipped} updates in a row had a non-finite gradient and were skipped; lower optimizer.learning_rate "
        f"or clip_norm, or raise alarms.max_skipped={self.stage.alarms.max_skipped}."
      )


def save_rollouts(folder: pathlib.Path, step: int, prompts, rollouts, rewards, texts):
  """Writes this process's rollouts as jsonl, a line per completion with the value of every reward."""
  if not mesh.speaks():
    return
  rows, g = [], rollouts.tokens.shape[1]
  for p, problem in enumerate(prompts.problems):
    for i in range(g):
      found = {name: float(v) for name, values in rewards.columns.items() if np.isfinite(v := values[p * g + i])}
      statuses = {name: status for name, column in rewards.statuses.items() if (status := column[p * g + i])}
      rows.append(
        {"step": step}
        | problem.fields()
        | {"response": texts[p][i], "tokens": int(rollouts.lengths[p, i]), "ended": bool(rollouts.ended[p, i])}
        | {"reward": float(rewards.total[p * g + i]), "rewards": found, "statuses": statuses}
      )
  (index, parts), folder = mesh.part(), folder / "rollouts"
  path = lambda i: folder / f"step_{step:06d}.{i}.jsonl"
  folder.mkdir(parents=True, exist_ok=True)
  path(index).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
  if index == 0:  # of a run that was cut off on more processes
    while path(parts).exists():
      path(parts).unlink()
      parts += 1


class Curve:
  """The learning curve of a stage on the held-out problems: a line of curve.jsonl per point."""

  def __init__(self, folder: pathlib.Path):
    self.path = folder / "curve.jsonl"

  def points(self) -> list[dict]:
    return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

  def add(self, point: dict):
    """Adds a point; those a killed run had already drawn from its step on are replaced."""
    if jax.process_index() == 0:
      kept = [p for p in self.points() if p["step"] < point["step"]]
      self.path.parent.mkdir(parents=True, exist_ok=True)
      aside = self.path.with_suffix(".tmp")
      aside.write_text("".join(json.dumps(p) + "\n" for p in [*kept, point]))
      aside.rename(self.path)
