"""DeepSeek-R1, the whole recipe with the paper's own values, on 1,024 TPU v5p chips.

  python -m r1jax.main --config=experiments/r1_671b.py --dry_run

  V3-Base > zero > cold start > reasoning RL > rejection sampling
  V3-Base > SFT on what that kept > reward models > RL for all scenarios

"v1", "v2" and "Nature" are the editions of the paper. What it does not give is
marked "inferred" below, with the reason. What is missing or differs:

* R1-Zero is the stage of r1_zero_671b.py, with the step to 65,536 tokens left out as there.
* People: the paper's annotators rewrite some traces, check what DeepSeek-V3 rewrote, and pick general data. Here a
  model refines; `data.jsonl` of a stage may be looked through and handed on by Completions(path=...).
* Trivial sums kept short by few-shot prompting DeepSeek-V3 (v2 B.3.2, Listing 3) are left out.
* Bug fixing is rewarded where tests can run one program; repositories are not checked out.
* Mesh: 128 shards of the batch where r1_zero_671b.py has 512, since the batch of SFT is 128. Rollouts are therefore
  drawn in four calls, which hold as much cache as one call there.
* Distillation: the students have tokenizers of their own, so each is a run of its own on rejection/data.jsonl.
"""

import dataclasses

from configs import benchmarks
from experiments import r1_zero_671b
from r1jax import config
from r1jax.data.completions import Completions, Made
from r1jax.data.decontamination import Decontaminate
from r1jax.data.filters import MaxPromptLength
from r1jax.data.mixture import Mixture
from r1jax.data.preferences import Labels, Pairs
from r1jax.data.refine import ModelRefiner
from r1jax.data.sources import Jsonl
from r1jax.rewards import (
  Accuracy,
  ByDomain,
  Choice,
  CodeTests,
  Endpoint,
  Format,
  Judge,
  LanguageConsistency,
  Preference,
  Readable,
)
from r1jax.rewards.judges import ModelJudge

# The prompts of RL (v2 Table 4), all Chinese or English.
MATH = "data/r1/math.jsonl"  # 26K, with the answer; no proofs
CODE = "data/r1/code.jsonl"  # 17K of contests, with tests
BUGS = "data/r1/bugs.jsonl"  # 8K of bug fixing (in the text, not in the table), with tests
STEM = "data/r1/stem.jsonl"  # 22K, with 4 to 8 options
LOGIC = "data/r1/logic.jsonl"  # 15K
HELPFUL = "data/r1/helpful.jsonl"  # 66K general questions
HARMLESS = "data/r1/harmless.jsonl"  # 12K

# The prompts of rejection sampling: more than RL has, and some that no rule can check (v1 2.3.3, v2 B.3.3).
MORE_MATH = "data/r1/more_math.jsonl"
MORE_CODE = "data/r1/more_code.jsonl"
MORE_STEM = "data/r1/more_stem.jsonl"
MORE_LOGIC = "data/r1/more_logic.jsonl"
JUDGED = "data/r1/judged.jsonl"  # with a reference answer for the judge

GENERAL = "data/r1/general.jsonl"  # 200K of DeepSeek-V3's pipeline: writing, facts, self-cognition, translation, repair
SAFETY = "data/r1/safety.jsonl"  # 106K prompts (v2 3.1)

# DeepSeek-V3, which refines, judges answers, compares and labels: any OpenAI-compatible server.
V3 = Endpoint(url="http://localhost:8000/v1", model="deepseek-v3", key_variable="", concurrency=512, max_wait_s=86_400)
# Inferred: the paper asks four times per pair, which tells something only at a temperature.
JUDGE = dataclasses.replace(V3, temperature=0.7)
# A thought of up to 32,768 tokens is written again.
WRITER = dataclasses.replace(V3, max_tokens=32_768, timeout_s=7_200)

ZERO = r1_zero_671b.TEMPLATE
# Of the released R1, but for the "<think>" that its users are told to add: questions that need no thought get none.
CHAT = config.Template(text="<｜User｜>{question}<｜Assistant｜>")
MAX_LENGTH = r1_zero_671b.MAX_LENGTH  # 32,768 tokens of prompt and response in every stage (v2 B.4.2, Nature)
SHARDS = 128  # of the batch: what is split over the mesh is a multiple of it


