"""Runs the schedule: what each stage starts from, what is finished already, and the results of all."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import time

import jax

import r1jax
from r1jax import config, mesh, processes, published
from r1jax.data import problems as data
from r1jax.data.tokenizer import Tokenizer, open_tokenizer
from r1jax.errors import sentence
from r1jax.models import hub
from r1jax.report import page, summary
from r1jax.rewards import Scorer
from r1jax.stages import evaluate, preferences, pretrain, rejection, reward_model, rl, sft
from r1jax.stages.run import Run
from r1jax.training import state as states
from r1jax.training.checkpoints import params_sha256
from r1jax.training.workdir import claim, config_dict, config_sha256, differences, write_json

VERSIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
BEGUN = "begun.json"  # the lineage of a stage that is not finished
STAGES = {
  config.Pretrain: pretrain.run,
  config.SFT: sft.run,
  config.RL: rl.run,
  config.Rejection: rejection.run,
  config.Preferences: preferences.run,
  config.RewardModel: reward_model.run,
}


def execute(experiment: config.Experiment, workdir: pathlib.Path, only: tuple[str, ...] = ()) -> dict:
  """Runs every stage (or those named in `only`) that is not finished, and writes <workdir>/results.json."""
  held_out = data.held_out_problems(experiment)  # first: it refuses an impossible world
  check_foreign(experiment, workdir)
  if processes.by_first((workdir / "config.json").exists):  # or one would see what the first has just written
    claim(workdir, experiment)  # before its tokenizer is used
  run = Run(
    experiment=experiment,
    workdir=workdir,
    tokenizer=tokenizer_of(experiment, workdir),
    held_out=held_out,
    actors=mesh.actors(experiment),
    benchmarks={b.name: evaluate.benchmark(b, experiment.evaluation) for b in experiment.evaluation.benchmarks},
  )
  wanted = [stage for stage in experiment.stages if not only or stage.name in only]
  check_parents(run, wanted)
  check(run)
  processes.agree(
    {"config": config_dict(experiment), "code": f"r1jax {r1jax.__version__}", "tokenizer": run.tokenizer.sha256}
    | {f"data of stage {name!r}": problems.fingerprint for name, problems in run.problems.items()}
  )
  claim(workdir, experiment)  # only now: whoever mends a config before the run began may keep the folder
  if jax.process_index() == 0 and not (workdir / "tokenizer").exists():
    run.tokenizer.save(workdir / ".tokenizer")
    os.replace(workdir / ".tokenizer", workdir / "tokenizer")
  with run.stop:
    for stage in wanted:
      run_stage(stage, run)
  results = report(run)
  processes.wait("the report is written")
  return results


def check_parents(run: Run, wanted: list[config.Stage]):
  """Raises ValueError where a stage takes something that will not be there, or that knows other tokens."""
  names = [stage.name for stage in wanted]
  for stage in wanted:
    if run.finished(stage.name):
      continue
    for field, what, name in stage.needs():
      if name not in names and not run.finished(name):
        raise ValueError(
          f"stage {stage.name!r}: {field} takes the {what} of {name!r}, which is not finished in {run.workdir}; "
          "add it to --stages."
        )
    check_tokenizer(run, stage)


def check_foreign(experiment: config.Experiment, workdir: pathlib.Path):
  """Raises ValueError where a stage of another run that one starts from is no finished policy, or of another model."""
  for stage in experiment.stages:
    if "/" not in stage.start_from or (workdir / stage.name / "stage.json").exists():
      continue
    folder, where = pathlib.Path(stage.start_from), f"stage {stage.name!r}: start_from={stage.start_from!r}"
    if not (folder / "stage.json").exists():
      raise ValueError(f"{where} is not the folder of a finished stage.")
    theirs = json.loads((folder / "stage.json").read_text())
    if theirs.get("kind") not in ("Pretrain", "SFT", "RL"):
      raise ValueError(f"{where} is a {theirs.get('kind')}; name the folder of a policy.")
    found = differences(theirs["model"], config_dict(experiment.model_of(stage)), "model")
    if found:
      raise ValueError(f"{where} has another model: {'; '.join(found)} (theirs -> ours); give this stage that model.")


def check_tokenizer(run: Run, stage: config.Stage):
  """Raises ValueError where the stage was, or will be, of another tokenizer than this run."""
  model = run.experiment.model_of(stage)
  if not stage.start_from and model.published and theirs(model).sha256 != run.tokenizer.sha256:
    raise ValueError(
      f"stage {stage.name!r}: {model.published.name} has another tokenizer than this run; give every tokenizer a run "
      "of its own."
    )
  if "/" in stage.start_from and (
    open_tokenizer(run.folder(stage.start_from) / "tokenizer").sha256 != run.tokenizer.sha256
  ):
    raise ValueError(
      f"stage {stage.name!r}: start_from={stage.start_from!r} was trained with another tokenizer than this run; "
      "start in a new workdir, or from a stage of the same tokenizer."
    )
  if model.vocab < run.tokenizer.size:
    raise ValueError(
      f"stage {stage.name!r}: model.vocab={model.vocab} is less than the {run.tokenizer.size} tokens of the tokenizer; "
      f"raise it to {run.tokenizer.size}."
    )


def check(run: Run):
  """Raises ValueError or RuntimeError for what would end the stages that are still to be made.

  A problem that cannot be checked or is too long to be asked, a data set that
  cannot be read, a reward that cannot run on this machine. The data sets stay
  open in `run.problems`.
  """
  evaluation = run.experiment.evaluation
  exam = evaluate.held_out(evaluation, run.held_out)
  grader = Scorer(exam.rewards, None)
  for problem in run.held_out:
    if fact := grader.check(problem):
      raise ValueError(fact)
  for rewards in (exam.rewards, *(other.rewards for other in run.benchmarks.values())):
    Scorer(rewards, None).ready()
  for stage in run.experiment.stages:
    if run.finished(stage.name):
      continue
    try:
      check_stage(stage, run)
    except (ValueError, RuntimeError) as error:
      if sentence(error) is None:
        raise
      raise type(error)(f"stage {stage.name!r}: {error}") from error


def check_stage(stage: config.Stage, run: Run):
  """`check` of one stage: its rewards, its questions, the exam in its template, its data."""
  evaluation = run.experiment.evaluation
  if isinstance(stage, (config.RL, config.Rejection, config.Preferences)):
    scorer = Scorer((stage.judge,) if isinstance(stage, config.Preferences) else stage.rewards, None)
    scorer.ready()
    asked = rl.open_problems if isinstance(stage, config.RL) else rl.open_source
    run.problems[stage.name] = asked(stage, run, scorer)
    data.make_prompts(run.held_out, run.prompter(stage), stage.sampling.max_prompt)
  if stage.makes == "policy":
    prompter, owner = run.prompter(stage), "evaluation.sampling"
    data.make_prompts(run.held_out, prompter, evaluation.sampling.max_prompt, owner=owner)
    for name, other in run.benchmarks.items():
      data.make_prompts(other.asked, prompter, other.sampling.max_prompt, owner=f"{name}'s sampling")
  for source in sources_of(stage):
    source.check()
  if getattr(stage, "refined_rewards", ()):
    Scorer(stage.refined_rewards, None).ready()


def sources_of(stage: config.Stage) -> tuple:
  """The sources of completions or preferences a stage reads."""
  return (*getattr(stage, "data", ()), *getattr(stage, "beside", ()))


def tokenizer_of(experiment: config.Experiment, workdir: pathlib.Path):
  """The run's tokenizer: a published model's, or that of the workdir or a stage of another run, or a new one."""
  if experiment.model.published:
    return theirs(experiment.model)
  foreign = [pathlib.Path(stage.start_from) for stage in experiment.stages if "/" in stage.start_from]
  for folder in (workdir, *foreign):
    if (folder / "tokenizer").exists():
      return open_tokenizer(folder / "tokenizer")
  documents = data.documents(experiment.playground, experiment.evaluation.template, experiment.seed)
  return Tokenizer.train(documents, experiment.model.vocab)


def theirs(model: config.Model):
  """The tokenizer of a published model."""
  return open_tokenizer(published.folder_of(model))


def run_stage(stage, run: Run):
  """Runs a stage on what it starts from, and evaluates a policy; a finished one is left as it is."""
  if run.finished(stage.name):
    check_sources(stage, run)
    return
  started, folder, origin = time.monotonic(), run.folder(stage.name), begin(stage, run)
  made = STAGES[type(stage)](stage, run, start_params(stage, run))
  model = config_dict(run.experiment.model_of(stage))
  figures = {"kind": type(stage).__name__, "model": model, "train_seconds": time.monotonic() - started}
  figures |= examine(stage, run, made) if stage.makes == "policy" else made
  figures |= {"lineage": origin, "seconds": time.monotonic() - started}
  if jax.process_index() == 0:
    run.tokenizer.save(folder / "tokenizer")
    write_json(folder / "stage.json", figures)
    (folder / BEGUN).unlink(missing_ok=True)
  processes.wait(f"{stage.name} is finished")
  run.stop.asked()
  run.stop.end(f"after stage {stage.name!r}")


def begin(stage, run: Run) -> dict:
  """The lineage of a stage as it was begun; ValueError where it is to go on with something else."""
  path, ours = run.folder(stage.name) / BEGUN, lineage(stage, run)

  def begun():
    if not path.exists():
      path.parent.mkdir(parents=True, exist_ok=True)
      write_json(path, ours)
    return json.loads(path.read_text())

  theirs = processes.by_first(begun)
  found = differences(theirs, ours | {"code": theirs["code"]})
  if found:
    raise ValueError(
      f"stage {stage.name!r} was begun with something else than it would go on with: {'; '.join(found)} (then -> now); "
      f"restore that, or remove {path.parent} to begin it again."
    )
  return theirs


def check_sources(stage, run: Run):
  """Raises ValueError where a finished stage was made from another one than what now lies in this run."""
  was = run.figures(stage.name)["lineage"]
  for source in (was["parent"] or {}, *was["data"], *was["reward_models"]):
    name = source.get("stage", "/")
    if "/" not in name and run.finished(name) and not source.items() <= made(name, run).items():
      raise ValueError(
        f"stage {stage.name!r} was made from another {name!r} than that in {run.folder(name)}; restore it, or remove "
        f"{run.folder(stage.name)} to make it again."
      )


def examine(stage, run: Run, params) -> dict:
  """The figures of a trained policy on the held-out problems and the benchmarks."""
  folder, policy = run.folder(stage.name), run.policy(stage, params)
  exam = evaluate.held_out(run.experiment.evaluation, run.held_out)
  answers = evaluate.sit(run, policy, exam)
  if jax.process_index() == 0:
    evaluate.save_samples(exam, answers, folder / "samples.jsonl")
  return evaluate.summarize(exam, answers) | {
    "benchmarks": evaluate.take(run, policy, run.benchmarks, folder / "benchmarks"),
    "params_sha256": params_sha256(params),
  }


def lineage(stage, run: Run) -> dict:
  """Where a stage's checkpoint or data comes from: config, code, seed and the hashes of all that went in."""
  e, parent, problems = run.experiment, stage.start_from, run.problems.get(stage.name)
  model = e.model_of(stage)
  needs = {(what, name) for _, what, name in stage.needs() if what != "policy"}
  return {
    "stage": stage.name,
    "config_sha256": config_sha256(e),
    "stage_sha256": config_sha256(stage),
    "code": f"r1jax {r1jax.__version__}",
    "seed": e.seed,
    "tokenizer_sha256": run.tokenizer.sha256,
    "parent": made(parent, run) if parent else None,
    "published": origin(model) if model.published and not parent else None,
    "problems_sha256": problems.fingerprint if problems else None,
    "data": [made(name, run) for what, name in sorted(needs) if what != "reward model"]
    + [found for source in sources_of(stage) if (found := getattr(source, "origin", lambda: None)())],
    "reward_models": [made(name, run) for what, name in sorted(needs) if what == "reward model"],
  }


