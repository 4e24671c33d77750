"""Self-speculative sampling against plain sampling, on a tiny base model pretrained with multi-token prediction.

  python -m benchmarks.speculative --steps=300

The world, model and pretraining are those of experiments/r1_zero_tiny.py, with
`mtp=1` and `mtp_weight=0.3` and fewer steps; the rollout is that of its RL
stage. Prints the loss and hit rate of the layer in training, the share of
drafts that the model accepts, and tokens per second with and without, medians
of runs that take turns.
"""

import dataclasses
import functools
import json
import pathlib
import statistics
import tempfile
import time

from absl import app, flags
import jax

from experiments import r1_zero_tiny
from r1jax import config, mesh, pipeline
from r1jax.data import problems as data
from r1jax.rl import sampling as sampler, speculative
from r1jax.stages import pretrain
from r1jax.stages.run import Run
from r1jax.training import state as states

STEPS = flags.DEFINE_integer("steps", 300, "Steps of pretraining.")
RUNS = flags.DEFINE_integer("runs", 7, "Runs of each sampler whose median is reported, after one that compiles.")
PROMPTS = flags.DEFINE_integer("prompts", 32, "Prompts, of 16 completions each.")
TEMPERATURES = flags.DEFINE_list("temperatures", ["1.0", "0.6"], "Of the draws; 0.6 with top-p 0.95.")

GROUP = 16


def experiment() -> config.Experiment:
  e = r1_zero_tiny.get_config()
  checkpoints = config.Checkpoints(every=STEPS.value)
  base = dataclasses.replace(e.stages[0], steps=STEPS.value, mtp_weight=0.3, checkpoints=checkpoints)
  return dataclasses.replace(e, model=dataclasses.replace(e.model, mtp=1), stages=(base,))


def pretrained(e: config.Experiment, folder: pathlib.Path):
  """The run, its base model's weights, and the last row of its metrics."""
  tokenizer = pipeline.tokenizer_of(e, folder)
  run = Run(experiment=e, workdir=folder, tokenizer=tokenizer, held_out=data.held_out_problems(e.playground, e.seed))
  params = pretrain.run(e.stages[0], run, states.init_params(e.model, e.seed))
  *_, last = (folder / "base/metrics.jsonl").read_text().splitlines()
  return run, params, json.loads(last)


@functools.partial(jax.jit, static_argnames=("c", "sampling", "end", "pad"))
def draw(params, tokens, lengths, rows, key, *, c, sampling, end, pad):
  """Rollouts, drafts accepted and drafts made (0 without speculation)."""
  if sampling.speculate:
    keys = sampler.streams(key, rows, GROUP)
    return speculative.sample(c, params, tokens, lengths, keys, sampling, end, pad)
  rollouts = sampler.sample(
    params, tokens, lengths, rows, key, c=c, sampling=sampling, group_size=GROUP, end=end, pad=pad
  )
  return rollouts, rollouts.lengths * 0, rollouts.lengths * 0


def measure(run: Run, params, sampling: config.Sampling) -> dict:
  """Median tokens/s and mean length of both samplers, and the share of drafts accepted."""
  e, tokenizer = run.experiment, run.tokenizer
  asked = (run.held_out * PROMPTS.value)[: PROMPTS.value]
  prompts = data.make_prompts(asked, run.prompter(e.stages[0]), sampling.max_prompt)
  arrays = mesh.to_global((prompts.tokens, prompts.lengths, prompts.rows))
  speeds, lengths, accepted, made = {False: [], True: []}, {False: [], True: []}, 0, 0
  for i in range(1 + RUNS.value):
    for speculate in (False, True):
      how = dataclasses.replace(sampling, speculate=speculate)
      start = time.perf_counter()
      out, hits, drafts = jax.block_until_ready(
        draw(params, *arrays, jax.random.key(i), c=e.model, sampling=how, end=tokenizer.end, pad=tokenizer.pad)
      )
      seconds, drawn = time.perf_counter() - start, int(out.lengths.sum())
      accepted, made = accepted + int(hits.sum()), made + int(drafts.sum())
      if i:
        speeds[speculate].append(drawn / seconds)
        lengths[speculate].append(drawn / out.lengths.size)
  figures = {name: statistics.median(speeds[key]) for name, key in (("plain", False), ("speculative", True))}
  length = {name: statistics.mean(lengths[key]) for name, key in (("plain", False), ("speculative", True))}
  return {"speed": figures, "length": length, "accepted": accepted / made}


def main(argv):
  del argv
  flags.FLAGS.verbosity = -1  # warnings; absl would show what orbax says of every file
  e = experiment()
  with tempfile.TemporaryDirectory() as folder, jax.set_mesh(mesh.make(e.mesh)):
    run, params, last = pretrained(e, pathlib.Path(folder))
    print(f"pretrained {STEPS.value} steps: loss {last['policy/loss']:.3f}, of the layer {last['mtp/loss']:.3f}; "
          f"its first choice is right for {last['mtp/accepted']:.1%} of the tokens")  # fmt: skip
    for temperature in map(float, TEMPERATURES.value):
      top_p = 1.0 if temperature == 1 else 0.95
      sampling = dataclasses.replace(e.evaluation.sampling, temperature=temperature, top_p=top_p)
      found = measure(run, params, sampling)
      print(f"temperature {temperature}, top-p {top_p}: {found['accepted']:.1%} of the drafts accepted")
      for name, speed in found["speed"].items():
        print(f"  {name:12} {speed:10,.0f} tokens/s   {found['length'][name]:.1f} tokens a completion")
  print(f"{PROMPTS.value} prompts x {GROUP}, jax {jax.__version__} on {jax.devices()[0].platform}")


if __name__ == "__main__":
  app.run(main)
