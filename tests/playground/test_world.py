"""The world: the split, random access, and the evaluation set."""

import collections
import dataclasses

import pytest

from r1jax.config import Mix, Playground
from r1jax.playground import FAMILIES, completion_at, evaluation_problems, is_held_out, problem_at, suite

WORLD = Playground(
  domains=("arithmetic", "equations", "countdown"), levels=(1, 2), mix=Mix(), documents=10, evaluation_problems=120
)


def changed(**fields):
  return dataclasses.replace(WORLD, **fields)


def test_the_held_out_share_is_as_asked():
  assert sum(is_held_out(f"arithmetic/1/{i}", 0.1) for i in range(20_000)) == pytest.approx(2000, abs=200)


def test_no_problem_is_in_both_splits_whatever_its_language():
  splits = {split: [problem_at(WORLD, split, 0, i) for i in range(3000)] for split in ("train", "held_out")}
  ids = {split: {p.id for p in problems} for split, problems in splits.items()}
  assert not ids["train"] & ids["held_out"]
  assert not {p.question for p in splits["train"]} & {p.question for p in splits["held_out"]}
  assert all(is_held_out(id, WORLD.held_out) for id in ids["held_out"])
  assert {p.id for p in splits["train"] if p.language == "en"} & {p.id for p in splits["train"] if p.language == "zh"}


def test_a_problem_depends_on_seed_split_and_index_alone():
  rows = [problem_at(WORLD, "train", 7, i) for i in range(50)]
  assert [problem_at(WORLD, "train", 7, i) for i in reversed(range(50))] == rows[::-1]
  assert problem_at(WORLD, "train", 7, 3) != problem_at(WORLD, "train", 8, 3)
  # written down once: a data iterator resumed on another machine meets the same problem
  assert problem_at(changed(domains=("arithmetic",)), "train", 0, 0).id == "arithmetic/2/7+8-4-7"


def test_domains_levels_and_languages_are_equally_frequent():
  cells = collections.Counter(
    (p.domain, p.level, p.language) for p in (problem_at(WORLD, "train", 1, i) for i in range(6000))
  )
  assert len(cells) == 12
  assert all(abs(count - 500) < 110 for count in cells.values())  # five standard deviations


def test_evaluation_problems_are_distinct_held_out_and_balanced():
  problems = evaluation_problems(WORLD, 0)
  assert len(problems) == 120 == len({(p.id, p.language) for p in problems})
  assert all(is_held_out(p.id, WORLD.held_out) for p in problems)
  assert set(collections.Counter((p.domain, p.level, p.language) for p in problems).values()) == {10}
  assert problems == evaluation_problems(WORLD, 0) != evaluation_problems(WORLD, 1)


def test_every_family_at_every_level_it_has_can_be_evaluated():
  world = changed(domains=tuple(FAMILIES), levels=(1, 2, 3), evaluation_problems=64 * 8)
  problems = evaluation_problems(world, 0)
  assert len(problems) == 64 * 8  # eight families with three levels and eight with one, in two languages
  assert set(collections.Counter((p.domain, p.level, p.language) for p in problems).values()) == {8}


def test_a_domain_without_any_of_the_levels_is_refused():
  with pytest.raises(
    ValueError, match=r"playground.levels=\(2, 3\) must hold a level of every domain; 'facts' has \(1,\)"
  ):
    problem_at(changed(domains=("arithmetic", "facts"), levels=(2, 3)), "train", 0, 0)


def test_every_domain_has_a_suite():
  suites = collections.Counter(suite(domain) for domain in FAMILIES)
  assert suites == {
    "math": 5, "code": 1, "logic": 1, "choice": 1, "factual": 1, "translation": 1, "instructions": 1,
    "helpfulness": 4, "harmlessness": 1,
  }  # fmt: skip


def test_completions_are_a_row_of_training_problems_of_the_domains_asked_for():
  world = changed(domains=("arithmetic", "facts", "harm"))
  rows = [completion_at(world, 3, i, ("facts", "harm")) for i in range(200)]
  assert [completion_at(world, 3, i, ("facts", "harm")) for i in reversed(range(200))] == rows[::-1]
  assert {problem.domain for problem, _ in rows} == {"facts", "harm"}
  assert not any(is_held_out(problem.id, world.held_out) for problem, _ in rows)
  assert rows[:5] != [completion_at(world, 4, i, ("facts", "harm")) for i in range(5)]
  with pytest.raises(ValueError, match=r"domains=\('words',\) must be one or more of"):
    completion_at(world, 3, 0, ("words",))


def test_a_world_too_small_for_its_evaluation_set_says_what_would_fit():
  with pytest.raises(ValueError, match=r"evaluation_problems=5000 .*'equations' at level 1 has only (\d+)") as error:
    evaluation_problems(changed(evaluation_problems=5000), 0)
  fits = int(str(error.value).split("lower it to ")[1].split()[0])
  assert len(evaluation_problems(changed(evaluation_problems=fits), 0)) == fits


@pytest.mark.parametrize(
  ("field", "value"),
  [("domains", ("arithmetics",)), ("domains", ()), ("levels", (4,)), ("languages", ("fr",)), ("held_out", 0.0)],
)
def test_a_world_that_does_not_exist_is_refused_by_the_name_of_the_field(field, value):
  with pytest.raises(ValueError, match=f"playground.{field}="):
    problem_at(changed(**{field: value}), "train", 0, 0)


def test_an_unknown_split_is_refused():
  with pytest.raises(ValueError, match="split='test'"):
    problem_at(WORLD, "test", 0, 0)
