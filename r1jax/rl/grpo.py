"""The GRPO loss (DeepSeekMath 4.1.1, DeepSeek-R1 eq. 1-3) on packed experience."""

import jax
import jax.numpy as jnp

from r1jax import config
from r1jax.models.scoring import balance_loss, token_log_probs
from r1jax.types import Experience


def policy_terms(log_probs, experience: Experience, stage: config.RL):
  """Per token, [b, t]: the clipped objective, the k3 estimate of KL(policy || reference), and whether it was clipped.

  Untrained positions are masked before exp, so they cannot turn into inf * 0.
  """
  trained = experience.batch.weight > 0
  ratio = jnp.exp(jnp.where(trained, log_probs - experience.log_probs, 0.0))
  clipped = jnp.clip(ratio, 1 - stage.clip_low, 1 + stage.clip_high)
  advantages = experience.advantages
  objective = jnp.minimum(ratio * advantages, clipped * advantages)
  gap = jnp.where(trained, experience.reference_log_probs - log_probs, 0.0)
  kl = jnp.exp(gap) - gap - 1
  return objective, kl, (clipped * advantages < ratio * advantages) & trained


def loss(c: config.Model, stage: config.RL, params, experience: Experience):
  """The loss summed over this micro-batch, and metrics that sum to those of the whole mini-batch.

  KL, entropy, clip fraction, mismatch and agreement sum to their mean times `policy/weight`.
  """
  batch = experience.batch
  log_probs, entropy, out = token_log_probs(c, params, batch, experience.routes)
  objective, kl, clipped = policy_terms(log_probs, experience, stage)
  penalty = stage.kl * kl if stage.kl else 0.0  # without one there is no reference to be far from
  value = -(batch.weight * (objective - penalty)).sum()
  mean = lambda x: jax.lax.stop_gradient(batch.weight * x).sum()
  metrics = {
    "policy/loss": jax.lax.stop_gradient(value),
    "policy/weight": batch.weight.sum(),
    "policy/entropy": mean(entropy),
    "policy/clip_fraction": mean(clipped),
    "policy/sampler_mismatch": mean(jnp.abs(log_probs - experience.log_probs)),
    "policy/non_finite_rows": (~jnp.isfinite(log_probs).all(1)).sum().astype(jnp.float32),
  }
  if stage.kl:
    metrics["policy/kl"] = mean(kl)
  if experience.routes is not None:
    metrics["expert/agreement"] = mean(jnp.pad(out.agreement[:, :-1], ((0, 0), (1, 0))))  # where each was predicted
  return value + balance_loss(c, out, batch), (metrics, out.load)
