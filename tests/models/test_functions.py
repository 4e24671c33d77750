"""Rotary positions, YaRN, attention: against their published formulas, written independently."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import config
from r1jax.models import functions as f

YARN = config.Yarn(factor=40, original_length=4096)
random = np.random.default_rng(0)


def test_rotary_positions_are_a_complex_multiplication():
  x = random.normal(size=(2, 5, 3, 8)).astype(np.float32)
  positions = random.integers(0, 1000, (2, 5)).astype(np.int32)
  turned = f.rotate(jnp.array(x), jnp.array(positions), f.rotary_frequencies(8, 10_000.0, None))
  for b, t, n, pair in np.ndindex(2, 5, 3, 4):
    angle = positions[b, t] * 10_000.0 ** (-2 * pair / 8)
    z = (x[b, t, n, pair] + 1j * x[b, t, n, pair + 4]) * np.exp(1j * angle)
    # angles up to 1000 rad in float32 are off by up to 6e-5
    np.testing.assert_allclose([turned[b, t, n, pair], turned[b, t, n, pair + 4]], [z.real, z.imag], atol=2e-4)


def test_rotated_scores_depend_on_the_distance_alone():
  query, key = random.normal(size=(2, 1, 1, 8)).astype(np.float32)
  frequencies = f.rotary_frequencies(8, 10_000.0, None)
  at = lambda x, i: f.rotate(jnp.array(x)[None], jnp.array([[i]]), frequencies)
  near, far = ((at(query, 3 + shift) * at(key, 1 + shift)).sum() for shift in (0, 50))
  np.testing.assert_allclose(near, far, atol=1e-5)


def test_yarn_frequencies_follow_deepseeks_correction_range():
  width, base, length = 64, 10_000.0, 4096
  turns = lambda rotations: width * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(base))
  low, high = math.floor(turns(32)), math.ceil(turns(1))
  assert (low, high) == (10, 23)
  expected = []
  for pair in range(width // 2):
    plain = 1 / base ** (2 * pair / width)
    smooth = 1 - min(max((pair - low) / (high - low), 0), 1)
    expected.append(plain / 40 * (1 - smooth) + plain * smooth)
  np.testing.assert_allclose(f.rotary_frequencies(width, base, YARN), expected, rtol=1e-6)


def test_yarn_scales_scores_by_its_squared_temperature_and_leaves_the_angles_length_alone():
  assert f.attention_scale(192, YARN) == pytest.approx(192**-0.5 * 1.36889**2, rel=1e-5)
  assert f.attention_scale(192, None) == 192**-0.5
  x = random.normal(size=(1, 1, 64)).astype(np.float32)
  turned = f.rotate(jnp.array(x), jnp.array([[77]]), f.rotary_frequencies(64, 1e4, YARN), YARN)
  assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(x), rel=1e-5)


def test_yarn_without_truncation_ramps_between_fractions_of_pairs():
  yarn = config.Yarn(factor=4, original_length=64, beta_fast=4.0, beta_slow=0.5, truncate=False)
  low, high = (16 * math.log(64 / (turns * 2 * math.pi)) / (2 * math.log(100.0)) for turns in (4.0, 0.5))
  assert low % 1 and high % 1
  expected = []
  for pair in range(8):
    plain = 100.0 ** (-2 * pair / 16)
    slow = min(max((pair - low) / (high - low), 0), 1)
    expected.append(plain / 4 * slow + plain * (1 - slow))
  np.testing.assert_allclose(f.rotary_frequencies(16, 100.0, yarn), expected, rtol=1e-6)


def test_yarn_lengthens_what_it_rotates_by_its_attention_factor_or_by_mscale():
  x = random.normal(size=(1, 1, 16)).astype(np.float32)
  lengthened = lambda yarn: (
    np.linalg.norm(f.rotate(jnp.array(x), jnp.array([[5]]), f.rotary_frequencies(16, 1e4, yarn), yarn))
    / np.linalg.norm(x)
  )
  qwen = config.Yarn(factor=4, original_length=64, mscale_all_dim=0.0)
  assert lengthened(qwen) == pytest.approx(0.1 * math.log(4) + 1, rel=1e-5)
  assert f.attention_scale(16, qwen) == 0.25
  given = config.Yarn(factor=4, original_length=64, attention_factor=1.7)
  assert lengthened(given) == pytest.approx(1.7, rel=1e-5)


def test_llama_3_slows_pairs_by_their_wavelength():
  rope = config.Llama3Rope(factor=8.0, original_length=8192)
  expected = []
  for pair in range(64):
    plain = 500_000.0 ** (-2 * pair / 128)
    wavelength = 2 * math.pi / plain
    if wavelength < 8192 / 4:
      expected.append(plain)
    elif wavelength > 8192:
      expected.append(plain / 8)
    else:
      smooth = (8192 / wavelength - 1) / (4 - 1)
      expected.append((1 - smooth) * plain / 8 + smooth * plain)
  found = f.rotary_frequencies(128, 500_000.0, rope)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert f.attention_scale(128, rope) == 128**-0.5


@pytest.mark.parametrize("length, queries", [(7, 512), (70, 512), (70, 16), (70, 12)])  # spans of 32; blocks of them
def test_attention_matches_a_loop_over_queries(length, queries, monkeypatch):
  monkeypatch.setattr(f, "QUERIES", queries)
  n, k = 4, 2
  query = random.normal(size=(2, length, n, 6)).astype(np.float32)
  key = random.normal(size=(2, length, k, 6)).astype(np.float32)
  value = random.normal(size=(2, length, k, 5)).astype(np.float32)
  segments = np.sort(random.integers(1, 4, (2, length)), axis=1).astype(np.int32)
  attend = jax.jit(lambda *arrays: f.attend(*arrays, 0.4))
  y = attend(query, key, value, segments)
  for b, t, head in np.ndindex(2, length, n):
    seen = [s for s in range(t + 1) if segments[b, s] == segments[b, t]]
    scores = np.array([query[b, t, head] @ key[b, s, head // 2] for s in seen], np.float64) * 0.4
    weights = np.exp(scores - scores.max())
    expected = (weights / weights.sum()) @ value[b, seen, head // 2]
    np.testing.assert_allclose(y[b, t, head], expected, atol=1e-5)


def test_attention_in_blocks_has_the_gradient_of_attention_at_once(monkeypatch):
  arrays = [random.normal(size=(2, 70, n, 6)).astype(np.float32) for n in (4, 2, 2, 4)]
  segments = np.sort(random.integers(1, 4, (2, 70)), axis=1).astype(np.int32)

  def gradients(queries):
    monkeypatch.setattr(f, "QUERIES", queries)
    loss = lambda query, key, value: (f.attend(query, key, value, segments, 0.4) * arrays[3]).sum()
    return jax.jit(jax.grad(loss, (0, 1, 2)))(*arrays[:3])

  for found, expected in zip(gradients(12), gradients(512)):
    np.testing.assert_allclose(found, expected, atol=2e-5)
