"""R1-Zero: GRPO with rule-based rewards on a base model (DeepSeek-R1 v1 section 2.2). Start reading here."""

from collections.abc import Iterator
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from r1jax import config, mesh
from r1jax.data import problems as data
from r1jax.data.filters import Context
from r1jax.data.generated import ProblemSource
from r1jax.data.mixture import Mixture, Switched
from r1jax.models.scoring import token_log_probs
from r1jax.rewards import Rewards, Scorer, Workers, join
from r1jax.rl import grpo
from r1jax.rl.advantages import group_advantages, make_experience, split_minibatches
from r1jax.stages import critics as reward_models, evaluate
from r1jax.stages.actors import Actors, Drawn, catch_up
from r1jax.stages.run import Policy, Run
from r1jax.stages.watch import Watch
from r1jax.training import lora, optimizer as optimizers, state as states
from r1jax.training.checkpoints import Checkpoints
from r1jax.training.metrics import Log
from r1jax.training.update import update

COLUMNS = ("reward/accuracy", "reward/format", "rollout/length", "policy/kl", "policy/entropy", "group/dead")


def run(stage: config.RL, run: Run, params):
  """Trains `params` by RL and returns them; goes on where an earlier call was cut off."""
  e, model, updates = run.experiment, run.experiment.model_of(stage), stage.rollout_size // stage.batch_size
  optimizer = optimizers.make(stage.optimizer, stage.steps)
  train = make_train(model, stage, optimizer)
  state = states.create(params, optimizer, stage.optimizer.parameters, stage.lora, e.seed)
  del params  # with bfloat16 parameters they would stay beside those
  exam = evaluate.held_out(e.evaluation, run.held_out, stage.curve_samples)
  critics = reward_models.open_critics(stage, run)
  folder = run.folder(stage.name)
  batches = data.batches(run.problems[stage.name], stage.rollout_size // stage.group_size)
  with (
    Workers(stage.reward_workers, stage.reward_limit) as workers,
    Scorer(stage.rewards, workers) as scorer,
    Scorer(exam.rewards, workers) as grader,
    Checkpoints(folder / "checkpoints", stage.checkpoints.every, stage.checkpoints.keep) as checkpoints,
    Log(folder, stage.name, stage.steps, COLUMNS) as log,
    Actors(stage, batches, functools.partial(roll_out, run, stage, scorer, critics), run.stop) as actors,
  ):
    state, reference = resume(stage, checkpoints, batches, state)
    watch = Watch(stage, run, log, scorer, exam, grader)
    save = functools.partial(save_if_due, stage, run.stop, checkpoints)
    begun = int(state.step)
    for step in range(begun, stage.steps, updates):
      with log.phase("layout"):
        policy = run.policy(stage, lora.merge(state.params, model.activations))
      watch.curve(step, policy)
      if run.stop.asked():
        if step > begun:
          save(step, state, reference, actors.place())
        break
      if stage.kl and step % stage.reference_every == 0:
        reference = None  # before there is another
        reference = copy(lora.trained(state.params))
      with log.phase("rollout"):
        drawn = actors.next(step, policy)
        del policy  # with adapters, a copy of the weights
      if drawn is None:
        save(step, state, reference, actors.place())
        break
      with log.phase("reward"):
        rewards = of_part(drawn.scores)
        advantages = group_advantages(rewards.total.reshape(-1, stage.group_size), stage.normalize_std)
      watch.rollout(step, drawn, rewards, advantages)
      minibatches = experiences(stage, model, state.params, drawn, advantages, e.seed + step, updates)
      for i in range(updates):
        with log.phase("train"):
          experience = next(minibatches)
          if stage.kl:
            experience = add_reference(model, reference, state.params, experience)
          state, metrics = train(state, experience)
          jax.block_until_ready(metrics)  # the next rollout needs these weights; the seconds belong here
        watch.update(step + i, metrics, first=i == drawn.behind == 0)
      watch.settle()
      save(step + updates, state, reference, actors.place())
    run.stop.end(f"after update {int(state.step)} of {stage.name!r}")
    params = states.result(state)
    del state, reference
    watch.curve(stage.steps, run.policy(stage, params))
  run.stop.end(f"after update {stage.steps} of {stage.name!r}")  # once the checkpoint is complete
  return params


def resume(stage: config.RL, checkpoints: Checkpoints, batches, state):
  """State and reference of the newest checkpoint, with `batches` at its place.

  The state that is given, and None, where there is no checkpoint; else that state is gone.
  """
  beside = {"reference": states.like(lora.trained(state.params))} if stage.kl else {}
  resumed = states.resume(checkpoints, state, **beside)
  if resumed is None:
    return state, None
  state, found, extras = resumed
  batches.set_state(extras["batches"])
  return state, found.get("reference")


def save_if_due(stage: config.RL, stop, checkpoints: Checkpoints, step: int, state, reference, batches):
  """Saves what the stage goes on from after `step` updates, where a checkpoint is due or the run is to stop."""
  now = stop.asked()
  if now or checkpoints.due(step, stage.steps):
    held = states.saved(state, last=step == stage.steps) | ({"reference": reference} if stage.kl else {})
    checkpoints.save_if_due(step, stage.steps, held, {"batches": batches}, now)


def open_problems(stage: config.RL, run: Run, scorer: Scorer):
  """The stage's problems: every row is read and held against the rewards, and a bad one told, before training."""
  problems = open_source(stage, run, scorer)
  if stage.later_problems is None:
    return problems
  later = open_source(stage, run, scorer, stage.later_problems)
  return Switched(problems, later, stage.later_from * stage.batch_size // stage.group_size)


def open_source(stage, run: Run, scorer: Scorer, source=None):
  """An endless row from a Mixture or a single source, by default the stage's `problems`; else the playground's."""
  e, source, prompter = run.experiment, source or stage.problems, run.prompter(stage)
  if source is None:
    return ProblemSource(e.playground, e.seed)
  context = Context(
    seed=e.seed,
    check=scorer.check,
    prompt_length=lambda problem: len(prompter.encode(problem.question)),
    max_prompt=stage.sampling.max_prompt,
    evaluation=run.held_out + tuple(p for exam in run.benchmarks.values() for p in exam.problems),
  )
  single = not isinstance(source, Mixture)
  return (Mixture(sources=(source,)) if single else source).open(e.seed, context)


def make_train(c: config.Model, stage: config.RL, optimizer):
  """The update of this stage: (state, micro-batches) -> state, metrics."""
  return functools.partial(
    update,
    loss=functools.partial(grpo.loss, c, stage),
    optimizer=optimizer,
    bias_rate=stage.bias_rate(c),
  )


def copy(params):
  """Parameters that later updates, which reuse the old buffers, leave alone."""
  return jax.tree.map(jnp.copy, params)


def rollout_key(seed: int, step: int):
  return jax.random.fold_in(jax.random.key(seed), step)


def roll_out(run: Run, stage: config.RL, scorer: Scorer, critics, problems, step: int, policy: Policy) -> Drawn | None:
  """Samples from all prompts, `prompts_at_once` in a call, and has each part scored while the next one is sampled.

  Reward models, `critics` by name, score it first: they run on the same devices as the sampler. Of the processes
  that hold the same prompts one has the rest of the rewards scored.

  Returns: the rollout of update `step`; None where the run is to stop.
  """
  started, key = time.perf_counter(), rollout_key(run.experiment.seed, step)
  prompts = data.make_prompts(problems, policy.prompter, stage.sampling.max_prompt)
  at_once = stage.prompts_at_once // mesh.part()[1] or len(prompts.problems)
  rollouts, texts, scores = [], [], []
  for start in range(0, len(prompts.problems), at_once):
    if run.stop.asked():
      return None
    part = prompts.part(start, start + at_once)
    drawn = evaluate.draw(run, policy, part, key, stage.sampling, stage.group_size, stage.routing_replay)
    written = evaluate.decode(run.tokenizer, drawn)
    problems = [p for p in part.problems for _ in range(stage.group_size)]
    flat = [text for group in written for text in group]
    prefill, lengths = policy.prompter.prefill, drawn.lengths.reshape(-1)
    given = reward_models.judge(critics, stage.rewards, problems, flat, prefill)
    if mesh.speaks():
      scores.append(scorer.submit(problems, flat, prefill, lengths, given))
    rollouts.append(drawn)
    texts += written
  rollouts = jax.tree.map(lambda *parts: np.concatenate(parts), *rollouts)
  return Drawn(prompts, rollouts, texts, scores, time.perf_counter() - started)


def experiences(stage, c: config.Model, params, drawn: Drawn, advantages, seed: int, updates: int) -> Iterator:
  """The micro-batches of each update of a rollout; of one drawn by older weights, as `params` see it."""
  chosen = split_minibatches(drawn.rollouts.lengths.size, updates, seed)
  found = (make_experience(drawn.prompts, drawn.rollouts, advantages, each, stage) for each in chosen)
  if not drawn.behind:
    return found
  return iter([catch_up(c, params, each, stage.importance_cap) for each in found])  # before the first update


def of_part(scores: list) -> Rewards:
  """The rewards of this process's part of the batch, of which `Drawn.scores` is empty where another scores it."""
  rewards = join([score.result() for score in scores]) if scores else None
  index, parts = mesh.part()
  if parts == jax.process_count():
    return rewards
  return Rewards.of_json(mesh.of_parts(rewards and rewards.to_json())[index])


@functools.partial(jax.jit, static_argnames="c")
def reference_log_probs(params, batch, *, c: config.Model):
  return token_log_probs(c, params, batch)[0]


def add_reference(c: config.Model, reference, params, experience: list) -> list:
  """The micro-batches with the log-probs of the reference; with LoRA, other adapters on the weights of `params`."""
  of = lambda batch: reference_log_probs(lora.join(reference, params), batch, c=c)
  return [part.replace(reference_log_probs=of(part.batch)) for part in experience]
