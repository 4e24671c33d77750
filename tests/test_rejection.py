"""Rejection sampling on a tiny random model: what is kept, that a killed run goes on, and the figures."""

from collections import Counter
import contextlib
import dataclasses
import hashlib
import json
import shutil
from typing import ClassVar

import jax
import numpy as np
import pytest

from r1jax import config, mesh
from r1jax.data import completions, problems as data
from r1jax.data.generated import ProblemSource
from r1jax.data.prompts import Prompter
from r1jax.data.refine import ModelRefiner
from r1jax.data.tokenizer import Tokenizer
from r1jax.rewards import Preference, Scorer, Verdict
from r1jax.stages import evaluate, rejection
from r1jax.stages.run import Run
from r1jax.training import state as states
from tests.experiments import small

SAMPLES, AT_ONCE = 8, 4
SAMPLING = dataclasses.replace(small.SAMPLING, top_k=8)  # so that some of a group are the same


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Even:
  """Right is what has an even number of characters."""

  weight: float = 1.0
  name: ClassVar[str] = "even"

  def __call__(self, problem, response, prefill=""):
    return float(len(response) % 2 == 0)

  def bounded(self, problem, response, prefill=""):
    return True


class Odd(Even):
  """Right is what has an odd number of characters."""

  __slots__ = ()

  def __call__(self, problem, response, prefill=""):
    return float(len(response) % 2)


class Never(Even):
  __slots__ = ()

  def __call__(self, problem, response, prefill=""):
    return 0.0


class Unsure(Even):
  """Like a judge that fails on every third length."""

  __slots__ = ()
  grades: ClassVar[bool] = True

  def __call__(self, problem, response, prefill=""):
    if len(response) % 3 == 0:
      return Verdict(None, "judge failed")
    return Verdict(1.0, "right") if len(response) % 2 == 0 else Verdict(0.0, "wrong")


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Picky:
  """Has something against an e, and against a question with a 9."""

  def reasons(self, problem, response, prefill=""):
    letters = response.removeprefix("<think>").count("e")
    return [f"letter e: {letters} of them"] * bool(letters) + ["nine"] * ("9" in problem.question)


class Repeating:
  """Problems of which every fifth is one that was there before."""

  def __init__(self, problems):
    self.problems = problems

  def __getitem__(self, index):
    return self.problems[index - 4 if index % 5 == 4 else index]


@config.config
class General:
  """Rows beside the sampled ones."""

  count: int

  def open(self, run_folder):
    return [
      {"id": f"g{i}", "prompt": f"q{i}", "completion": f"reply {i}", "domain": "general", "language": "en",
       "kind": "open", "answer": "", "level": 1, "tokens": None, "source": "general", "round": 1}
      for i in range(self.count)
    ]  # fmt: skip


@config.config
class Shouting:
  """A refiner that shouts; it gives up on some responses, and breaks others."""

  @contextlib.contextmanager
  def open(self):
    yield self

  def refine(self, rows, problems):
    return [shouted(row["response"]) for row, _ in zip(rows, problems, strict=True)]


def shouted(text):
  """None for some texts, of odd length for others, with letters e for others."""
  number = sum(map(ord, text)) % 5
  text = "<think>" + text.upper() + "ee" * (number == 2)
  return text + "!" * (len(text) % 2 + (number == 1)) if number else None


def stage(**fields):
  return config.Rejection(
    **{
      "name": "rejection", "prompts": 28, "prompts_at_once": AT_ONCE, "samples": SAMPLES, "keep": 2,
      "template": small.TEMPLATE, "sampling": SAMPLING, "rewards": (Even(),), "reward_workers": 1,
      "filters": (Picky(),), "beside": (General(count=30),), "ratio": 2.0,
    } | fields
  )  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
  e = small.get_config()
  return Tokenizer.train(data.documents(e.playground, small.TEMPLATE, 0), 320)


@pytest.fixture
def params(tokenizer):
  return policy(tokenizer)


def policy(tokenizer):
  """Parameters of a policy that ends about every other response early: the end token's logit is spread wide."""
  params = states.init_params(small.model(), 0)
  head = np.array(params["head"])
  head[tokenizer.end] *= 6
  return params | {"head": jax.device_put(head, params["head"].sharding)}


def a_run(tokenizer, folder, **fields):
  e = dataclasses.replace(small.get_config(), stages=(stage(**fields),))
  problems = Repeating(ProblemSource(e.playground, 0))
  return Run(experiment=e, workdir=folder, tokenizer=tokenizer, held_out=(), problems={"rejection": problems})


def make(tokenizer, params, folder, **fields):
  run = a_run(tokenizer, folder, **fields)
  return run, rejection.run(run.experiment.stages[0], run, params)


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
  """(run, figures) of one uninterrupted stage."""
  with jax.set_mesh(mesh.make(config.Mesh(), jax.devices()[:1])):
    return make(tokenizer, policy(tokenizer), tmp_path_factory.mktemp("whole"))


