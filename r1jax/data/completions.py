"""Sources of supervised rows: what an earlier stage made, a user's files, and the closed world's own general data.

A row says what is asked and what is to be written (docs/pipeline_data.md):

  id          of the problem; the same for a question in two languages and for two completions of it
  prompt      the question, without any template
  completion  all that the model has to write: "<think>..</think>summary", or only a reply where no thought is asked for
  domain, language, kind, answer, level    as in r1jax.types.Problem; kind "open" and answer "" where none is checked
  tokens      of the completion, without the end token; None in a file that does not say it
  source      the stage that sampled it, or the title of the source
  round       1: turns of the user, as Table 5 counts them

A source is a config object with

  validate()          ValueError for fields that make no sense
  check()             ValueError, before the run, for rows that cannot be read: names file and line
  takes()             [("completions", stage)] where the rows are an earlier stage's
  title()             the source in a message
  origin()            {"file", "sha256", "rows"} of what no stage of the run has made: for the lineage
  open(run_folder)    the rows; `run_folder(stage)` is where a stage lies
"""

from collections.abc import Callable
import hashlib
import json
import pathlib
from typing import Any

from r1jax import config
from r1jax.data import files, rows

COLUMNS = ("id", "prompt", "completion", "domain", "language", "kind", "answer", "level", "tokens", "source", "round")
STYLES = ("careful", "corrected", "lucky", "slip", "bare")  # of the playground's writers, the best one first

# (column with the question, columns with the completion, the first that is there): TRL, then what data sets of
# distilled reasoning use.
CONVENTIONS = (
  ("prompt", ("completion",)),
  ("messages", ()),
  ("problem", ("completion", "generation", "response", "solution")),
  ("question", ("completion", "generation", "response", "solution")),
  ("prompt", ("generation", "response", "solution")),
)


@config.config
class Made:
  """The completions of an earlier stage of this run."""

  stage: str
  repeat: int = 1  # how often each row stands in the data

  def validate(self):
    config.at_least(1, self.title(), self, "repeat")
    if not self.stage or "/" in self.stage:
      raise ValueError(
        f"Made.stage={self.stage!r} must be the name of a stage of this run; take those of another run with "
        "Completions(path='.../data.jsonl')."
      )

  def check(self):
    """Nothing: the rows are still to be made."""

  def takes(self) -> list[tuple[str, str]]:
    return [("completions", self.stage)]

  def title(self) -> str:
    return f"completions of {self.stage!r}"

  def open(self, run_folder: Callable[[str], pathlib.Path]) -> list[dict]:
    """The rows; ValueError where the file is not the one that the stage wrote."""
    content = files.made_by(self.stage, run_folder(self.stage), "Completions(path=...)")
    return [json.loads(line) for line in content.splitlines()] * self.repeat


