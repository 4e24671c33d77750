"""R1-Zero with the paper's own values (Nature, Methods; DeepSeek-R1 v2 section 2.1), on a slice of 1,024 TPU v5p.

  python -m r1jax.main --config=experiments/r1_zero_671b.py --dry_run
  python -m r1jax.plan --config=experiments/r1_zero_671b.py --topology=v5p:8x8x16

By the TPU's compiler a chip needs 84.2 of its 102.0 GB, for the rollout, and 62.7 for the gradient (docs/plan.md).

What differs from the paper, and why:

* Data: the paper asks questions of mathematics, code, STEM and logic, which are
  not published: the playground stands in, with every family that can be checked
  by rule and every level. r1_671b.py reads files instead.
* Clipping: the ratio is not stated for R1-Zero. 10 is that of the first RL stage of R1.
* Length: 32,768 tokens as before step 8,200; the step to 65,536 after it is not scheduled. Its gradient fits
  this slice; its rollout, with twice the cache, does not.
* Warm-up, optimiser and the evaluation set are not stated; AdamW, a constant rate.
"""

import dataclasses

from configs import meshes, models
from r1jax import config
from r1jax.rewards import Accuracy, Format

# DeepSeek-R1 v1 Table 1, in our own words; the tags are the paper's.
TEMPLATE = config.Template(
  text=(
    "This is a dialogue in which a User puts a question and an Assistant solves it. Before it replies, the Assistant "
    "works through the problem in its mind; the User then receives the answer. What it thinks stands inside "
    "<think> </think> and what it answers inside <answer> </answer>, one after the other: "
    "<think> the thinking </think> <answer> the answer </answer>. User: {question}. Assistant:"
  )
)
MAX_LENGTH = 32_768  # tokens of prompt and response
MAX_PROMPT = 1_024  # tokens


def get_config() -> config.Experiment:
  return config.Experiment(
    name="r1_zero_671b",
    playground=config.Playground(
      domains=("arithmetic", "equations", "countdown", "words", "sequences", "logic", "choice"),
      levels=(1, 2, 3),
      languages=("en", "zh"),
      mix=config.Mix(),
      documents=100_000,
      evaluation_problems=512,
    ),
    # From its published weights; its own config.json is not asked, so that this can be looked at without the hub.
    model=dataclasses.replace(models.deepseek_v3_671b(), published=config.hub("deepseek-ai/DeepSeek-V3-Base")),
    mesh=meshes.v5p_1024(),
    stages=(zero(),),
    evaluation=config.Evaluation(
      samples=64,
      majority=16,
      sampling=config.Sampling(
        temperature=0.6, top_p=0.95, max_prompt=MAX_PROMPT, max_response=MAX_LENGTH - MAX_PROMPT
      ),
      template=TEMPLATE,
      problems_at_once=512,
    ),
  )


def zero() -> config.RL:
  return config.RL(
    start_from="",
    steps=10_400,
    group_size=16,
    batch_size=512,  # 32 questions x 16
    rollout_size=8_192,  # 16 updates
    sampling=config.Sampling(temperature=1.0, max_prompt=MAX_PROMPT, max_response=MAX_LENGTH - MAX_PROMPT, chunk=1_024),
    template=TEMPLATE,
    rewards=(Accuracy(), Format()),
    reward_workers=64,
    clip_low=10.0,
    clip_high=10.0,
    kl=0.001,
    reference_every=400,
    row_length=MAX_LENGTH,
    microbatch_rows=512,
    optimizer=config.Optimizer(learning_rate=3e-6, weight_decay=0.0),
    checkpoints=config.Checkpoints(every=80),
    preflight=config.Preflight(),
    alarms=config.Alarms(),
    evaluate_every=400,
  )
