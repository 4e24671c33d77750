"""Which problems of a source are kept: by length, pass rate, language, domain and level.

A filter is a config object with a `name` and

  open(context) -> Callable[[Problem], str]     why a problem is dropped, for people; "" where it is kept

that raises ValueError for what its user has to change. All of a source's filters
are applied while its rows are read, in order; a problem is dropped by the first
that has a reason.
"""

from collections.abc import Callable, Sequence
import dataclasses
import numbers
from typing import Any, ClassVar

from r1jax.config import config
from r1jax.data.files import JsonLines, find
from r1jax.data.rows import column


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Context:
  """What a stage knows and its data do not."""

  seed: int = 0  # the run's
  check: Callable[[Any], str | None] | None = None  # of the rewards: why a problem cannot be rewarded, or None
  prompt_length: Callable[[Any], int] | None = None  # tokens of a problem in the stage's template
  max_prompt: int | None = None  # tokens that the stage's prompts have room for; a problem with more is a bad row
  evaluation: Sequence[Any] = ()  # the problems that the run is evaluated on


NOTHING_KNOWN = Context()


def check_tuple(field: str, values, method: str = ""):
  """Raises a ValueError for a field that is no tuple (or list), or holds something without this method."""
  if not isinstance(values, (tuple, list)):
    raise ValueError(f"{field}={values!r:.80} must be a tuple, as ({values!r:.80},).")
  for each in values:
    if method and not hasattr(each, method):
      raise ValueError(f"{field} holds {each!r:.80}, which cannot be used there: it has no {method}().")


def check_weight(owner: str, weight):
  """Raises a ValueError for a weight that is no positive number."""
  if isinstance(weight, bool) or not isinstance(weight, numbers.Real) or not 0 < weight < float("inf"):
    raise ValueError(f"{owner}: weight={weight!r} must be above 0 and a finite number.")


@config
class MaxPromptLength:
  """Drops problems whose prompt, with its template, is longer."""

  tokens: int
  name: ClassVar[str] = "max_prompt_length"

  def validate(self):
    if not isinstance(self.tokens, int) or self.tokens < 1:
      raise ValueError(f"MaxPromptLength.tokens={self.tokens!r} must be at least 1, a whole number.")

  def open(self, context: Context):
    if context.prompt_length is None:
      raise ValueError("MaxPromptLength needs a tokenizer and a template; use it in a stage that has both.")

    def reason(problem) -> str:
      length = context.prompt_length(problem)
      return f"{length} tokens, more than {self.tokens}" if length > self.tokens else ""

    return reason


@config
class PassRate:
  """Keeps problems that a policy solves in low to high of its tries, both included.

  The rates stand in a column of the rows, or in a jsonl file of {"id", "pass_rate"}.
  """

  low: float = 0.0
  high: float = 1.0
  column: str = "pass_rate"  # of the rows ("a.b": b inside of a), or of the file
  file: str = ""  # path or glob; empty: the rows have the column
  missing: str = "error"  # what becomes of a problem without a rate: "error", "keep" or "drop"
  name: ClassVar[str] = "pass_rate"

  def validate(self):
    if not all(isinstance(x, numbers.Real) for x in (self.low, self.high)) or not 0 <= self.low <= self.high <= 1:
      raise ValueError(f"PassRate: low={self.low!r} and high={self.high!r} must be in order and within [0, 1].")
    if self.missing not in ("error", "keep", "drop"):
      raise ValueError(f"PassRate.missing={self.missing!r} must be 'error', 'keep' or 'drop'.")

  def open(self, context: Context):
    del context
    rates = self._read() if self.file else None

    def reason(problem) -> str:
      if rates is None:
        rate = self._rate(column(problem.columns, self.column), f"problem {problem.id!r}")
      else:
        rate = rates.get(problem.id)
      if rate is None:
        if self.missing == "error":
          raise ValueError(
            f"problem {problem.id!r} has no {self.column!r} in {self.file or 'its row'}; add it, or set "
            "PassRate.missing to 'keep' or 'drop'."
          )
        return "no pass rate" if self.missing == "drop" else ""
      return "" if self.low <= rate <= self.high else f"pass rate {rate:g} outside [{self.low:g}, {self.high:g}]"

    return reason

  def _rate(self, value, where) -> float | None:
    if value is None:
      return None
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
      raise ValueError(f"{where}: field {self.column!r} must be a share within [0, 1], but is {value!r}.")
    return float(value)

  def _read(self) -> dict[str, float | None]:
    rates = {}
    for path, name in find(self.file):
      table = JsonLines(path, name)
      for fault in table.faults:
        raise ValueError(fault)
      for i in range(len(table)):
        row, where = table[i], table.where(i)
        if not isinstance(row.get("id"), (str, int)):
          raise ValueError(f"{where}: field 'id' must be text, but is {row.get('id')!r}.")
        id, rate = str(row["id"]), self._rate(row.get(self.column), where)
        if rates.setdefault(id, rate) != rate:
          raise ValueError(f"{where}: id {id!r} has two rates, {rates[id]} and {rate}.")
    return rates


@config
class Only:
  """Keeps problems of these domains, kinds, languages and levels; an empty tuple keeps all."""

  domains: tuple[str, ...] = ()
  kinds: tuple[str, ...] = ()
  languages: tuple[str, ...] = ()
  levels: tuple[int, ...] = ()
  name: ClassVar[str] = "only"

  def validate(self):
    for field in ("domains", "kinds", "languages", "levels"):
      check_tuple(f"Only.{field}", getattr(self, field))

  def open(self, context: Context):
    del context
    wanted = [("domain", self.domains), ("kind", self.kinds), ("language", self.languages), ("level", self.levels)]
    wanted = [(field, frozenset(values)) for field, values in wanted if values]

    def reason(problem) -> str:
      for field, values in wanted:
        if getattr(problem, field) not in values:
          return f"{field} {getattr(problem, field)!r}"
      return ""

    return reason
