"""R1-Zero on a published base model: GRPO from Qwen2.5 on GSM8K and MATH, accuracy and format rewards alone.

  pip install 'r1jax[hub]'
  python -m r1jax.main --config=experiments/r1_zero_qwen.py:0.5b

  argument    machine                          a chip needs at most
  0.5b        one v5e, or a GPU of 24 GB       13.8 GB, for the learning curve
  1.5b        one v5p, or a GPU of 80 GB       45.9 GB, for the learning curve
  1.5b_lora   one v6e, or a GPU of 24 GB       14.3 GB, for MATH-500
  7b          v5p:2x2x1, or 4 GPUs of 80 GB    49.9 GB, for the gradient

The figures are the TPU compiler's (python -m r1jax.plan; docs/plan.md).

What to expect: SimpleRL-Zoo (arXiv:2503.18892; the table in its repository)
trains the same bases by GRPO on 8K questions of the same two data sets and
reports, before and after, GSM8K 36.7 -> 49.5 and MATH-500 15.8 -> 34.4 for 0.5B,
55.7 -> 74.4 and 29.6 -> 59.0 for 1.5B, 88.2 -> 91.7 and 64.6 -> 78.2 for 7B: the
bases greedily, what was trained at temperature 1 and top-p 0.95, up to 8,192
tokens. Here responses are shorter, and all is pass@1 over 4 samples at 0.6.

The prompt is the paper's (v1 Table 1), as plain text: a base has no chat.
What the paper does not fit here, and what stands in its place: a learning rate
of 1e-6, since 3e-6 is for 671B; 128 questions a rollout and 4 updates; no
lengthening of the responses on the way.
"""

import dataclasses

from configs import benchmarks
from experiments.r1_zero_671b import TEMPLATE
from r1jax import config
from r1jax.data.decontamination import Decontaminate
from r1jax.data.filters import MaxPromptLength
from r1jax.data.mixture import Mixture
from r1jax.data.sources import Hub
from r1jax.rewards import Accuracy, Format

GSM8K = Hub(dataset="openai/gsm8k", config="main", domain="gsm8k", name="gsm8k")  # 7,473 questions
# 7,500; an answer that cannot be read is counted and left out.
MATH = Hub(dataset="DigitalLearningGmbH/MATH-lighteval", domain="math", name="math", on_bad_row="skip")
TEST = Hub(dataset="openai/gsm8k", config="main", split="test", domain="gsm8k", name="test")  # 1,319

# Model, devices, tokens of a response, questions in one sampling call, rows in a micro-batch.
SIZES = {
  "0.5b": ("Qwen/Qwen2.5-0.5B", 1, 1024, 32, 4),
  "1.5b": ("Qwen/Qwen2.5-1.5B", 1, 2048, 32, 4),
  "1.5b_lora": ("Qwen/Qwen2.5-1.5B", 1, 2048, 8, 2),
  "7b": ("Qwen/Qwen2.5-7B", 4, 3072, 32, 4),
}
MAX_PROMPT = 512  # tokens; of the benchmarks 1,024


def get_config(size: str = "0.5b") -> config.Experiment:
  if size not in SIZES:
    raise ValueError(f"{size!r} must be one of {', '.join(SIZES)}, as in r1_zero_qwen.py:0.5b.")
  name, devices, max_response, at_once, rows = SIZES[size]
  sampling = config.Sampling(max_prompt=MAX_PROMPT, max_response=max_response, chunk=256)
  exam = dataclasses.replace(sampling, temperature=0.6, top_p=0.95)
  math_500 = dataclasses.replace(
    benchmarks.math_500(), samples=4, sampling=dataclasses.replace(exam, max_prompt=2 * MAX_PROMPT)
  )
  return config.Experiment(
    name=f"r1_zero_qwen_{size}",
    model=config.hub(name),
    mesh=config.Mesh(tensor=devices),  # heads are split: a decode step would gather weights that are split over data
    stages=(zero(sampling, at_once, rows, lora=size.endswith("_lora")),),
    evaluation=config.Evaluation(
      samples=4,
      majority=4,
      sampling=exam,
      template=TEMPLATE,
      problems=TEST,
      problems_at_once=2 * at_once,
      benchmarks=(math_500,),
    ),
  )


def zero(sampling: config.Sampling, at_once: int, rows: int, lora: bool) -> config.RL:
  return config.RL(
    start_from="",
    steps=400,
    group_size=8,
    batch_size=256,  # 32 questions x 8
    rollout_size=1024,  # 4 updates
    sampling=sampling,
    template=TEMPLATE,
    problems=Mixture(sources=(GSM8K, MATH), filters=(MaxPromptLength(tokens=MAX_PROMPT), Decontaminate())),
    prompts_at_once=at_once,
    rewards=(Accuracy(), Format()),
    reward_workers=8,
    kl=0.001,
    reference_every=400,
    row_length=MAX_PROMPT + sampling.max_response,
    microbatch_rows=rows,
    lora=config.Lora(rank=32, alpha=64.0) if lora else None,
    optimizer=config.Optimizer(
      learning_rate=2e-5 if lora else 1e-6,
      warmup=8,
      weight_decay=0.0,
      # The small machines hold bfloat16 weights.
      parameters="masters" if lora else "float32",
    ),
    checkpoints=config.Checkpoints(every=40),
    preflight=config.Preflight(action="warn"),  # a small base hardly writes the tags at first
    alarms=config.Alarms(),
    evaluate_every=80,
    curve_samples=4,
  )
