"""Routing replay in a whole run: sampler and trainer agree in the log, and a frozen selection bias stays to the bit."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from r1jax import config, pipeline
from r1jax.training.checkpoints import Checkpoints
from r1jax.training.state import abstract_params
from tests.experiments import small


def experiment(**fields):
  """Pretraining, RL with what is given, and RL of adapters, each from the one before."""
  made = small.get_config()
  base, zero = made.stages
  checkpoints, short = (
    config.Checkpoints(every=2),
    dict(steps=2, evaluate_every=0, routing_replay=True, prompts_at_once=2),
  )
  zero = dataclasses.replace(zero, **(short | dict(steps=4, checkpoints=checkpoints) | fields))
  adapted = dataclasses.replace(
    zero, name="adapted", start_from="zero", steps=2, lora=config.Lora(rank=2, targets=("attention", "experts"))
  )
  return dataclasses.replace(made, stages=(base, zero, adapted))


def log(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_with_replay_logs_full_agreement_before_the_first_update_and_keeps_a_frozen_bias(tmp_path):
  run = experiment(move_bias=False)
  run.validate()
  pipeline.execute(run, tmp_path / "run")
  for stage in ("zero", "adapted"):
    rows = log(tmp_path / "run" / stage)
    assert [row["expert/agreement"] for row in rows[::2]] == pytest.approx([1.0] * len(rows[::2]), abs=1e-6)
    assert all(0 < row["expert/agreement"] < 1.0001 and 0 <= row["expert/unused"] <= 1 for row in rows)
    assert all(row["policy/sampler_mismatch"] < 1e-4 for row in rows[::2])
  assert "expert/agreement" not in log(tmp_path / "run/base")[0]
  bias = {}
  for stage in ("base", "zero"):
    with Checkpoints(tmp_path / "run" / stage / "checkpoints", 1, 1000) as checkpoints:
      params = checkpoints.restore_params(abstract_params=abstract_params(run.model))
    bias[stage] = jax.device_get(params["blocks"]["experts"]["router_bias"])
  assert bias["base"].any()
  np.testing.assert_array_equal(bias["zero"], bias["base"])


def test_the_bias_moves_by_the_models_rate_unless_it_is_frozen():
  model = small.model()
  assert experiment().stages[1].bias_rate(model) == model.experts.bias_rate > 0
  assert experiment(move_bias=False).stages[1].bias_rate(model) == 0


def test_replay_without_experts_is_refused():
  made = experiment()
  made = dataclasses.replace(made, model=dataclasses.replace(made.model, experts=None))
  with pytest.raises(ValueError, match=r"zero: routing_replay=True needs a mixture of experts, and the model of this"):
    made.validate()
