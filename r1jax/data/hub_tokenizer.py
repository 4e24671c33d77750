"""Published tokenizers, with the interface of ours: tokenizer.json, or sentencepiece's tokenizer.model.

Tokens that have a name are of two kinds. *Control* tokens (begin, end, padding,
markers of turns) are what nobody writes: they are neither read from text nor
written into it, whatever a question or an answer spells out. Prompts alone have
them by name, where the template writes them. *Tags*, as <think>, are text: they
are read from it, and written where a model draws them, so that rewards see them.
"""

from collections.abc import Mapping, Sequence
import functools
import hashlib
import json
import os
import pathlib
import re
from typing import Any

from tokenizers import AddedToken

from r1jax.data import chat_template
from r1jax.data.chat_template import CONFIG, ChatTemplate, read_json
from r1jax.data.token_models import LOOKS_CONTROL, JsonModel, SentencepieceModel

JSON, MODEL = "tokenizer.json", "tokenizer.model"
SPECIAL, ADDED, GENERATION = "special_tokens_map.json", "added_tokens.json", "generation_config.json"
DEFINING = (JSON, MODEL, CONFIG, SPECIAL, ADDED, chat_template.FILE, chat_template.LEGACY)
BESIDE = ("vocab.json", "merges.txt", GENERATION)  # kept with them
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
TAGS = ("<think>", "</think>", "<answer>", "</answer>")  # text, even where the files call them special
_UNKNOWN = "\ufffd"
_MARKS = range(0xF0010, 0xFFFFE)  # characters of nobody


