"""Supervised fine-tuning on completions, and distillation, which is nothing else (DeepSeek-R1 v2 B.4.2, B.4.3)."""

import functools

from r1jax import config, mesh
from r1jax.data import supervised
from r1jax.models.scoring import next_token_loss
from r1jax.stages.run import Run
from r1jax.training import optimizer as optimizers, state as states
from r1jax.training.checkpoints import Checkpoints
from r1jax.training.metrics import Log
from r1jax.training.update import update

COLUMNS = ("policy/loss", "sft/response_tokens", "expert/max_violation")


def run(stage: config.SFT, run: Run, params):
  """Trains `params` on the completions and returns them; goes on where an earlier call was cut off."""
  model, examples = run.experiment.model_of(stage), read(stage, run)
  batches = supervised.Batches(examples, stage.length, stage.rows, stage.epochs, run.experiment.seed)
  steps, origin = len(batches), {"examples": examples.fingerprint()}
  optimizer = optimizers.make(stage.optimizer, steps)
  loss = functools.partial(next_token_loss, model, mtp_weight=stage.mtp_weight)
  state = states.create(params, optimizer, stage.optimizer.parameters, stage.lora, run.experiment.seed)
  del params  # with bfloat16 parameters they would stay beside those
  folder = run.folder(stage.name)
  with (
    Checkpoints(folder / "checkpoints", stage.checkpoints.every, stage.checkpoints.keep) as checkpoints,
    Log(folder, stage.name, steps, COLUMNS) as log,
  ):
    if resumed := states.resume(checkpoints, state):
      state, _, extras = resumed
      del resumed
      check_origin(stage, extras, origin)
    elif examples.left_out:
      log.alarm("left_out", left_out(stage, examples), 0)
    for step in range(int(state.step), steps):
      batch, response_tokens = batches[step]
      microbatches = mesh.microbatches(batch, stage.microbatches)
      state, metrics = update(state, microbatches, loss=loss, optimizer=optimizer, bias_rate=model.bias_rate)
      log.write(step, metrics | {"sft/response_tokens": response_tokens})
      stop = run.stop.asked()
      if stop or checkpoints.due(step + 1, steps):
        log.flush()
      checkpoints.save_if_due(step + 1, steps, states.saved(state, last=step + 1 == steps), origin, now=stop)
      run.stop.end(f"after update {step + 1} of {stage.name!r}")
  return states.result(state)


def read(stage: config.SFT, run: Run) -> supervised.Examples:
  """All examples of the stage's sources; a RuntimeError where none is left."""
  rows = [row for source in stage.data for row in source.open(run.folder)]
  examples = supervised.encode(rows, run.prompter(stage), stage.length)
  if not rows:
    raise RuntimeError(f"stage {stage.name!r}: its data has no completion to learn from.")
  if not examples.tokens:
    raise RuntimeError(f"stage {stage.name!r}: {left_out(stage, examples)}")
  return examples


def left_out(stage: config.SFT, examples: supervised.Examples) -> str:
  count = examples.left_out + len(examples.tokens)
  return (
    f"{examples.left_out} of {count} examples are longer than length={stage.length} tokens and left out; "
    f"length={examples.longest} would hold them all."
  )


def check_origin(stage: config.SFT, saved: dict, found: dict):
  """Raises ValueError where the examples are not those that the checkpoint has learned from."""
  if saved != found:
    raise ValueError(
      f"stage {stage.name!r}: its examples are not those this run was begun with; restore the data, or remove the "
      "stage's folder to begin it again."
    )
