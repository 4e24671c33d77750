"""python -m r1jax.plan --config=experiments/r1_671b.py --topology=v5p:8x8x16 [--stages=zero --programs=update] [--json]

Says what the programs that the stages of a run execute need of a chip: memory,
and whether it fits; FLOPs, traffic and collectives; the least time of a call
and the limit that binds. docs/plan.md tells how to read it. With
`pip install libtpu` the compiler of a TPU is there without the TPU;
--topology=local compiles for the devices of this machine, and GPUs, as h100:8,
are planned for by arithmetic (--nocompile does so for TPUs, too). --sweep=4 ranks other meshes and micro-batches.
"""

import json
import sys

from absl import flags

from r1jax import main as command

TOPOLOGY = flags.DEFINE_string("topology", "local", "TPU slice, as v5p:8x8x16; number of GPUs, as h100:8; or local.")
PROGRAMS = flags.DEFINE_list("programs", [], "Programs to compile, as rollout,gradient; default: all.")
COMPILE = flags.DEFINE_bool("compile", True, "--nocompile: by arithmetic alone, in seconds and without libtpu.")
JSON = flags.DEFINE_bool("json", False, "Print the figures as JSON, for scripts.")
SWEEP = flags.DEFINE_integer(
  "sweep", None, "Rank meshes and micro-batches for the first stage named, and compile the best so many.", lower_bound=0
)


def run(argv):
  del argv
  experiment, _ = command.chosen(weights=False)
  import rich.console

  from r1jax.plan import figures as of, show, sweep  # after the flags: a mistake in them is told at once
  from r1jax.plan.hardware import machine as named

  machine = named(TOPOLOGY.value, COMPILE.value)
  console = rich.console.Console(width=None if sys.stdout.isatty() else 140)  # in a file, too, a row is one line
  say = lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)
  if SWEEP.value is not None:
    stage = experiment.stage(command.STAGES.value[0]) if command.STAGES.value else experiment.stages[0]
    found = sweep.sweep(experiment, stage, machine, SWEEP.value)
    if JSON.value:
      print(json.dumps(sweep.as_json(found, machine), indent=2))
    else:
      console.print(sweep.table(found, machine))
    return
  figures = of.plan(experiment, machine, tuple(command.STAGES.value), tuple(PROGRAMS.value))
  if not figures:
    raise ValueError(
      f"--programs={','.join(PROGRAMS.value)} names none; there are rollout, gradient, update, exam, ..."
    )
  if JSON.value:
    print(json.dumps(show.as_json(figures, machine), indent=2))
    return
  for table in show.tables(figures, machine):
    console.print(table)
  for note in machine.notes:
    say(note)
  say(show.verdict(figures, machine.chip.hbm))


if __name__ == "__main__":
  command.main(run)
