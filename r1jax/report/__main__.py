"""python -m r1jax.report <workdir> [--megabytes=4]: writes the page of a run and the paper's figures."""

import argparse
import sys

from r1jax.report import page


def main(arguments: list[str] | None = None):
  parser = argparse.ArgumentParser(prog="python -m r1jax.report", description="Writes <workdir>/report/index.html.")
  parser.add_argument("workdir", help="folder of a run, finished or not")
  parser.add_argument("--megabytes", type=float, default=4.0, help="of responses in the page at most (default: 4)")
  given = parser.parse_args(arguments)
  try:
    print(page.write(given.workdir, given.megabytes))
  except ValueError as error:
    sys.exit(told(str(error)))
  except OSError as error:
    sys.exit(told(f"{error.strerror} ({error.filename}); the page is written into the folder of the run."))


def told(sentence: str) -> int:
  print(f"r1jax: {sentence}", file=sys.stderr)
  return 2


if __name__ == "__main__":
  main()