@config.config
class Completions:
  """A user's completions: JSON lines (.jsonl, .jsonl.gz, .jsonl.zst), parquet or a hub data set.

  In the field's conventions:

  prompt + completion (text, or chats of one turn each, as TRL has them);
  problem, question or prompt + generation, response or solution; messages
  (the last assistant turn is the completion). The first row decides for all.
  """

  path: str = ""  # or a glob: all files in the order of their names
  source: Any = None  # in place of the path: rows of data.sources, as Hub(dataset="open-r1/Mixture-of-Thoughts")
  question: str = ""  # column, where it has another name; then `completion` too
  completion: str = ""  # column
  domain: str = ""  # of all rows; empty: that of the column `domain`, else general
  repeat: int = 1  # how often each row stands in the data

  def validate(self):
    if bool(self.path) == bool(self.source):
      raise ValueError("Completions takes either path='data.jsonl' or source=Hub(dataset=...), and not both.")
    config.at_least(1, self.title(), self, "repeat")
    if bool(self.question) != bool(self.completion):
      raise ValueError(f"{self.title()}: question and completion name columns together; give both or neither.")

  def check(self):
    for _ in self._read():
      pass

  def takes(self) -> list[tuple[str, str]]:
    return []

  def title(self) -> str:
    return self.source.title() if self.source else self.path

  def origin(self) -> dict:
    if self.source:
      return {"file": self.title(), "rows": len(self._table())}
    return {"file": self.path, "sha256": files.digest(self.path), "rows": len(files.open_tables(self.path))}

  def open(self, run_folder: Callable[[str], pathlib.Path]) -> list[dict]:
    """The rows; ValueError names the file and line of the first that cannot be used."""
    del run_folder
    return list(self._read()) * self.repeat

  def _read(self):
    table = self._table()
    if table.faults:
      raise ValueError(table.faults[0])
    if not len(table):
      raise ValueError(f"{self.title()} holds no rows.")
    reader = rows.Reader(None, "open", self.domain)
    for i in range(len(table)):
      row, where = table[i], table.where(i)
      reader.schema = reader.schema or self._schema(row, where)
      yield self._row(row, reader(row, where, table.id(i)), where)

  def _table(self):
    return self.source.table() if self.source else files.open_tables(self.path)

  def _schema(self, row: dict, where: str) -> rows.Schema:
    """Which columns hold question and completion."""
    conventions = ((self.question, (self.completion,)),) if self.question else CONVENTIONS
    there = lambda name: rows.column(row, name) is not None
    for question, completions in conventions:
      answers = [name for name in completions if there(name)][:1]
      if there(question) and (answers or not completions):
        return rows.Schema("completions", (), question, tuple(answers), example=True)
    wanted = f"no {self.question!r} and {self.completion!r}" if self.question else "neither prompt and completion, "
    wanted += "" if self.question else "question and response nor messages"
    raise ValueError(
      f"{where}: columns {', '.join(map(repr, row)) or '(none)'} have {wanted}; name them with "
      "Completions(question=..., completion=...)."
    )

  def _row(self, row: dict, problem, where: str) -> dict:
    chat = problem.columns.get("prompt")
    if isinstance(chat, list) and len(chat) != 1:
      raise ValueError(
        f"{where}: {len(chat)} turns come before the completion, but a prompt is one turn of the user; split the "
        "conversation, or put what comes first into that turn."
      )
    known = isinstance(row.get("kind"), str) and isinstance(row.get("answer"), str)
    return {
      "id": problem.id,
      "prompt": problem.question,
      "completion": problem.answer,
      "domain": problem.domain,
      "language": problem.language,
      "kind": row["kind"] if known else "open",
      "answer": row["answer"] if known else "",
      "level": problem.level,
      "tokens": row["tokens"] if isinstance(row.get("tokens"), int) else None,
      "source": self.title(),
      "round": 1,
    }


@config.config
class PlaygroundCompletions:
  """What the closed world's best writer says to its general questions.

  As V3's own SFT data is to the paper (v1 section 2.3.3): writing, questions
  about facts, translation, self-cognition, and replies without a thought where
  none is needed. A question comes as often as the world asks it, and the world
  knows few greetings: rows may repeat.
  """

  playground: config.Playground
  domains: tuple[str, ...]
  count: int  # rows
  style: str = "careful"  # of the writer, as in r1jax.playground
  seed: int = 0
  repeat: int = 1  # how often each row stands in the data

  def validate(self):
    config.at_least(1, self.title(), self, "count", "repeat")
    if not self.domains:
      raise ValueError(f"{self.title()}: domains is empty; name at least one, e.g. ('facts',).")
    if self.style not in STYLES:
      raise ValueError(f"{self.title()}: style={self.style!r} must be one of {', '.join(map(repr, STYLES))}.")

  def check(self):
    self._rows(1)

  def takes(self) -> list[tuple[str, str]]:
    return []

  def title(self) -> str:
    return f"playground ({self.style})"

  def origin(self) -> dict:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self._rows(self.count))
    return {"file": self.title(), "sha256": hashlib.sha256(content.encode()).hexdigest(), "rows": self.count}

  def open(self, run_folder: Callable[[str], pathlib.Path]) -> list[dict]:
    del run_folder
    return self._rows(self.count) * self.repeat

  def _rows(self, count: int) -> list[dict]:
    from r1jax.playground import world

    drawn = (world.completion_at(self.playground, self.seed, i, self.domains, self.style) for i in range(count))
    return [row_of(problem, completion, None, self.title()) for problem, completion in drawn]


def row_of(problem, completion: str, tokens: int | None, source: str) -> dict:
  """The row of a completion that was written to a Problem."""
  return {
    "id": problem.id,
    "prompt": problem.question,
    "completion": completion,
    "domain": problem.domain,
    "language": problem.language,
    "kind": problem.kind,
    "answer": problem.answer,
    "level": problem.level,
    "tokens": tokens,
    "source": source,
    "round": 1,
  }
