"""From tokens to what a terminal may show: text as it grows, thought and answer apart, nothing that steers it."""

from collections.abc import Callable, Iterator
import unicodedata

THOUGHT, ANSWER = "thought", "answer"
# What begins behind a tag. A turn that the model makes up for somebody is shown with its speaker.
TAGS = {
  "<think>": (THOUGHT, ""),
  "</think>": (ANSWER, ""),
  "<answer>": (ANSWER, ""),
  "</answer>": (ANSWER, ""),
  "<|user|>": (ANSWER, "[user] "),
  "<|assistant|>": (ANSWER, "[assistant] "),
}
_BROKEN = "\ufffd"  # what bytes read as that are no character (yet)
_PATIENCE = 256  # tokens that end in broken bytes, one after the other, until they are shown as they are
_PASSED = "\n\t\u200c\u200d"  # unprintable by name, but harmless; the joiners belong to Persian, Hindi and emoji


class Pieces:
  """Token ids to text as they come; the bytes of a character are held back until it is whole.

  All that is yielded and the rest of `flush` make up decode(all ids).
  """

  def __init__(self, decode: Callable[..., str]):
    """`decode(ids, first=...)` of a tokenizer; `first` says whether the text begins with them."""
    self._decode, self._held, self._shown, self._first = decode, [], 0, True

  def feed(self, id: int) -> str:
    """The text that this token completes; "" while there is none."""
    self._held.append(id)
    text = self._text()
    whole = text.rstrip(_BROKEN)  # the bytes behind it may be the beginning of a character
    fresh, self._shown = whole[self._shown :], max(self._shown, len(whole))
    if text == whole or len(self._held) == _PATIENCE:
      fresh += text[self._shown :]
      self._held, self._shown, self._first = [], 0, self._first and not text
    return fresh

  def flush(self) -> str:
    rest, self._held = self._text()[self._shown :], []
    return rest

  def _text(self) -> str:
    return self._decode(self._held, first=self._first)


class Sections:
  """Text as it comes to (THOUGHT or ANSWER, text without tags); what may become a tag is held back."""

  def __init__(self, prefill: str = ""):
    """`prefill`: what the template wrote before the response, e.g. "<think>"; only its last tag matters."""
    self._section, self._held, self._label = ANSWER, "", ""
    list(self.feed(prefill))
    self._held = ""

  def feed(self, text: str) -> Iterator[tuple[str, str]]:
    text, self._held = self._held + text, ""
    while text:
      at = text.find("<")
      before, rest = (text, "") if at < 0 else (text[:at], text[at:])
      if before:
        yield self._section, self._labelled(before)
      tag = next((tag for tag in TAGS if rest.startswith(tag)), None)
      if tag:
        self._section, self._label = TAGS[tag]
        text = rest[len(tag) :]
      elif any(tag.startswith(rest) for tag in TAGS):  # also where nothing is left
        self._held, text = rest, ""
      else:
        yield self._section, self._labelled("<")
        text = rest[1:]

  def flush(self) -> Iterator[tuple[str, str]]:
    if self._held:
      yield self._section, self._labelled(self._held)
    self._held = ""

  def _labelled(self, text: str) -> str:
    label, self._label = self._label, ""
    return label + text


def visible(text: str) -> str:
  """The text with everything escaped that could move a cursor, change a terminal or turn the order of letters."""
  return "".join(c if _harmless(c) else _escaped(c) for c in text)


def _harmless(c: str) -> bool:
  return c.isprintable() or c in _PASSED or unicodedata.category(c) == "Zs"


def _escaped(c: str) -> str:
  """As Python writes it: \\x1b, \\u202e, \\U000e0001."""
  return c.encode("unicode_escape").decode()
