"""All of DeepSeek-R1 on a laptop: every stage of the paper's recipe, chained and measured.

  python -m r1jax.main --config=experiments/r1_tiny.py

  base > zero > cold start > reasoning RL > rejection sampling > SFT > reward models > RL for all scenarios
                                                               \\ distillation, beside RL alone

The world has five families of reasoning problems and eight general tasks, in
English and Chinese. In its corpus most of the careful writers think in English
when asked in Chinese: so R1-Zero drifts into English thinking, and the cold
start and the language reward have something to cure. The general data that SFT
learns from is of mixed quality, and the last stage has to make it better.
"""

import dataclasses

from configs import meshes, models
from r1jax import config
from r1jax.data.completions import Made, PlaygroundCompletions
from r1jax.data.generated import PlaygroundProblems
from r1jax.data.mixture import Mixture
from r1jax.data.preferences import Labels, Pairs
from r1jax.data.refine import RuleRefiner
from r1jax.rewards import (
  Accuracy,
  ByDomain,
  CodeTests,
  Format,
  Instructions,
  LanguageConsistency,
  OracleJudge,
  Preference,
  Readable,
)

REASONING = ("arithmetic", "equations", "program", "logic", "choice")
OPEN = ("writing", "roleplay", "self", "greetings")  # helpfulness: scored by a reward model
GENERAL = ("facts", "translation", "instructions", *OPEN, "harm")
VOCAB = 768
MAX_PROMPT, MAX_RESPONSE, ROW = 48, 112, 160  # tokens

PLAIN = config.Template(text="Think in <think></think>, answer in <answer></answer>. User: {question} Assistant:")
CHAT = config.Template(text="<|user|>{question}<|assistant|>")
WORLD = config.Playground(
  domains=REASONING + GENERAL,
  weights=(4, 6, 3, 6, 6, 3, 2, 2, 2, 1, 1, 1, 1),
  levels=(1,),
  languages=("en", "zh"),
  mix=config.Mix(
    bare=0.64, slip=0.06, careful=0.22, corrected=0.08, mixed=0.05, mixed_careful=0.7, spoken=0.5,
    dialog=0.55, page=0.25, textbook=0.8, drill=0.2, readable=0.1, series=0.1,
  ),
  documents=48_000,
  held_out=0.2,
  evaluation_problems=312,
)  # fmt: skip


def get_config() -> config.Experiment:
  return config.Experiment(
    name="r1_tiny",
    playground=WORLD,
    model=models.tiny(vocab=VOCAB),
    mesh=meshes.local(),
    stages=(
      base(),
      zero(),
      *cold_start(),
      reasoning_rl(),
      dataclasses.replace(reasoning_rl(), name="reasoning_rl_plain", rewards=rule_rewards("summary")),
      rejection(),
      sft(),
      *reward_models(),
      all_scenarios(),
      *distillation("student_small", models.student_small(vocab=VOCAB)),
      *distillation("student_large", models.student_large(vocab=VOCAB)),
    ),
    evaluation=config.Evaluation(
      samples=16,
      majority=16,
      sampling=config.Sampling(temperature=0.6, top_p=0.95, max_prompt=MAX_PROMPT, max_response=MAX_RESPONSE),
      template=PLAIN,
      problems_at_once=96,
    ),
  )


def only(*domains: str, weight: float = 1.0) -> PlaygroundProblems:
  """The world's training problems of some domains."""
  return PlaygroundProblems(playground=dataclasses.replace(WORLD, domains=domains, weights=()), weight=weight)


def sampling(temperature: float = 1.0) -> config.Sampling:
  return config.Sampling(temperature=temperature, max_prompt=MAX_PROMPT, max_response=MAX_RESPONSE)


def base(name: str = "base", model: config.Model | None = None, steps: int = 2800) -> config.Pretrain:
  return config.Pretrain(
    name=name,
    model=model,
    steps=steps,
    rows=16,
    length=ROW,
    optimizer=config.Optimizer(learning_rate=3e-3, warmup=50, final_rate=0.1),
    checkpoints=config.Checkpoints(every=400),
  )


def right_answer(strict: bool = False) -> ByDomain:
  """Is the answer right? `strict`: only inside <answer> tags."""
  return ByDomain({"program": CodeTests(requires_format=strict)}, other=Accuracy(requires_format=strict))


def rule_rewards(structure: str) -> tuple:
  """Is the answer right, are the tags in order (Nature eq. 4)."""
  return right_answer(structure == "answer"), Format(structure=structure)


def zero(name: str = "zero", start_from: str = "base") -> config.RL:
  return config.RL(
    name=name,
    start_from=start_from,
    problems=only(*REASONING),
    steps=80,
    group_size=16,
    batch_size=256,
    rollout_size=512,
    sampling=sampling(),
    template=PLAIN,
    rewards=rule_rewards("answer"),
    reference_every=20,
    row_length=ROW,
    microbatch_rows=16,
    optimizer=config.Optimizer(learning_rate=4e-4, warmup=5, final_rate=0.1, weight_decay=0.0),
    checkpoints=config.Checkpoints(every=20),
    preflight=config.Preflight(),
    alarms=config.Alarms(),
    evaluate_every=20,
  )


