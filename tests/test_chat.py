"""The terminal chat: its tokens against the sampler's, what it shows, and the program as a user runs it."""

import dataclasses
import io
import json
import os
import pathlib
import pty
import select
import shutil
import subprocess
import sys
import time
import unicodedata

from hypothesis import given, settings, strategies as st
import jax
import numpy as np
import pytest
import rich.console

from configs import models
from r1jax import config, errors, finished, main, mesh
from r1jax.chat import conversation as chat, decoding
from r1jax.chat.screen import Screen
from r1jax.chat.text import ANSWER, TAGS, THOUGHT, Pieces, Sections, visible
from r1jax.data.tokenizer import Tokenizer
from r1jax.models import transformer
from r1jax.rl.sampling import sample
from r1jax.training import state as states
from r1jax.training.checkpoints import Checkpoints
from r1jax.training.workdir import claim, config_dict, write_json

ROOT = pathlib.Path(__file__).parents[1]
ENDS, PAD = (2, 7), 0
SAMPLING = config.Sampling(temperature=0.7, top_p=0.9, max_prompt=6, max_response=8, chunk=4)
PROMPTS = ([5, 7, 9, 4, 3, 8], [11, 3, 4])
check = settings(max_examples=100, deadline=None, derandomize=True)


# ---- tokens


def sampled(model, params, key):
  """Completions [2 prompts][2] of the sampler, as lists of tokens."""
  tokens = np.array([ids + [PAD] * (6 - len(ids)) for ids in PROMPTS], np.int32)
  arrays = mesh.to_global((tokens, np.array([6, 3], np.int32), np.arange(2, dtype=np.int32)))
  out = sample(params, *arrays, key, c=model, sampling=SAMPLING, group_size=2, ends=ENDS, pad=PAD)
  out = mesh.to_local(out)
  return [[row[:n].tolist() for row, n in zip(out.tokens[p], out.lengths[p])] for p in range(2)]


def streamed(model, params, key, row, i):
  stream = jax.random.fold_in(jax.random.fold_in(key, row), i)
  return list(decoding.stream(params, PROMPTS[row], stream, c=model, sampling=SAMPLING, ends=ENDS))


def sharp(model, params):
  """The model with larger logits: completions that end early or late."""
  return model, params | {"head": params["head"] * 3}


@pytest.fixture
def dense(tiny_model, grouped_query, random_params):
  model = tiny_model(attention=grouped_query, experts=None, layers=2)
  return sharp(model, random_params(model))


@pytest.mark.parametrize("attention", ["latent", "grouped"])
def test_streamed_tokens_are_those_the_sampler_draws_with_the_same_random_numbers(
  attention, tiny_model, random_params, dense, monkeypatch
):
  monkeypatch.setattr(decoding, "ROOM", 4)  # the cache is widened on the way
  model = tiny_model(layers=2)
  policy = dense if attention == "grouped" else sharp(model, random_params(model))
  lengths = set()
  for seed in range(6):
    expected = sampled(*policy, jax.random.key(seed))
    for row in range(2):
      for i in range(2):
        assert streamed(*policy, jax.random.key(seed), row, i) == expected[row][i]
    lengths |= {len(ids) for group in expected for ids in group}
  assert min(lengths) < max(lengths) == SAMPLING.max_response  # some ended, some were cut


def test_without_temperature_every_token_is_the_likeliest_of_a_full_forward_pass(dense):
  model, params = dense
  sampling = decoding.greedy(SAMPLING)
  ids = list(decoding.stream(params, PROMPTS[1], jax.random.key(0), c=model, sampling=sampling, ends=ENDS))
  row = np.array([PROMPTS[1] + ids], np.int32)  # without a cache
  arrays = mesh.to_global((row, np.arange(row.size, dtype=np.int32)[None], np.ones_like(row)))
  best = transformer.logits(model, params, transformer.apply(model, params, *arrays).hidden).argmax(-1)
  assert ids == best[0, 2:-1].tolist()


