"""What emerges during RL: reflective words, mixing of languages, self-correction (DeepSeek-R1, supplement C.2).

Only the reasoning is looked at: what stands outside `<answer>..</answer>`, or before the summary behind `</think>`; a
response without tags is all reasoning. All is linear in the length of the
responses, whatever a policy writes: it runs in the trainer's process.
"""

import ast
import bisect
from collections.abc import Iterator, Sequence
from fractions import Fraction
import functools
import itertools
import operator
import re

import numpy as np

# The ten words of the paper (Nature, Extended Data Fig. 1; v2, C.2), chosen there by three experts.
ENGLISH = ("wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check")
# Their Chinese counterparts, ours: the paper lists none. Longer ones first, so that 错误 counts once.
CHINESE = (
  "等一下", "等等", "且慢", "不对", "错误", "(?<!不)错", "有误", "然而", "但是", "但", "可是", "不过",
  "重新", "重试", "再试", "验证", "验算", "评估", "检查", "核对",
)  # fmt: skip

_REFLECTIVE = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(ENGLISH)})(?![A-Za-z])|{'|'.join(CHINESE)}", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>.*?(</answer>|$)", re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z_]+>")
_TOKEN = re.compile(r"<\|.*?(\|>|$)", re.MULTILINE)  # or an open one to the end of its line, so that none is read twice
_FORMULA = re.compile(r"\$[^$]*\$|`[^`]*`|\\[A-Za-z]+")
_LATIN = re.compile(r"[A-Za-z]{2,}")  # one letter is a variable or the name of a choice
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
# Words by which a writer turns an attempt down.
_REJECTED = re.compile(
  r"(?<![A-Za-z])(?:too (?:small|big|large|low|high|much|many|few|little)|no(?=\s*(?:[,.;:!?，。；：！？\n]|$))"
  r"|not (?=[-\d])|wrong|incorrect|mistake|error)(?![A-Za-z])"
  r"|(?<=\d)~\d+(?= (?:wait|等等|low|high|小了|大了))"  # a try that misses its target: 17~23 wait
  r"|不对|不行|不是|不等于|不成立|错误|(?<!不)错|太小|太大|太多|太少|≠|!=",
  re.IGNORECASE,
)
_FULL_STOP = re.compile(r"\.(?!\d)")  # no decimal point
_SEGMENT = re.compile(r"[-+*/×÷().\d =]+")
_AHEAD = re.compile(r"[A-Za-z^%!²]|余|又|\s*r(?:emainder)?\b")
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def reasoning(response: str) -> str:
  """The response without its answer or summary, and without tags."""
  if "</think>" in response and "<answer>" not in response:
    response = response[: response.rindex("</think>")] + " "
  text = _TOKEN.sub(lambda token: " " if token[1] else token[0], _ANSWER.sub(" ", response))
  return _TAG.sub(" ", text)


def measure(response: str, language: str) -> dict[str, float]:
  """Counts for one response to a question in `language` ("en" or "zh").

  Returns:
    reflective_words: how often a reflective word occurs (English ones as whole words, any case);
    foreign_share: Chinese characters among all words of an English reasoning, or the other way round (a word is a
      Latin word or a Chinese character; digits, formulas, single letters and tags are none);
    mixed: 1.0 when a word of the other script than the question's occurs.
  """
  text = reasoning(response)
  words = _FORMULA.sub(" ", text)
  latin, han = len(_LATIN.findall(words)), len(_HAN.findall(words))
  foreign = latin if language == "zh" else han
  return {
    "reflective_words": len(_REFLECTIVE.findall(text)),
    "foreign_share": foreign / max(latin + han, 1),
    "mixed": float(foreign > 0),
  }


def corrected(response: str, correct: bool) -> bool:
  """Whether a wrong attempt was noticed and turned into the right answer.

  So it is when the final answer is correct, a reflective word occurs, and before it an attempt was false (an
  equation that does not hold) or turned down ("too small", "no", 不对, ...; that may be the reflective word itself).
  """
  if not correct:
    return False
  text = reasoning(response)
  words = [word.span() for word in _REFLECTIVE.finditer(text)]
  number = re.search(r"\d", text)
  if not words or not number:
    return False
  last_start, last_end = words[-1]
  if any(rejected.start() >= number.end() for rejected in _REJECTED.finditer(text, 0, last_end)):
    return True
  starts, text = [start for start, _ in words], _FULL_STOP.sub("\n", text)
  for end in _false_equations(text[:last_start]):
    nearest = starts[bisect.bisect_left(starts, end)]
    # Read up to a reflective word; what follows an equation can only differ for the nearest: "3=4wait".
    if not (_goes_on(text, end, nearest) and _goes_on(text, end, last_start)):
      return True
  return False


