"""Reward models: a policy with a scalar head, trained on preferences, measured on prompts it never saw.

DeepSeek-R1 v2 3.1 and B.3.1: helpfulness from pairs, read in the summary alone;
safety from single labelled responses, read whole.
"""

import functools

import numpy as np

from r1jax import config, mesh
from r1jax.data import preferences as data
from r1jax.models import reward_head
from r1jax.report import calibration
from r1jax.stages.critics import encode, score_rows, sigmoid, what_it_reads
from r1jax.stages.run import Run
from r1jax.training import optimizer as optimizers, state as states
from r1jax.training.checkpoints import Checkpoints, params_sha256
from r1jax.training.metrics import Log
from r1jax.training.update import update

COLUMNS = ("reward_model/loss", "reward_model/accuracy", "expert/max_violation")


def run(stage: config.RewardModel, run: Run, params) -> dict:
  """Trains `params` with a new head and returns the figures; goes on where an earlier call was cut off."""
  e, model = run.experiment, run.experiment.model_of(stage)
  training, held_out, too_long = read(stage, run)
  order = data.Order(len(training.ids), e.seed, stage.epochs, stage.rows)
  optimizer = optimizers.make(stage.optimizer, order.steps)
  loss = functools.partial(reward_head.LOSSES[stage.loss], model)
  state = states.create(reward_head.add(model, params), optimizer, stage.optimizer.parameters)
  del params  # with bfloat16 parameters they would stay beside those
  folder, origin = run.folder(stage.name), {"examples": training.fingerprint()}
  with (
    Checkpoints(folder / "checkpoints", stage.checkpoints.every, stage.checkpoints.keep) as checkpoints,
    Log(folder, stage.name, order.steps, COLUMNS) as log,
  ):
    if resumed := states.resume(checkpoints, state):
      state, _, extras = resumed
      del resumed
      check_origin(stage, extras, origin)
    elif too_long:
      log.alarm("left_out", f"{too_long} rows are longer than length={stage.length} tokens and left out.", 0)
    for step in range(int(state.step), order.steps):
      microbatches = mesh.microbatches(batch(stage, training, order, step), stage.microbatches)
      state, metrics = update(state, microbatches, loss=loss, optimizer=optimizer, bias_rate=model.bias_rate)
      log.write(step, metrics)
      stop = run.stop.asked()
      if stop or checkpoints.due(step + 1, order.steps):
        log.flush()
      checkpoints.save_if_due(step + 1, order.steps, states.saved(state), origin, now=stop)
      run.stop.end(f"after update {step + 1} of {stage.name!r}")
  counts = {"training": len(training.ids), "held_out": len(held_out.ids), "too_long": too_long}
  params = states.result(state)
  return measure(stage, model, params, held_out) | {"rows": counts, "params_sha256": params_sha256(params)}


def read(stage: config.RewardModel, run: Run) -> tuple[data.Examples, data.Examples, int]:
  """(training, held-out, left out as too long) examples of all sources; RuntimeError where one of the two is empty."""
  rows = [row for source in stage.data for row in source.open(run.folder)]
  prompter = run.prompter(stage)
  sequences = [encode(prompter, run.tokenizer, row["prompt"], texts_of(stage, row)) for row in rows]
  fits = [i for i, row in enumerate(sequences) if max(map(len, row)) <= stage.length]
  ids = [row["id"] for row in rows]
  everything = data.Examples(sequences, np.array([row.get("safe", 1) for row in rows], np.float32), ids)
  held_out = [i for i in fits if data.is_held_out(ids[i], stage.held_out)]
  training = [i for i in fits if not data.is_held_out(ids[i], stage.held_out)]
  for name, part in (("to learn from", training), ("held out", held_out)):
    if not part:
      raise RuntimeError(
        f"stage {stage.name!r}: of {len(rows)} rows none is {name} (held_out={stage.held_out}; {len(rows) - len(fits)} "
        f"are longer than length={stage.length} tokens); give it more data or change these."
      )
  return everything.part(training), everything.part(held_out), len(rows) - len(fits)


def texts_of(stage: config.RewardModel, row: dict) -> tuple[str, ...]:
  texts = (row["chosen"], row["rejected"]) if stage.loss == "pairwise" else (row["response"],)
  return tuple(what_it_reads(stage, text) for text in texts)


def batch(stage: config.RewardModel, examples: data.Examples, order: data.Order, step: int) -> reward_head.Responses:
  """This process's rows of a step (numpy)."""
  chosen, counts = order(step)
  share, (index, _) = mesh.process_rows(stage.rows), mesh.part()
  mine = slice(index * share, (index + 1) * share)
  tokens, lengths = data.lay_out([examples.sequences[i] for i in chosen[mine]], stage.length)
  return reward_head.Responses(tokens, lengths, examples.safe[chosen[mine]], counts[mine] / counts.sum())


def check_origin(stage: config.RewardModel, saved: dict, found: dict):
  """Raises ValueError where the data is not what the checkpoint has learned from."""
  if saved != found:
    raise ValueError(
      f"stage {stage.name!r}: its data is not that this run was begun with; restore it, or remove the stage's folder "
      "to begin it again."
    )


def measure(stage: config.RewardModel, model: config.Model, params, held_out: data.Examples) -> dict:
  """Accuracy and calibration on the held-out prompts, and the distribution of their scores."""
  k = len(held_out.sequences[0])
  flat = [ids for row in held_out.sequences for ids in row]
  scores = score_all(model, params, flat, stage.length, stage.rows // stage.microbatches)
  scores = scores.reshape(-1, k).astype(np.float64)
  if stage.loss == "pairwise":
    margin = scores[:, 0] - scores[:, 1]
    right, predicted = (margin > 0) + 0.5 * (margin == 0), sigmoid(margin)
    # Every pair in both orders, or the observed share would be 1 in every bin.
    predicted, observed = np.concatenate([predicted, 1 - predicted]), np.repeat([1.0, 0.0], len(margin))
  else:
    predicted, observed = sigmoid(scores[:, 0]), held_out.safe
    right = (predicted > 0.5) == (observed > 0.5)
  spread = {"mean": scores.mean(), "std": scores.std(), "min": scores.min(), "max": scores.max()}
  return calibration.accuracy(held_out.ids, right) | calibration.calibration(predicted, observed) | {
    "share_safe": float(held_out.safe.mean()) if stage.loss == "pointwise" else None,
    "scores": {name: float(value) for name, value in spread.items()},
  }  # fmt: skip


def score_all(model: config.Model, params, sequences, length: int, rows: int) -> np.ndarray:
  """Scores float32[n] of sequences that every process has, each scoring its part of them."""
  scores = np.zeros(len(sequences), np.float32)
  index, parts = mesh.part()
  mine = slice(index, None, parts)
  scores[mine] = score_rows(model, params, sequences[mine], length, rows)
  return mesh.total(scores)
