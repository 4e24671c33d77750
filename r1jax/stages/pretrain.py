"""Pretraining of the tiny base model: next tokens of the playground's corpus."""

import functools

from r1jax import config, mesh
from r1jax.data import problems as data
from r1jax.models.scoring import next_token_loss
from r1jax.stages.run import Run
from r1jax.training import optimizer as optimizers, state as states
from r1jax.training.checkpoints import Checkpoints
from r1jax.training.metrics import Log
from r1jax.training.update import update

COLUMNS = ("policy/loss", "expert/max_violation")


def run(stage: config.Pretrain, run: Run, params):
  """Trains `params` on the corpus and returns them; goes on where an earlier call was cut off."""
  e, model = run.experiment, run.experiment.model_of(stage)
  documents = data.documents(e.playground, e.evaluation.template, e.seed)
  rows = data.packed_rows(documents, run.tokenizer, stage.length)
  batches = data.row_batches(rows, e.seed, stage.rows)
  optimizer = optimizers.make(stage.optimizer, stage.steps)
  loss = functools.partial(next_token_loss, model, mtp_weight=stage.mtp_weight)
  state = states.create(params, optimizer, stage.optimizer.parameters)
  del params  # with bfloat16 parameters they would stay beside those
  folder = run.folder(stage.name)
  with (
    Checkpoints(folder / "checkpoints", stage.checkpoints.every, stage.checkpoints.keep) as checkpoints,
    Log(folder, stage.name, stage.steps, COLUMNS) as log,
  ):
    if resumed := states.resume(checkpoints, state):
      state, _, extras = resumed
      del resumed
      batches.set_state(extras["batches"])
    for step in range(int(state.step), stage.steps):
      batch = data.normalize(next(batches))
      microbatches = mesh.microbatches(batch, stage.microbatches)
      state, metrics = update(state, microbatches, loss=loss, optimizer=optimizer, bias_rate=model.bias_rate)
      log.write(step, metrics)
      stop = run.stop.asked()
      if stop or checkpoints.due(step + 1, stage.steps):
        log.flush()
      checkpoints.save_if_due(step + 1, stage.steps, states.saved(state), {"batches": batches.get_state()}, now=stop)
      run.stop.end(f"after update {step + 1} of {stage.name!r}")
  return states.result(state)
