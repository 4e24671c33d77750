"""Families: questions and answers against solvers that read the question alone."""

import itertools
import json
import random
import re

import pytest

from r1jax.playground import FAMILIES
from r1jax.playground.family import VOICES, Searched
from r1jax.playground.world import LEVELS
from r1jax.rewards.target import check_target

DRAWS = 150
EXPRESSION = r"\d+(?:[-+*]\d+)*"


def drawn(domain, count=DRAWS):
  rng = random.Random(domain)
  return [FAMILIES[domain].draw(rng, level) for level in FAMILIES[domain].levels for _ in range(count)]


def compute(expression):
  assert re.fullmatch(EXPRESSION, expression)
  return eval(expression)


def next_term(terms):
  steps = [b - a for a, b in itertools.pairwise(terms)]
  if len(terms) == 5:
    return terms[-1] + steps[0]
  growth = {b - a for a, b in itertools.pairwise(steps)}
  assert len(growth) == 1
  return terms[-1] + steps[-1] + growth.pop()


def tell(question):
  numbers = list(map(int, re.findall(r"\d+", question)))
  value = numbers.pop(0)
  if "bags" in question:
    value *= numbers.pop(0)
  value += numbers.pop(0) if "gets" in question else 0
  return value - (numbers.pop(0) if "loses" in question else 0)


def unknown(question):
  left, right = re.fullmatch(r"Solve (.*)=(\d+)\.", question).groups()
  code = re.sub(r"(\d)x", r"\1*x", left)
  (x,) = [x for x in range(100) if eval(code, {"x": x}) == int(right)]
  return x


def compare(left, right):
  return "B" if left == right else "AC"[left > right]


SOLVERS = {
  "arithmetic": lambda q: str(compute(q[len("What is ") : -1])),
  "equations": lambda q: str(unknown(q)),
  "sequences": lambda q: str(next_term(list(map(int, re.findall(r"\d+", q))))),
  "words": lambda q: str(tell(q)),
  "logic": lambda q: str(eval(q[len("Is it true: ") : -1].replace("true", "True").replace("false", "False"))).lower(),
  "choice": lambda q: compare(*map(compute, re.fullmatch(rf"Is ({EXPRESSION}) A .* ({EXPRESSION})\?", q).groups())),
}


@pytest.mark.parametrize("domain", SOLVERS)
def test_answers_agree_with_a_solver_that_reads_the_question(domain):
  for family in drawn(domain):
    problem = family.problem("en")
    assert SOLVERS[domain](problem.question) == problem.answer, problem


def test_countdown_answers_use_the_numbers_in_order_and_some_other_try_fails():
  for family in drawn("countdown"):
    assert check_target(family.answer, family.gold)
    assert compute(family.answer) == family.target
    assert 0 <= family.target <= 99
    assert any(compute(c) != family.target for _, c in family.candidates())
    assert all(compute(c) == value for value, c in family.candidates())


def test_programs_pass_their_own_tests_and_guesses_do_not():
  def passes(code, gold):
    if gold["form"] == "function":
      scope = {}
      exec(code, scope)
      run = scope[gold["name"]]
    else:
      run = eval(f"lambda {gold['argument']}: {code}")
    return all(run(test["input"]) == test["output"] for test in gold["tests"])

  rng = random.Random(0)
  for family in drawn("program", 40):
    gold = json.loads(family.gold)
    assert passes(family.answer, gold), family
    assert not passes(family.guess(rng), gold), family


@pytest.mark.parametrize("domain", FAMILIES)
def test_a_question_determines_its_problem_and_fits_the_shape_of_its_family(domain):
  for language in VOICES:
    ids = {}
    for family in drawn(domain, 1000):
      question = family.question(language)
      assert re.fullmatch(FAMILIES[domain].shapes[language], question), question
      assert ids.setdefault(question, family.id) == family.id


@pytest.mark.parametrize("domain", FAMILIES)
def test_no_question_belongs_to_two_levels(domain):
  questions = [{f.question("en") for f in drawn(domain, 1500) if f.level == level} for level in LEVELS]
  assert not any(a & b for a, b in itertools.combinations(questions, 2))


def equalities(work):
  for chain in re.findall(rf"{EXPRESSION}(?:={EXPRESSION})+", work):
    yield from itertools.pairwise(chain.split("="))


