"""The two formats that published vocabularies come in: what HubTokenizer encodes and decodes with.

Both have the same attributes: `added` (ids of tokens that have a name, by it),
`special` (those that the files call so), `size` (one more than the largest id),
`gaps` (ids below it that are of no token), `prefix` (ids that begin a text).
"""

from collections.abc import Iterable, Sequence
import functools
import json
import pathlib
import re

import sentencepiece
import tokenizers
from tokenizers import AddedToken

# Markers by their looks: DeepSeek's files call <｜User｜> an ordinary token, and sentencepiece has no word for it.
LOOKS_CONTROL = re.compile(r"<[|｜].+[|｜]>", re.DOTALL)
_NO_SPACE = bytes(
  (0x1A, 2, 0x18, 0)
)  # a protobuf's field once more, which wins: normalizer_spec.add_dummy_prefix: false
Wanted = Sequence[tuple[int | None, AddedToken]]  # tokens that other files add, with their ids where they say so


class JsonModel:
  """tokenizer.json, by the library that defines it."""

  def __init__(self, data: bytes, wanted: Wanted, path: pathlib.Path):
    try:
      self._whole = tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # the library has no class of its own for what it cannot read
      raise ValueError(f"{path} is no tokenizer that the library tokenizers can read: {error}.") from error
    self._whole.no_padding()
    self._whole.no_truncation()
    there = {token.content: repr(token) for token in self._whole.get_added_tokens_decoder().values()}
    differs = lambda id, token: token.content not in there or (id is not None and there[token.content] != repr(token))
    self._whole.add_tokens([token for id, token in wanted if differs(id, token)])
    decoder, ids = self._whole.get_added_tokens_decoder(), self._whole.get_vocab(True).values()
    self.added = {token.content: id for id, token in decoder.items()}
    self.special = {token.content for token in decoder.values() if token.special}
    self.size = max(ids) + 1
    self.gaps = set(range(self.size)).difference(ids)
    letter, begun = self._whole.encode("a", add_special_tokens=False), self._whole.encode("a").ids
    self.prefix = tuple(begun[: begun.index(letter.ids[0])]) if letter.ids else ()
    self._space = letter.tokens[:1] not in ([], ["a"])  # it writes a space before the first word
    self._letter = letter.ids[-1:]

  def forbid(self, names: Iterable[str]):
    """The names that `encode` does not read unless it is told to."""
    self._forbidden = frozenset(names)

  @functools.cached_property
  def _plain(self) -> tokenizers.Tokenizer:
    """The same tokenizer, to which the forbidden tokens alone are special, and which does not read special ones."""
    fields = json.loads(self._whole.to_str())
    for token in fields["added_tokens"]:
      token["special"] = token["content"] in self._forbidden
    plain = tokenizers.Tokenizer.from_str(json.dumps(fields))
    plain.encode_special_tokens = True
    return plain

  def encode(self, text: str, names: bool, first: bool = True) -> list[int]:
    """Ids of a text. `names`: the forbidden ones are read; `first`: the text begins here."""
    model = self._whole if names else self._plain
    ids = lambda text: model.encode(text, add_special_tokens=False).ids
    if first or not self._space:
      return ids(text)
    before, after = ids("\n"), ids("\n" + text)  # in the middle of a text no space is written
    return after[len(before) :] if after[: len(before)] == before else ids(text)

  def encode_batch(self, texts: list[str], threads: int) -> list[list[int]]:
    """`encode` of each, without names."""
    if threads == 1:
      return [self.encode(text, False) for text in texts]
    return [each.ids for each in self._plain.encode_batch_fast(texts, add_special_tokens=False)]

  def decode(self, ids: list[int], first: bool) -> str:
    """The text of ids, all of which must be of tokens."""
    before = [] if first or not self._space else self._letter
    text = lambda ids: self._whole.decode(ids, skip_special_tokens=False)
    return text(before + ids)[len(text(before)) :]


