"""Rule-based rewards: accuracy and format, scored in worker processes (DeepSeek-R1 v2 section 2.2).

An experiment lists reward objects and their weights; a Scorer applies all of
them to batches of responses. A reward of your own is any picklable object with

  name: str      its column in the logs and the tables of rollouts
  weight: float  its factor in the total
  __call__(problem, response, prefill) -> float

defined at the top level of the experiment file. `problem` has the fields of a
Problem (id, question, answer, kind, domain, level, language), `response` is the
text the model wrote and `prefill` what the template wrote for it. It runs in
another process, under a limit of time and memory. For example:

  @dataclass(kw_only=True, slots=True, unsafe_hash=True)
  class Brevity:
    weight: float = 0.1
    name: ClassVar[str] = "brevity"

    def __call__(self, problem, response, prefill):
      return 1.0 if len(response) < 200 else 0.0

Alone, without a trainer: `check_math(prediction, gold)` and `check_code(program,
tests)` give a Verdict; from the shell, python -m r1jax.rewards --help.
"""

import importlib

# Where each name is defined. Loaded at its first use: a worker, or the command line, needs few of them.
_HOMES = {
  "accuracy": ("Accuracy", "canonical", "check_gold", "extract_answer"),
  "checks": ("check_math", "check_math_many"),
  "choice": ("Choice",),
  "code": ("CodeTests", "check_code"),
  "combine": ("Rewards", "Scorer", "join", "mean"),
  "compose": ("ByDomain", "Clipped", "Gated"),
  "endpoint": ("Endpoint",),
  "exact": ("Exact",),
  "format": ("Format", "Parts", "split"),
  "functions": ("Function",),
  "gym": ("GymScore",),
  "instructions": ("Instructions",),
  "judges": ("Judge", "ModelJudge", "PairwiseJudge", "compare"),
  "language": ("LanguageConsistency",),
  "length": ("SoftOverlong",),
  "oracle_judge": ("OracleJudge",),
  "preference": ("OwnModel", "Preference"),
  "readability": ("Readable",),
  "repetition": ("Repetition",),
  "rubric": ("Rubric",),
  "schema": ("Schema",),
  "verdict": ("Verdict",),
  "processes.workers": ("Outcome", "Workers"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = list(_HOME_OF)


def __getattr__(name):
  if name not in _HOME_OF:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
  globals()[name] = value
  return value


def __dir__():
  return sorted({*globals(), *__all__})