NUMERIC = ("arithmetic", "equations", "countdown", "words", "sequences", "choice")


@pytest.mark.parametrize("domain", NUMERIC)
@pytest.mark.parametrize("language", VOICES)
def test_careful_work_states_only_true_equalities_and_reaches_the_answer(domain, language):
  rng, voice = random.Random(1), VOICES[language]
  for family in drawn(domain):
    work, answer = family.solve("careful", rng, voice)
    pairs = list(equalities(work))
    assert pairs and all(compute(a) == compute(b) for a, b in pairs), work
    assert check_target(answer, family.gold) if domain == "countdown" else answer == family.answer
    if domain in ("arithmetic", "words", "sequences"):
      assert work.endswith(f"={answer}")


@pytest.mark.parametrize("domain", NUMERIC)
def test_corrected_work_has_one_false_step_right_before_the_wait_and_the_right_answer(domain):
  rng = random.Random(2)
  for family in drawn(domain):
    work, answer = family.solve("corrected", rng, VOICES["en"])
    false = [a for a, b in equalities(work) if compute(a) != compute(b)]
    if domain == "choice" and not false:  # the right numbers, and the wrong letter
      wrong, right = re.search(r"\d+,\d+:([A-C]);wait,\d+,\d+:([A-C])$", work).groups()
      assert wrong != right == family.answer
    else:
      assert len(false) == 1, work
      left = re.escape(false[0])
      assert re.search(rf"{left}=[^;]*;wait,{left}=", work), work
    assert check_target(answer, family.gold) if domain == "countdown" else answer == family.answer


@pytest.mark.parametrize("domain", ("arithmetic", "words", "sequences"))
def test_a_slip_is_one_false_step_carried_to_a_wrong_answer(domain):
  rng = random.Random(3)
  for family in drawn(domain):
    work, answer = family.solve("slip", rng, VOICES["en"])
    assert sum(compute(a) != compute(b) for a, b in equalities(work)) == 1
    assert answer != family.answer and work.endswith(f"={answer}")
    assert "-" not in answer and "=-" not in work


@pytest.mark.parametrize("domain", ("equations", "countdown"))
def test_a_search_tries_nothing_twice_and_ends_at_the_first_that_fits(domain):
  rng, lengths = random.Random(4), set()
  for family in drawn(domain):
    assert isinstance(family, Searched)
    tried = family.search(rng)
    values = [value for value, _ in tried]
    lengths.add(len(tried))
    assert values[-1] == family.target and family.target not in values[:-1]
    assert len({candidate for _, candidate in tried}) == len(tried)
    work, _ = family.solve("given_up", rng, VOICES["en"])
    assert work.endswith("giving up") and "yes" not in work
  assert lengths >= {1, 2, 3, 4}


def test_a_countdown_goes_to_the_side_its_last_try_points_to_and_ends_in_time():
  rng = random.Random(4)
  for family in drawn("countdown"):
    values = [value for value, _ in family.search(rng)]
    assert len(values) <= family.tries
    assert all((b > a) == (a < family.target) for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("domain", ("arithmetic", "equations", "countdown", "words", "sequences", "program"))
def test_bare_answers_have_no_work_and_are_wrong_unless_lucky(domain):
  rng = random.Random(5)
  for family in drawn(domain):
    work, answer = family.solve("bare", rng, VOICES["en"])
    right = check_target(answer, family.gold) if domain == "countdown" else answer == family.answer
    assert work == "" and not right
    assert family.solve("lucky", rng, VOICES["en"]) == ("", family.answer)


@pytest.mark.parametrize("domain", ("logic", "choice"))
def test_bare_answers_to_a_choice_are_as_good_as_chance(domain):
  rng = random.Random(6)
  problems = drawn(domain, 1000)
  share = sum(f.solve("bare", rng, VOICES["en"])[1] == f.answer for f in problems) / len(problems)
  chance = 1 / len({problem.answer for problem in problems})
  assert abs(share - chance) < 0.04  # four standard deviations of 3000 draws are 0.036


def test_logic_speaks_the_language_of_its_question():
  for family in drawn("logic", 20):
    assert {family.problem("zh").answer, family.problem("en").answer} in ({"真", "true"}, {"假", "false"})
    work, _ = family.solve("careful", random.Random(0), VOICES["zh"])
    assert not re.search("[a-z]", work + family.question("zh"))
