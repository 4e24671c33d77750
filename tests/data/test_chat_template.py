"""Chat templates: texts against transformers', live and kept, what may be wrong, and that no template can run away.

The templates in chat_templates/ are ours: each writes the layout of a published family with the features its own
template uses, which the first line tells. golden.json is what transformers makes of them; `python
tests/data/test_chat_template.py` writes it again.
"""

import concurrent.futures
import copy
import datetime
import json
import pathlib
import time

import pytest

from r1jax.data import template_sandbox
from r1jax.data.chat_template import ChatTemplate, ask

FOLDER = pathlib.Path(__file__).parent / "chat_templates"
TEMPLATES = {path.stem: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.jinja"))}
NOW = datetime.datetime(2025, 1, 20, 12, 0)
TOKENS = {"bos_token": "<|begin|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}

USER, AGAIN = {"role": "user", "content": "What is 7+5?"}, {"role": "user", "content": "And 8+5?"}
SYSTEM = {"role": "system", "content": "  Think, then answer.\n"}
ANSWER = {"role": "assistant", "content": "12"}
THOUGHT = {"role": "assistant", "content": "<think>\n7 and 5, so 12.\n</think>\n\nIt is 12."}
CALL = {"type": "function", "id": "abcdef012", "function": {"name": "add", "arguments": {"a": 7, "b": 5, "名": "é<&>"}}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TWO_CALLS = {"role": "assistant", "content": "Let me add.", "tool_calls": [CALL, CALL]}
RESULT = {"role": "tool", "content": "12", "tool_call_id": "abcdef012"}
ADD = {
  "type": "function",
  "function": {
    "name": "add",
    "description": "Adds two numbers, \"a\" & 'b' <i>",
    "parameters": {
      "type": "object",
      "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
      "required": ["a"],
    },
  },
}
NEGATE = {"type": "function", "function": {"name": "negate", "description": "取负", "parameters": {}}}
PARTS = {
  "role": "user",
  "content": [{"type": "text", "text": "What "}, {"type": "image"}, {"type": "text", "text": "is 7+5?"}],
}
DOCUMENTS = [
  {"title": "Sums", "text": "7+5 is 12.\nAnd 8+5 is 13. " * 3},
  {"id": 9, "title": "和", "text": "七加五等于十二。"},
]

# Messages and the arguments of the rendering; add_generation_prompt is true where it is not said.
CONVERSATIONS = {
  "question": ([USER], {}),
  "no answer asked for": ([USER, ANSWER], {"add_generation_prompt": False}),
  "system": ([SYSTEM, USER], {}),
  "several turns": ([SYSTEM, USER, ANSWER, AGAIN], {}),
  "turns": ([USER, ANSWER, AGAIN], {}),
  "late system": ([USER, ANSWER, SYSTEM, AGAIN], {}),
  "two systems": ([SYSTEM, {"role": "system", "content": "Be short."}, USER], {}),
  "empty system": ([{"role": "system", "content": ""}, USER], {}),
  "thoughts in history": ([USER, THOUGHT, AGAIN], {}),
  "thoughts at the end": ([USER, THOUGHT], {"add_generation_prompt": False}),
  "thoughts apart": ([USER, {"role": "assistant", "content": "12", "reasoning_content": "7 and 5"}], {"add_generation_prompt": False}),
  "thoughts by another name": ([USER, {"role": "assistant", "content": "12", "thinking": "7 and 5"}], {"add_generation_prompt": False}),
  "thoughts by a third name": ([USER, {"role": "assistant", "content": "12", "reasoning": "7 and 5"}], {"add_generation_prompt": False}),
  "thinking off": ([USER], {"enable_thinking": False, "thinking": False}),
  "thinking on": ([USER, THOUGHT, AGAIN], {"enable_thinking": True, "thinking": True}),
  "tools": ([SYSTEM, USER], {"tools": [ADD, NEGATE]}),
  "tools without system": ([USER], {"tools": [ADD]}),
  "no tools": ([USER], {"tools": []}),
  "calls": ([USER, CALLS, RESULT], {"tools": [ADD]}),
  "answer after calls": ([USER, CALLS, RESULT, ANSWER, AGAIN], {"tools": [ADD]}),
  "two calls": ([SYSTEM, USER, TWO_CALLS, RESULT, RESULT], {}),
  "bad call id": ([USER, {**CALLS, "tool_calls": [{**CALL, "id": "x"}]}], {}),
  "tool result that is data": ([USER, CALLS, {**RESULT, "content": {"sum": [1, 2.5, None, True]}}], {}),
  "continued": ([USER, {"role": "assistant", "content": "It is "}], {"continue_final_message": True}),
  "continued thought": ([USER, {"role": "assistant", "content": "<think>\nSo"}], {"continue_final_message": True}),
  "roles out of order": ([USER, USER], {}),
  "answer first": ([ANSWER], {}),
  "unknown role": ([USER, {"role": "stop", "content": "x"}, AGAIN], {}),
  "no content": ([{"role": "user", "content": None}], {}),
  "parts": ([PARTS], {}),
  "documents": ([USER], {"documents": DOCUMENTS}),
  "variables": ([USER], {"date_string": "1 Jan 2000", "controls": {"length": "long", "a": 1}}),
  "other bos": ([USER], {"bos_token": "<s>"}),
  "chinese": ([{"role": "system", "content": "你是数学老师。"}, {"role": "user", "content": "七加五是多少？😀"}], {}),
  "syntax": ([{"role": "user", "content": "{{ 7*7 }} {% raise %} {# x #} <b>&amp;</b> \\n %s {0}"}], {}),
  "space": ([{"role": "user", "content": "\n  a\n\n b \t"}], {}),
  "markers": ([{"role": "user", "content": "<|im_end|>\n<|im_start|>system\n[INST] <｜User｜></s>"}], {}),
  "empty question": ([{"role": "user", "content": ""}], {}),
}  # fmt: skip


def by_transformers(source: str, messages, arguments) -> str | None:
  """What transformers writes on the day NOW; None where it is an error."""
  import jinja2
  from tokenizers import Tokenizer, models
  import transformers
  from transformers.utils import chat_template_utils

  class Day(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
      return NOW

  tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **TOKENS)
  if not arguments.get("continue_final_message"):
    arguments = {"add_generation_prompt": True} | arguments
  real, chat_template_utils.datetime = chat_template_utils.datetime, Day
  try:
    return tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False, **arguments)
  except (jinja2.TemplateError, ValueError, TypeError, LookupError):
    return None
  finally:
    chat_template_utils.datetime = real


def by_us(template: ChatTemplate, messages, arguments) -> str | None:
  try:
    return template.render(messages, **{"now": NOW} | arguments)
  except ValueError as error:
    assert "chat_template.jinja says: " in str(error)
    return None


@pytest.fixture(scope="module")
def golden():
  return json.loads((FOLDER / "golden.json").read_text("utf-8"))


each_family = pytest.mark.parametrize("family", TEMPLATES)


@each_family
def test_texts_are_those_transformers_wrote(family, golden):
  assert golden[family].keys() == CONVERSATIONS.keys()
  template = ChatTemplate(TEMPLATES[family], TOKENS)
  for name, conversation in CONVERSATIONS.items():
    assert by_us(template, *conversation) == golden[family][name], name


def test_most_of_what_transformers_wrote_are_texts_that_differ(golden):
  """Otherwise the test above would hold little."""
  for family, texts in golden.items():
    written = [text for text in texts.values() if text is not None]
    assert len(written) >= 24 and len(set(written)) >= 15, family
  assert sum(text is None for texts in golden.values() for text in texts.values()) >= 50


@each_family
def test_texts_are_those_transformers_writes(family):
  pytest.importorskip("transformers", minversion="5.23")
  template = ChatTemplate(TEMPLATES[family], TOKENS)
  for name, conversation in CONVERSATIONS.items():
    assert by_us(template, *conversation) == by_transformers(TEMPLATES[family], *conversation), name


# ---- what a model goes on from


@pytest.mark.parametrize(
  "family, variables, prefill",
  [
    ("qwen2_5", {}, ""),
    ("qwen3", {}, ""),
    ("qwen3", {"enable_thinking": True}, ""),
    ("qwen3", {"enable_thinking": False}, "<think>\n\n</think>\n\n"),
    ("llama3", {}, ""),
    ("deepseek_r1", {}, "<think>\n"),
    ("deepseek_v2", {}, ""),
    ("deepseek_v3_1", {}, "</think>"),
    ("deepseek_v3_1", {"thinking": True}, "<think>"),
    ("mistral", {}, ""),
    ("gemma", {}, ""),
    ("phi3", {}, ""),
    ("phi4", {}, ""),
    ("zephyr", {}, ""),
    ("chatml_trained", {}, ""),
    ("granite", {}, ""),
  ],
)
def test_what_a_template_writes_into_an_answer_is_found(family, variables, prefill):
  template = ChatTemplate(TEMPLATES[family], TOKENS)
  assert template.prefill(**variables) == prefill
  prompt = template.prompt("What is 7+5?", now=NOW, **variables)
  assert prompt == template.render([USER], now=NOW, **variables) and prompt.endswith(prefill)
  assert (
    template.prompt("What is 7+5?", prefill="So", bare=True, now=NOW, **variables)
    == prompt.removesuffix(prefill) + "So"
  )


@pytest.mark.parametrize(
  "family, end",
  [
    ("qwen3", "<|im_end|>\n"),
    ("llama3", "<|eot_id|>"),
    ("deepseek_r1", "<｜end▁of▁sentence｜>"),
    ("mistral", "<|end_of_text|>"),
    ("gemma", "<end_of_turn>\n"),
    ("phi3", "<|end|>\n<|end_of_text|>"),
  ],
)
def test_what_a_template_writes_after_an_answer_is_found(family, end):
  assert ChatTemplate(TEMPLATES[family], TOKENS).turn_end() == end


def test_a_question_is_asked_after_a_system_message_where_there_is_one():
  template = ChatTemplate(TEMPLATES["qwen2_5"], TOKENS)
  assert "You are a model of the test." in template.prompt("7+5?")
  assert "<|im_start|>system\nBe short.<|im_end|>" in template.prompt("7+5?", "Be short.", enable_thinking=True)
  assert "<|im_start|>system\n<|im_end|>" in template.prompt("7+5?", "")
  assert ask("7+5?", "") == [{"role": "system", "content": ""}, {"role": "user", "content": "7+5?"}]
  with pytest.raises(ValueError, match="says: A system message is not supported"):
    ChatTemplate(TEMPLATES["gemma"], TOKENS).prompt("7+5?", "Be short.")


def test_the_day_is_the_clocks_where_none_is_given():
  text = ChatTemplate(TEMPLATES["granite"]).prompt("7+5?")
  days = [datetime.datetime.now() + datetime.timedelta(days=days) for days in (-1, 0)]  # it may just be midnight
  assert any(f"Day: {day:%B %d, %Y}." in text for day in days)


def test_the_day_may_be_set():
  template = ChatTemplate(TEMPLATES["granite"])
  assert "Day: January 20, 2025." in template.prompt("7+5?", now="2025-01-20") == template.prompt("7+5?", now=NOW)
  with pytest.raises(ValueError, match="now='tomorrow' is no day; write it as 2025-01-20"):
    template.prompt("7+5?", now="tomorrow")


def test_the_last_message_is_continued_with_the_space_that_the_template_leaves():
  messages = [USER, {"role": "assistant", "content": "It is \n"}]
  render = lambda family: ChatTemplate(TEMPLATES[family], TOKENS).render(messages, continue_final_message=True)
  assert render("qwen3").endswith("assistant\n<think>\n\n</think>\n\nIt is \n")
  assert render("llama3").endswith("\n\nIt is")  # trimmed
  parts = [PARTS, {"role": "assistant", "content": [{"type": "text", "text": "It is"}, {"type": "image"}]}]
  assert (
    ChatTemplate(TEMPLATES["chatml_trained"]).render(parts, continue_final_message=True).endswith("assistant\nIt is")
  )


def test_messages_are_left_as_they_are():
  messages = [USER, {"role": "assistant", "content": "It is ", "thinking": None, "reasoning": "x"}]
  before = copy.deepcopy(messages)
  ChatTemplate(TEMPLATES["qwen3"]).render(messages, continue_final_message=True)
  assert messages == before


def test_a_template_may_be_used_from_several_threads():
  template = ChatTemplate(TEMPLATES["qwen3"])
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    texts = list(pool.map(lambda i: template.prompt(f"What is {i}?"), range(200)))
  assert texts == [template.prompt(f"What is {i}?") for i in range(200)]


# ---- which template


def test_templates_are_read_from_the_files_in_their_order(tmp_path):
  assert ChatTemplate.read(tmp_path) is None
  (tmp_path / "tokenizer_config.json").write_text("{}")
  assert ChatTemplate.read(tmp_path) is None
  (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "processor"}))
  assert ChatTemplate.read(tmp_path).render([USER]) == "processor"
  (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "config {{ bos_token }}"}))
  assert ChatTemplate.read(tmp_path, {"bos_token": "<s>"}).render([USER]) == "config <s>"
  (tmp_path / "additional_chat_templates").mkdir()
  (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools", "utf-8")
  (tmp_path / "chat_template.jinja").write_text("file\n", "utf-8")
  assert ChatTemplate.read(tmp_path).render([USER]) == "file"
  assert ChatTemplate.read(tmp_path).render([USER], tools=[ADD]) == "tools"


def test_of_several_templates_one_is_chosen_by_name_and_the_one_for_tools_where_there_are_tools(tmp_path):
  named = [{"name": name, "template": f"it is {name}"} for name in ("default", "tool_use", "rag")]
  (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
  template = ChatTemplate.read(tmp_path)
  assert template.render([USER]) == "it is default"
  assert template.render([USER], [ADD]) == template.render([USER], []) == "it is tool_use"
  assert template.render([USER], [ADD], template="rag") == "it is rag"
  with pytest.raises(
    ValueError, match=r"no chat template 'rug'; template must be one of \['default', 'rag', 'tool_use'\]"
  ):
    template.render([USER], template="rug")


def test_several_templates_without_a_default_ask_for_a_name(tmp_path):
  with pytest.raises(ValueError, match="no chat template 'default'; template must be one of"):
    ChatTemplate({"a": "x", "b": "y"}).render([USER])


# ---- mistakes


def test_what_a_template_says_is_told_with_its_file(tmp_path):
  (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('Roles must alternate!') }}", "utf-8")
  with pytest.raises(ValueError, match=r"^the chat template of .*chat_template.jinja says: Roles must alternate!$"):
    ChatTemplate.read(tmp_path).render([USER])


@pytest.mark.parametrize(
  "source, said",
  [
    ("{% if %}", "Expected an expression"),
    ("{{ a.b.c }}", "'a' is undefined"),
    ("{{ messages[0].content / 2 }}", "unsupported operand"),
    ("{{ messages[0].nothing.more }}", "has no attribute 'nothing'"),
    ("{{ 1 / 0 }}", "division by zero"),
    ("{% include 'other' %}", "no loader"),
    ("{{ ''.__class__.__mro__ }}", "'__class__' of 'str' object is unsafe"),
    ("{{ messages.append(1) }}", "'append' of 'list' object is unsafe"),
    ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "a namespace holds no '__class__'"),
    ("{{ namespace(__class__=1) }}", "a namespace holds no '__class__'"),
    ("{{ messages | tojson | pprint | nothing }}", "No filter named 'nothing'"),
    ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "RecursionError"),
    ("{% for a in [1] %}" * 120 + "{% endfor %}" * 120, "too many|RecursionError"),
  ],
)
def test_a_mistake_in_a_template_is_a_sentence(source, said):
  with pytest.raises(ValueError, match=f"the chat template of chat_template.jinja says: .*({said})"):
    ChatTemplate(source).render([USER])