class HubTokenizer:
  """The tokenizer in a published model's folder.

  Attributes:
    size: one more than the largest id.
    begin, end: ids of the tokens that begin (or None) and end a text.
    ends: ids at which sampling stops: eos_token_id of generation_config.json, else of config.json, else `end`.
    pad: id of the padding token; `end` where the files name none.
    prefix: ids before every text that no chat template begins: () or (begin,).
    chat: its ChatTemplate, or None.
    sha256: of the files that define ids and chats, and of `ends`.
  """

  def __init__(self, folder: str | os.PathLike):
    """Reads the files, one of which must be tokenizer.json or tokenizer.model; what is wrong is a ValueError."""
    self._folder = folder = pathlib.Path(folder)
    more = sorted(path.relative_to(folder).as_posix() for path in (folder / chat_template.MORE).glob("*.jinja"))
    found = [name for name in (*DEFINING, *BESIDE, *more) if (folder / name).is_file()]
    self._files = {name: (folder / name).read_bytes() for name in found}
    config = self._config()
    wanted, names = _wanted(config), {role: _content(config[role]) for role in NAMED if config.get(role)}
    if JSON in self._files:
      self._model = JsonModel(self._files[JSON], wanted, folder / JSON)
    else:
      legacy = config.get("legacy") is True
      self._model = SentencepieceModel(self._files[MODEL], wanted, legacy, folder / MODEL)
      names, config = self._model.names | names, {"add_bos_token": True} | config
    ids = {role: self._model.added[name] for role, name in names.items()}
    self.size, self.begin = self._model.size, ids.get("bos_token")
    self.ends = self._stops(ids.get("eos_token"))
    self.end = ids.get("eos_token", self.ends[0])
    self.pad = ids.get("pad_token", self.end)
    adds = config.get("add_bos_token") and self.begin is not None  # tokenizer.json does not always say so
    self.prefix = self._model.prefix or ((self.begin,) if adds else ())
    control = [
      token
      for token in self._model.added
      if token not in TAGS and (token in self._model.special or LOOKS_CONTROL.fullmatch(token))
    ]
    self._names = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))) or "(?!)")
    self._model.forbid(control)
    unknown = {ids.get("unk_token")} - {None, self.pad, self.begin, *self.ends}
    self._control = frozenset({self._model.added[token] for token in control} | {self.pad, *self.ends}) - unknown
    self._unknown = frozenset(unknown | self._model.gaps)
    self.chat = ChatTemplate.read(folder, names)
    self.sha256 = self._digest((*DEFINING, *more))

  @functools.cached_property
  def turn_end(self) -> int:
    """The id with which the chat template ends an answer; `end` where it has none, or there is no template."""
    ids = self.encode_prompt(self.chat.turn_end()) if self.chat else ()
    return next((id for id in ids if id in self._control), self.end)

  # ---- text

  def encode(self, text: str) -> list[int]:
    """Token ids of a text, without begin or end; the names of control tokens in it are plain text."""
    return self._plain(text)

  def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[list[int]]:
    """`encode` of each; more than one thread is as many as the library takes (RAYON_NUM_THREADS)."""
    encoded = self._model.encode_batch(list(texts), threads)
    return [self._plain(t) if not self._control.isdisjoint(ids) else ids for t, ids in zip(texts, encoded, strict=True)]

  def decode(self, ids, first: bool = True) -> str:
    """The text of token ids; control tokens vanish, ids of no token and cut characters read as U+FFFD.

    Args:
      first: whether the text begins here: sentencepiece writes a space before
        the first word of a text, which is then taken away.
    """
    ids = [id for id in map(int, ids) if id not in self._control]
    if not ids or (max(ids) < self.size and self._unknown.isdisjoint(ids)):
      return self._model.decode(ids, first)
    text, run = [], []
    for id in ids:
      if id < self.size and id not in self._unknown:
        run.append(id)
      else:
        text += [self._model.decode(run, first), _UNKNOWN]
        run, first = [], False
    return "".join([*text, self._model.decode(run, first)])

  # ---- prompts

  def encode_prompt(self, text: str) -> list[int]:
    """Token ids of a rendered chat: control tokens are read by their names, and nothing is put before it."""
    return self._model.encode(text, True)

  def encode_question(self, template: str, question: str) -> list[int]:
    """Token ids of a plain prompt: `template` with its {question} filled in, after `prefix`.

    Control tokens are read by their names in the template, but not in the question.
    """
    marks = _Marks(self._names, template + question)
    ids = self._marked(template.replace("{question}", marks.put(question)), marks)
    return ids if ids[: len(self.prefix)] == [*self.prefix] else [*self.prefix, *ids]

  def encode_chat(
    self,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    prefill: str = "",
    bare: bool = False,
    **variables,
  ) -> list[int]:
    """Token ids of a conversation in the chat template, as transformers' apply_chat_template(tokenize=True).

    With one difference: control tokens that are spelt out in messages, tools or
    variables are plain text, so that no question can end its turn.

    Args:
      prefill: written for the model after what the template writes.
      bare: without what the template itself writes for the model (`chat.prefill()`).
      variables: and other arguments of ChatTemplate.render.

    Raises:
      ValueError: there is no template, it refuses the conversation, or it
        changes the name of a control token that a message spells out.
    """
    if self.chat is None:
      raise ValueError(f"the tokenizer in {self._folder} has no chat template; ask with a Template of plain text.")
    own = self.chat.prefill(**variables) if bare else ""
    render = lambda *spoken, **more: self.chat.render(*spoken, **more).removesuffix(own) + prefill
    text = render(messages, tools, **variables)
    marks = _Marks(self._names, text + json.dumps([messages, tools, variables], ensure_ascii=False, default=str))
    spoken, more = marks.put([messages, tools]), marks.put(variables)
    if not marks.names:
      return self.encode_prompt(text)
    marked = render(*spoken, **more)
    if marks.take(marked) != text:
      raise ValueError(
        f"the chat template in {self._folder} does more with {sorted(marks.names.values())} in a message than to copy "
        "it, so it cannot be told from the template's own; take it out of the message."
      )
    return self._marked(marked, marks)

  # ---- files

  def save(self, folder: str | os.PathLike):
    """Writes the files it was read from, byte for byte, each whole or not at all."""
    folder = pathlib.Path(folder)
    for name, data in self._files.items():
      path = folder / name
      path.parent.mkdir(parents=True, exist_ok=True)
      partial = path.with_name(f"{path.name}.partial")
      partial.write_bytes(data)
      os.replace(partial, path)

  def _config(self) -> dict:
    """tokenizer_config.json, with what older files say beside it."""
    config = read_json(self._folder / CONFIG)
    if "added_tokens_decoder" not in config:
      config |= read_json(self._folder / SPECIAL) | {"added_tokens": read_json(self._folder / ADDED)}
    return config

  def _stops(self, end: int | None) -> tuple[int, ...]:
    """`ends`; what config.json alone says is kept in generation_config.json, as config.json is saved with the model."""
    generation = read_json(self._folder / GENERATION)
    found = generation.get("eos_token_id")
    if found is None:
      found = read_json(self._folder / "config.json").get("eos_token_id")
      if found is not None:
        self._files[GENERATION] = json.dumps(generation | {"eos_token_id": found}, indent=2).encode() + b"\n"
    found = end if found is None else found
    if found is None or found == []:
      raise ValueError(
        f"the files in {self._folder} name no end token; give {CONFIG} an eos_token or {GENERATION} an eos_token_id."
      )
    return tuple(found) if isinstance(found, list) else (found,)

  def _digest(self, names) -> str:
    digest = hashlib.sha256(repr(self.ends).encode())
    for name in names:
      if name in self._files:
        digest.update(f"{name} {len(self._files[name])}\n".encode() + self._files[name])
    return digest.hexdigest()

  # ---- names of control tokens

  def _plain(self, text: str, first: bool = True) -> list[int]:
    ids = self._model.encode(text, False, first)
    if self._control.isdisjoint(ids):
      return ids
    ids, ends = [], 0  # sentencepiece reads some of its pieces from any text: those go in letter by letter
    for found in [*self._names.finditer(text), None]:
      start = found.start() if found else len(text)
      for part in (text[ends:start], *(found[0] if found else "")):
        ids += self._model.encode(part, False, first and not ids)
      ends = found.end() if found else start
    return ids

  def _marked(self, text: str, marks: "_Marks") -> list[int]:
    """Token ids of a prompt in which marks stand for names that are plain text."""
    ids = []
    for part in marks.split(text):
      name, first = marks.names.get(part), not ids
      ids += self._plain(name, first) if name else self._model.encode(part, True, first)
    return ids