def origin(model: config.Model) -> dict:
  """The checkpoint that the weights of a published model come from."""
  return dataclasses.asdict(model.published) | {"files_sha256": hub.fingerprint(published.folder_of(model))}


def made(name: str, run: Run) -> dict:
  """A finished stage and the hashes of what it made."""
  return {"stage": name} | {k: v for k, v in run.figures(name).items() if k.endswith("_sha256")}


def start_params(stage, run: Run):
  """The parameters a stage starts from: those of its parent, or published ones, or random ones."""
  model = run.experiment.model_of(stage)
  if not stage.start_from and model.published:
    return hub.load_params(published.folder_of(model), model)
  if not stage.start_from:
    return states.init_params(model, run.experiment.seed)
  return run.restore(stage.start_from, states.abstract_params(model), stage.name)


def report(run: Run) -> dict:
  """Collects the finished stages into results.json, shows the table and two answers, and makes the page."""
  finished = [stage for stage in run.experiment.stages if run.finished(stage.name)]
  results = {
    "stages": {stage.name: run.figures(stage.name) for stage in finished},
    "config_sha256": config_sha256(run.experiment),
    "versions": {"r1jax": r1jax.__version__} | {name: importlib.metadata.version(name) for name in VERSIONS},
  }
  if jax.process_index() == 0:
    write_json(run.workdir / "results.json", results)
    ours = [s for s in finished if s.makes == "policy" and run.experiment.model_of(s) == run.experiment.model]
    summary.show(results, before_and_after({s.name: run.folder(s.name) / "samples.jsonl" for s in ours}))
    page.write(run.workdir)
  return results


def before_and_after(files: dict[str, pathlib.Path], count: int = 2) -> list[dict]:
  """Problems that the first stage got wrong and the last one right, with a sample of each stage."""
  rows = {name: [json.loads(line) for line in file.read_bytes().splitlines()] for name, file in files.items()}
  samples = []
  for problem in zip(*rows.values()):
    correct = {name: row["correct"][0] for name, row in zip(rows, problem)}
    first, *_, last = [False, *correct.values()] if len(rows) == 1 else correct.values()
    if last and not first:
      texts = {name: row["responses"][0] for name, row in zip(rows, problem)}
      samples.append(
        {"question": problem[0]["question"], "answer": problem[0]["answer"], "responses": texts, "correct": correct}
      )
  return sorted(samples, key=lambda s: -len(list(s["responses"].values())[-1]))[:count]
