"""Cold start and reasoning RL on Qwen2.5-1.5B: the two stages that make R1 out of a base, at one machine's size.

  pip install 'r1jax[hub]'
  python -m r1jax.main --config=experiments/r1_qwen.py

  machine: v5e:2x4, or two GPUs of 80 GB (--config.mesh.data=2)
  memory: 9.8 of a v5e's 17.2 GB by arithmetic, for the rollout (python -m r1jax.plan)

  Qwen2.5-1.5B > SFT on 4,000 thoughts of R1 > RL on GSM8K and MATH with the language reward

The cold start (DeepSeek-R1 v2 B.3.2) is "thousands" of refined traces: here R1's
own, as open-r1 has published and checked them, in the structure of thought and
summary. RL is Nature's first stage: accuracy, format, language consistency,
a clip ratio of 10. At 1.5B the paper itself distils rather than trains by RL
(v2 section 4.1); this run is to see both stages work on a real model.

What to expect: no published run is the same. The same base by RL alone reaches
GSM8K 74.4 and MATH-500 59.0 (SimpleRL-Zoo, arXiv:2503.18892); Qwen's
own instruction tuning of it 73.2 and 55.2 (arXiv:2412.15115, MATH).
"""

import dataclasses

from experiments import r1_zero_qwen
from r1jax import config
from r1jax.data.completions import Completions
from r1jax.data.sources import Hub
from r1jax.rewards import Accuracy, Format, LanguageConsistency

THOUGHTS = Hub(dataset="open-r1/Mixture-of-Thoughts", config="math", split="train[:4000]")
CHAT = config.Chat()  # Qwen's own: the base knows its tokens
MAX_RESPONSE = 3072  # tokens, in RL


def get_config() -> config.Experiment:
  experiment = r1_zero_qwen.get_config("1.5b")
  evaluation, sampling = experiment.evaluation, experiment.evaluation.sampling
  exam = dataclasses.replace(sampling, max_response=MAX_RESPONSE)
  math_500 = evaluation.benchmarks[0]
  math_500 = dataclasses.replace(math_500, sampling=dataclasses.replace(math_500.sampling, max_response=MAX_RESPONSE))
  return dataclasses.replace(
    experiment,
    name="r1_qwen",
    mesh=config.Mesh(data=8),
    stages=(cold_start(), reasoning_rl(experiment.stages[0])),
    evaluation=dataclasses.replace(evaluation, template=CHAT, sampling=exam, benchmarks=(math_500,)),
  )


def cold_start() -> config.SFT:
  return config.SFT(
    name="cold_start",
    data=(Completions(source=THOUGHTS),),
    template=CHAT,
    epochs=2,
    rows=16,
    length=8_192,  # longer traces are left out, and counted
    microbatches=2,
    optimizer=config.Optimizer(learning_rate=1e-5, warmup=8, final_rate=0.1),
    checkpoints=config.Checkpoints(every=50),
  )


def reasoning_rl(zero: config.RL) -> config.RL:
  return dataclasses.replace(
    zero,
    name="reasoning_rl",
    start_from="cold_start",
    template=CHAT,
    sampling=dataclasses.replace(zero.sampling, max_response=MAX_RESPONSE),
    row_length=zero.sampling.max_prompt + MAX_RESPONSE,
    prompts_at_once=64,
    microbatch_rows=16,
    rewards=(Accuracy(requires_format=False), Format(structure="summary"), LanguageConsistency()),
    clip_low=10.0,
    clip_high=10.0,
  )
