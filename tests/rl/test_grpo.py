"""The GRPO gradient against the written formula, token by token in float64, with a table as the policy."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import config
from r1jax.rl import grpo
from r1jax.rl.advantages import group_advantages, make_experience
from r1jax.types import Prompts, Rollouts

VOCAB, GROUPS, GROUP, LONGEST = 7, 3, 4, 6
TABULAR = types.SimpleNamespace(experts=None)  # the policy is a table: logits of a token given the one before it


def make_stage(average="response", **fields):
  defaults = dict(
    steps=1,
    group_size=GROUP,
    batch_size=GROUP,
    rollout_size=GROUP,
    sampling=config.Sampling(max_prompt=3, max_response=LONGEST),
    template=config.Template(text="{question}"),
    rewards=(),
    clip_low=0.2,
    clip_high=0.3,
    kl=0.1,
    loss_average=average,
    row_length=16,
    microbatch_rows=2,
    optimizer=config.Optimizer(learning_rate=1e-3),
    checkpoints=config.Checkpoints(every=1),
    preflight=config.Preflight(),
    alarms=config.Alarms(),
  )
  return config.RL(**(defaults | fields))


def log_softmax(logits):
  z = logits - logits.max(-1, keepdims=True)
  return z - np.log(np.exp(z).sum(-1, keepdims=True))


@pytest.fixture
def drawn():
  """Rollouts under an older policy, far enough from the current one to be clipped, and rewards; group 1 is dead."""
  random = np.random.default_rng(5)
  tables = random.normal(size=(3, VOCAB, VOCAB))  # policy, the one that sampled, reference
  prompts = Prompts(random.integers(0, VOCAB, (GROUPS, 3)), np.array([2, 3, 1]), np.arange(GROUPS), ())
  tokens = random.integers(0, VOCAB, (GROUPS, GROUP, LONGEST))
  lengths = random.integers(1, LONGEST + 1, (GROUPS, GROUP))
  old = np.zeros(tokens.shape, np.float32)
  for p, g in np.ndindex(GROUPS, GROUP):
    before = prompts.tokens[p, prompts.lengths[p] - 1]
    for t in range(lengths[p, g]):
      old[p, g, t] = log_softmax(tables[1])[before, tokens[p, g, t]]
      before = tokens[p, g, t]
  rewards = np.array([[1.0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 2, 0.5]])
  return tables, prompts, Rollouts(tokens, lengths, None, old, old), rewards


def written_formula(drawn, stage):
  """DeepSeek-R1 eq. 1-3, and its gradient by hand: loss, d loss / d table, and which kinds of token occurred."""
  tables, prompts, rollouts, rewards = drawn
  policy, reference = log_softmax(tables[0]), log_softmax(tables[2])
  live = [(p, g) for p in range(GROUPS) if len(set(rewards[p])) > 1 for g in range(GROUP)]
  total = sum(rollouts.lengths[p, g] for p, g in live)
  loss, gradient, kinds = 0.0, np.zeros((VOCAB, VOCAB)), set()
  for p, g in live:
    advantage = rewards[p, g] - rewards[p].mean()
    if stage.normalize_std:
      advantage /= np.sqrt(((rewards[p] - rewards[p].mean()) ** 2).mean())
    length = rollouts.lengths[p, g]
    share = {
      "response": 1 / len(live) / length,
      "token": 1 / total,
      "constant": 1 / len(live) / LONGEST,
    }[stage.loss_average]
    before = prompts.tokens[p, prompts.lengths[p] - 1]
    for t in range(length):
      token = rollouts.tokens[p, g, t]
      ratio = np.exp(policy[before, token] - float(rollouts.log_probs[p, g, t]))
      side = "low" if ratio < 1 - stage.clip_low else "high" if ratio > 1 + stage.clip_high else "inside"
      bound = {"low": 1 - stage.clip_low, "high": 1 + stage.clip_high, "inside": ratio}[side]
      objective = min(ratio * advantage, bound * advantage)
      is_clipped = objective < ratio * advantage
      kinds.add((side, advantage > 0, is_clipped))
      q = np.exp(reference[before, token] - policy[before, token])
      kl = q - np.log(q) - 1
      loss -= share * (objective - stage.kl * kl)
      by_log_prob = (0 if is_clipped else ratio * advantage) - stage.kl * (1 - q)
      for v in range(VOCAB):
        gradient[before, v] -= share * by_log_prob * ((v == token) - np.exp(policy[before, v]))
      before = token
  return loss, gradient, kinds


def tabular_log_probs(_, table, batch, routes=None):
  before = jnp.pad(batch.tokens[:, :-1], ((0, 0), (1, 0)))
  values = jax.nn.log_softmax(table)[before, batch.tokens]
  return jnp.where(batch.positions > 0, values, 0.0), jnp.zeros(values.shape), types.SimpleNamespace(load=None)


@pytest.mark.parametrize(
  "stage",
  [
    make_stage("response"),
    make_stage("token"),
    make_stage("constant", normalize_std=False),
    make_stage("response", kl=0.0, clip_high=10.0),
  ],
  ids=["response", "token", "constant", "wide clip"],
)
def test_the_gradient_is_that_of_the_written_formula(drawn, stage, monkeypatch):
  monkeypatch.setattr(grpo, "token_log_probs", tabular_log_probs)
  tables, prompts, rollouts, rewards = drawn
  advantages = group_advantages(rewards, stage.normalize_std)
  chosen = np.random.default_rng(0).permutation(GROUPS * GROUP)
  microbatches = jax.device_get(make_experience(prompts, rollouts, advantages, chosen, stage))
  assert len(microbatches) > 1
  expected_loss, expected, kinds = written_formula(drawn, stage)
  loss, gradient = 0.0, 0.0
  with jax.enable_x64(True):
    for m in microbatches:
      m = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, m)
      m = m.replace(reference_log_probs=np.asarray(tabular_log_probs(None, jnp.array(tables[2]), m.batch)[0]))
      of = lambda table: grpo.loss(TABULAR, stage, table, m)[0]
      value, part = jax.value_and_grad(of)(jnp.array(tables[0]))
      loss, gradient = loss + np.asarray(value), gradient + np.asarray(part)
  assert gradient.dtype == np.float64
  np.testing.assert_allclose(loss, expected_loss, atol=1e-6)
  np.testing.assert_allclose(gradient, expected, atol=1e-6)  # weights and advantages are rounded to float32
  if stage.clip_high < 1:  # clipped above and below, and outside but not clipped
    assert {("low", False, True), ("high", True, True), ("low", True, False), ("high", False, False)} <= kinds


def test_metrics_are_means_over_the_trained_tokens(drawn, monkeypatch):
  monkeypatch.setattr(grpo, "token_log_probs", tabular_log_probs)
  tables, prompts, rollouts, rewards = drawn
  stage = make_stage("token", microbatch_rows=8)
  advantages = group_advantages(rewards)
  (experience,) = jax.device_get(make_experience(prompts, rollouts, advantages, np.arange(GROUPS * GROUP), stage))
  table = jnp.array(tables[0], jnp.float32)
  log_probs = np.asarray(tabular_log_probs(None, table, experience.batch)[0])
  value, (metrics, _) = grpo.loss(TABULAR, stage, table, experience)
  _, kl, clipped = jax.device_get(grpo.policy_terms(log_probs, experience, stage))
  trained = experience.batch.weight > 0
  assert metrics["policy/loss"] == value
  assert metrics["policy/kl"] == pytest.approx(kl[trained].mean(), rel=1e-4)
  assert metrics["policy/clip_fraction"] == pytest.approx(clipped[trained].mean(), rel=1e-4)
  gap = np.abs(log_probs - experience.log_probs)
  assert metrics["policy/sampler_mismatch"] == pytest.approx(gap[trained].mean(), rel=1e-4)
  assert metrics["policy/non_finite_rows"] == 0


def test_the_k3_estimate_is_zero_at_the_reference_and_never_negative():
  random = np.random.default_rng(6)
  log_probs = jnp.array(-random.exponential(size=(2, 50)), jnp.float32)
  reference = jnp.array(-random.exponential(size=(2, 50)), jnp.float32)
  experience = types.SimpleNamespace(
    batch=types.SimpleNamespace(weight=jnp.ones((2, 50))),
    log_probs=log_probs,
    reference_log_probs=reference,
    advantages=jnp.ones((2, 50)),
  )
  _, kl, clipped = grpo.policy_terms(log_probs, experience, make_stage())
  assert (kl >= -1e-6).all() and not clipped.any()
  experience.reference_log_probs = log_probs
  assert not grpo.policy_terms(log_probs, experience, make_stage())[1].any()


def test_padding_cannot_turn_into_nan():
  experience = types.SimpleNamespace(
    batch=types.SimpleNamespace(weight=jnp.array([[0.0, 1.0]])),
    log_probs=jnp.array([[-1e4, -1.0]]),
    reference_log_probs=jnp.array([[1e4, -1.0]]),
    advantages=jnp.array([[0.0, 1.0]]),
  )
  gradient = jax.grad(
    lambda x: sum((experience.batch.weight * y).sum() for y in grpo.policy_terms(x, experience, make_stage())[:2])
  )
  assert np.isfinite(gradient(jnp.array([[0.0, -1.0]]))).all()