class _Marks:
  """One character for every name of a control token that somebody spelt out, while a template is filled in."""

  def __init__(self, names: re.Pattern, taken: str):
    self._pattern, self._free = names, (mark for mark in map(chr, _MARKS) if mark not in taken)
    self.names = {}  # of the marks
    self._marks = {}

  def put(self, value):
    """A copy of strings, in lists and dicts, with marks for names."""
    if isinstance(value, str):
      return self._pattern.sub(lambda found: self._mark(found[0]), value)
    if isinstance(value, Mapping):
      return {key: self.put(each) for key, each in value.items()}
    return [self.put(each) for each in value] if isinstance(value, (list, tuple)) else value

  def take(self, text: str) -> str:
    """The text with names for marks."""
    return text.translate({ord(mark): name for mark, name in self.names.items()})

  def split(self, text: str) -> list[str]:
    return [part for part in re.split(f"([{''.join(self.names)}])", text) if part] if self.names else [text]

  def _mark(self, name):
    if name not in self._marks:
      self._marks[name] = next(self._free)
      self.names[self._marks[name]] = name
    return self._marks[name]


def _content(token) -> str:
  return token["content"] if isinstance(token, dict) else token


def _token(token, special: bool) -> AddedToken:
  """An added token from a config, where it is a name or a dict."""
  fields = token if isinstance(token, dict) else {"content": token}
  flags = {name: fields[name] for name in ("single_word", "lstrip", "rstrip", "normalized") if name in fields}
  return AddedToken(fields["content"], special=fields.get("special", special), **flags)


def _wanted(config: dict) -> list[tuple[int | None, AddedToken]]:
  """The added tokens of the files beside the model, with their ids where they say so."""
  decoder = sorted((int(id), token) for id, token in config.get("added_tokens_decoder", {}).items())
  more = config.get("additional_special_tokens") or config.get("extra_special_tokens") or ()
  more = more.values() if isinstance(more, dict) else more
  special = [config[name] for name in NAMED if config.get(name)] + list(more)
  names = set(map(_content, special))
  found = [(id, _token(token, False)) for id, token in decoder]
  found += [(id, _token(name, name in names)) for name, id in config.get("added_tokens", {}).items()]
  known = {token.content for _, token in found}
  return found + [(None, _token(each, True)) for each in special if _content(each) not in known]
