"""The built-in world, how it is asked, and how answers are drawn."""

from typing import Any

from r1jax.config.base import at_least, config


@config
class Mix:
  """Shares of the playground's corpus."""

  # how a writer answers; sums to 1
  bare: float = 0.55  # a guess without work
  slip: float = 0.15  # worked with one wrong step; in search: one try, whatever it gives
  careful: float = 0.20  # worked right; in search: tries until one fits
  corrected: float = 0.10  # worked with a wrong step that is noticed: "wait,7+5=12"
  bare_right: float = 0.08  # of the bare guesses: the right answer (logic and choice: on top of luck)
  given_up: float = 0.15  # of the careful searches: ends without success
  mixed: float = 0.06  # of the worked: words of the other language between the steps
  mixed_careful: float = (
    -1.0
  )  # the same, of the careful and corrected to questions that are not English; below 0: mixed
  spoken: float = 0.0  # of the worked: words before and after the steps, "Let me see. ..., so it is 20."
  # what a document is; sums to 1
  dialog: float = 0.65  # the prompt template, then a response in tags
  page: float = 0.20  # question, work and answer as bare text
  textbook: float = 0.5  # of the pages: careful ones; where the skill comes from that dialogs seldom show
  readable: float = 0.0  # of the pages: written like the cold start's data, with a summary
  drill: float = 0.15  # single facts in a row
  series: float = 0.0  # of the dialogs: two or three questions, answered by the same writer
  sloppy: float = 0.25  # of the dialogs: tags missing, in the wrong order, or text after the answer
  facts: int = 10  # in a drill

  def validate(self):
    for names in (("bare", "slip", "careful", "corrected"), ("dialog", "page", "drill")):
      total = sum(getattr(self, name) for name in names)
      if abs(total - 1) > 1e-6:
        raise ValueError(f"playground.mix: {' + '.join(names)} must be 1, but is {total:.6g}.")
    for name in ("spoken", "readable", "series"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"playground.mix.{name}={getattr(self, name)} must be in [0, 1].")
    if self.mixed_careful > 1:
      raise ValueError(f"playground.mix.mixed_careful={self.mixed_careful} must be at most 1; below 0 means as mixed.")


@config
class Playground:
  """The built-in world: which problems, and what its corpus is like."""

  domains: tuple[str, ...]
  weights: tuple[int, ...] = ()  # of the domains in corpus and training problems; empty: all alike
  levels: tuple[int, ...]
  languages: tuple[str, ...] = ("en", "zh")
  mix: Mix
  documents: int  # of the pretraining corpus
  held_out: float = 0.1  # share of all problems that only evaluation sees
  evaluation_problems: int  # held-out problems in the evaluation set


@config
class Template:
  """The plain-text prompt (DeepSeek-R1 v1 Table 1); `{question}` is replaced."""

  text: str
  prefill: str = ""  # what the prompt already writes for the assistant, e.g. "<think>"

  def validate(self):
    if self.text.count("{question}") != 1:
      raise ValueError(f"template.text must contain {{question}} exactly once, but is {self.text!r}.")


@config
class Chat:
  """The chat template that a published model brings, where `Template` would be plain text."""

  system: str | None = None  # a message before the question; None: the template's own, if it has one
  prefill: str = ""  # written for the model after what the template writes for it, e.g. "<think>\n"
  bare: bool = False  # without what the template itself writes for the model
  variables: tuple[tuple[str, Any], ...] = ()  # of the template, e.g. (("enable_thinking", False),)

  def validate(self):
    for entry in self.variables:
      if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)):
        raise ValueError(f"template.variables must be pairs of a name and a value, but has {entry!r}.")


@config
class Sampling:
  temperature: float = 1.0
  top_p: float = 1.0
  top_k: int = 0  # 0: all tokens
  max_prompt: int  # tokens
  max_response: int  # tokens
  chunk: int = 32  # tokens of the cache that are read at first; doubles, so a short response reads little
  speculate: bool = False  # model.mtp drafts a second token per step, checked by the model: the same distribution

  def validate(self):
    at_least(1, "sampling", self, "max_prompt", "max_response", "chunk")
    at_least(0, "sampling", self, "top_k")
    if self.temperature <= 0:
      raise ValueError(f"sampling.temperature={self.temperature} must be above 0.")
    if not 0 < self.top_p <= 1:
      raise ValueError(f"sampling.top_p={self.top_p} must be in (0, 1].")
