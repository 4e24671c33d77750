"""Chat templates of published models: conversations to the text a model was trained on.

A template is a jinja program out of somebody else's repository. It runs in
jinja's sandbox on plain data, with what transformers gives its templates, so
that the text is the same to the character; and its work is bounded, so that it
can neither run forever nor fill the memory.
"""

from collections.abc import Mapping, Sequence
import datetime
import json
import pathlib
import re
import threading
from typing import Any

from jinja2.exceptions import TemplateError

from r1jax.data.template_sandbox import Sandbox

FILE = "chat_template.jinja"
MORE = "additional_chat_templates"  # a folder of further ones, by name
CONFIG, LEGACY = "tokenizer_config.json", "chat_template.json"
DEFAULT, TOOLS = "default", "tool_use"  # names of templates where there are several

_REASONING = ("reasoning_content", "thinking", "reasoning")  # names a thought goes by; templates read the first two
_QUESTION, _ANSWER = "\U000f0000", "\U000f0001"  # of nobody; no template looks for them


class ChatTemplate:
  """The chat templates of one model; `render` with none named takes the one for tools, or the default."""

  def __init__(self, source: str | Mapping[str, str], tokens: Mapping[str, str] | None = None, where: str = FILE):
    """
    Args:
      source: the template, or several by name.
      tokens: variables every template gets, as {"bos_token": "<s>"}.
      where: the file, for errors.
    """
    self.sources = {DEFAULT: source} if isinstance(source, str) else dict(source)
    self._tokens, self._where = dict(tokens or {}), where
    self._lock, self._sandbox = threading.Lock(), Sandbox()
    self._compiled = {}

  @classmethod
  def read(cls, folder: str | pathlib.Path, tokens: Mapping[str, str] | None = None) -> "ChatTemplate | None":
    """The templates of a published model's folder; None where there are none.

    chat_template.jinja and additional_chat_templates/ go before the
    chat_template of tokenizer_config.json, that before chat_template.json.
    """
    folder = pathlib.Path(folder)
    found = {path.stem: path.read_text("utf-8") for path in sorted((folder / MORE).glob("*.jinja"))}
    if (folder / FILE).is_file():
      found[DEFAULT] = (folder / FILE).read_text("utf-8")
    if found:
      return cls(found, tokens, str(folder / (FILE if DEFAULT in found else MORE)))
    for name in (CONFIG, LEGACY):
      source = read_json(folder / name).get("chat_template")
      if isinstance(source, list):
        source = {each["name"]: each["template"] for each in source}
      if source:
        return cls(source, tokens, str(folder / name))
    return None

  def render(
    self,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    *,
    continue_final_message: bool = False,
    documents: Sequence[Mapping[str, Any]] | None = None,
    template: str | None = None,
    now: datetime.datetime | str | None = None,
    **variables,
  ) -> str:
    """The text of a conversation.

    Args:
      messages: {"role": ..., "content": ...} and whatever else the template reads; JSON values.
      tools: JSON schemas of functions.
      add_generation_prompt: end with the header of an answer.
      continue_final_message: end inside the last message instead, which the model goes on with.
      template: name of one, where there are several.
      now: what templates that tell the day tell, as "2025-01-20"; None: the clock, so that no run is repeatable.
      variables: of the template, as enable_thinking=False.

    Raises:
      ValueError: the template refuses the conversation, has a mistake, or does not come to an end.
    """
    if not messages:
      raise ValueError(f"{self._where}: there are no messages to render; give at least one.")
    messages = [_message(each) for each in _plain(messages)]
    mark = _unused(messages) if continue_final_message else ""
    if continue_final_message:
      _extend(messages[-1], mark + " ")  # a template that trims takes the space away
    variables = self._tokens | _plain(variables)
    if now is not None:
      variables["strftime_now"] = _day(now).strftime
    text = self._run(
      self._choose(template, tools),
      variables
      | dict(
        messages=messages,
        tools=_plain(tools),
        documents=_plain(documents),
        add_generation_prompt=add_generation_prompt and not continue_final_message,
      ),
    )
    return self._cut(text, mark) if continue_final_message else text

  def prompt(
    self, question: str, system: str | None = None, prefill: str = "", *, bare: bool = False, **variables
  ) -> str:
    """The text that asks `question`, up to where the model goes on.

    Args:
      system: a message before it; None: none, or the template's own.
      prefill: what is written for the model after what the template itself writes.
      bare: without what the template itself writes for the model (`prefill()`).
      variables: as of `render`.
    """
    text = self.render(ask(question, system), **variables)
    return (text.removesuffix(self.prefill(**variables)) if bare else text) + prefill

  def prefill(self, **variables) -> str:
    """What the template writes into an answer before the model does, as "<think>\\n"; "" if nothing.

    It begins where an answer that is asked for parts from an earlier one in a
    conversation, or with the first <think> or </think>.
    """
    question, answer = {"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}
    prompt = self.render([question], **variables).rpartition(_QUESTION)[2]
    earlier = self.render([question, answer, question], **variables).partition(_QUESTION)[2].partition(_ANSWER)[0]
    same = next((i for i, (a, b) in enumerate(zip(prompt, earlier)) if a != b), min(len(prompt), len(earlier)))
    tag = re.search("</?think>", prompt)
    return prompt[min(same, tag.start()) if tag else same :]

  def turn_end(self, **variables) -> str:
    """What the template writes after an answer, as "<|im_end|>\\n"."""
    turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    return self.render(turns, add_generation_prompt=False, **variables).partition(_ANSWER)[2]

  def _choose(self, name: str | None, tools) -> str:
    if name is None:
      name = TOOLS if tools is not None and TOOLS in self.sources else DEFAULT
    if name not in self.sources:
      raise ValueError(f"{self._where} has no chat template {name!r}; template must be one of {sorted(self.sources)}.")
    return name

  def _run(self, name: str, variables: dict) -> str:
    with self._lock:  # one count of the work, and one cache
      self._sandbox.start()
      try:
        if name not in self._compiled:
          self._compiled[name] = self._sandbox.from_string(self.sources[name])
        return self._sandbox.concat(self._compiled[name].generate(variables))
      except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        said = str(error) or type(error).__name__
      except (MemoryError, RecursionError, SyntaxError) as error:  # of a template that is nested too deeply
        said = f"{type(error).__name__}: {error}"
    which = "" if name == DEFAULT else f" {name!r}"
    raise ValueError(f"the chat template{which} of {self._where} says: {said}")

  def _cut(self, text: str, mark: str) -> str:
    """The text up to the mark at the end of the last message."""
    before, found, after = text.rpartition(mark)
    if not found:
      raise ValueError(f"the chat template of {self._where} leaves the last message out, so it cannot be continued.")
    return before if after.startswith(" ") else before.rstrip()


def ask(question: str, system: str | None = None) -> list[dict[str, str]]:
  """The messages of a single question."""
  first = [] if system is None else [{"role": "system", "content": system}]
  return [*first, {"role": "user", "content": question}]


def read_json(path: pathlib.Path) -> dict:
  """The fields of a file; none where there is no file."""
  try:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
  except ValueError as error:
    raise ValueError(f"{path} is no JSON: {error}.") from error


def _plain(value):
  """A copy in JSON's types: other objects have methods that a template must not reach."""
  if value is None or type(value) in (str, bool, int, float):
    return value
  if isinstance(value, str):
    return str.__str__(value)
  if isinstance(value, (int, float)):
    return int(value) if isinstance(value, int) else float(value)
  if isinstance(value, Mapping):
    return {_plain(key): _plain(each) for key, each in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(each) for each in value]
  raise ValueError(f"a chat template reads JSON values, and {value!r:.60} is a {type(value).__name__}.")


def _message(message: dict) -> dict:
  """A message as templates expect it: no empty fields, and its thought under every name."""
  if not isinstance(message, dict):
    raise ValueError(f"a message is a dict with role and content, not {message!r:.60}.")
  message = {name: value for name, value in message.items() if value is not None}
  thought = next((message[name] for name in _REASONING if name in message), None)
  return message if thought is None else {"thinking": thought} | message | {"reasoning_content": thought}


def _day(now: datetime.datetime | str) -> datetime.datetime:
  try:
    return datetime.datetime.fromisoformat(now) if isinstance(now, str) else now
  except ValueError as error:
    raise ValueError(f"now={now!r} is no day; write it as 2025-01-20.") from error


def _unused(messages: list) -> str:
  text = json.dumps(messages, ensure_ascii=False)
  return next(mark for mark in map(chr, range(0xF0000, 0xFFFFE)) if mark not in text)


def _extend(message: dict, more: str):
  """Appends to the content of a message, or to its last part that is text."""
  content = message.get("content")
  if isinstance(content, str):
    message["content"] = content + more
    return
  parts = [part for part in content or () if isinstance(part, dict) and "text" in part]
  if not parts:
    raise ValueError("the last message has no text that could be continued.")
  parts[-1]["text"] += more