def test_another_question_compiles_nothing_unless_it_is_longer_than_the_prompts_of_training(dense):
  model, params = dense
  ask = lambda *prompt: list(decoding.stream(params, prompt, jax.random.key(1), c=model, sampling=SAMPLING, ends=ENDS))
  count = lambda: (decoding.start._cache_size(), decoding.step._cache_size())
  ask(3)
  before = count()
  for length in range(2, 7):
    ask(*[4] * length)
  assert count() == before
  ask(*[4] * 7)
  assert count() == (before[0] + 1, before[1] + 1)
  with pytest.raises(ValueError, match=r"takes 49 tokens .* was trained with 6; ask in at most 48"):
    ask(*[4] * 49)


# ---- text


@pytest.fixture(scope="module")
def tokenizer():
  return Tokenizer.train(["What is 7+8? 7+8=15 <think>", "wait, no: 中文 answer"] * 20, 320)


@given(st.data())
@check
def test_text_from_tokens_as_they_come_is_the_text_of_all(tokenizer, data):
  texts = st.text("aé中😀 1", max_size=4).map(tokenizer.encode)
  ids = data.draw(st.lists(texts | st.lists(st.integers(0, tokenizer.size + 3), max_size=6), max_size=6))
  ids = [id for some in ids for id in some]
  pieces = Pieces(tokenizer.decode)
  assert "".join(map(pieces.feed, ids)) + pieces.flush() == tokenizer.decode(ids)


def test_a_character_of_several_bytes_is_shown_once_it_is_whole(tokenizer):
  pieces, ids = Pieces(tokenizer.decode), tokenizer.encode("😀a")
  assert [pieces.feed(id) for id in ids] == ["", "", "", "😀", "a"]


def merged(parts):
  """Neighbouring parts of the same section as one."""
  found = []
  for section, text in parts:
    if found and found[-1][0] == section:
      found[-1][1] += text
    else:
      found.append([section, text])
  return found


@given(st.lists(st.sampled_from([*TAGS, "<", "<th", "ink>", "</", "a", " ", "|>", "<|us"]), max_size=12), st.data())
@check
def test_sections_do_not_depend_on_how_the_text_arrives(parts, data):
  text = "".join(parts)
  cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
  whole, slowly = Sections(), Sections()
  expected = merged([*whole.feed(text), *whole.flush()])
  pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
  assert merged([p for piece in pieces for p in slowly.feed(piece)] + list(slowly.flush())) == expected
  assert not [tag for tag in TAGS for _, part in expected if tag in part and part != text]


def test_a_prefill_that_opens_the_thought_begins_in_it():
  assert list(Sections("<think>\n").feed("so</think>5")) == [(THOUGHT, "so"), (ANSWER, "5")]


@given(st.text())
@check
def test_nothing_that_could_steer_a_terminal_is_shown(text):
  shown = visible(text)
  assert all(
    c in "\n\t\u200c\u200d" or unicodedata.category(c)[0] in "LMNPS" or unicodedata.category(c) == "Zs" for c in shown
  )


@pytest.mark.parametrize(
  ("text", "shown"),
  [
    ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ("a\rb\x9b2J\x08", "a\\rb\\x9b2J\\x08"),
    ("\u202egnp\u2066", "\\u202egnp\\u2066"),
    ("答案是\u300020，😀\n\té", "答案是\u300020，😀\n\té"),
  ],
)
def test_control_characters_are_shown_escaped_and_languages_as_they_are(text, shown):
  assert visible(text) == shown


def screen(dims):
  file = io.StringIO()
  console = rich.console.Console(file=file, force_terminal=dims, color_system="standard" if dims else None, width=20)
  return Screen(console, dims), file


def test_a_thought_is_dimmed_where_that_can_be_and_quoted_where_not():
  for dims, expected in (
    (True, "\x1b[2m7+8\x1b[0m\n\x1b[2m=15 [b]\x1b[0m\n15 and more than one line of it\n"),
    (False, "| 7+8\n| =15 [b]\n15 and more than one line of it\n"),
  ):
    shown, file = screen(dims)
    for part in (
      (THOUGHT, "\n"),
      (THOUGHT, "7+8\n=15"),
      (THOUGHT, " "),
      (THOUGHT, "[b]\n\n"),
      (ANSWER, "\n15 and more"),
    ):
      shown.write(*part)
    shown.write(ANSWER, " than one line of it \n")
    shown.end()
    assert file.getvalue().replace("\x1b[0m\x1b[2m", "") == expected


