"""R1-Zero on a published mixture of experts: GRPO from DeepSeek-V2-Lite on GSM8K and MATH.

  pip install 'r1jax[hub]'
  python -m r1jax.main --config=experiments/r1_zero_deepseek_v2_lite.py        # or :lora

  machine: v5p:2x2x1 (4 chips, experts over them), or 4 GPUs of 141 GB; :lora v5e:2x4
  memory: 91.5 of a v5p's 102.0 GB by its compiler, for the gradient; on 8 GPUs 44.1 by arithmetic, with
    --config.mesh.expert=8 --config.stages[0].microbatch_rows=8
  memory of :lora: 15.1 of a v5e's 17.2 GB by its compiler, for MATH-500; on one GPU 76.8 by arithmetic, with
    --config.mesh.expert=1

What to expect: little. The paper found that a base of this kind, with 16B
weights, did not gain on AIME by RL alone, and repeated itself as responses grew
(DeepSeek-R1 v2 section G.1). What can be gained is what the base nearly knows:
DeepSeek-V2-Lite has GSM8K 41.1 and MATH 17.1, its chat model 72.0 and 27.9
(DeepSeek-V2, arXiv:2405.04434, appendix B). The run is to see routing under RL:
watch expert/max_violation, which no bias corrects here, and
policy/sampler_mismatch.
"""

import dataclasses

from experiments import r1_zero_qwen
from r1jax import config


def get_config(size: str = "") -> config.Experiment:
  """ "lora" trains adapters, for eight small chips or one large GPU; all parameters otherwise."""
  if size not in ("", "lora"):
    raise ValueError(f"r1_zero_deepseek_v2_lite.py has no size {size!r}; leave it out, or add :lora.")
  experiment = r1_zero_qwen.get_config("7b")
  zero = dataclasses.replace(experiment.stages[0], prompts_at_once=32, microbatch_rows=8 if size else 4)
  # Moments as in DeepSeek-V3 (3.3.2); 16 GB a chip less.
  optimizer = dataclasses.replace(zero.optimizer, moments="bfloat16")
  if size:
    optimizer = dataclasses.replace(zero.optimizer, learning_rate=2e-5, parameters="masters")
    zero = dataclasses.replace(zero, lora=config.Lora(rank=32, alpha=64.0))
  zero = dataclasses.replace(zero, optimizer=optimizer)
  evaluation = dataclasses.replace(experiment.evaluation, problems_at_once=32)
  return dataclasses.replace(
    experiment,
    name="r1_zero_deepseek_v2_lite" + (f"_{size}" if size else ""),
    model=config.hub("deepseek-ai/DeepSeek-V2-Lite"),
    mesh=config.Mesh(expert=8 if size else 4),
    stages=(zero,),
    evaluation=evaluation,
  )
