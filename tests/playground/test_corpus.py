"""The corpus: its mix, its truth, and that it never asks a held-out question."""

import hashlib
import random
import re

import pytest

from experiments import r1_zero_tiny
from r1jax.config import Mix, Playground, Template
from r1jax.playground import FAMILIES, documents, evaluation_problems, lexicon, problem_at
from r1jax.playground.corpus import LONGEST, assert_only_asked, pieces, sloppy
from r1jax.playground.family import VOICES

WORLD = Playground(
  domains=("arithmetic", "equations", "countdown"), levels=(1, 2), mix=Mix(), documents=6000, evaluation_problems=120
)
EVERYTHING = Playground(domains=tuple(FAMILIES), levels=(1, 2, 3), mix=Mix(), documents=4000, evaluation_problems=240)
TEMPLATE = Template(text="Think: <think> </think> <answer> </answer>. User: {question} Assistant:")
FORMAT = re.compile(r"<think>[^<>]*</think><answer>[^<>]+</answer>")


def small(domains, mix, levels=(1,), documents=300, **fields):
  return Playground(domains=domains, levels=levels, mix=mix, documents=documents, evaluation_problems=1, **fields)


@pytest.fixture(scope="module")
def corpus():
  return documents(WORLD, TEMPLATE, 0)


@pytest.fixture(scope="module")
def responses(corpus):
  return [text.split(" Assistant:")[1] for text in corpus if text.startswith("Think: ")]


@pytest.mark.parametrize("world", [WORLD, EVERYTHING])
def test_no_held_out_question_occurs_in_any_document(world):
  text = "\n".join(documents(world, TEMPLATE, 0))
  held_out = {p.question for p in evaluation_problems(world, 0)}
  held_out |= {problem_at(world, "held_out", 0, i).question for i in range(500)}
  assert not [question for question in held_out if question in text]
  train = {problem_at(world, "train", 0, i).question for i in range(500)}
  assert any(question in text for question in train)  # the search itself finds questions


def test_a_question_that_was_not_drawn_is_noticed():
  stray = problem_at(EVERYTHING, "held_out", 0, 0).question
  with pytest.raises(AssertionError, match="questions that were not drawn"):
    assert_only_asked(EVERYTHING, [f"a page {stray} and more"], set())


def test_documents_depend_on_the_seed_alone(corpus):
  assert documents(WORLD, TEMPLATE, 0) == corpus != documents(WORLD, TEMPLATE, 1)
  assert len(corpus) == WORLD.documents


def test_shares_of_forms_and_formats_are_those_of_the_mix(corpus, responses):
  mix = Mix()
  assert len(responses) / len(corpus) == pytest.approx(mix.dialog, abs=0.03)
  tidy = sum(FORMAT.fullmatch(response) is not None for response in responses)
  assert tidy / len(responses) == pytest.approx(1 - mix.sloppy, abs=0.03)


def test_shares_of_styles_are_those_of_the_mix(responses):
  tidy = [response for response in responses if FORMAT.fullmatch(response)]
  bare = sum(re.match(r"<think>(easy|简单)?</think>", response) is not None for response in tidy)
  assert bare / len(tidy) == pytest.approx(Mix().bare, abs=0.03)


@pytest.mark.parametrize(
  ("style", "test"),
  [
    ({"bare": 1.0}, lambda work: work in ("", "easy", "简单")),
    ({"careful": 1.0, "given_up": 1.0}, lambda work: "=" in work and ("giving up" in work or "算了" in work)),
    ({"corrected": 1.0}, lambda work: "wait," in work or "等等," in work),
  ],
)
def test_a_mix_of_one_style_writes_that_style(style, test):
  only = {"bare": 0.0, "slip": 0.0, "careful": 0.0, "corrected": 0.0} | style
  mix = Mix(**only, dialog=1.0, page=0.0, drill=0.0, sloppy=0.0)
  for text in documents(small(("equations",), mix, documents=200), TEMPLATE, 0):
    assert test(re.search(r"Assistant:<think>(.*)</think>", text)[1]), text


@pytest.mark.parametrize("mixed", [0.0, 1.0])
def test_mixed_works_borrow_the_words_of_the_other_language(mixed):
  world = small(("equations",), Mix(mixed=mixed, sloppy=0.0, page=0.35, drill=0.0), languages=("zh",))
  text = "".join(documents(world, Template(text="{question}"), 0))
  assert ("wait" in text) == (mixed == 1.0)
  assert ("等等" in text) == (mixed == 0.0)


def test_drills_state_only_true_facts():
  world = small(WORLD.domains, Mix(dialog=0.0, page=0.0, drill=1.0), levels=(1, 2, 3))
  seen = 0
  for text in documents(world, TEMPLATE, 0):
    for fact in text.split(";"):
      left, sign, right, word = re.fullmatch(r"([-+*\d]+)([=~])([-+*\d]+)(?: (.+))?", fact).groups()
      a, b = eval(left), eval(right)
      assert word in verdicts(a, b) if sign == "~" else a == b and word is None, fact
      seen += 1
  assert seen == 300 * Mix().facts


def verdicts(value, target):
  """The words that truly say how a value stands to a target."""
  if value == target:
    return {voice.yes for voice in VOICES.values()}
  sides = {f"{voice.low if value < target else voice.high} {voice.wait}" for voice in VOICES.values()}
  return sides | {voice.wait for voice in VOICES.values()}


