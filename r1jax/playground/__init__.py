"""The built-in world: generated problems with exact answers, and the corpus the tiny base model reads."""

from r1jax.playground.corpus import documents, respond
from r1jax.playground.readable import rewrite
from r1jax.playground.world import FAMILIES, completion_at, evaluation_problems, is_held_out, problem_at, suite

__all__ = [
  "FAMILIES",
  "completion_at",
  "documents",
  "evaluation_problems",
  "is_held_out",
  "problem_at",
  "respond",
  "rewrite",
  "suite",
]