def by_hand(run, params):
  """Every completion to every different question, drawn without the others: (problem, text, tokens, ended)."""
  a_stage, problems = run.experiment.stages[0], []
  for index in range(a_stage.prompts):
    problem = run.problems["rejection"][index]
    if not any(problem.id == p.id and problem.language == p.language for p in problems):
      problems.append(problem)
  drawn = []
  for number, problem in enumerate(problems):
    call, row = divmod(number, AT_ONCE)
    key = jax.random.fold_in(jax.random.key(rejection.digest(run, a_stage, "sampling")), call)
    prompts = data.make_prompts(
      [problem] * AT_ONCE, Prompter(small.TEMPLATE, run.tokenizer), small.SAMPLING.max_prompt, row
    )
    rollouts = evaluate.draw(run, run.policy(a_stage, params), prompts, key, SAMPLING, SAMPLES)
    for g in range(SAMPLES):
      tokens = rollouts.tokens[0, g, : rollouts.lengths[0, g]].tolist()
      drawn.append((problem, run.tokenizer.decode(tokens), len(tokens), tokens[-1] == run.tokenizer.end))
  return drawn


def kept_by_hand(drawn, keep):
  """{(id, language): texts} of what rejection should keep of it, and how many it should leave out, by reason."""
  kept, left_out = {}, Counter()
  for problem, _, _, _ in drawn[::SAMPLES]:
    mine, fine = [d for d in drawn if d[0] is problem], []
    for place, (_, text, tokens, ended) in enumerate(mine):
      if not ended:
        left_out["truncated"] += 1
      elif len(text) % 2:
        left_out["wrong"] += 1
      elif "e" in text:
        left_out["letter e"] += 1
      elif "9" in problem.question:
        left_out["nine"] += 1
      elif text in [other for _, _, other in fine]:
        left_out["duplicate"] += 1
      else:
        fine.append((tokens, place, text))
    left_out["over keep"] += max(0, len(fine) - keep)
    if fine:
      kept[problem.id, problem.language] = [text for _, _, text in sorted(fine)[:keep]]
  return kept, +left_out


# ---- what is kept


def test_kept_rows_are_those_of_a_slow_recomputation(whole, tokenizer):
  run, figures = whole
  kept, left_out = kept_by_hand(by_hand(run, policy(tokenizer)), keep=2)
  assert len(left_out) >= 4 and left_out["duplicate"] + left_out["over keep"] and len(kept) >= 4
  rows = [row for row in lines(run.folder("rejection") / "data.jsonl") if row["source"] == "rejection"]
  found = {}
  for row in rows:
    found.setdefault((row["id"], row["language"]), []).append(row["completion"])
  assert {key: sorted(texts) for key, texts in found.items()} == {key: sorted(texts) for key, texts in kept.items()}
  assert figures["statistics"]["left_out"] == left_out


def test_a_row_has_the_columns_of_the_contract(whole, tokenizer):
  run, _ = whole
  rows = lines(run.folder("rejection") / "data.jsonl")
  assert all(tuple(row) == completions.COLUMNS for row in rows)
  problems = {(p.id, p.language): p for p in (run.problems["rejection"][i] for i in range(28))}
  for row in rows:
    assert row["tokens"] == len(tokenizer.encode(row["completion"]))
    if row["source"] == "rejection":
      problem = problems[row["id"], row["language"]]
      assert row["prompt"] == problem.question and row["answer"] == problem.answer and row["kind"] == problem.kind


def test_general_rows_are_mixed_in_at_the_ratio(whole):
  run, figures = whole
  sources = [row["source"] for row in lines(run.folder("rejection") / "data.jsonl")]
  count = Counter(sources)
  assert count["general"] == count["rejection"] // 2 and figures["rows"] == len(sources)
  assert sources != sorted(sources) and sources != sorted(sources, reverse=True)  # shuffled
  general = [row["id"] for row in lines(run.folder("rejection") / "data.jsonl") if row["source"] == "general"]
  assert len(set(general)) == len(general)


def test_without_a_ratio_all_general_rows_are_there(tokenizer, params, tmp_path):
  _, figures = make(tokenizer, params, tmp_path, prompts=4, ratio=0.0)
  assert figures["statistics"]["sources"]["general"] == 30


def test_general_rows_are_read_before_anything_is_sampled(tokenizer, params, tmp_path, monkeypatch):
  monkeypatch.setattr(evaluate, "draw", lambda *args: pytest.fail("sampled first"))
  with pytest.raises(ValueError, match="holds no rows"):
    (tmp_path / "empty.jsonl").write_text("")
    make(tokenizer, params, tmp_path, beside=(completions.Completions(path=f"{tmp_path}/empty.jsonl"),))