def get_config() -> config.Experiment:
  experiment = r1_zero_671b.get_config()
  world = experiment.playground
  general = ("program", "facts", "translation", "instructions", "writing", "roleplay", "self", "greetings", "harm")
  return dataclasses.replace(
    experiment,
    name="r1_671b",
    playground=dataclasses.replace(world, domains=(*world.domains, *general)),  # only examined on
    mesh=config.Mesh(data=8, expert=16, tensor=8, gather=True),
    stages=(
      zero(),
      *cold_start(),
      reasoning_rl(),
      rejection(),
      fine_tuning("sft", "rejection"),
      *preferences(),
      *reward_models(),
      all_scenarios(),
    ),
    # Temperature 0.6, top-p 0.95, as many samples as the paper drew of each benchmark (v2 D.1).
    evaluation=dataclasses.replace(
      experiment.evaluation, problems_at_once=SHARDS, benchmarks=benchmarks.everything()
    ),
  )  # fmt: skip


# ---- questions and rewards


def rows(path: str, domain: str, weight: float = 1.0) -> Jsonl:
  return Jsonl(path=path, domain=domain, weight=weight)


def mixture(*sources: Jsonl) -> Mixture:
  """Sources by weight, without what the run is evaluated on (10-grams, v2 D.1) and what no prompt can hold."""
  return Mixture(sources=sources, filters=(MaxPromptLength(tokens=r1_zero_671b.MAX_PROMPT), Decontaminate()))


# Weights: thousands of prompts (v2 Table 4).
REASONING = (
  rows(MATH, "math", 26),
  rows(CODE, "code", 17),
  rows(BUGS, "code", 8),
  rows(STEM, "stem", 22),
  rows(LOGIC, "logic", 15),
)
OPEN = (rows(HELPFUL, "helpful", 66), rows(HARMLESS, "harmless", 12))


def accuracy(structure: str) -> ByDomain:
  """Answers by rules, options by letter, programs by tests; 1 or 0 (v2 2.2, B.3.1)."""
  strict = structure == "answer"
  table = {
    "code": CodeTests(requires_format=strict, processes=32),
    "stem": Choice(requires_format=strict, structure=structure),
  }
  return ByDomain(table, other=Accuracy(requires_format=strict))


# ---- stages


def zero() -> config.RL:
  """R1-Zero (Nature, Methods): accuracy and format, of the same weight."""
  return dataclasses.replace(
    r1_zero_671b.zero(),
    problems=mixture(*REASONING),
    rewards=(accuracy("answer"), Format()),
    prompts_at_once=SHARDS,
    microbatch_rows=SHARDS,
  )


def cold_start() -> tuple[config.Stage, ...]:
  """R1-Zero's right and readable answers, rewritten by DeepSeek-V3; then SFT of the base (v2 B.3.2)."""
  made = config.Rejection(
    name="cold_start_data",
    start_from="zero",
    problems=mixture(*REASONING),
    prompts=8_192,  # inferred: "thousands"
    prompts_at_once=SHARDS,
    samples=4,  # inferred: "several"
    template=ZERO,
    sampling=r1_zero_671b.zero().sampling,  # temperature 1
    rewards=(accuracy("answer"),),
    reward_workers=64,
    # Repetition and mixed languages; long paragraphs and code are for the refiner to mend.
    filters=(Readable(max_paragraph=1_000_000, code_blocks=True),),
    refiner=ModelRefiner(engine=WRITER, max_characters=100_000),
    refined_rewards=(accuracy("summary"),),
  )
  return made, fine_tuning("cold_start", made.name)


def fine_tuning(name: str, data: str) -> config.SFT:
  """SFT of the base on what a stage made; the same values both times (v2 B.4.2)."""
  return config.SFT(
    name=name,
    data=(Made(stage=data),),
    template=CHAT,
    epochs=2,  # "2-3" (v2 B.4.2), "two" for the 800k (v1 2.3.3)
    rows=128,  # inferred: the batch of 128 counts rows of 32,768 tokens; packing is not mentioned
    length=MAX_LENGTH,
    # Inferred: AdamW as in DeepSeek-V3's pre-training, without warm-up.
    optimizer=config.Optimizer(learning_rate=5e-5, final_rate=0.1),  # a cosine to 5e-6
    checkpoints=config.Checkpoints(every=100),
  )


def reasoning_rl() -> config.RL:
  """The first RL stage (Nature, Methods; v2 3.2.1): as R1-Zero, with the language reward and a clip ratio of 10."""
  return dataclasses.replace(
    zero(),
    name="reasoning_rl",
    start_from="cold_start",
    # Inferred: the number is not given. The stages after R1-Zero took 80 hours (v2 B.4.4), which at R1-Zero's pace,
    # 10,400 in 198, are 4,200 updates; the last stage has 1,700 of them.
    steps=2_400,
    template=CHAT,
    rewards=(accuracy("summary"), Format(structure="summary"), LanguageConsistency()),
    clip_low=10.0,
    clip_high=10.0,
  )