# ---- folders


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
  """The folder of a run with random weights: base, zero and a student are finished; others are no policies."""
  small = main.load(str(ROOT / "tests/experiments/small.py"))
  base, zero = small.stages
  zero.template = config.Template(text="{question}:", prefill="<think>")
  student = config.Model(
    vocab=320, width=16, layers=1, hidden=16, attention=config.GroupedQueryAttention(heads=2, kv_heads=1, head=8),
    activations="float32", remat="none",
  )  # fmt: skip
  small.stages = (
    base,
    zero,
    config.Rejection(
      name="rejection", start_from="zero", prompts=2, prompts_at_once=2, samples=2, template=zero.template,
      sampling=zero.sampling, rewards=zero.rewards,
    ),
    config.RewardModel(
      name="helpful", data=(), template=zero.template, length=64, optimizer=base.optimizer, checkpoints=base.checkpoints
    ),
    dataclasses.replace(base, name="student", model=student),
    dataclasses.replace(zero, name="later", start_from="student"),
  )  # fmt: skip
  run = tmp_path_factory.mktemp("runs") / "small"
  claim(run, small)
  tokenizer = Tokenizer.train(["What is 7+8? 7+8=15 <think>", "Solve x+5=9."] * 20, 300)
  with jax.set_mesh(mesh.make(config.Mesh(), jax.devices()[:1])):
    for stage in small.stages:
      tokenizer.save(run / stage.name / "tokenizer")
      if stage.makes != "policy" or stage.name == "later":
        continue
      params = states.init_params(small.model_of(stage), 3)
      with Checkpoints(run / stage.name / "checkpoints", 1, 1) as checkpoints:
        checkpoints.save_if_due(7, 7, {"params": params, "step": np.int32(7)}, {})
      write_json(run / stage.name / "stage.json", {})
  question = {"question": "What is 7+8?", "domain": "arithmetic", "language": "en"}
  (run / "zero/samples.jsonl").write_text(json.dumps(question) + "\n")
  return run, small


def test_what_a_stage_was_is_read_back_from_its_run(whole_run):
  run, small = whole_run
  for name, model in (("zero", small.model), ("student", small.stages[4].model)):
    stage = finished.read(run / name)
    assert (stage.name, stage.model, stage.sampling) == (name, model, small.evaluation.sampling)
  assert finished.read(run / "zero").template == small.stages[1].template
  assert finished.read(run / "base").template == small.evaluation.template
  assert finished.read(run / "zero").examples() == ["What is 7+8?"] and finished.read(run / "base").examples() == []
  assert finished.policies(run) == ["base", "zero", "student"]
  write_json(run / "later/stage.json", {})
  shutil.copytree(run / "student/checkpoints", run / "later/checkpoints")
  try:
    assert finished.read(run / "later").model == small.stages[4].model  # that of what it starts from
  finally:
    (run / "later/stage.json").unlink()
    shutil.rmtree(run / "later/checkpoints")


@pytest.mark.parametrize("model", [models.deepseek_v3_671b(), models.tiny()])
def test_a_model_survives_being_written_and_read_back(model):
  assert finished.revive(json.loads(json.dumps(config_dict(model)))) == model


CHOICE = "those that can be talked to are base, zero, student, as in {run}/student."


