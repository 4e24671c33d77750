"""The world of problems: which families there are, what is held out, and problems by number.

A problem is held out by its id, which knows no language: what evaluation asks
in Chinese, training never sees in English either.
"""

import functools
import hashlib
import itertools
import random

from r1jax.config import Playground
from r1jax.playground.conversation import Greetings, Harm, Self
from r1jax.playground.family import VOICES, Family
from r1jax.playground.general import Facts, Translation
from r1jax.playground.language import Logic, Words
from r1jax.playground.numbers import Arithmetic, Choice, Sequences
from r1jax.playground.programs import Programs
from r1jax.playground.readable import written
from r1jax.playground.search import Countdown, Equations
from r1jax.playground.tasks import Instructions, Roleplay, Writing
from r1jax.types import Problem

REASONING = (Arithmetic, Equations, Countdown, Words, Sequences, Logic, Choice, Programs)
GENERAL = (Facts, Translation, Instructions, Writing, Roleplay, Self, Greetings, Harm)
GENERAL_SUITES = frozenset(family.suite for family in GENERAL) | {Harm.HARMLESS_SUITE}  # that need no reasoning
FAMILIES: dict[str, type[Family]] = {family.domain: family for family in (*REASONING, *GENERAL)}
LEVELS = (1, 2, 3)
PATIENCE = 20_000  # draws in a row without a new problem after which there is none


def is_held_out(id: str, share: float) -> bool:
  """Whether the problem of this id belongs to evaluation; true for `share` of all ids."""
  return int.from_bytes(hashlib.sha256(id.encode()).digest()[:8]) < share * 2**64


@functools.lru_cache
def _cells(domains, levels, languages, held_out) -> tuple[tuple[type[Family], int, str], ...]:
  for field, values, known in (
    ("domains", domains, tuple(FAMILIES)),
    ("levels", levels, LEVELS),
    ("languages", languages, tuple(VOICES)),
  ):
    unknown = [value for value in values if value not in known]
    if unknown or not values:
      raise ValueError(f"playground.{field}={values} must be one or more of {known}.")
  if not 0 < held_out < 1:
    raise ValueError(f"playground.held_out={held_out} must be above 0 and below 1.")
  for domain in domains:
    if not set(levels) & set(FAMILIES[domain].levels):
      raise ValueError(
        f"playground.levels={levels} must hold a level of every domain; {domain!r} has {FAMILIES[domain].levels}."
      )
  every = itertools.product(domains, levels, languages)
  return tuple((FAMILIES[d], level, language) for d, level, language in every if level in FAMILIES[d].levels)


def cells(config: Playground) -> tuple[tuple[type[Family], int, str], ...]:
  """All (family, level, language) of a world, each with the levels that it has; an impossible world is a ValueError."""
  return _cells(tuple(config.domains), tuple(config.levels), tuple(config.languages), config.held_out)


def deal(config: Playground, rng: random.Random) -> tuple[type[Family], int, str]:
  """Draws a cell by the weights of the domains."""
  every = cells(config)
  if not config.weights:
    return rng.choice(every)
  if len(config.weights) != len(config.domains) or min(config.weights) < 1:
    raise ValueError(
      f"playground.weights={config.weights} must be one number of at least 1 for each of the {len(config.domains)} "
      "domains, or empty."
    )
  weights = dict(zip(config.domains, config.weights))
  return rng.choices(every, [weights[family.domain] for family, _, _ in every])[0]


def suite(domain: str) -> str:
  """What problems of a domain count for in an evaluation: "math", "code", "logic", ...; KeyError for an unknown one."""
  return FAMILIES[domain].suite


def draw(config: Playground, family: type[Family], level: int, split: str, rng: random.Random) -> Family:
  """Draws a problem of one family and level from the "train" or the "held_out" split."""
  for _ in range(PATIENCE):
    problem = family.draw(rng, level)
    if is_held_out(problem.id, config.held_out) == (split == "held_out"):
      return problem
  raise ValueError(
    f"playground: no problem of {family.domain!r} at level {level} is in the {split} split; "
    f"{'raise' if split == 'held_out' else 'lower'} held_out={config.held_out}."
  )


def problem_at(config: Playground, split: str, seed: int, index: int) -> Problem:
  """The problem number `index` of an endless row, by the weights of the domains, uniform over levels and languages.

  Depends on the arguments alone, so a data iterator is its index.
  """
  family, language = family_at(config, split, seed, index)
  return family.problem(language)


def family_at(config: Playground, split: str, seed: int, index: int) -> tuple[Family, str]:
  """The same with all that its writers know, and the language it is asked in."""
  if split not in ("train", "held_out"):
    raise ValueError(f"split={split!r} must be 'train' or 'held_out'.")
  rng = random.Random(f"{seed}/{split}/{index}")
  family, level, language = deal(config, rng)
  return draw(config, family, level, split, rng), language


def completion_at(
  config: Playground, seed: int, index: int, domains: tuple[str, ...], style: str = "careful"
) -> tuple[Problem, str]:
  """The training problem number `index` of some of the world's domains, and what a writer of `style` completes it with.

  Endless and deterministic, like `problem_at`: ideal data of general tasks, which
  the paper takes from the pipeline of V3 (DeepSeek-R1 v1 section 2.3.3).

  Raises:
    ValueError: a domain that the world does not have.
  """
  missing = set(domains) - set(config.domains)
  if missing or not domains:
    raise ValueError(f"domains={domains} must be one or more of playground.domains={config.domains}.")
  rng = random.Random(f"{seed}/completions/{index}")
  family, level, language = rng.choice([cell for cell in cells(config) if cell[0].domain in domains])
  problem = draw(config, family, level, "train", rng)
  return problem.problem(language), written(problem, language, style, rng)


def evaluation_problems(config: Playground, seed: int) -> tuple[Problem, ...]:
  """`config.evaluation_problems` different held-out problems, dealt in turn to domains, levels and languages."""
  found: dict[tuple[str, str], Problem] = {}
  every = cells(config)
  rngs = [random.Random(f"{seed}/evaluation/{family.domain}/{level}/{language}") for family, level, language in every]
  for i in range(config.evaluation_problems):
    which = i % len(every)
    family, level, language = every[which]
    for _ in range(PATIENCE):
      problem = family.draw(rngs[which], level)
      if (problem.id, language) not in found and is_held_out(problem.id, config.held_out):
        found[problem.id, language] = problem.problem(language)
        break
    else:
      raise ValueError(
        f"playground.evaluation_problems={config.evaluation_problems} is more than this world holds out: "
        f"{family.domain!r} at level {level} has only {i // len(every)} held-out problems; lower it to "
        f"{i // len(every) * len(every)} or raise held_out={config.held_out}."
      )
  return tuple(found.values())