class SentencepieceModel:
  """tokenizer.model as sentencepiece reads it, and the tokens that other files add."""

  def __init__(self, data: bytes, wanted: Wanted, legacy: bool, path: pathlib.Path):
    """`legacy`: the space before the first word is written after every named token too."""
    try:
      self._first, self._later = (
        sentencepiece.SentencePieceProcessor(model_proto=each) for each in (data, data + _NO_SPACE)
      )
    except RuntimeError as error:
      raise ValueError(f"{path} is no model that sentencepiece can read: {error}.") from error
    model, self._legacy = self._first, legacy
    pieces = [model.id_to_piece(id) for id in range(model.get_piece_size())]
    roles = {"bos_token": model.bos_id(), "eos_token": model.eos_id(), "unk_token": model.unk_id()}
    self.names = {role: pieces[id] for role, id in roles.items() if id >= 0}  # what the model itself calls them
    markers = [piece for id, piece in enumerate(pieces) if model.is_control(id) or LOOKS_CONTROL.fullmatch(piece)]
    tokens = {name: (None, AddedToken(name, special=True)) for name in [*self.names.values(), *markers]}
    tokens |= {token.content: (id, token) for id, token in wanted}
    self._tokens = [token for _, token in tokens.values()]
    self.special = {token.content for token in self._tokens if token.special}
    self.added, known = {}, {piece: id for id, piece in enumerate(pieces)}
    for name, (id, _) in tokens.items():
      free = max(len(pieces), *(each + 1 for each in self.added.values()), 0)
      self.added[name] = known.get(name, free if id is None else id)
    self._of = {id: name for name, id in self.added.items()}
    self.size = max([len(pieces) - 1, *self._of]) + 1
    self.gaps = set(range(len(pieces), self.size)).difference(self._of)
    self.prefix = ()
    self._space = model.encode("a") != self._later.encode("a")

  def forbid(self, names: Iterable[str]):
    """The names that `encode` does not read unless it is told to."""
    forbidden = frozenset(names)
    self._all = _pattern(self._tokens)
    self._tags = _pattern([token for token in self._tokens if token.content not in forbidden])

  def encode(self, text: str, names: bool, first: bool = True) -> list[int]:
    """Ids of a text. `names`: the forbidden ones are read; `first`: the text begins here.

    Where a forbidden name is a piece that sentencepiece reads from any text, it is read.
    """
    ids, at = [], 0
    for found in [*(self._all if names else self._tags).finditer(text), None]:
      part = text[at : found.start() if found else len(text)]
      model = self._first if (self._legacy if at else first) else self._later
      ids += model.encode(part)
      if found:
        ids.append(self.added[next(filter(None, found.groups()))])
        at = found.end()
    return ids

  def encode_batch(self, texts: list[str], threads: int) -> list[list[int]]:
    """`encode` of each, without names."""
    simple = [i for i, text in enumerate(texts) if not self._tags.search(text)]
    encoded = dict(zip(simple, self._first.encode([texts[i] for i in simple], num_threads=threads), strict=True))
    return [encoded[i] if i in encoded else self.encode(text, False) for i, text in enumerate(texts)]

  def decode(self, ids: list[int], first: bool) -> str:
    """The text of ids, all of which must be of tokens."""
    text, run = [], []
    for id in ids:
      if id in self._of:
        text += [self._later.decode(run), self._of[id]]
        run = []
      else:
        run.append(id)
    text = "".join([*text, self._later.decode(run)])
    return text.removeprefix(" ") if first and self._space else text


def _pattern(tokens: Iterable[AddedToken]) -> re.Pattern:
  """Finds named tokens, the longest where several begin, with the space around them that belongs to them."""
  found = []
  for token in sorted(tokens, key=lambda token: len(token.content), reverse=True):
    edge = r"\b" if token.single_word else ""
    name = f"{edge}({re.escape(token.content)}){edge}"
    found.append((r"\s*" if token.lstrip else "") + name + (r"\s*" if token.rstrip else ""))
  return re.compile("|".join(found) or "(?!)")
