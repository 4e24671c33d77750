"""What the tiny base model reads: text like the web's, mostly bare or sloppy, seldom careful.

The base model must be able to work a problem out and rarely do so (DeepSeek-R1
section 2.2: the base is V3, trained on web text); nothing labels the careful
documents, reinforcement learning has to find them.
"""

import random
import re

from r1jax.config import Mix, Playground, Template
from r1jax.playground.family import VOICES, Family, Searched
from r1jax.playground.general import Spoken
from r1jax.playground.readable import spoken, written
from r1jax.playground.world import cells, deal, draw, is_held_out

LONGEST = 150  # tokens of a series
PIECE = re.compile(r" ?[A-Za-z]+|.", re.DOTALL)
TAGS = re.compile("</?think>")


def documents(config: Playground, template: Template, seed: int) -> list[str]:
  """Writes `config.documents` documents; none contains the question of a held-out problem."""
  rng = random.Random(f"{seed}/documents")
  asked: set[str] = set()
  texts = [_document(config, template, config.mix, rng, asked) for _ in range(config.documents)]
  assert_only_asked(config, texts, asked)
  return texts


def _document(config, template, mix, rng, asked) -> str:
  form = rng.choices(("dialog", "page", "drill"), (mix.dialog, mix.page, mix.drill))[0]
  family, level, language = deal(config, rng)
  if form == "drill":
    return drill(config, family, language, mix.facts, rng)
  problem = draw(config, family, level, "train", rng)
  assert not is_held_out(problem.id, config.held_out)
  question = problem.question(language)
  asked.add(question)
  if form == "page" and mix.readable and rng.random() < mix.readable:
    gap = " " if language == "en" else ""  # as Chinese is written, and as its pieces stand in a completion
    return gap.join(filter(None, (question, *TAGS.split(written(problem, language, "careful", rng)))))
  if form == "dialog" and mix.series and rng.random() < mix.series:
    return _series(config, template, (family, problem, language), rng, asked)
  taught = form == "page" and rng.random() < mix.textbook
  work, answer = respond(problem, language, mix, rng, "careful" if taught else "")
  if form == "page":
    return " ".join(filter(None, (question, work, answer)))
  tagged = sloppy if rng.random() < mix.sloppy else tidy
  if not work and rng.random() < 0.25:
    work = VOICES[language].easy
  return template.text.replace("{question}", question) + tagged(work, answer, rng)


def _series(config, template, first, rng, asked) -> str:
  """A dialog of up to three questions of a family, answered by one writer: in his style, with his tags.

  The instruction stands once; what follows begins where the template's turn of the user begins.
  """
  family, problem, language = first
  mix, levels = config.mix, [level for level in config.levels if level in family.levels]
  style = rng.choices(("bare", "slip", "careful", "corrected"), (mix.bare, mix.slip, mix.careful, mix.corrected))[0]
  tagged, habit = sloppy if rng.random() < mix.sloppy else tidy, rng.random()
  start = len(template.text[: template.text.index("{question}")].rstrip())
  start = max(template.text.rfind(" ", 0, start), 0)
  text = ""
  for i in range(rng.choice((2, 3))):
    if i:
      problem = draw(config, family, rng.choice(levels), "train", rng)
    work, answer = respond(problem, language, mix, rng, style)
    turn = template.text[start if i else 0 :].replace("{question}", problem.question(language))
    turn += tagged(work, answer, random.Random(habit))
    if i and pieces(text + turn) > LONGEST:
      break
    asked.add(problem.question(language))
    text += turn
  return text


def pieces(text: str) -> int:
  """Tokens of a text if every word and every Chinese character is one: about what a tokenizer of the corpus makes."""
  return len(PIECE.findall(text))


def respond(problem: Family, language: str, mix: Mix, rng: random.Random, style: str = "") -> tuple[str, str]:
  """Writes one response in `style`, or in one drawn from the mix: (work, answer)."""
  shares = {"bare": mix.bare, "slip": mix.slip, "careful": mix.careful, "corrected": mix.corrected}
  style = style or rng.choices(list(shares), list(shares.values()))[0]
  if style == "bare" and rng.random() < mix.bare_right:
    style = "lucky"
  if style == "careful" and isinstance(problem, Searched) and rng.random() < mix.given_up:
    style = "given_up"
  other = next(name for name in VOICES if name != language)
  mixed = mix.mixed
  if mix.mixed_careful >= 0 and language != "en" and style in ("careful", "corrected"):
    mixed = mix.mixed_careful
  voice = VOICES[other if rng.random() < mixed else language]
  work, answer = problem.solve(style, rng, voice)
  if work and mix.spoken and rng.random() < mix.spoken:
    said = "" if isinstance(problem, Spoken) else problem.say(answer, voice.language)
    work = spoken(work, said, voice, rng)
  return work, problem.say(answer, language)


def tidy(work: str, answer: str, rng: random.Random) -> str:
  return f"<think>{work}</think><answer>{answer}</answer>"


def sloppy(work: str, answer: str, rng: random.Random) -> str:
  """A response whose format is wrong in one of seven ways."""
  return rng.choice(
    (
      f"{work} {answer}".strip(),
      f"<think>{work}</think>{answer}",
      f"{work}<answer>{answer}</answer>",
      f"<think>{work}<answer>{answer}</answer>",
      f"<think>{work}</think><answer>{answer}",
      f"<answer>{answer}</answer><think>{work}</think>",
      f"<think>{work}</think><answer>{answer}</answer>{answer}",
    )
  )


def drill(config: Playground, family: type[Family], language: str, facts: int, rng: random.Random) -> str:
  """Single facts in a row, as often as solutions of the family need them: "7+8=15;19-6=13"."""
  rows, levels = [], [level for level in config.levels if level in family.levels]
  for _ in range(facts):
    problem = draw(config, family, rng.choice(levels), "train", rng)
    rows.append(rng.choice(problem.facts(rng, VOICES[language])))
  return ";".join(rows)


def assert_only_asked(config: Playground, texts: list[str], asked: set[str]):
  """Asserts that all that reads like a question is one of `asked`.

  Every question of a family matches the family's shape, and a question
  determines its problem; so if `asked` holds questions of training problems
  only, no text contains a held-out one.
  """
  everything = "\n".join(texts)
  for family, language in {(family, language) for family, _, language in cells(config)}:
    stray = set(re.findall(family.shapes[language], everything)) - asked
    assert not stray, f"the corpus contains questions that were not drawn for it: {sorted(stray)[:3]}"
