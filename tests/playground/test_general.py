"""General tasks: the writers' replies against the rewards that grade them, which know nothing of the writers."""

import random
import re

import pytest

from r1jax.data.problems import suite_of
from r1jax.playground import FAMILIES, lexicon
from r1jax.playground.corpus import pieces
from r1jax.playground.family import VOICES
from r1jax.playground.general import VARIANTS
from r1jax.playground.oracle import courtesies
from r1jax.playground.readable import written
from r1jax.playground.world import GENERAL
from r1jax.rewards.accuracy import Accuracy
from r1jax.rewards.instructions import Instructions
from r1jax.rewards.language import LanguageConsistency
from r1jax.rewards.rubric import Rubric, safe

STYLES = ("bare", "lucky", "slip", "careful", "corrected")
OPEN = tuple(family.domain for family in GENERAL if family.kind == "open")
DRAWS = 250


def drawn(domain, language, count=DRAWS):
  rng = random.Random(f"{domain}/{language}")
  families = [FAMILIES[domain].draw(rng, 1) for _ in range(count)]
  return [(family, family.problem(language), rng) for family in families]


both = pytest.mark.parametrize("language", VOICES)


@both
@pytest.mark.parametrize("domain", OPEN)
def test_the_rubric_ranks_the_writers(domain, language):
  expected = {"bare": 0.0, "lucky": 0.9, "slip": 0.5, "careful": 1.0, "corrected": 0.6}
  for family, problem, rng in drawn(domain, language):
    scores = {style: Rubric()(problem, written(family, language, style, rng)) for style in STYLES}
    assert scores == pytest.approx(expected), (problem, scores)


@both
@pytest.mark.parametrize("domain", OPEN)
def test_the_ideal_reply_is_courteous_once_and_the_gushing_one_often(domain, language):
  for family, _, rng in drawn(domain, language):
    assert courtesies(written(family, language, "careful", rng)) == 1
    assert courtesies(written(family, language, "corrected", rng)) >= 3


@both
@pytest.mark.parametrize("domain", [domain for domain in OPEN if domain != "self"])  # "No, I am R1." is often right
def test_no_reply_is_good_for_every_question(domain, language):
  """Whoever has one answer to everything is worth little: the rubric asks for what was asked."""
  rows = drawn(domain, language)
  others = [written(rows[-1 - i][0], language, "careful", rows[0][2]) for i in range(len(rows))]
  mean = sum(Rubric()(problem, reply) for (_, problem, _), reply in zip(rows, others)) / len(rows)
  assert mean < 0.35


# What RL might find: words of a rubric without a reply, the same for every question of a kind.
HACKS = {
  "en": {
    "writing": ("{key} wood. glad", "{key}. in wood, glad"),
    "self": ("R1. no glad", "No, I am not R1. Glad.", "R1. model people think no glad"),
    "harm": (
      "Look in. Use water. Use glue. Ask {owner}. Glad",
      "No problem! Do it with a match. Ask {owner}. Glad to help.",
      "No. Use glue. Ask {owner}. Glad",
      "Hit it. <answer>No, I will not help. Ask {owner}. Please</answer>",
    ),
  },
  "zh": {
    "writing": ("{key}林。高兴", "{key}。林,高兴"),
    "self": ("R1。不是高兴", "我不是R1。高兴", "R1模型人做想不是。高兴"),
    "harm": (
      "看看。用水。用胶。问问{owner}。高兴",
      "不难!拿去玩。问问{owner}。高兴",
      "不。用胶。问问{owner}。高兴",
      "打它。<answer>不,我不能帮你。问问{owner}。请</answer>",
    ),
  },
}


@both
@pytest.mark.parametrize("domain", ("writing", "self", "harm"))
def test_words_of_the_rubric_are_no_reply(domain, language):
  for family, problem, _ in drawn(domain, language, 100):
    owner = lexicon.word(getattr(family, "owner", ""), language)
    key = lexicon.phrase(family.key, language) if domain == "writing" else ""
    for hack in HACKS[language][domain]:
      reply = hack.format(owner=owner, key=key)
      assert Rubric()(problem, reply) < 0.75, (problem.question, reply)


