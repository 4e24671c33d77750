"""R1-Zero: GRPO with rule-based rewards on a base model (DeepSeek-R1 v1 section 2.2). Start reading here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from r1jax import config
from r1jax.data import problems as data
from r1jax.data.filters import Context
from r1jax.data.generated import ProblemSource
from r1jax.data.mixture import Mixture, Switched
from r1jax.models.scoring import token_log_probs
from r1jax.rewards import Scorer, Workers, join
from r1jax.rl import grpo
from r1jax.rl.advantages import group_advantages, make_experience, split_minibatches
from r1jax.stages import critics as reward_models, evaluate
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
  reference = None  # the policy of every `reference_every` updates
  exam = evaluate.held_out(e.evaluation, run.held_out, stage.curve_samples)
  critics = reward_models.open_critics(stage, run)
  folder = run.folder(stage.name)
  with (
    Workers(stage.reward_workers, stage.reward_limit) as workers,
    Scorer(stage.rewards, workers) as scorer,
    Scorer(exam.rewards, workers) as grader,
    Checkpoints(folder / "checkpoints", stage.checkpoints.every, stage.checkpoints.keep) as checkpoints,
    Log(folder, stage.name, stage.steps, COLUMNS) as log,
  ):
    batches = data.batches(run.problems[stage.name], stage.rollout_size // stage.group_size)
    beside = {"reference": states.like(lora.trained(state.params))} if stage.kl else {}
    if resumed := states.resume(checkpoints, state, **beside):
      state, found, extras = resumed
      reference = found.get("reference")
      batches.set_state(extras["batches"])
      del resumed, found
    watch = Watch(stage, run, log, scorer, exam, grader)
    for step in range(int(state.step), stage.steps, updates):
      policy = run.policy(stage, lora.merge(state.params, model.activations))
      watch.curve(step, policy.params)
      if stage.kl and step % stage.reference_every == 0:
        reference = None  # before there is another
        reference = copy(lora.trained(state.params))
      with log.phase("rollout"):
        prompts = data.make_prompts(next(batches), policy.prompter, stage.sampling.max_prompt)
        rollouts, texts, scores = roll_out(run, stage, policy, prompts, rollout_key(e.seed, step), scorer, critics)
        del policy  # with adapters, a copy of the weights
      with log.phase("reward"):
        rewards = join([score.result() for score in scores])
        advantages = group_advantages(rewards.total.reshape(-1, stage.group_size), stage.normalize_std)
      watch.rollout(step, prompts, rollouts, rewards, advantages, texts)
      for i, chosen in enumerate(split_minibatches(rollouts.lengths.size, updates, e.seed + step)):
        with log.phase("train"):
          experience = make_experience(prompts, rollouts, advantages, chosen, stage)
          if stage.kl:
            before = functools.partial(lora.join, reference, state.params)  # other adapters on the same weights
            experience = [add_reference(model, before(), x) for x in experience]
          state, metrics = train(state, experience)
          jax.block_until_ready(metrics)  # the next rollout needs these weights; the seconds belong here
        watch.update(step + i, metrics, first=i == 0)
      watch.settle()
      if checkpoints.due(step + updates, stage.steps):
        held = states.saved(state, last=step + updates == stage.steps)
        held |= {"reference": reference} if stage.kl else {}
        checkpoints.save_if_due(step + updates, stage.steps, held, {"batches": batches.get_state()})
        del held
    params = states.result(state)
    del state, reference
    watch.curve(stage.steps, params)
  return params


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


def roll_out(run: Run, stage: config.RL, policy: Policy, prompts, key, scorer: Scorer, critics=None):
  """Samples from all prompts, `prompts_at_once` in a call, and has each part scored while the next one is sampled.

  Reward models, `critics` by name, score it first: they run on the same devices as the sampler.

  Returns: Rollouts (numpy leaves), their texts [p][g], and a Future of Rewards per part, in order.
  """
  at_once = stage.prompts_at_once // jax.process_count() or len(prompts.problems)
  rollouts, texts, scores = [], [], []
  for start in range(0, len(prompts.problems), at_once):
    part = prompts.part(start, start + at_once)
    drawn = evaluate.draw(run, policy, part, key, stage.sampling, stage.group_size, stage.routing_replay)
    written = evaluate.decode(run.tokenizer, drawn)
    problems = [p for p in part.problems for _ in range(stage.group_size)]
    flat = [text for group in written for text in group]
    prefill, lengths = policy.prompter.prefill, drawn.lengths.reshape(-1)
    given = reward_models.judge(critics or {}, stage.rewards, problems, flat, prefill)
    scores.append(scorer.submit(problems, flat, prefill, lengths, given))
    rollouts.append(drawn)
    texts += written
  return jax.tree.map(lambda *parts: np.concatenate(parts), *rollouts), texts, scores


@functools.partial(jax.jit, static_argnames="c")
def reference_log_probs(params, batch, *, c: config.Model):
  return token_log_probs(c, params, batch)[0]


def add_reference(c: config.Model, reference, experience):
  return experience.replace(reference_log_probs=reference_log_probs(reference, experience.batch, c=c))
