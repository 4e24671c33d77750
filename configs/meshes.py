"""Mesh shapes for the machines people have."""

from r1jax import config


def local() -> config.Mesh:
  """One CPU or one accelerator."""
  return config.Mesh()


def v5p_1024() -> config.Mesh:
  """A TPU v5p-2048 slice (8x8x16): 1,024 chips.

  The 512 questions of the paper's rollout are split over data x expert: 64 x 16
  would leave half of the chips without one. With 4 experts a chip the gathered
  copy fits beside the cache, and a token of a rollout waits for the memory and
  not for the links (docs/plan.md).
  """
  return config.Mesh(data=8, expert=64, tensor=2, gather=True)
