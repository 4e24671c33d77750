"""Readable completions, against the rewards that grade them."""

import random
import re

import pytest

from r1jax.config import Mix, Playground, Template
from r1jax.playground import FAMILIES, completion_at, documents, rewrite
from r1jax.playground.corpus import pieces, respond
from r1jax.playground.family import VOICES
from r1jax.playground.readable import written
from r1jax.playground.world import REASONING
from r1jax.rewards.accuracy import Accuracy
from r1jax.rewards.format import Format, split
from r1jax.rewards.language import LanguageConsistency
from r1jax.rewards.target import check_target

MIX = Mix(mixed=0.5, mixed_careful=0.5, spoken=0.5, given_up=0.0)
DOMAINS = [family.domain for family in REASONING]


def trajectories(domain, count=150):
  rng = random.Random(domain)
  for i in range(count):
    family, language = FAMILIES[domain].draw(rng, 1 + i % 3), ("en", "zh")[i % 2]
    for style in ("careful", "corrected"):
      yield family.problem(language), *respond(family, language, MIX, rng, style)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_right_trajectory_is_rewritten_into_a_right_summary_in_one_language(domain):
  for problem, work, answer in trajectories(domain):
    text = rewrite(problem, work, answer)
    assert text is not None and Format(structure="summary")(problem, text) == 1.0
    summary = split(text, structure="summary").answer
    if domain == "program":
      assert summary == answer
    elif domain == "countdown":
      assert check_target(re.sub("The answer is |答案是|[.。]$", "", summary), problem.answer)
    else:
      assert float(Accuracy(requires_format=False)(problem, text)) == 1.0, text
      assert LanguageConsistency()(problem, text) == 1.0, text


def length(text):
  """Tokens where words, tags and the words between steps are one each, as the tokenizer makes them."""
  words = [word for voice in VOICES.values() for word in (voice.wait, voice.low, voice.high, "所以是", "答案")]
  return pieces(re.sub("|".join(["</?(?:think|answer)>", *words]), "#", text))


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_steps_are_kept_and_hardly_anything_is_added(domain):
  for problem, work, answer in trajectories(domain):
    text = rewrite(problem, work, answer)
    assert text.count(";") == work.count(";")
    if domain == "logic":  # its steps are words, and may have been in the other language
      continue
    steps = re.findall(r"[-+*=~\d]{3,}", work)
    assert [step for step in steps if step not in text] == []
    before = f"<think>{work}</think><answer>{answer}</answer>"
    assert length(text) - length(before) - length(answer) <= 15  # an opening, a closing that says the answer, a summary


def test_words_of_the_other_language_are_translated():
  zh = FAMILIES["equations"](1, 1, 10, 12).problem("zh")
  assert rewrite(zh, "Let me see. 1:1+10=11~12 wait,2:2+10=12~12 yes, so it is 2.", "2") == (
    "<think>我来算。1:1+10=11~12 等等,2:2+10=12~12 对,所以是2。</think>答案是2。"
  )
  en = FAMILIES["logic"](1, "1&(!0)").problem("en")
  assert rewrite(en, "我来看看。非假=真;真且真=真,就是真。", "true") == (
    "<think>I work it out. not false=true;true and true=true, so it is true.</think>The answer is true."
  )


@pytest.mark.parametrize(
  ("think", "answer"), [("", "2"), ("Let me see. ", "2"), ("1+1=2", ""), ("1<b>", "2"), ("purple 1+1=2", "2")]
)
def test_what_cannot_be_rewritten_is_left_out(think, answer):
  family = FAMILIES["arithmetic"](1, 1, (("+", 1),))
  assert rewrite(family.problem("zh"), think, answer) is None
  assert rewrite(family.problem("en"), think.replace("purple", "紫"), answer) is None


def test_open_questions_are_not_rewritten():
  problem = FAMILIES["writing"].draw(random.Random(0), 1).problem("en")
  assert rewrite(problem, "The cat.", "The cat is in the wood.") is None


def test_every_word_of_the_style_and_of_the_replies_is_in_the_corpus():
  mix = Mix(readable=0.1, spoken=0.5)
  world = Playground(domains=tuple(FAMILIES), levels=(1,), mix=mix, documents=8000, evaluation_problems=1)
  words = lambda text: set(re.findall("[A-Za-z]+|[^A-Za-z]", text))
  known = set.union(*map(words, documents(world, Template(text="{question}"), 0)))
  for i in range(1500):
    problem, text = completion_at(world, 0, i, world.domains, ("careful", "corrected")[i % 2])
    assert words(text) | words(problem.question) <= known, text


@pytest.mark.parametrize("domain", DOMAINS)
def test_reasoning_problems_are_written_with_a_thought_and_right(domain):
  rng = random.Random(0)
  for i in range(60):
    family = FAMILIES[domain].draw(rng, 1)
    text = written(family, tuple(VOICES)[i % 2], "careful", rng)
    assert text.startswith("<think>") and "</think>" in text