def test_the_prefill_is_part_of_the_completion(tokenizer, params, tmp_path):
  template = dataclasses.replace(small.TEMPLATE, prefill="<think>")
  run, _ = make(tokenizer, params, tmp_path, prompts=8, template=template, beside=())
  rows = lines(run.folder("rejection") / "data.jsonl")
  assert rows and all(row["completion"].startswith("<think>") for row in rows)


# ---- a refiner


def test_what_a_refiner_breaks_or_cannot_rewrite_is_lost(whole, tokenizer, params, tmp_path):
  plain = [row for row in lines(whole[0].folder("rejection") / "data.jsonl") if row["source"] == "rejection"]
  run, figures = make(tokenizer, params, tmp_path, refiner=Shouting(), beside=())
  found = sorted(row["completion"] for row in lines(run.folder("rejection") / "data.jsonl"))
  left_out, expected = Counter(whole[1]["statistics"]["left_out"]), []
  for row in plain:
    text = shouted(row["completion"])
    if text is None:
      left_out["refiner: none"] += 1
    elif len(text) % 2:
      left_out["refiner: wrong"] += 1
    elif text.rstrip("!").endswith("ee"):
      left_out["refiner: letter e"] += 1
    else:
      expected.append(text)
  assert found == sorted(expected)
  assert figures["statistics"]["left_out"] == left_out
  assert left_out["refiner: none"] and left_out["refiner: wrong"] and left_out["refiner: letter e"]


def test_refined_rewards_judge_in_place_of_the_rewards(tokenizer, params, tmp_path):
  run, _ = make(tokenizer, params, tmp_path, refiner=Shouting(), refined_rewards=(Odd(),), beside=())
  assert all(len(row["completion"]) % 2 for row in lines(run.folder("rejection") / "data.jsonl"))


# ---- kills


@pytest.mark.parametrize("draws", [1, 3, 4])
def test_a_killed_stage_goes_on_and_ends_with_the_same_bytes(draws, whole, tokenizer, params, tmp_path, monkeypatch):
  done, original = [], evaluate.draw

  def draw(*args):
    done.append(args)
    if len(done) == draws:
      raise KeyboardInterrupt
    return original(*args)

  monkeypatch.setattr(evaluate, "draw", draw)
  with pytest.raises(KeyboardInterrupt):
    make(tokenizer, params, tmp_path)
  calls = tmp_path / "rejection/calls.jsonl"
  before = len(lines(calls)) if calls.exists() else 0
  calls.parent.mkdir(exist_ok=True)
  with open(calls, "ab") as file:
    file.write(b'{"rows": [{"id": "arith')  # the kill came in the middle of a line
  _, figures = make(tokenizer, params, tmp_path)
  assert len(done) == draws + 6 - before and before == max(0, draws - 2)
  assert figures == whole[1]
  for name in ("data.jsonl", "statistics.json", "calls.jsonl"):
    assert (tmp_path / "rejection" / name).read_bytes() == (whole[0].folder("rejection") / name).read_bytes()


def test_a_stage_killed_after_its_last_call_draws_nothing_again(whole, tokenizer, params, tmp_path, monkeypatch):
  shutil.copytree(whole[0].workdir, tmp_path, dirs_exist_ok=True)
  (tmp_path / "rejection/data.jsonl").unlink()
  monkeypatch.setattr(evaluate, "draw", None)
  assert make(tokenizer, params, tmp_path)[1] == whole[1]
  wrote = (tmp_path / "rejection/data.jsonl").read_bytes()
  assert wrote == (whole[0].folder("rejection") / "data.jsonl").read_bytes()


def test_another_seed_or_name_draws_other_completions(whole, tokenizer):
  run, other = whole[0], dataclasses.replace(whole[0].experiment, seed=1)
  a_stage = run.experiment.stages[0]
  numbers = {
    rejection.digest(run, a_stage, "sampling"),
    rejection.digest(run, a_stage, "order"),
    rejection.digest(dataclasses.replace(run, experiment=other), a_stage, "sampling"),
    rejection.digest(run, dataclasses.replace(a_stage, name="other"), "sampling"),
  }
  assert len(numbers) == 4


# ---- the figures


def test_the_statistics_are_those_of_the_rows(whole, tokenizer):
  run, figures = whole
  rows = lines(run.folder("rejection") / "data.jsonl")
  statistics = json.loads((run.folder("rejection") / "statistics.json").read_text())
  assert statistics == figures["statistics"]
  math = [row for row in rows if row["domain"] in ("arithmetic", "equations")]
  general = [row for row in rows if row["domain"] == "general"]
  for name, members in (("math", math), ("general", general), ("total", rows)):
    tokens = sum(row["tokens"] for row in members) / len(members)
    assert statistics["groups"][name] == {"rows": len(members), "rounds": 1.0, "tokens": pytest.approx(tokens)}
  assert list(statistics["groups"]) == ["math", "general", "total"]
  content = (run.folder("rejection") / "data.jsonl").read_bytes()
  assert figures["data_sha256"] == hashlib.sha256(content).hexdigest()


