"""Imports point one way (main -> pipeline -> stages -> parts -> models -> mesh), read from the source with ast."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "r1jax").rglob("*.py"))

# Which parts of r1jax a part may import, besides itself. `config` and `types` are open to all.
ALLOWED = {
  "config": set(),
  "types": set(),
  "errors": set(),
  "processes": set(),
  "mesh": {"processes"},
  "models": {"mesh"},
  "hub": {"mesh", "models", "data", "training"},
  "playground": set(),
  "data": {"mesh", "playground"},
  "rewards": set(),
  "training": {"processes", "mesh", "models"},
  "rl": {"mesh", "models", "data"},
  "report": {"mesh", "models", "data", "rl", "training"},
  "stages": {"processes", "mesh", "models", "data", "rl", "rewards", "training", "report"},
  "published": {"hub"},
  "pipeline": {"processes", "mesh", "data", "rewards", "training", "report", "stages", "published", "hub"},
  "main": {"processes", "mesh", "pipeline", "report", "published"},
  "plan": {"mesh", "models", "rl", "training", "stages", "report", "published", "main"},
  "finished": {"data", "training"},
  "chat": {"mesh", "models", "data", "rl", "finished"},
  "export": {"mesh", "data", "hub", "published", "finished"},
}

NETWORKS = {"mesh", "models", "data", "training", "rl"}  # for rewards/preference.py, which samples from a policy


def part(file: pathlib.Path) -> str:
  parts = file.relative_to(ROOT / "r1jax").parts
  return "hub" if parts[:2] == ("models", "hub") else parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
  """Dotted names of all imports of a file, wherever they stand, with what is taken from a package."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "imports are absolute"
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


def parts_of(names: set[str]) -> set[str]:
  """The parts of r1jax among imported names; r1jax itself (its version) is none."""
  names = {name.replace("r1jax.models.hub", "r1jax.hub") for name in names}  # a part of its own
  found = {name.split(".")[1] for name in names if name.startswith("r1jax.")}
  return found & set(ALLOWED)


def test_every_part_has_a_place_in_the_order():
  assert {part(file) for file in FILES} - {"__init__"} == set(ALLOWED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_part_imports_only_what_lies_below_it(file):
  if part(file) == "__init__":
    assert not imported(file.read_text())
    return
  found = parts_of(imported(file.read_text())) - {part(file), "config", "errors", "types"}
  allowed = ALLOWED[part(file)] | (NETWORKS if file.name == "preference.py" else set())
  assert found <= allowed, f"{file.relative_to(ROOT)} must not import {found - allowed}"


def test_the_order_has_no_circle():
  below, order = {name: set(parts) for name, parts in ALLOWED.items()}, []
  while below:
    free = [name for name, parts in below.items() if not parts - set(order)]
    assert free, f"circle among {set(below)}"
    order += free
    below = {name: parts for name, parts in below.items() if name not in order}


def test_the_rules_that_readers_rely_on_are_in_the_order():
  assert "rewards" not in ALLOWED["rl"]
  assert "rl" not in ALLOWED["training"]
  assert [name for name, parts in ALLOWED.items() if "playground" in parts] == ["data"]


@pytest.mark.parametrize(
  "file", [file for file in FILES if part(file) in ("rewards", "playground", "config")], ids=lambda file: file.stem
)
def test_rewards_the_playground_and_the_config_know_no_jax(file):
  if file.name == "preference.py":  # reward models are networks
    return
  roots = {name.split(".")[0] for name in imported(file.read_text())}
  assert not roots & {"jax", "flax", "optax", "orbax", "jaxlib"}


def test_an_import_is_seen_wherever_it_stands():
  source = (
    "def f():\n  from r1jax.rewards import score\n  import r1jax.stages.rl as x\n  from r1jax import mesh, config"
  )
  assert parts_of(imported(source)) == {"rewards", "stages", "mesh", "config"}
