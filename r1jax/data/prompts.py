"""How a question becomes the tokens of a prompt, and where an answer to it ends."""

from collections.abc import Iterable

from r1jax import config
from r1jax.data.chat_template import ask


class Prompter:
  """A template together with a tokenizer.

  Attributes:
    prefill: text that the prompt already writes for the model, which goes on after it.
    end: id of the token that ends an answer.
    ends: ids of the tokens at which sampling stops, `end` the first of them.
    pad: id of the token behind a text.
  """

  def __init__(self, template: config.Template | config.Chat, tokenizer):
    self._template, self._tokenizer = template, tokenizer
    self._chat = isinstance(template, config.Chat)
    if self._chat and tokenizer.chat is None:
      raise ValueError(
        "the template is a Chat, but the model's tokenizer has no chat template; ask with a Template of plain text."
      )
    self._variables = dict(template.variables) if self._chat else {}
    own = tokenizer.chat.prefill(**self._variables) if self._chat and not template.bare else ""
    self.prefill = own + template.prefill
    self.end = tokenizer.turn_end if self._chat else tokenizer.end
    self.ends = tuple(dict.fromkeys((self.end, *tokenizer.ends)))
    self.pad = tokenizer.pad

  def encode(self, question: str, prefill: bool = True) -> list[int]:
    """Token ids of the prompt that asks `question`; without `prefill`, up to where the answer begins."""
    template = self._template
    if not self._chat:
      return self._tokenizer.encode_question(template.text + template.prefill * prefill, question)
    return self._tokenizer.encode_chat(
      ask(question, template.system),
      prefill=template.prefill * prefill,
      bare=template.bare or not prefill,
      **self._variables,
    )

  def examples(self, prompts: Iterable[str], completions: Iterable[str]) -> list[tuple[list[int], list[int]]]:
    """(prompt, rest of the completion with its end) of each, as token ids.

    They are encoded apart, as they are when a policy is sampled from: it is
    given the tokens of the prompt alone, `prefill` among them.

    Raises:
      ValueError: a completion does not begin with `prefill`.
    """
    prompts, completions = list(prompts), list(completions)
    for prompt, completion in zip(prompts, completions, strict=True):
      if not completion.startswith(self.prefill):
        raise ValueError(
          f"the completion {completion!r:.60} to {prompt!r:.60} does not begin with template.prefill={self.prefill!r}, "
          "which the prompt already writes; leave prefill empty or drop the row."
        )
    rests = self._tokenizer.encode_batch([completion.removeprefix(self.prefill) for completion in completions])
    return [(self.encode(prompt), [*rest, self.end]) for prompt, rest in zip(prompts, rests)]
