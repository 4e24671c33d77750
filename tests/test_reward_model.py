"""Reward models end to end on a rule they can learn: training, resuming, measuring, and scoring in RL."""

import dataclasses
import functools
import gc
import json
import types

import jax
import numpy as np
import pytest

from r1jax import config
from r1jax.data import preferences as data
from r1jax.data.generated import PlaygroundProblems, ProblemSource
from r1jax.data.mixture import Mixture
from r1jax.data.preferences import Labels, Pairs
from r1jax.data.problems import held_out_problems
from r1jax.data.tokenizer import Tokenizer
from r1jax.models import reward_head, transformer
from r1jax.rewards import ByDomain, Clipped, Format, Gated, Preference, Rubric
from r1jax.stages import critics, reward_model, rl, watch
from r1jax.stages.run import Run
from r1jax.training import metrics, state as states
from r1jax.training.checkpoints import Checkpoints, params_sha256
from r1jax.training.workdir import write_json

# A failed read leaves futures behind that nobody awaits; Python mentions them when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TEMPLATE = config.Template(text="<|user|>{question}<|assistant|>")
WORDS = "the cat sat on a red mat and saw two dogs run home".split()
SAMPLING = config.Sampling(max_prompt=32, max_response=24, chunk=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A file of pairs and one of labels: what is good says "please", what is unsafe "fire"."""
  rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("preferences")
  says = lambda word: " ".join(rng.permutation([word, *rng.choice(WORDS, 4)]))
  pairs, labels = [], []
  for i in range(160):
    prompt = f"Say {rng.choice(WORDS)} {i}."
    pairs.append({"prompt": prompt, "chosen": f"<think>no</think>{says('please')}", "rejected": says("no")})
    labels.append({"prompt": prompt, "response": says("fire" if i % 3 == 0 else "please"), "safe": i % 3 != 0})
  for name, rows in (("pairs", pairs), ("labels", labels)):
    (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


@pytest.fixture(scope="module")
def tokenizer(folder):
  rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
  return Tokenizer.train([f"{row['prompt']} {row['chosen']} fire {row['rejected']}" for row in rows], 400)


@pytest.fixture(scope="module")
def model(tiny_model, grouped_query):
  return tiny_model(vocab=400, layers=1, attention=grouped_query, experts=None, unroll=True)


@pytest.fixture
def make_run(model, tokenizer):
  """A Run in a folder with these stages."""

  def make(workdir, *stages):
    world = config.Playground(
      domains=("writing", "arithmetic"), levels=(1,), mix=config.Mix(), documents=10, evaluation_problems=2
    )
    evaluation = config.Evaluation(samples=1, majority=1, sampling=SAMPLING, template=TEMPLATE, problems_at_once=2)
    experiment = config.Experiment(
      name="small", playground=world, model=model, mesh=config.Mesh(), stages=stages, evaluation=evaluation
    )
    held_out = held_out_problems(experiment)
    return Run(experiment=experiment, workdir=workdir, tokenizer=tokenizer, held_out=held_out)

  return make


def helpful(folder, **fields):
  defaults = dict(
    name="helpful_rm", data=(Pairs(path=str(folder / "pairs.jsonl")),), template=TEMPLATE, epochs=6, rows=16, length=24,
    held_out=0.2, optimizer=config.Optimizer(learning_rate=1e-2, warmup=3, final_rate=0.1),
    checkpoints=config.Checkpoints(every=5),
  )  # fmt: skip
  stage = config.RewardModel(**(defaults | fields))
  stage.validate()
  return stage


def safety(folder, **fields):
  labels = (Labels(path=str(folder / "labels.jsonl")),)
  return helpful(folder, name="safety_rm", data=labels, loss="pointwise", reads="response", **fields)


def train(run, stage):
  """Trains a stage from a random policy and writes its figures, as the pipeline does."""
  figures = reward_model.run(stage, run, states.init_params(run.experiment.model, 3))
  write_json(run.folder(stage.name) / "stage.json", figures)
  return figures


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
  """Where both models are trained once; filled by the first test that needs it."""
  return tmp_path_factory.mktemp("trained")


@pytest.fixture
def run(make_run, folder, trained):
  run = make_run(trained, helpful(folder), safety(folder))
  for stage in run.experiment.stages:
    if not run.finished(stage.name):
      train(run, stage)
  return run


def test_a_rule_is_learned_for_prompts_never_seen(run):
  for name in ("helpful_rm", "safety_rm"):
    figures = run.figures(name)
    assert figures["accuracy"] > 0.95
    low, high = figures["accuracy_interval"]
    assert low > 0.8 and low <= figures["accuracy"] <= high
    assert figures["rows"]["training"] + figures["rows"]["held_out"] == 160 and figures["rows"]["too_long"] == 0
    assert abs(figures["rows"]["held_out"] - 32) < 20 and figures["prompts"] == figures["rows"]["held_out"]
    orders = 2 if name == "helpful_rm" else 1
    assert sum(row["count"] for row in figures["calibration"]) == orders * figures["rows"]["held_out"]


def test_the_checkpoint_holds_the_policy_and_the_head(run, model):
  with Checkpoints(run.folder("helpful_rm") / "checkpoints", 1, 100) as checkpoints:
    params = checkpoints.restore_params(abstract_params=states.abstract_params(model, reward_head.declare))
    with pytest.raises(ValueError, match="gives no 'params' of this model"):
      checkpoints.restore_params(abstract_params=states.abstract_params(model))
  gc.collect()  # here, where those warnings are ignored
  assert params_sha256(params) == run.figures("helpful_rm")["params_sha256"]


class Killed(Exception):
  pass


def test_a_killed_run_ends_where_an_uninterrupted_one_does(make_run, folder, run, tmp_path, monkeypatch):
  again, write = make_run(tmp_path, helpful(folder)), metrics.Log.write

  def killed(log, step, numbers):
    if step == 13:
      raise Killed
    return write(log, step, numbers)

  monkeypatch.setattr(metrics.Log, "write", killed)
  with pytest.raises(Killed):
    train(again, again.experiment.stage("helpful_rm"))
  monkeypatch.undo()
  assert train(again, again.experiment.stage("helpful_rm")) == run.figures("helpful_rm")
  steps = [json.loads(line)["step"] for line in (tmp_path / "helpful_rm/metrics.jsonl").read_text().splitlines()]
  assert steps == list(range(len(steps))) and len(steps) > 13


def test_other_data_is_not_gone_on_with(make_run, folder, tmp_path):
  stage = helpful(folder, epochs=1)
  train(make_run(tmp_path, stage), stage)
  rows = (folder / "pairs.jsonl").read_text().splitlines(keepends=True)
  (tmp_path / "pairs.jsonl").write_text("".join(rows[:-20]))
  other = dataclasses.replace(stage, data=(Pairs(path=str(tmp_path / "pairs.jsonl")),))
  with pytest.raises(ValueError, match="stage 'helpful_rm': its data is not that this run was begun with"):
    train(make_run(tmp_path, other), other)


def test_four_devices_and_micro_batches_give_the_same_model_and_figures(make_run, folder, tmp_path, on_devices):
  found = []
  for shape, microbatches in (({}, 1), (dict(data=4), 2)):
    stage = helpful(folder, epochs=2, microbatches=microbatches)
    with on_devices(**shape):
      found.append(train(make_run(tmp_path / str(microbatches), stage), stage))
  one, four = found
  assert one["accuracy"] == four["accuracy"] and one["rows"] == four["rows"]
  for name, value in one["scores"].items():
    assert four["scores"][name] == pytest.approx(value, rel=2e-3)  # 16 steps of Adam apart in float32 sums


def test_rows_that_are_too_long_are_left_out_and_counted(make_run, folder, tokenizer, tmp_path):
  stage = helpful(folder, length=15)
  training, held_out, too_long = reward_model.read(stage, make_run(tmp_path, stage))
  rows = stage.data[0].open(None)
  length = lambda row, name: len(
    tokenizer.encode(f"<|user|>{row['prompt']}<|assistant|>") + tokenizer.encode(row[name].removeprefix("<think>no</think>"))
  ) + 1  # fmt: skip
  expected = sum(max(length(row, "chosen"), length(row, "rejected")) > 15 for row in rows)
  assert 0 < expected == too_long and len(training.ids) + len(held_out.ids) == 160 - expected
  assert not set(training.ids) & set(held_out.ids)
  with pytest.raises(RuntimeError, match="of 160 rows none is to learn from .*160 are longer than length=2"):
    reward_model.read(helpful(folder, length=2), make_run(tmp_path, stage))


def test_a_loss_and_data_of_another_form_do_not_go_together(folder):
  with pytest.raises(ValueError, match="loss='pointwise' learns from labels, but .*pairs.jsonl holds pairs"):
    helpful(folder, loss="pointwise")


# ---- in RL


def problems(*questions, domain="writing"):
  return [types.SimpleNamespace(id=q, question=q, domain=domain, language="en") for q in questions]


@functools.partial(jax.jit, static_argnames="model")
def alone(model, params, ids):
  policy = {key: value for key, value in params.items() if key != "reward_head"}
  out = transformer.apply(model, policy, ids, jax.numpy.arange(ids.shape[1])[None], jax.numpy.ones_like(ids))
  return out.hidden[0, -1] @ params["reward_head"]


def slow_score(run, name, model, prompt, text):
  """The score of one text alone, without padding."""
  with Checkpoints(run.folder(name) / "checkpoints", 1, 100) as checkpoints:
    params = checkpoints.restore_params(abstract_params=states.abstract_params(model, reward_head.declare))
  ids = run.tokenizer.encode(f"<|user|>{prompt}<|assistant|>") + run.tokenizer.encode(text) + [run.tokenizer.end]
  return float(alone(model, params, np.array([ids])))


def rl_stage(rewards, **fields):
  defaults = dict(
    start_from="", steps=4, group_size=4, batch_size=8, rollout_size=16, sampling=SAMPLING, template=TEMPLATE,
    rewards=rewards, kl=0.0, row_length=64, microbatch_rows=4, optimizer=config.Optimizer(learning_rate=1e-3),
    reference_every=2, checkpoints=config.Checkpoints(every=2), preflight=config.Preflight(action="warn"),
    alarms=config.Alarms(), save_rollouts_every=2,
  )  # fmt: skip
  return config.RL(**(defaults | fields))


BOTH = (
  ByDomain({"writing": (Preference(stage="helpful_rm", name="helpful"), Preference(stage="safety_rm", name="safe"))}),
  Format(structure="flexible"),
)


def test_a_critic_reads_what_it_was_trained_to_read_and_standardises(run, model):
  opened = critics.open_critics(rl_stage(BOTH), run)
  asked, long = problems("Say cat 1.", "Say dogs 2.", "Say mat."), " ".join(WORDS * 8)
  texts = ["fire</think>please the cat", "no thought closed", f"</think>{long}"]
  spread = run.figures("helpful_rm")["scores"]
  scores = [slow_score(run, "helpful_rm", model, asked[0].question, "please the cat"), spread["min"]]
  scores.append(slow_score(run, "helpful_rm", model, asked[2].question, long))
  found = opened["helpful_rm"].score(asked, texts, "<think>")
  np.testing.assert_allclose(found, (np.array(scores) - spread["mean"]) / spread["std"], rtol=1e-4, atol=1e-4)
  safe = opened["safety_rm"].score(asked[:1], texts[:1], "<think>")
  logit = slow_score(run, "safety_rm", model, asked[0].question, "<think>fire</think>please the cat")
  np.testing.assert_allclose(safe, [1 / (1 + np.exp(-logit))], rtol=1e-4)
  assert opened["helpful_rm"].score([], []).shape == (0,)


def test_only_rows_of_its_domains_are_asked(run, monkeypatch):
  stage = rl_stage((ByDomain({"writing": (Clipped(Gated(BOTH[0].table[0][1][0], gate=Format()), -2, 2),)}), Format()))
  opened, seen = critics.open_critics(stage, run), []
  score = critics.Critic.score
  monkeypatch.setattr(critics.Critic, "score", lambda self, p, *rest: seen.extend(p) or score(self, p, *rest))
  asked = [*problems("a"), *problems("b", domain="math"), *problems("c")]
  found = critics.judge(opened, stage.rewards, asked, ["please"] * 3, "")
  assert list(found) == ["helpful"] and [p.id for p in seen] == ["a", "c"]
  assert np.isfinite(found["helpful"]).tolist() == [True, False, True]
  assert critics.open_critics(rl_stage((Format(),)), run) == {} == critics.judge({}, (Format(),), asked, [""] * 3, "")


def test_reward_models_score_the_rollouts_of_rl_and_the_oracle_stands_beside_them(run, make_run, trained):
  world = lambda *domains: PlaygroundProblems(
    playground=dataclasses.replace(run.experiment.playground, domains=domains)
  )
  sources = Mixture(sources=(world("writing"), world("arithmetic")))
  template = dataclasses.replace(TEMPLATE, prefill="please ")
  stage = rl_stage(BOTH, problems=sources, name="all_scenarios", template=template)
  mixed = make_run(trained, *run.experiment.stages, stage)
  mixed.problems = {"all_scenarios": stage.problems.open(0)}
  rl.run(stage, mixed, states.init_params(mixed.experiment.model, 1))
  rows = [json.loads(line) for line in (trained / "all_scenarios/metrics.jsonl").read_text().splitlines()]
  assert len(rows) == 4
  written = [json.loads(x) for x in (trained / "all_scenarios/rollouts/step_000002.0.jsonl").read_text().splitlines()]
  given = [row["rewards"].get("helpful") for row in written]
  assert [value is not None for value in given] == [row["domain"] == "writing" for row in written]
  opened = critics.open_critics(stage, mixed)
  general = [row for row in written if row["domain"] == "writing"]
  asked = [types.SimpleNamespace(question=row["question"]) for row in general]
  expected = opened["helpful_rm"].score(asked, [row["response"] for row in general], "please ")
  np.testing.assert_allclose([row["rewards"]["helpful"] for row in general], expected, rtol=1e-5, atol=1e-5)
  assert rows[2]["reward/helpful"] == pytest.approx(float(expected.mean()), rel=1e-4, abs=1e-5)
  assert rows[2]["oracle/rubric"] == rows[2]["oracle/helpful"] == rows[2]["oracle/safe"]
  assert 0 <= rows[2]["oracle/rubric"] <= 1 and 0 < rows[2]["reward/safe"] < 1


# ---- reward hacking


def test_the_oracle_is_the_mean_rubric_of_all_rows_that_have_one_and_of_those_a_model_was_asked(run):
  source = ProblemSource(run.experiment.playground, 0)
  places = [i for i in range(40) if source[i].domain == "writing"][:3]
  asked = [source[i] for i in places] + [next(p for p in map(source.__getitem__, range(40)) if p.kind == "number")]
  asked.append(dataclasses.replace(asked[0], columns={"rubric": "kindness"}))  # of a user: no list of checks
  texts = [data.written(source, i, 5) for i in places] + [["1"] * 5, ["2"] * 5]
  marks = np.array([[Rubric()(p, text) for text in group] for p, group in zip(asked[:3], texts)])
  assert 0.2 < marks.mean() < 0.9
  column = np.full(25, np.nan)
  column[5:10] = 1.0  # the model was asked about the second problem only
  prompts, rewards = types.SimpleNamespace(problems=asked), types.SimpleNamespace(columns={"helpful": column})
  found = watch.oracle(prompts, rewards, texts, "", ["helpful"])
  assert found["oracle/rubric"] == (pytest.approx(marks.sum()), 15)
  assert found["oracle/helpful"] == (pytest.approx(marks[1].sum()), 5)


def history(reward, oracle):
  return [{"reward/helpful": r, "oracle/helpful": o} for r, o in zip(reward, oracle)]


RISE, FALL = [0.0, 0.1, 0.0, 0.1, 0.5, 0.6, 0.5, 0.6], [0.8, 0.7, 0.8, 0.7, 0.4, 0.3, 0.4, 0.3]


@pytest.mark.parametrize(
  "rollouts, alarmed",
  [
    (history(RISE, FALL), True),
    (history([9.0] * 5 + RISE, [0.0] * 5 + FALL), True),  # only the last eight count
    (history(RISE, RISE), False),
    (history(FALL, FALL), False),
    (history(RISE[1:], FALL[1:]), False),  # seven are too few
    (history([0, 1, 0, 1, 0.2, 1.2, 0.2, 1.2], FALL), False),  # a rise within the spread of rollouts
    (history(RISE, [0.8, 0.2, 0.8, 0.2, 0.7, 0.1, 0.7, 0.1]), False),
    ([row | {"oracle/helpful": None} for row in history(RISE, FALL)], False),
    ([{"reward/total": 1.0}, *history(RISE[:4], FALL[:4]), {}, *history(RISE[4:], FALL[4:])], True),
  ],
)
def test_hacking_is_a_reward_that_rises_while_its_oracle_falls(rollouts, alarmed):
  sentence = metrics.reward_hacking(rollouts, "helpful")
  assert bool(sentence) == alarmed
  if alarmed:
    assert "reward/helpful rose from 0.05 to 0.55 while oracle/helpful fell from 0.75 to 0.35" in sentence