def test_sloppy_responses_never_keep_the_format():
  rng = random.Random(0)
  for work in ("", "7+5=12"):
    assert not any(FORMAT.fullmatch(sloppy(work, "12", rng)) for _ in range(100))


def test_a_mix_that_does_not_sum_to_one_is_refused():
  with pytest.raises(ValueError, match=r"bare \+ slip \+ careful \+ corrected must be 1, but is 1.45"):
    Mix(bare=1.0).validate()


def test_the_corpus_of_r1_zero_tiny_is_that_of_the_published_run():
  """Its figures in the README rest on these very documents."""
  text = "\n".join(documents(r1_zero_tiny.get_config().playground, r1_zero_tiny.TEMPLATE, 0))
  assert hashlib.sha256(text.encode()).hexdigest() == "2e8bdfc4f0e36d6a42f518c51734318f034e06e38134b211ee94e58df73730df"


def thoughts(mix, domains=("arithmetic",), languages=("zh",)):
  """The works of tidy dialogs in a world of one mix."""
  world = small(domains, mix, languages=languages, documents=2000)
  return [re.search(r"<think>(.*)</think>", text)[1] for text in documents(world, Template(text="{question}"), 0)]


def shares(**fields):
  return Mix(**({"dialog": 1.0, "page": 0.0, "drill": 0.0, "sloppy": 0.0} | fields))


def style(name):
  return {"bare": 0.0, "slip": 0.0, "careful": 0.0, "corrected": 0.0} | {name: 1.0}


@pytest.mark.parametrize(("name", "english"), [("careful", 0.5), ("corrected", 0.5), ("slip", 0.05)])
def test_careful_works_are_in_english_more_often_than_the_others(name, english):
  mix = shares(**style(name), mixed=0.05, mixed_careful=0.5, spoken=1.0)
  found = thoughts(mix)
  share = sum(re.search("[a-z]{2,}", work) is not None for work in found) / len(found)
  assert share == pytest.approx(english, abs=0.045)  # four standard deviations


def test_english_questions_are_not_thought_about_in_chinese_more_often():
  found = thoughts(shares(**style("careful"), mixed=0.05, mixed_careful=0.5, spoken=1.0), languages=("en",))
  assert sum(re.search("[\u4e00-\u9fff]", work) is not None for work in found) / len(found) < 0.08


def test_spoken_works_open_and_close_in_words_of_one_language_and_name_the_answer():
  world = small(("arithmetic", "logic"), shares(**style("careful"), mixed=0.0, spoken=1.0))
  for text in documents(world, Template(text="{question}"), 0):
    work, answer = re.search(r"<think>(.*)</think><answer>(.*)</answer>", text).groups()
    voice = VOICES["zh" if re.search("[\u4e00-\u9fff]", text) else "en"]
    assert any(work.startswith(opening) for opening in voice.openings), text
    assert any(work.endswith(closing.format(answer)) for closing in voice.closings), text


def test_without_spoken_works_there_are_only_steps():
  assert all(re.fullmatch(r"[-+=;\d]+", work) for work in thoughts(shares(**style("careful"), mixed=0.0)))


def test_a_series_repeats_the_turns_but_not_the_instruction_and_is_short():
  mix = shares(series=1.0)
  world = Playground(
    domains=tuple(FAMILIES), levels=(1,), mix=mix, documents=3000, held_out=0.1, evaluation_problems=1
  )  # fmt: skip
  lengths = []
  for text in documents(world, TEMPLATE, 0):
    turns = text.count(" User: ")
    assert turns == text.count(" Assistant:") and text.count("Think: ") == 1
    assert turns == 1 or pieces(text) <= LONGEST
    lengths.append(turns)
  assert set(lengths) == {1, 2, 3}
  assert sum(turns > 1 for turns in lengths) / len(lengths) > 0.6


def test_all_of_a_series_is_by_one_writer():
  mix = shares(**{"bare": 0.5, "slip": 0.0, "careful": 0.5, "corrected": 0.0}, bare_right=0.0, series=1.0, mixed=0.0)
  for text in documents(small(("arithmetic",), mix), TEMPLATE, 0):
    works = re.findall(r"<think>([^<]*)</think><answer>", text)[1:]
    assert len({bool(work) for work in works}) <= 1, text


def test_readable_pages_are_summed_up_and_have_no_tags():
  world = small(("arithmetic",), Mix(dialog=0.0, page=1.0, drill=0.0, readable=1.0), languages=("en",))
  for text in documents(world, TEMPLATE, 0):
    question, answer = re.fullmatch(
      r"(What is .*\?) I work it out\. .*, so it is \d+\. The answer is (\d+)\.", text
    ).groups()
    assert eval(question[len("What is ") : -1]) == int(answer)


def test_the_facts_of_the_world_are_all_stated_in_both_languages():
  world = small(("facts",), Mix(dialog=0.0, page=0.0, drill=1.0), documents=500)
  text = ";".join(documents(world, TEMPLATE, 0))
  for fact, value in lexicon.FACTS.items():
    for language in VOICES:
      assert lexicon.state(*fact, value, language) in text
  assert "?" not in text  # the questions are another matter