@pytest.mark.parametrize(
  "messages, said",
  [
    ([], "there are no messages to render"),
    (["hello"], "a message is a dict with role and content, not 'hello'"),
    ([{"role": "user", "content": object()}], "a chat template reads JSON values"),
    ([{"role": "user", "content": pathlib.Path("x")}], "is a PosixPath"),
  ],
)
def test_messages_that_are_none_are_refused(messages, said):
  with pytest.raises(ValueError, match=said):
    ChatTemplate("{{ messages }}").render(messages)


def test_a_message_that_cannot_be_continued_is_refused():
  template = ChatTemplate("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
  with pytest.raises(ValueError, match="leaves the last message out"):
    template.render([USER, ANSWER], continue_final_message=True)
  with pytest.raises(ValueError, match="no text that could be continued"):
    template.render([USER, {"role": "assistant", "content": [{"type": "image"}]}], continue_final_message=True)


# ---- templates that run away

GROWS = "{% set ns = namespace(s=%s) %}{% for i in range(99) %}{% set ns.s = %s %}{% endfor %}{{ ns.s%s }}"
LONG = "{% set a = 'a' * 1000000 %}"
TOO_LONG = {
  "times": "{{ 'a' * 10000000000 }}",
  "items": "{{ [1] * 10000000000 }}",
  "power": "{{ 10 ** 100000000000 }}",
  "squares": "{% set ns = namespace(s=99) %}{% for i in range(99) %}{% set ns.s = ns.s * ns.s %}{% endfor %}",
  "tilde": GROWS.replace("%s", "'ab'", 1).replace("%s", "ns.s ~ ns.s", 1).replace("%s", ""),
  "plus": GROWS.replace("%s", "'ab'", 1).replace("%s", "ns.s + ns.s", 1).replace("%s", ""),
  "laughs": GROWS.replace("%s", "['ab']", 1).replace("%s", "[ns.s, ns.s]", 1).replace("%s", ""),
  "laughs as JSON": GROWS.replace("%s", "['ab']", 1).replace("%s", "[ns.s, ns.s]", 1).replace("%s", " | tojson"),
  "laughs joined": GROWS.replace("%s", "['ab']", 1).replace("%s", "[ns.s, ns.s]", 1).replace("%s", " ~ ''"),
  "center": "{{ 'a' | center(10000000000) }}",
  "ljust": "{{ 'a'.ljust(10000000000) }}",
  "replace": LONG + "{{ a | replace('a', a) }}",
  "replace by name": LONG + "{{ a | replace(new=a, old='a') }}",
  "replace of items": LONG + "{{ [a] | replace('a', a) }}",
  "replace method": LONG + "{{ a.replace('a', a) }}",
  "join": LONG + "{{ a | join(a) }}",
  "join method": LONG + "{{ a.join([a] * 1000) }}",
  "indent": "{% set a = '\n' * 1000000 %}{{ a | indent(1000000) }}",
  "tojson": "{{ [1] | tojson(indent=10000000000) }}",
  "slice": "{{ [1] | slice(10000000000) | list }}",
  "round": "{{ 5 | round(-10000000000) }}",
  "sum": "{{ ([range(99999) | list] * 99999) | sum(start=[]) | length }}",
  "map": "{{ range(99999) | map('center', 99999) | list }}",
  "output": LONG + "{% for i in range(99999) %}{{ a }}{% endfor %}",
  "macro": LONG + "{% macro f() %}{% for i in range(99999) %}{{ a }}{% endfor %}{% endmacro %}{{ f() }}",
  "block": LONG + "{% set x %}{% for i in range(99999) %}{{ a }}{% endfor %}{% endset %}",
  "parts": LONG
  + "{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% set ns.s = ns.s + [a[i:]] %}{% endfor %}",
  "format in a field": LONG + "{{ ('{0}' * 1000).format(a) }}",
}
TOO_WIDE = ("{{ '%10000000000d' % 1 }}", "{{ '%*d' % (10000000000, 1) }}", "{{ '%9999999d' | format(1) }}",
            "{{ '{:>10000000000}'.format(1) }}", "{{ '{:{w}}'.format(1, w='10000000000') }}")  # fmt: skip
FOREVER = {
  "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
  "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
}


@pytest.mark.parametrize("source", TOO_LONG.values(), ids=TOO_LONG)
def test_a_template_cannot_write_without_end(source, monkeypatch):
  monkeypatch.setattr(template_sandbox, "_CHARACTERS", 10_000_000)
  with pytest.raises(ValueError, match="chat_template.jinja says: it writes more than 10000000 characters"):
    ChatTemplate(source).render([USER])


@pytest.mark.parametrize("source", TOO_WIDE)
def test_a_template_cannot_write_fields_of_any_width(source):
  with pytest.raises(ValueError, match="says: it writes a field that is too wide"):
    ChatTemplate(source).render([USER])


def test_ordinary_ways_to_fill_in_a_text_are_free():
  source = """{{ '{{"a": {{"b": "{}"}}}} 123456 {:>8}'.format('x', 1) }}{{ '{"a": {"b": "%s"}} 100%% 123456 %5d' % ('x', 1) }}
{{ '{"a": {"%s": 1}}' | format('x') }}{{ '{a}'.format_map({'a': 1}) }}{{ 'a-b' | replace('-', '+') | replace(old='b', new='c') }}"""
  expected = '{"a": {"b": "x"}} 123456        1{"a": {"b": "x"}} 100% 123456     1\n{"a": {"x": 1}}1a+c'
  assert ChatTemplate(source).render([USER]) == expected


@pytest.mark.parametrize("source", FOREVER.values(), ids=FOREVER)
def test_a_template_cannot_run_forever(source, monkeypatch):
  monkeypatch.setattr(template_sandbox, "_SECONDS", 0.2)
  started = time.thread_time()
  with pytest.raises(ValueError, match="says: it takes more than 0.2 seconds"):
    ChatTemplate(source).render([USER])
  assert time.thread_time() - started < 2


def test_a_template_that_calls_itself_forever_is_stopped():
  with pytest.raises(ValueError, match="says: RecursionError"):
    ChatTemplate("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").render([USER])


def test_long_conversations_are_within_the_bounds():
  text = "7+5=12 " * 5000
  messages = [{"role": "user", "content": text}, {"role": "assistant", "content": f"<think>{text}</think>{text}"}] * 30
  for family in ("qwen3", "llama3", "deepseek_r1", "mistral", "gemma"):
    written = ChatTemplate(TEMPLATES[family], TOKENS).render([*messages, USER], now=NOW)
    assert len(written) > 30 * 2 * len(text)


if __name__ == "__main__":
  made = {
    family: {name: by_transformers(source, *conversation) for name, conversation in CONVERSATIONS.items()}
    for family, source in TEMPLATES.items()
  }
  (FOLDER / "golden.json").write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", "utf-8")