@pytest.mark.parametrize(
  ("folder", "sentence"),
  [
    ("", "{run} is a whole run; " + CHOICE),
    ("zreo", "'zreo' is no stage of the run in {run}; " + CHOICE),
    ("rejection", "stage 'rejection' made completions, which SFT learns from; " + CHOICE),
    ("helpful", "stage 'helpful' made a reward model, which scores and does not write; " + CHOICE),
    ("later", "stage 'later' in {run} is not finished; " + CHOICE),
    ("zero/checkpoints", "{run}/zero/checkpoints is a part of a stage; name its folder: {run}/zero."),
    ("zero/checkpoints/7", "{run}/zero/checkpoints/7 is a part of a stage; name its folder: {run}/zero."),
    ("..", "{above} has no config.json of a run above it; name the folder of a finished stage, as in runs/<run>/<stage>."),
    ("../x/y", "{above}/x/y does not exist; name the folder of a finished stage, as in runs/<run>/<stage>."),
  ],
)  # fmt: skip
def test_a_folder_that_cannot_be_talked_to_is_one_sentence(whole_run, folder, sentence):
  run, _ = whole_run
  with pytest.raises(ValueError) as error:
    finished.read(run / folder)
  assert str(error.value) == sentence.format(run=run, above=run.parent)
  assert errors.sentence(error.value) == str(error.value)


def test_a_config_of_another_version_is_one_sentence():
  record = config_dict(config.Template(text="{question}"))
  with pytest.raises(ValueError, match=r"Template has a field 'colour' that this version .* use the version that made"):
    finished.revive(record | {"colour": "red"})
  with pytest.raises(ValueError, match="missing 1 required keyword-only argument: 'text'"):
    finished.revive({"class": "Template"})
  with pytest.raises(ValueError, match="'Painting', which is no class"):
    finished.revive({"class": "Painting"})


# ---- conversation


@pytest.fixture
def talker(whole_run):
  """Makes a Conversation with zero; what it shows is in its file."""

  def make(**wishes):
    file = io.StringIO()
    console = rich.console.Console(file=file, color_system=None, width=200)
    return chat.Conversation(str(whole_run[0] / "zero"), chat.Wishes(**wishes), console, False), file

  return make


def test_what_a_hostile_model_writes_reaches_the_terminal_escaped(talker, monkeypatch):
  talk, file = talker()
  ids = talk.stage.tokenizer.encode("\x1b[31mred\x07</think>\x9b2J15")
  monkeypatch.setattr(decoding, "stream", lambda *_, **__: iter([*ids, talk.stage.tokenizer.end]))
  assert talk.ask("?") == (len(ids) + 1, pytest.approx(0, abs=5), "")
  assert file.getvalue() == "| \\x1b[31mred\\x07\n\\x9b2J15\n"


def test_the_same_seed_gives_the_same_answers_and_again_another_one(talker):
  shown = []
  for seed in (0, 0, 1):
    talk, file = talker(seed=seed, max_tokens=8)
    talk.ask("What is 7+8?")
    first = file.getvalue()
    assert talk.obey("/again")
    shown.append((first, file.getvalue()[len(first) :].rsplit("(", 1)[0]))
  assert shown[0] == shown[1] != shown[2]
  assert shown[0][0] != shown[0][1]


def test_the_stage_is_switched_on_the_fly_and_asked_the_same_question(talker, monkeypatch):
  talk, file = talker()
  asked = []
  monkeypatch.setattr(talk, "ask", lambda question: asked.append((talk.stage.name, question)) or chat.Facts(1, 0.0, ""))
  talk.ask("What is 7+8?")
  talk._question = "What is 7+8?"
  for line in ("/stage student", "/again", "/stage bas", "/stage rejection", "/stage", "/nonsense"):
    assert talk.obey(line)
  assert asked == [("zero", "What is 7+8?"), ("student", "What is 7+8?")]
  assert "This is student now. /again asks it the last question." in file.getvalue()
  assert "There is no finished stage 'bas'; did you mean 'base'?" in file.getvalue()
  assert "There is no finished stage 'rejection'; there are base, zero, student." in file.getvalue()
  assert "There is no command /nonsense; /help lists them." in file.getvalue()
  assert not talk.obey("/quit")


def test_a_question_that_is_too_long_is_told_and_the_chat_goes_on(talker):
  talk, file = talker()
  talk.answer("what " * 500)
  assert "tokens with its template, but this model was trained with 24; ask in at most 192." in file.getvalue()
  assert talk.obey("/again") and file.getvalue().endswith("There is no question yet.\n")


