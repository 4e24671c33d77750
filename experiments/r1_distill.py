"""Distillation of R1 into six published models by SFT alone (DeepSeek-R1 v1 section 2.4, v2 B.4.3 and Table 15).

  pip install 'r1jax[hub]'
  python -m r1jax.main --config=experiments/r1_distill.py:qwen_7b

The learning rates are the paper's; cosine to a tenth, rows of 32,768 tokens, a
batch of 64. "2-3 epochs" are 2 here, and the batch counts packed rows.

  argument    base                     rate  AIME 2024  MATH-500  GPQA  LCB
  qwen_1.5b   Qwen2.5-Math-1.5B        1e-4  28.9       83.9      33.8  16.9
  qwen_7b     Qwen2.5-Math-7B          8e-5  55.5       92.8      49.1  37.6
  llama_8b    Llama-3.1-8B             5e-5  50.4       89.1      49.0  39.6
  qwen_14b    Qwen2.5-14B              7e-5  69.7       93.9      59.1  53.1
  qwen_32b    Qwen2.5-32B              6e-5  72.6       94.3      62.1  57.2
  llama_70b   Llama-3.3-70B-Instruct   2e-5  70.0       94.5      65.2  57.5

The figures are the paper's pass@1 in percent (v1 Table 5), and what to expect
only with its data: 800k completions, not published. `r1_671b.py` would make
them in runs/r1_671b/rejection/data.jsonl; the default is what open-r1 has
published of R1's in their place, 350k checked ones of mathematics, code and
science. Its authors report AIME 2024 52.7, MATH-500 89.0, GPQA 52.8 and LCB
39.4 for a Qwen2.5-Math-7B trained on it for 5 epochs (OpenR1-Distill-7B).

On the v5p slice named in STUDENTS a chip needs 17.6 (for AIME), 56.5, 59.4, 52.3, 52.8
and 33.9 (for the gradient) of its 102.0 GB, by arithmetic (python -m r1jax.plan --nocompile).
The first three fit one host of 4 chips; the others are several processes, one a
host (docs/pods.md). The bases of mathematics were trained on 4,096 positions; as in the distilled models of the paper,
rope_theta stays as it is.
"""

from configs import benchmarks
from r1jax import config
from r1jax.data.completions import Completions
from r1jax.data.sources import Hub

THOUGHTS = Completions(source=Hub(dataset="open-r1/Mixture-of-Thoughts", config="all"))
# As r1_671b.py: plain text in every tokenizer, and what an export says as its chat template.
TEMPLATE = config.Template(text="<｜User｜>{question}<｜Assistant｜>")
MAX_LENGTH = 32_768  # tokens of prompt and response

# Base, learning rate, devices along `data` and `tensor`, completions per call of an exam.
STUDENTS = {
  "qwen_1.5b": ("Qwen/Qwen2.5-Math-1.5B", 1e-4, 4, 1, 16),  # v5p:2x2x1
  "qwen_7b": ("Qwen/Qwen2.5-Math-7B", 8e-5, 4, 1, 8),  # v5p:2x2x1
  "llama_8b": ("meta-llama/Llama-3.1-8B", 5e-5, 4, 1, 4),  # v5p:2x2x1
  "qwen_14b": ("Qwen/Qwen2.5-14B", 7e-5, 4, 2, 4),  # v5p:2x2x2
  "qwen_32b": ("Qwen/Qwen2.5-32B", 6e-5, 4, 4, 4),  # v5p:2x2x4
  "llama_70b": ("meta-llama/Llama-3.3-70B-Instruct", 2e-5, 8, 8, 4),  # v5p:4x4x4
}


def get_config(student: str = "qwen_1.5b") -> config.Experiment:
  if student not in STUDENTS:
    raise ValueError(f"{student!r} must be one of {', '.join(STUDENTS)}, as in r1_distill.py:qwen_7b.")
  name, rate, data, tensor, at_once = STUDENTS[student]
  sampling = config.Sampling(temperature=0.6, top_p=0.95, max_prompt=2048, max_response=MAX_LENGTH - 2048, chunk=1024)
  return config.Experiment(
    name=f"r1_distill_{student}",
    model=config.hub(name),
    mesh=config.Mesh(data=data, tensor=tensor),
    stages=(sft(rate, data),),
    evaluation=config.Evaluation(  # v2 D.1: 64 samples for AIME and GPQA, 16 for MATH, 8 for LiveCodeBench
      samples=4,
      majority=4,
      sampling=sampling,
      template=TEMPLATE,
      problems=Hub(dataset="openai/gsm8k", config="main", split="test", domain="gsm8k"),
      problems_at_once=data,
      samples_at_once=at_once,
      benchmarks=(
        benchmarks.aime_2024(),
        benchmarks.math_500(),
        benchmarks.gpqa_diamond(),
        benchmarks.live_code_bench(),
      ),
    ),
  )


def sft(rate: float, data: int) -> config.SFT:
  return config.SFT(
    name="distilled",
    data=(THOUGHTS,),
    template=TEMPLATE,
    epochs=2,
    rows=64,
    length=MAX_LENGTH,
    microbatches=64 // data,  # a row a chip: its activations are what is large
    optimizer=config.Optimizer(learning_rate=rate, final_rate=0.1),
    checkpoints=config.Checkpoints(every=200),
  )