def cold_start() -> tuple[config.Stage, ...]:
  """Right and readable answers of R1-Zero, and of the prompted base, rewritten; then SFT of the base (v2 B.3.2)."""
  shots = (
    "User: What is 3+4+8? Assistant:<think>Let me see. 3+4=7;7+8=15</think><answer>15</answer> "
    "User: {question} Assistant:"
  )
  asked = config.Rejection(
    name="cold_zero",
    start_from="zero",
    problems=only(*REASONING),
    prompts=96,
    prompts_at_once=32,
    samples=4,
    template=PLAIN,
    sampling=sampling(),
    rewards=(right_answer(),),
    filters=(Readable(min_share=0.0),),  # the refiner puts the reasoning into the language of the question
    refiner=RuleRefiner(),
  )
  few_shot = dataclasses.replace(
    asked, name="cold_few_shot", start_from="base", prompts=64, template=config.Template(text=shots),
    sampling=config.Sampling(max_prompt=80, max_response=MAX_RESPONSE),
  )  # fmt: skip
  zero_shot = dataclasses.replace(
    asked, name="cold_zero_shot", start_from="base", prompts=64,
    template=config.Template(text="User: {question} Assistant:", prefill="<think>"),
  )  # fmt: skip
  made = tuple(Made(stage=stage.name) for stage in (asked, few_shot, zero_shot))
  return asked, few_shot, zero_shot, fine_tuning("cold_start", "base", made, epochs=2)


def fine_tuning(name: str, start_from: str, data: tuple, epochs: int = 3) -> config.SFT:
  return config.SFT(
    name=name,
    start_from=start_from,
    data=data,
    template=CHAT,
    epochs=epochs,
    rows=8,
    length=ROW,
    optimizer=config.Optimizer(learning_rate=1e-3, warmup=5, final_rate=0.1),
    checkpoints=config.Checkpoints(every=50),
  )


def reasoning_rl() -> config.RL:
  """RL with the language reward; the clip ratio is the paper's (Nature, Methods)."""
  return dataclasses.replace(
    zero("reasoning_rl", "cold_start"),
    steps=60,
    template=CHAT,
    rewards=(*rule_rewards("summary"), LanguageConsistency()),
    clip_low=10.0,
    clip_high=10.0,
  )


def rejection() -> config.Rejection:
  """What reasoning RL answers right and readably, three rows to one of general data (v1 2.3.3)."""
  return config.Rejection(
    name="rejection",
    start_from="reasoning_rl",
    problems=only(*REASONING),
    prompts=3072,
    prompts_at_once=64,
    samples=4,
    template=CHAT,
    sampling=sampling(),
    rewards=rule_rewards("summary"),
    filters=(Readable(),),
    beside=(
      PlaygroundCompletions(playground=WORLD, domains=GENERAL, count=600),
      PlaygroundCompletions(playground=WORLD, domains=(*OPEN, "harm"), count=400, style="slip"),  # a curt colleague
      PlaygroundCompletions(playground=WORLD, domains=("harm",), count=250, style="bare"),  # and a careless one
    ),
    ratio=3.0,
  )


def sft() -> config.SFT:
  return fine_tuning("sft", "base", (Made(stage="rejection"),))


def reward_models() -> tuple[config.Stage, ...]:
  """Helpfulness from pairs, on the summary; safety from labels, on the whole response (v2 3.1)."""
  pairs = config.Preferences(
    name="pairs",
    start_from="sft",
    problems=only(*OPEN),
    prompts=1024,
    prompts_at_once=64,
    samples=2,
    written=2,
    template=CHAT,
    sampling=sampling(),
    judge=OracleJudge(),
    min_delta=0.5,
  )
  labels = dataclasses.replace(pairs, name="labels", form="labels", problems=only("harm"))
  helpful = config.RewardModel(
    name="helpful_rm",
    start_from="sft",
    data=(Pairs(stage="pairs"),),
    template=CHAT,
    rows=32,
    length=96,
    optimizer=config.Optimizer(learning_rate=5e-4, warmup=5),
    checkpoints=config.Checkpoints(every=50),
  )
  safety = dataclasses.replace(
    helpful, name="safety_rm", data=(Labels(stage="labels"),), loss="pointwise", reads="response"
  )
  return pairs, labels, helpful, safety


def all_scenarios() -> config.RL:
  """Rules for reasoning, reward models for general questions, which come in the last quarter only (Nature eq. 8-10)."""
  accuracy, tags = rule_rewards("summary")
  helpful, safe = Preference(stage="helpful_rm", name="helpful"), Preference(stage="safety_rm", name="safe")
  always = (Format(structure="flexible"), LanguageConsistency(no_words=1.0))  # a reply without a thought is consistent
  general = {domain: (helpful, *always) for domain in OPEN}
  general |= {"harm": (safe, *always), "instructions": (Instructions(), *always)}
  helpful_and_safe = only(*OPEN, "instructions", weight=0.7), only("harm", weight=0.3)
  both = Mixture(sources=(only(*REASONING), *helpful_and_safe))
  return dataclasses.replace(
    zero("all_scenarios", "sft"),
    steps=80,
    later_problems=both,
    later_from=60,
    optimizer=config.Optimizer(learning_rate=2e-4, warmup=5, weight_decay=0.0),
    sampling=sampling(temperature=0.7),
    template=CHAT,
    rewards=(ByDomain(general, other=(accuracy, tags, LanguageConsistency())),),
  )


def distillation(name: str, model: config.Model) -> tuple[config.Stage, ...]:
  """A dense student: its own base, then SFT on what R1 wrote, beside RL alone on the same base (v1 2.4 and 4.1)."""
  return (
    base(f"{name}_base", model, steps=1600),
    fine_tuning(f"{name}_distilled", f"{name}_base", (Made(stage="rejection"),)),
    zero(f"{name}_rl", f"{name}_base"),
  )