# ---- the program

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {
  "JAX_PLATFORMS": "cpu",
  "PYTHONPATH": str(ROOT),
  "PYTHONUTF8": "1",
  "TERM": "xterm",
  "JAX_COMPILATION_CACHE_DIR": str(ROOT / "tests/.jax_cache"),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


def command(*args):
  return [sys.executable, "-m", "r1jax.chat", *map(str, args)]


def test_a_piped_question_is_answered_and_the_program_ends(whole_run):
  run, _ = whole_run
  ended = subprocess.run(
    command(run / "zero", "--max_tokens=5", "--temperature=0"), input="What is\n7+8?\n", cwd=ROOT, env=ENVIRONMENT,
    capture_output=True, text=True, timeout=100,
  )  # fmt: skip
  assert (ended.returncode, ended.stderr) == (0, "(cut at the limit of 5 tokens)\n")
  assert ended.stdout.startswith("| ") and ended.stdout.endswith("\n") and "\x1b" not in ended.stdout


@pytest.mark.parametrize(
  ("args", "sentence"),
  [
    (["nowhere/at/all"], "nowhere/at/all does not exist; name the folder of a finished stage"),
    (["x", "--temperature=-1"], "argument --temperature: -1 must be at least 0"),
    (["x", "--top_p=1.5"], "argument --top_p: 1.5 must be at least 0 and at most 1"),
    (["x", "--max_tokens=0"], "argument --max_tokens: 0 must be at least 1"),
    (["x", "--seed=one"], "argument --seed: invalid int value: 'one'"),
  ],
)
def test_a_mistake_on_the_command_line_is_told(args, sentence, capsys):
  from r1jax.chat import __main__ as program

  try:
    code = program.main(args)
  except SystemExit as end:
    code = end.code
  assert code == 2 and sentence in capsys.readouterr().err


class Terminal:
  """A program with a terminal of its own."""

  def __init__(self, *args):
    self._file, self._other = pty.openpty()  # the other end stays open: reads fail while nobody has it
    # The first terminal that the leader of a new session opens is the one whose Ctrl-C it gets.
    shell = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(self._other), *command(*args)]
    self.program = subprocess.Popen(shell, cwd=ROOT, env=ENVIRONMENT, start_new_session=True)
    self.shown = ""

  def wait(self, text: str, limit_s: float = 120.0) -> str:
    """What is shown up to `text`, from where the last call ended."""
    before, end = len(self.shown), time.monotonic() + limit_s
    while text not in self.shown[before:]:
      assert time.monotonic() < end, f"{text!r} is not in {self.shown[before:]!r}"
      if select.select([self._file], [], [], 0.1)[0]:
        self.shown += os.read(self._file, 65536).decode(errors="replace")
      else:
        assert self.program.poll() is None, f"the program ended after {self.shown!r}"
    return self.shown[before:]

  def type(self, text: str):
    os.write(self._file, text.encode())

  def close(self):
    self.program.kill()
    self.program.wait()
    os.close(self._file)
    os.close(self._other)


def test_a_conversation_in_a_terminal(whole_run):
  terminal = Terminal(whole_run[0] / "zero", "--temperature=0", "--max_tokens=100000")
  try:
    greeting = terminal.wait("zero> ")
    assert "the likeliest token" in greeting and "for example: What is 7+8?" in greeting
    terminal.type("/help\r")
    assert "every question stands alone" in terminal.wait("zero> ")
    terminal.type("What is 7+8?\r")
    terminal.wait("\x1b[2m")  # the template opens the thought
    time.sleep(0.3)
    terminal.type("\x03")  # Ctrl-C stops the answer
    assert ", stopped)" in terminal.wait("zero> ")
    terminal.type("half a line")
    terminal.wait("half a line")
    time.sleep(0.5)  # a signal just before readline waits for the next key is only seen with that key
    terminal.type("\x03")  # at the prompt it leaves only the line
    assert "Ctrl-D or /quit leaves." in terminal.wait("zero> ")
    terminal.type("/stage student\r")
    assert "This is student now." in terminal.wait("student> ")
    terminal.type("\x04")  # Ctrl-D leaves
    assert terminal.program.wait(20) == 0
  finally:
    terminal.close()
