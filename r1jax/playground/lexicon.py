"""The words that the general tasks are made of, in English and Chinese: few, so that a tiny tokenizer holds them."""

import random

PEOPLE = {"Tom": "小明", "Ann": "小红", "Sam": "小刚"}
ANIMALS = {"cat": "猫", "dog": "狗", "bird": "鸟", "fish": "鱼"}
THINGS = {"cap": "帽", "cup": "杯", "bag": "包", "book": "书"}
NOUNS = ANIMALS | THINGS
COLOURS = {"red": "红", "blue": "蓝", "green": "绿", "black": "黑", "white": "白"}
SIZES = {"big": "大", "small": "小", "old": "老", "new": "新"}
ADJECTIVES = SIZES | COLOURS
PLACES = {"wood": "林", "house": "家", "sea": "海", "town": "城", "lake": "湖"}
ROLES = {"pirate": "海盗", "robot": "机器人", "king": "国王", "cook": "厨师"}

_CHINESE = PEOPLE | NOUNS | ADJECTIVES | PLACES | ROLES


def word(english: str, language: str) -> str:
  """A word of the lexicon in a language; "" stays ""."""
  return english if language == "en" or not english else _CHINESE[english]


def words(table: dict[str, str], language: str) -> list[str]:
  """A table of the lexicon in a language."""
  return [word(english, language) for english in table]


def owned(owner: str, thing: str, language: str) -> str:
  """ "Tom's cap", "小明的帽"; `thing` may be several words of the lexicon: "red cap"."""
  return word(owner, language) + {"en": "'s ", "zh": "的"}[language] + phrase(thing, language)


def phrase(english: str, language: str) -> str:
  """Words of the lexicon with spaces between them, in a language: "big red cat", "大红猫"."""
  return english if language == "en" else "".join(word(each, language) for each in english.split())


ATTRIBUTES = {"colour": COLOURS, "place": PLACES, "friend": ROLES}


def _closed_world() -> dict[tuple[str, str, str], str]:
  rng = random.Random("facts")
  return {
    (owner, thing, attribute): rng.choice(list(values))
    for owner in PEOPLE
    for thing in NOUNS
    for attribute, values in ATTRIBUTES.items()
  }


FACTS = _closed_world()  # (owner, thing, attribute) -> value: all that is true of the world, 72 facts


def state(owner: str, thing: str, attribute: str, value: str, language: str) -> str:
  """A fact as a clause, true or not: "Tom's cap is blue"."""
  whose, value = owned(owner, thing, language), word(value, language)
  if language == "en":
    forms = {
      "colour": f"{whose} is {value}",
      "place": f"{whose} is in the {value}",
      "friend": f"the {value} likes {whose}",
    }
  else:
    forms = {"colour": f"{whose}是{value}色", "place": f"{whose}在{value}里", "friend": f"{value}爱{whose}"}
  return forms[attribute]
