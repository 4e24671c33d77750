"""Questions and commands of a chat with the stages of one run."""

from collections.abc import Iterator
import contextlib
import dataclasses
import signal
import threading
import time
from typing import NamedTuple

import jax
import rich.console

from r1jax import config, finished
from r1jax.chat import decoding
from r1jax.chat.screen import Screen
from r1jax.chat.text import Pieces, Sections

STOPPED = "stopped"
HELP = """\
Write a question and press Enter; every question stands alone, since the models are trained on single questions and
read nothing of what was said before.
  /again         the last question once more: another sample, or another stage's answer
  /stage NAME    go on with another stage of this run; /stage alone lists them
  /help          this text
  /quit          leave, as Ctrl-D does; Ctrl-C stops an answer"""


@dataclasses.dataclass(frozen=True, slots=True)
class Wishes:
  """What the command line changes of a stage's sampling; None: nothing."""

  temperature: float | None = None  # 0: the likeliest token every time
  top_p: float | None = None
  max_tokens: int | None = None  # of an answer
  seed: int = 0

  def on(self, sampling: config.Sampling) -> config.Sampling:
    """The sampling with these changes; ValueError where one cannot be."""
    if self.max_tokens is not None:
      sampling = dataclasses.replace(sampling, max_response=self.max_tokens)
    if self.temperature == 0:
      return decoding.greedy(sampling)
    wishes = {"temperature": self.temperature, "top_p": self.top_p}
    sampling = dataclasses.replace(sampling, **{name: value for name, value in wishes.items() if value is not None})
    sampling.validate()
    return sampling


class Facts(NamedTuple):
  """What is known of an answer once it has ended."""

  tokens: int
  seconds: float
  why: str  # it ended before its end token; "" where it did not


class Conversation:
  """Answers of one stage at a time; `switch` goes over to another."""

  def __init__(self, folder: str, wishes: Wishes, console: rich.console.Console, dims: bool):
    """Reads the stage in `folder` onto the current mesh; ValueError where there is no policy."""
    self._wishes, self._console, self._screen = wishes, console, Screen(console, dims)
    self._turn, self._question = 0, ""
    self._load(finished.read(folder))

  @property
  def stage(self) -> finished.Stage:
    return self._stage

  def ask(self, question: str) -> Facts:
    """Streams an answer to the screen.

    Every call has random numbers of its own, a function of the seed and of how many there were before.

    Raises:
      ValueError: the question is too long.
    """
    stage, limit, decode = self._stage, self._sampling.max_response, self._stage.tokenizer.decode
    prompt = self._prompt(question)
    self._question, self._turn = question, self._turn + 1
    key = jax.random.fold_in(jax.random.key(self._wishes.seed), self._turn)
    pieces, sections = Pieces(decode), Sections(stage.prompter.prefill)
    started, count, id = time.monotonic(), 0, None
    with interruptible() as stop:
      for id in decoding.stream(
        self._params, prompt, key, c=stage.model, sampling=self._sampling, ends=stage.prompter.ends
      ):
        count += 1
        self._show(sections.feed(pieces.feed(id)))
        if stop.is_set():
          break
    self._show(sections.feed(pieces.flush()))
    self._show(sections.flush())
    self._screen.end()
    why = "" if id in stage.prompter.ends else STOPPED if stop.is_set() else f"cut at the limit of {limit} tokens"
    return Facts(count, time.monotonic() - started, why)

  def answer(self, question: str):
    """`ask` in a conversation: what there is to say about the answer, or against the question, is a line below it."""
    try:
      self._prompt(question)
    except ValueError as error:
      self._screen.note(str(error))
      return
    facts = self.ask(question)
    why = f", {facts.why}" if facts.why else ""
    self._screen.note(f"({facts.tokens} tokens in {facts.seconds:.1f} s{why})")

  def obey(self, line: str) -> bool:
    """Carries out a command; returns whether the chat goes on."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name == "/quit":
      return False
    if name == "/help":
      self._console.print(HELP, markup=False, highlight=False, soft_wrap=True)
    elif name == "/again" and self._question:
      self.answer(self._question)
    elif name == "/again":
      self._screen.note("There is no question yet.")
    elif name == "/stage":
      self.switch(rest)
    else:
      self._screen.note(f"There is no command {name}; /help lists them.")
    return True

  def switch(self, name: str):
    """Goes over to another stage of the run; says so where it cannot."""
    run = self._stage.folder.parent
    names = finished.policies(run)
    if name not in names:
      what = f"There is no finished stage {name!r}; {finished.nearest(name, names)}" if name else ", ".join(names)
      self._screen.note(what)
      return
    self._load(finished.read(run / name))
    more = " /again asks it the last question." if self._question else ""
    self._screen.note(f"This is {name} now.{more}")

  def greet(self):
    stage, s = self._stage, self._sampling
    how = "the likeliest token" if s.top_k == 1 else f"temperature {s.temperature:g}, top-p {s.top_p:g}"
    self._screen.note(f"{stage.name} of {stage.folder.parent.name}; {how}. /help says more.")
    for example in stage.examples():
      self._screen.note(f"  for example: {example}")

  def _load(self, stage: finished.Stage):
    self._sampling = self._wishes.on(stage.sampling)
    self._params = None  # room for the next ones
    self._params, self._stage = stage.params(), stage

  def _prompt(self, question: str) -> list[int]:
    """Token ids of a question in the stage's template; ValueError where they are too many."""
    ids = self._stage.prompter.encode(question)
    decoding.padded(ids, self._sampling.max_prompt)
    return ids

  def _show(self, parts: Iterator[tuple[str, str]]):
    for section, text in parts:
      self._screen.write(section, text)


@contextlib.contextmanager
def interruptible():
  """Yields an event that Ctrl-C sets, so that nothing is cut off in the middle; a second Ctrl-C interrupts as usual."""
  stop = threading.Event()

  def handle(number, frame):
    if stop.is_set():
      signal.default_int_handler(number, frame)
    stop.set()

  before = signal.signal(signal.SIGINT, handle)
  try:
    yield stop
  finally:
    signal.signal(signal.SIGINT, before)


def talk(conversation: Conversation):
  """Reads questions and commands from the terminal until it ends."""
  with contextlib.suppress(ImportError):
    import readline  # noqa: F401  lines can be edited, and called back with the arrow keys

  while True:
    try:
      line = input(f"{conversation.stage.name}> ").strip()
      if line.startswith("/"):
        if not conversation.obey(line):
          return
      elif line:
        conversation.answer(line)
    except EOFError:
      print()
      return
    except KeyboardInterrupt:
      print("\nCtrl-D or /quit leaves.")
