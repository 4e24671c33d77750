"""What the terminal shows of an answer while it is drawn: the thought dimmed, the rest as it is."""

import rich.console
from rich.text import Text

from r1jax.chat.text import THOUGHT, visible

QUOTE = "| "  # before every line of a thought where nothing can be dimmed


class Screen:
  """Writes the sections of one answer after another.

  Whitespace around a section is left out, so the model's own layout of its tags does not show.
  """

  def __init__(self, console: rich.console.Console, dims: bool):
    """`dims`: whether the terminal can dim; else a thought is quoted."""
    self._console, self._dims = console, dims
    self._section, self._gap, self._begun, self._line_begun = "", "", False, False

  def write(self, section: str, text: str):
    """Shows more of the model's text; what could steer the terminal is escaped."""
    if section != self._section:
      self._section, self._gap, self._begun = section, "", False
    text = self._gap + visible(text)
    text = text if self._begun else text.lstrip()
    shown = text.rstrip()
    self._gap = text[len(shown) :]
    if shown:
      self._show(shown)

  def end(self):
    """Ends the answer and its last line."""
    if self._line_begun:
      self._put("\n")
    self._section, self._gap, self._begun, self._line_begun = "", "", False, False

  def note(self, text: str):
    """A line of ours, on a line of its own."""
    self.end()
    self._console.print(Text(visible(text), "italic dim" if self._dims else ""), soft_wrap=True)

  def _show(self, text):
    if not self._begun and self._line_begun:
      self._put("\n")
    quoted = self._section == THOUGHT and not self._dims
    if quoted:
      text = ("" if self._begun else QUOTE) + text.replace("\n", "\n" + QUOTE)
    self._put(text, "dim" if self._section == THOUGHT and self._dims else "")
    self._begun = self._line_begun = True

  def _put(self, text, style=""):
    self._console.print(Text(text, style), end="", soft_wrap=True)
