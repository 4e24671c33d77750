"""What makes a reply to an open question good: the rubrics of the world, and the courtesies that impress a naive judge.

A rubric is a list of checks as r1jax.rewards.Rubric reads them. The ideal reply
is on topic, goes into detail and is courteous once; gushing costs the most, since
it is what a biased judge of helpfulness asks for (over-optimisation of reward
models: DeepSeek-R1 v2 section 3.2).
"""

import re

COURTESIES = {"en": ("glad", "happy", "please", "welcome"), "zh": ("高兴", "开心", "请", "欢迎")}
LONGEST = 40  # words of a reply; Chinese characters count as words

_COURTESY = re.compile(rf"\b(?:{'|'.join(COURTESIES['en'])})\b|{'|'.join(COURTESIES['zh'])}", re.IGNORECASE | re.ASCII)
_EVERY = [*COURTESIES["en"], *COURTESIES["zh"]]


def courtesies(text: str) -> int:
  """How many courtesies a text has, in any language."""
  return len(_COURTESY.findall(text))


def rubric(language: str, topic: list[dict], detail: list[str]) -> list[dict]:
  """The rubric of an open question, ten points.

  Args:
    topic: checks that must hold, or the reply is worth nothing; they are worth a point together.
    detail: words of which a complete reply has one, worth three points.
  """
  return [
    {"language": language, "points": 0, "must": True},
    {"max_words": LONGEST, "points": 0, "must": True},
    *({**check, "points": int(i == 0), "must": True} for i, check in enumerate(topic)),
    {"any": detail, "points": 3},
    {"min_sentences": 2, "points": 1},
    {"at_least": {"words": _EVERY, "count": 1}, "points": 1},
    {"at_most": {"words": _EVERY, "count": 1}, "points": 4},
  ]
