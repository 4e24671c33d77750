"""The jinja that chat templates run in: what transformers gives them, and a bound on what they do.

A template is a program out of somebody else's repository. Jinja's sandbox keeps
it from the machine, but lets it run forever and fill the memory. So everything
that repeats, calls or writes is counted: a rendering may write only so many
characters, intermediate texts included, and take only so long.
"""

import datetime
import functools
import itertools
import json
import re
import time

from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_CHARACTERS = 100_000_000  # that one rendering may write, intermediate texts included
_SECONDS = 5  # of CPU that one rendering may take; usual are 0.0002
_ITEM = 50  # characters that an item of a list counts as
# Functions whose result can be longer than all that they are given, by what the arguments multiply to.
_MULTIPLIES = {
  "center", "ljust", "rjust", "zfill", "expandtabs", "translate", "to_bytes", "indent", "wordwrap", "batch", "slice",
  "tojson", "join", "round",
}  # fmt: skip
# Fields of huge or computed width, in the two ways to fill in a text.
_WIDE = {"{": re.compile(r"[{][^{}]*(\d{5}|[{])"), "%": re.compile(r"%[^%a-zA-Z]*(\d{5}|[*])")}
# Functions that write nothing, so their arguments need not be looked through.
_READS = {
  "length", "count", "first", "last", "list", "map", "select", "reject", "selectattr", "rejectattr", "rounds", "part",
}  # fmt: skip


def _strftime_now(format: str) -> str:
  return datetime.datetime.now().strftime(format)


def _raise_exception(message: str):
  raise TemplateError(message)


def _tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Namespace(Namespace):
  """Without names that Python itself asks objects for."""

  def __init__(self, /, *args, **kwargs):
    super().__init__()
    for name, value in dict(*args, **kwargs).items():
      self[name] = value

  def __setitem__(self, name, value):
    if str(name).startswith("_"):
      raise SecurityError(f"a namespace holds no {name!r}")
    super().__setitem__(name, value)

  def __repr__(self):
    return "<Namespace>"


class _Generation(Extension):
  """{% generation %} marks what the model wrote; here it is only the scope that it is to transformers."""

  tags = {"generation"}

  def parse(self, parser):
    line = next(parser.stream).lineno
    return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Counting(CodeGenerator):
  """Puts the sandbox's count into what jinja would do without asking it: loops, `~` and slices."""

  def visit_For(self, node, frame):
    node.iter = self._ask("rounds", node.iter)
    super().visit_For(node, frame)

  def visit_Concat(self, node, frame):
    self.visit(self._ask("joined", *node.nodes), frame)

  def visit_Getitem(self, node, frame):
    if not isinstance(node.arg, nodes.Slice):
      super().visit_Getitem(node, frame)
      return
    bounds = [each or nodes.Const(None) for each in (node.arg.start, node.arg.stop, node.arg.step)]
    self.visit(self._ask("part", node.node, *bounds), frame)

  def _ask(self, name, *args):
    return nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None)


class Sandbox(ImmutableSandboxedEnvironment):
  """What transformers gives its templates, and a count of the work of one rendering."""

  intercepted_binops = frozenset({"+", "*", "**", "%"})
  code_generator_class = _Counting

  def __init__(self):
    extensions = [_Generation, loopcontrols]
    super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    self.filters = {name: self._counted(name, each) for name, each in (self.filters | {"tojson": _tojson}).items()}
    del self.globals["lipsum"]
    self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now, "namespace": _Namespace}
    self.finalize = self._shown
    self.start()

  def start(self):
    """Begins the count of a rendering."""
    self._left, self._until = _CHARACTERS, time.thread_time() + _SECONDS

  def spend(self, characters: int):
    self._left -= characters
    if self._left < 0:
      raise SecurityError(f"it writes more than {_CHARACTERS} characters")
    if time.thread_time() > self._until:
      raise SecurityError(f"it takes more than {_SECONDS} seconds")

  # ---- what jinja calls

  def concat(self, parts):
    parts = list(parts)
    self.spend(sum(map(len, parts)))
    return "".join(parts)

  def call(self, context, function, /, *args, **kwargs):
    owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)  # of a method; jinja wraps str.format
    name = getattr(function, "__name__", "")
    self._before("{" if name in ("format", "format_map") else name, owner, (*args, *kwargs.values()))
    return self._made(super().call(context, function, *args, **kwargs))

  def call_binop(self, context, operator, left, right):
    if operator == "%" and isinstance(left, str):
      self._before("%", left, (right,))
    elif operator == "*":
      self.spend(_length(left, right) * _length(right, left))
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
      self.spend(left.bit_length() * max(right, 0))
    elif operator == "+":
      self.spend(_length(left) + _length(right))
    return super().call_binop(context, operator, left, right)

  # ---- what _Counting puts in

  def rounds(self, items):
    for item in items:
      self.spend(1)
      yield item

  def joined(self, *parts):
    return self.concat(map(str, parts))

  def part(self, value, start, stop, step):
    return value[start:stop:step]

  # ---- the count

  def _counted(self, name, function):
    passes = hasattr(function, "jinja_pass_arg")  # the context, before the value

    @functools.wraps(function)
    def counted(*args, **kwargs):
      value, *rest = args[passes:]
      self._before("%" if name == "format" else name, value, (*rest, *kwargs.values()))
      return self._made(function(*args, **kwargs))

    return counted

  def _before(self, name, value, rest):
    """Pays for what a function is about to write, where that may be more than it is given."""
    if name in _READS:
      return
    weights = [self._weigh(each) for each in (value, *rest)]
    if name == "replace":
      text = str(value)
      self.spend(max((text.count(str(a)) * len(str(b)) for a, b in itertools.permutations(rest, 2)), default=0))
    elif name in _WIDE:
      text = str(value).replace(name * 2, "")  # a sign, not a field
      if _WIDE[name].search(text):
        raise SecurityError("it writes a field that is too wide")
      self.spend(sum(weights[1:]) * text.count(name))
    elif name in _MULTIPLIES:
      cost = max(weights[0], 1)
      for each, weight in zip(rest, weights[1:]):
        cost *= max(abs(each) if isinstance(each, int) else 1 if name == "tojson" else weight, 1)
      self.spend(cost)

  def _made(self, value):
    self.spend(_length(value) * (_ITEM if isinstance(value, (list, tuple, dict)) else 1))
    return value

  def _shown(self, value):
    self._weigh(value)
    return value

  def _weigh(self, value) -> int:
    """About the characters of a value; what is in it twice counts twice, as it is written twice."""
    total, waiting = 0, [value]
    while waiting:
      value = waiting.pop()
      if isinstance(value, (str, bytes)):
        total += len(value)
      elif isinstance(value, (list, tuple, dict)):
        total += _ITEM * len(value)
        waiting += [*value, *value.values()] if isinstance(value, dict) else value
      if total > _CHARACTERS:
        raise SecurityError(f"it writes more than {_CHARACTERS} characters")
    return total


def _length(value, beside=None) -> int:
  """Characters or items of a value; of a number its bits, or how often it repeats what stands beside it."""
  if isinstance(value, (str, bytes, list, tuple, dict)):
    return len(value)
  if not isinstance(value, int):
    return 1
  return value.bit_length() if beside is None or isinstance(beside, (int, float)) else max(value, 0)