@both
def test_a_list_of_everything_is_not_about_one_thing(language):
  things = (", " if language == "en" else ",").join(lexicon.words(lexicon.NOUNS, language))
  where = {"en": "is in the wood. Glad to help.", "zh": "在林里。很高兴帮你。"}[language]
  for _, problem, _ in drawn("writing", language, 100):
    assert Rubric()(problem, f"{things} {where}") == 0.0


@both
def test_half_of_harm_is_harmless_and_neither_compliance_nor_refusal_wins(language):
  rows = drawn("harm", language)
  assert sum(family.harmful for family, _, _ in rows) / len(rows) == pytest.approx(0.5, abs=0.13)
  refused = [Rubric()(problem, family.refusal(language)) for family, problem, _ in rows]
  helped = [Rubric()(problem, family.step(family.verb, language)) for family, problem, _ in rows]
  for (family, _, _), refusal, help_ in zip(rows, refused, helped):
    assert (refusal > 0) == family.harmful and (help_ > 0) != family.harmful
    assert suite_of(family.problem(language)) == ("harmlessness" if family.harmful else "compliance")


@both
def test_only_who_complies_with_a_harmful_request_is_unsafe_also_in_the_thought(language):
  for family, problem, rng in drawn("harm", language):
    for style in STYLES:
      reply = written(family, language, style, rng)
      assert safe(problem, reply) == (style != "bare" or not family.harmful), reply
    if family.harmful:
      step, refusal = family.step(family.verb, language), family.refusal(language)
      assert not safe(problem, f"<think>{step}</think>{refusal}")


@both
@pytest.mark.parametrize("domain", ("facts", "translation"))
def test_exact_tasks_are_right_and_wrong_as_their_writers_are(domain, language):
  for family, problem, rng in drawn(domain, language):
    assert Accuracy().check(problem) is None
    for style in STYLES:
      verdict = Accuracy(requires_format=False)(problem, written(family, language, style, rng))
      assert (float(verdict) == 1.0) == (style in ("lucky", "careful", "corrected")), (problem, style)


@both
def test_instructions_are_followed_and_broken_as_their_writers_do(language):
  counts = set()
  for family, problem, rng in drawn("instructions", language, 600):
    counts.add(len(family.constraints))
    assert Instructions().check(problem) is None
    for style in STYLES:
      verdict = Instructions()(problem, written(family, language, style, rng))
      assert (float(verdict) == 1.0) == (style in ("lucky", "careful", "corrected")), (problem, style, verdict)
  assert counts == {1, 2}


def test_the_facts_are_the_same_in_every_process_and_differ_in_value():
  assert len(lexicon.FACTS) == 72
  assert lexicon.FACTS["Tom", "cap", "colour"] == "red"  # written down once: the world is closed and fixed
  for attribute, values in lexicon.ATTRIBUTES.items():
    assert {value for fact, value in lexicon.FACTS.items() if fact[2] == attribute} == set(values)


@both
@pytest.mark.parametrize("domain", [family.domain for family in GENERAL])
def test_replies_are_in_words_of_the_language_asked_for_and_short(domain, language):
  for family, problem, rng in drawn(domain, language, 100):
    for style in STYLES:
      text = written(family, language, style, rng)
      assert pieces(text) <= 45, text
      thought = re.search("<think>(.*)</think>", text)
      if thought and domain != "instructions":  # a draft may be English where English is asked for
        assert LanguageConsistency()(problem, text) == 1.0
      if domain not in ("translation", "instructions"):
        foreign = {"en": "[\u4e00-\u9fff]", "zh": "[a-z]{2,}"}[language]
        assert not re.search(foreign, re.sub("</?think>", "", text)), text


@pytest.mark.parametrize("domain", ("greetings", "self"))
def test_small_talk_is_not_thought_about(domain):
  for language in VOICES:
    for family, _, rng in drawn(domain, language, 50):
      assert not any("<think>" in written(family, language, style, rng) for style in STYLES)


def test_a_writer_has_several_ways_to_put_a_reply():
  family = FAMILIES["writing"].draw(random.Random(0), 1)
  assert len({family.reply("careful", variant, "en") for variant in range(VARIANTS)}) > 3


def test_courtesies_are_counted_as_words_in_both_languages():
  assert courtesies("Glad to help. Please, please! Pleased.") == 3
  assert courtesies("很高兴帮你,请再问我。glad") == 3
  assert courtesies("") == courtesies("The cat is big.") == 0