def rejection() -> config.Rejection:
  """About 600k right and readable answers beside 200k of general data (v1 2.3.3, v2 B.3.3)."""
  # Weights: thousands of rows (v2 Table 5). Inferred: a quarter of the mathematics is judged; the share is not given.
  more = (rows(MORE_MATH, "math", 295), rows(MORE_CODE, "code", 211), rows(MORE_STEM, "stem", 10))
  more += (rows(MORE_LOGIC, "logic", 10), rows(JUDGED, "judged", 100))
  return config.Rejection(
    name="rejection",
    start_from="reasoning_rl",
    problems=mixture(*more),
    prompts=800_000,  # inferred: 600k rows where three questions in four are answered right and readably
    prompts_at_once=SHARDS,
    samples=4,  # inferred: "several"
    keep=1,
    template=CHAT,
    sampling=r1_zero_671b.zero().sampling,
    rewards=(ByDomain({"judged": Judge(engine=V3)}, other=accuracy("summary")),),
    reward_workers=64,
    filters=(Readable(),),  # mixed languages, long paragraphs, code blocks; the thresholds are ours
    beside=(Completions(path=GENERAL),),
    ratio=3.0,
  )


def preferences() -> tuple[config.Preferences, ...]:
  """66,000 pairs that differ by more than 1 in four queries of both orders, and 106,000 labels (v2 3.1, B.3.1)."""
  pairs = config.Preferences(
    name="helpful_pairs",
    start_from="sft",  # inferred: whose responses are compared is not given; this is the policy that RL starts from
    problems=mixture(rows(HELPFUL, "helpful")),
    prompts=66_048,  # the 66K of Table 4, in whole calls
    prompts_at_once=SHARDS,
    samples=4,  # inferred: six pairs a question, most of them ties, for one that is kept
    template=CHAT,
    sampling=r1_zero_671b.zero().sampling,  # inferred: temperature 1, for responses that differ
    judge=ModelJudge(engine=JUDGE),
    queries=4,
    min_delta=1.0,
  )
  labels = dataclasses.replace(
    pairs,
    name="safety_labels",
    form="labels",
    problems=mixture(rows(SAFETY, "harmless")),
    prompts=106_112,  # 106,000, in whole calls
    samples=1,
    judge=ModelJudge(engine=V3),
  )
  return pairs, labels


def reward_models() -> tuple[config.RewardModel, ...]:
  """Helpfulness from pairs on the summary, safety from labels on the whole response (Nature, Methods; v2 3.1)."""
  helpful = config.RewardModel(
    name="helpful_rm",
    start_from="sft",  # inferred: R1's architecture is named, the checkpoint is not
    data=(Pairs(stage="helpful_pairs"),),
    loss="pairwise",
    reads="summary",
    template=CHAT,
    held_out=0.01,  # inferred: nothing is said to be held out
    epochs=1,
    rows=256,
    length=8_192,  # in training; no limit in inference
    microbatches=2,
    optimizer=config.Optimizer(learning_rate=6e-6),  # inferred: constant, AdamW as above
    checkpoints=config.Checkpoints(every=100),
  )
  safety = dataclasses.replace(
    helpful, name="safety_rm", data=(Labels(stage="safety_labels"),), loss="pointwise", reads="response"
  )
  return helpful, safety


def all_scenarios() -> config.RL:
  """The second RL stage (Nature eq. 8-10; v2 3.2.2): rules for reasoning, reward models for general questions."""
  # Inferred: a trivial question may be answered without a thought, as SFT taught; then nothing is in a wrong language.
  either, language = Format(structure="flexible"), LanguageConsistency(no_words=1.0)
  table = {
    "helpful": (Preference(stage="helpful_rm", name="helpful"), either),
    "harmless": (Preference(stage="safety_rm", name="safe"), either),
  }
  stage = reasoning_rl()
  return dataclasses.replace(
    stage,
    name="all_scenarios",
    start_from="sft",
    sampling=dataclasses.replace(stage.sampling, temperature=0.7),
    # 1,700 in the paper; rollouts of 16 updates make it 1,696. General questions come in the last 400 only: longer
    # training on preferences leads to reward hacking (v2 B.5).
    steps=1_696,
    later_problems=mixture(*REASONING, *OPEN),
    later_from=1_296,
    rewards=(ByDomain(table, other=(accuracy("summary"), Format(structure="summary"))), language),
  )