def has_false_equation(text: str) -> bool:
  """Whether some `a = b` of plain numbers does not hold. What cannot be read with certainty counts as true."""
  text = _FULL_STOP.sub("\n", text)
  return any(not _goes_on(text, end, len(text)) for end in _false_equations(text))


def emergence(
  responses: Sequence[str],
  languages: Sequence[str],
  correct: Sequence[bool],
  domains: Sequence[str],
  counted: np.ndarray | None = None,
) -> dict[str, float | dict[str, dict[str, float]]]:
  """Shares over responses, overall and under "per_domain".

  Args:
    responses, languages, correct, domains: one per response.
    counted: bool, one per response: which count overall; None: all.

  Returns:
    reflection_rate: share of responses with a reflective word; reflective_words_per_response;
    language_mixing: share of responses with a word of the other script than the question's;
    foreign_share: mean share of foreign words;
    self_corrections: share of responses that turn a wrong attempt into the right answer.
  """
  records = []
  for response, language, right in zip(responses, languages, correct, strict=True):
    record = measure(response, language)
    count = record["reflective_words"]
    records.append((count > 0, count, record["mixed"], record["foreign_share"], corrected(response, bool(right))))
  table, domains = np.array(records, np.float64).reshape(len(records), 5), np.asarray(domains)
  names = ("reflection_rate", "reflective_words_per_response", "language_mixing", "foreign_share", "self_corrections")

  def means(rows):
    return dict(zip(names, map(float, rows.mean(axis=0)), strict=True)) if len(rows) else dict.fromkeys(names, 0.0)

  return means(table if counted is None else table[counted]) | {
    "per_domain": {str(d): means(table[domains == d]) for d in np.unique(domains)}
  }


def _false_equations(text: str) -> Iterator[int]:
  """Where equations end that do not hold, unless they belong to what precedes them."""
  for start, end in _equations(text):
    equation = text[start:end]
    if not _continues(text[max(0, start - 3) : start], equation):
      sides = [side.strip() for side in equation.split("=")]
      if any(_differ(a, b) for a, b in itertools.pairwise(sides)):
        yield end


def _equations(text: str) -> Iterator[tuple[int, int]]:
  """(start, end) of the longest stretches of two and more sides with a digit each."""
  for segment in _SEGMENT.finditer(text):
    start = position = segment.start()
    sides, stop = 0, start  # of the stretch that begins at `start`
    for part in segment.group().split("="):
      if re.search(r"\d", part):
        sides, stop = sides + 1, position + len(part)
      else:
        if sides > 1:
          yield start, stop
        sides, start = 0, position + len(part) + 1
      position += len(part) + 1
    if sides > 1:
      yield start, stop


def _continues(before, equation):
  """Whether the equation is the end of a formula: 2x+3=7, x + 3 = 7, f(3)=7, 1,250+1=1251; or is cut: 7 = 2*x."""
  attached = re.search(r"[A-Za-z]$", before) and not equation.startswith(" ")
  variable = re.search(r"(?<![A-Za-z])[A-Za-z]$", before)
  continued = re.search(r"[A-Za-z]$", before) and equation.lstrip()[0] in "+*/×÷"
  thousands = re.search(r"\d,$", before) and re.match(r"\d{3}(?!\d)", equation)
  return bool(attached or variable or continued or thousands) or equation.rstrip()[-1] in "+-*/×÷("


def _goes_on(text, end, stop):
  """Whether what follows an equation, read up to `stop`, belongs to it: 7 = 2x, 17/5=3 r 2."""
  return _AHEAD.match(text, end, stop) is not None


def _differ(left, right):
  """Whether both sides are numbers and differ; a decimal on the right may be rounded, a leading dash a bullet."""
  if not re.search(r"[-+*/×÷]", left.lstrip("-") + right.lstrip("-")):
    return False  # "x = 3 = 15" states no attempt
  a, b = {_value(left), _value(left.lstrip("- "))}, _value(right)
  if None in a or b is None:
    return False
  decimals = re.search(r"\.(\d+)$", right)
  slack = Fraction(1, 2 * 10 ** len(decimals[1])) if decimals else 0
  return all(abs(x - b) > slack for x in a)


@functools.lru_cache(4096)
def _value(expression):
  """The exact value, or None where it is not an expression of + - * / and parentheses."""
  if len(expression) > 100:
    return None
  opened, closed = expression.count("("), expression.count(")")
  if opened != closed:  # the parenthesis is around the whole equation
    expression = expression.removeprefix("(") if opened > closed else expression.removesuffix(")")
  try:
    tree = ast.parse(expression.replace("×", "*").replace("÷", "/"), mode="eval")
    return _evaluate(tree.body)
  except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
    return None


def _evaluate(node):
  if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
    return Fraction(str(node.value))
  if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
    return _OPERATORS[type(node.op)](_evaluate(node.left), _evaluate(node.right))
  if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
    return _evaluate(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
  raise ValueError("not plain arithmetic")
