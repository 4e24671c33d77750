"""python -m r1jax.chat runs/r1_tiny/all_scenarios

Talks to a finished stage in the terminal, or answers one question:

  echo "Solve 5x+18=48." | python -m r1jax.chat runs/r1_tiny/all_scenarios
"""

import argparse
import math
import os
import pathlib
import sys

from r1jax.errors import told


def main(args: list[str] | None = None) -> int:
  """Returns the exit code; a user's mistake is one sentence on stderr and 2."""
  options = parse(args)
  try:
    return told("r1jax.chat", lambda: run(options))
  except BrokenPipeError:  # whoever read the answer has left
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except KeyboardInterrupt:
    return 130


def parse(args: list[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m r1jax.chat",
    description="Talk to a finished stage; a question piped into it is answered and the program ends.",
  )
  parser.add_argument("stage", help="folder of a finished stage that writes, as in runs/<run>/<stage>")
  parser.add_argument(
    "--temperature", type=number(0), help="0: the likeliest token every time; default: as the run is evaluated"
  )
  parser.add_argument("--top_p", type=number(0, 1), help="mass of the nucleus; default: as the run is evaluated")
  parser.add_argument("--max_tokens", type=number(1, kind=int), help="of an answer; default: as the run is evaluated")
  parser.add_argument("--seed", type=int, default=0, help="same seed, same questions: same answers")
  parser.add_argument("--no_color", action="store_true", help="quote thoughts instead of dimming them")
  return parser.parse_args(args)


def number(low: float, high: float = math.inf, kind=float):
  """A type for argparse: a number from `low` to `high`."""

  def read(text):
    value = kind(text)
    if not low <= value <= high or value == math.inf:
      raise argparse.ArgumentTypeError(f"{text} must be at least {low}{f' and at most {high}' * (high < math.inf)}")
    return value

  read.__name__ = kind.__name__  # argparse says "invalid int value"
  return read


def run(options: argparse.Namespace) -> int:
  from r1jax import finished

  finished.read(options.stage)  # a mistake is told before jax is started
  import jax
  import rich.console

  from r1jax import config, mesh
  from r1jax.chat.conversation import STOPPED, Conversation, Wishes, talk

  if jax.config.jax_compilation_cache_dir is None:  # JAX_COMPILATION_CACHE_DIR names another
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path("~/.cache/r1jax/xla").expanduser()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
  sys.stdin.reconfigure(errors="replace")
  sys.stdout.reconfigure(errors="backslashreplace")
  console = rich.console.Console(color_system=None) if options.no_color else rich.console.Console()
  dims = console.color_system is not None and not console.no_color  # NO_COLOR, TERM=dumb and a file are known to rich
  wishes = Wishes(options.temperature, options.top_p, options.max_tokens, options.seed)
  with jax.set_mesh(mesh.make(config.Mesh(), jax.local_devices()[:1])):
    conversation = Conversation(options.stage, wishes, console, dims)
    if sys.stdin.isatty():
      conversation.greet()
      talk(conversation)
      return 0
    question = sys.stdin.read().strip()
    if not question:
      raise ValueError("there is no question on standard input; pipe one in, or start without a pipe to talk.")
    why = conversation.ask(question).why
  if why:
    print(f"({why})", file=sys.stderr)
  return 130 if why == STOPPED else 0


if __name__ == "__main__":
  sys.exit(main())
