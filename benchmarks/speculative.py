"""Self-speculative sampling against plain sampling, on a tiny base model pretrained with multi-token prediction.

  python -m benchmarks.speculative --steps=300

The world, model and pretraining are those of experiments/r1_zero_tiny.py, with
`mtp=1` and `mtp_weight=0.3` and fewer steps. Prints the layer's loss and hit
rate in training, the share of drafts that the model accepts, and tokens per
second with and without, medians of runs that take turns: for a rollout of RL,
and for few and many completions that all have full length, because no end
token can be drawn.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
import statistics
import tempfile
import time

from absl import app, flags
import jax
import numpy as np

from experiments import r1_zero_tiny
from r1jax import config, mesh, pipeline
from r1jax.data import problems as data
from r1jax.rl import sampling as sampler, speculative
from r1jax.stages import pretrain
from r1jax.stages.run import Run
from r1jax.training import state as states

STEPS = flags.DEFINE_integer("steps", 300, "Steps of pretraining.")
RUNS = flags.DEFINE_integer("runs", 7, "Runs of each sampler whose median is reported, after one that compiles.")

NEVER = -1  # an end token that no vocabulary holds
CASES = (("rollout", 32, 16, True), ("many, full length", 32, 16, False), ("few, full length", 2, 4, False))
DRAWS = ((1.0, 1.0), (0.6, 0.95))  # temperature, top-p


def experiment() -> config.Experiment:
  e = r1_zero_tiny.get_config()
  checkpoints = config.Checkpoints(every=STEPS.value)
  base = dataclasses.replace(e.stages[0], steps=STEPS.value, mtp_weight=0.3, checkpoints=checkpoints)
  return dataclasses.replace(e, model=dataclasses.replace(e.model, mtp=1), stages=(base,))


def pretrained(e: config.Experiment, folder: pathlib.Path):
  """The run, its base model's weights, and the last row of its metrics."""
  tokenizer = pipeline.tokenizer_of(e, folder)
  run = Run(experiment=e, workdir=folder, tokenizer=tokenizer, held_out=data.held_out_problems(e))
  params = pretrain.run(e.stages[0], run, states.init_params(e.model, e.seed))
  *_, last = (folder / "base/metrics.jsonl").read_text().splitlines()
  return run, params, json.loads(last)


@functools.partial(jax.jit, static_argnames=("c", "sampling", "group", "ends", "pad"))
def draw(params, tokens, lengths, rows, key, *, c, sampling, group, ends, pad):
  """Rollouts, drafts accepted and drafts made (0 without speculation)."""
  if sampling.speculate:
    keys = sampler.streams(key, rows, group)
    return speculative.sample(c, params, tokens, lengths, keys, sampling, ends, pad)
  rollouts = sampler.sample(
    params, tokens, lengths, rows, key, c=c, sampling=sampling, group_size=group, ends=ends, pad=pad
  )
  return rollouts, rollouts.lengths * 0, rollouts.lengths * 0


def measure(run: Run, params, sampling: config.Sampling, prompts: int, group: int, ends: bool) -> dict:
  """Median tokens/s of both samplers, mean tokens of a completion, and the share of drafts accepted."""
  e, tokenizer = run.experiment, run.tokenizer
  asked = (run.held_out * prompts)[:prompts]
  asked = data.make_prompts(asked, run.prompter(e.stages[0]), sampling.max_prompt)
  arrays = mesh.to_global((asked.tokens, asked.lengths, asked.rows))
  how = {"c": e.model, "group": group, "ends": (tokenizer.end if ends else NEVER,), "pad": tokenizer.pad}
  speeds, counts = {False: [], True: []}, np.zeros(3, int)
  for i in range(1 + RUNS.value):
    for speculate in (False, True):
      start = time.perf_counter()
      out, hits, drafts = jax.block_until_ready(
        draw(params, *arrays, jax.random.key(i), sampling=dataclasses.replace(sampling, speculate=speculate), **how)
      )
      seconds, drawn = time.perf_counter() - start, int(out.lengths.sum())
      if i:
        speeds[speculate].append(drawn / seconds)
      if speculate:
        counts += drawn, int(hits.sum()), int(drafts.sum())
  plain, speculative = (statistics.median(speeds[key]) for key in (False, True))
  tokens, accepted, made = counts
  completions = (1 + RUNS.value) * prompts * group
  return {"plain": plain, "speculative": speculative, "tokens": tokens / completions, "accepted": accepted / made}


def main(argv):
  del argv
  flags.FLAGS.verbosity = -1  # warnings; absl would show what orbax says of every file
  e = experiment()
  with tempfile.TemporaryDirectory() as folder, jax.set_mesh(mesh.make(e.mesh)):
    run, params, last = pretrained(e, pathlib.Path(folder))
    print(f"pretrained {STEPS.value} steps: loss {last['policy/loss']:.3f}, of the layer {last['mtp/loss']:.3f}; "
          f"its first choice is right for {last['mtp/accepted']:.1%} of the tokens")  # fmt: skip
    for (temperature, top_p), (name, *case) in itertools.product(DRAWS, CASES):
      sampling = dataclasses.replace(e.evaluation.sampling, temperature=temperature, top_p=top_p)
      found = measure(run, params, sampling, *case)
      print(f"temperature {temperature}, top-p {top_p}, {name}: {case[0]} prompts x {case[1]}, {found['tokens']:.1f} "
            f"tokens each; {found['accepted']:.1%} of the drafts accepted; tokens/s: plain {found['plain']:,.0f}, "
            f"speculative {found['speculative']:,.0f} ({found['speculative'] / found['plain']:.2f}x)")  # fmt: skip
  print(f"jax {jax.__version__} on {jax.devices()[0].platform}")


if __name__ == "__main__":
  app.run(main)