def test_every_response_is_counted_once(whole, tokenizer):
  run, figures = whole
  statistics = figures["statistics"]
  drawn = by_hand(run, policy(tokenizer))
  assert statistics["questions"] == 23 and statistics["questions_twice"] == 5
  assert statistics["responses"] == len(drawn) == statistics["kept"] + sum(statistics["left_out"].values())
  assert statistics["right"] == sum(len(text) % 2 == 0 for _, text, _, _ in drawn)
  for domain, numbers in statistics["domains"].items():
    mine = [d for d in drawn if d[0].domain == domain]
    rows = lines(run.folder("rejection") / "data.jsonl")
    kept = sum(row["domain"] == domain and row["source"] == "rejection" for row in rows)
    assert numbers["responses"] == len(mine) == SAMPLES * numbers["questions"]
    assert numbers["right"] == sum(len(text) % 2 == 0 for _, text, _, _ in mine)
    accepted = [
      text for problem, text, _, ended in mine
      if ended and len(text) % 2 == 0 and "e" not in text and "9" not in problem.question
    ]  # fmt: skip
    assert numbers["kept"] == kept and numbers["accepted"] == len(accepted) > kept
    assert numbers["acceptance"] == pytest.approx(len(accepted) / len(mine))


# ---- what goes wrong


def test_a_stage_that_keeps_nothing_says_why(tokenizer, params, tmp_path):
  with pytest.raises(RuntimeError, match=r"none of 32 responses is kept: \d+ wrong, \d+ truncated; raise samples or"):
    make(tokenizer, params, tmp_path, prompts=4, rewards=(Never(),))


def test_what_a_judge_failed_on_is_told_apart_from_what_is_wrong(tokenizer, params, tmp_path):
  _, figures = make(tokenizer, params, tmp_path, rewards=(Unsure(),), filters=(), beside=())
  left_out = figures["statistics"]["left_out"]
  assert left_out["judge failed"] and left_out["wrong"]
  assert figures["statistics"]["accepted"] + left_out["truncated"] + left_out["wrong"] + left_out["judge failed"] == 184


def test_a_refiner_that_is_never_right_ends_the_stage_early(tokenizer):
  problem = ProblemSource(small.get_config().playground, 0)[0]
  with Scorer((Never(),), None) as scorer, pytest.raises(RuntimeError, match="none of 32 completions.*refined_rewards"):
    rejection.refined(stage(), tokenizer, scorer, Shouting(), [(problem, f"b{1 + i % 2}") for i in range(32)])


def test_parts_of_several_processes_are_joined_in_their_order(tmp_path, monkeypatch):
  row = lambda number: {"id": str(number)}
  monkeypatch.setattr(
    rejection.mesh, "of_parts", lambda part: [part, {"rows": [row(2)], "counts": {"a": 1, "b": {"c": 2}}}]
  )
  journal = rejection.Journal(tmp_path / "calls.jsonl")
  journal.add([row(1)], {"a": 3, "b": {"d": 1}})
  journal.add([row(3)], {"a": 1})
  again = rejection.Journal(tmp_path / "calls.jsonl")
  assert [each["id"] for each in again.rows] == ["1", "2", "3", "2"] and again.done == 2
  assert again.counts == journal.counts == {"a": 6, "b": {"c": 4, "d": 1}}


# ---- schedules that cannot work


@pytest.mark.parametrize(
  ("fields", "fact"),
  [
    ({"keep": 9}, "keep=9 of samples=8 cannot be kept"),
    ({"filters": (Even(),)}, r"filters: Even\(weight=1.0\) has no method reasons"),
    ({"rewards": (Preference(stage="helpful"),)}, "rewards take the reward model 'helpful', which only an RL stage"),
    ({"rewards": ()}, "rewards is empty"),
    ({"prompts": 30}, "prompts=30 must be a multiple of prompts_at_once=4; the nearest is 28"),
    ({"beside": (completions.Made(stage="a/b"),)}, "Made.stage='a/b' must be the name of a stage"),
    ({"refiner": ModelRefiner(engine=None, max_characters=3)}, "refiner.max_characters=3 must be at least 100"),
  ],
)
def test_a_stage_that_cannot_work_is_refused(fields, fact):
  with pytest.raises(ValueError, match=fact):
    stage(**({"beside": ()} | fields)).validate()
