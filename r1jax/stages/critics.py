"""What reward models read and how they score: after their training, and in RL (DeepSeek-R1 v2 3.1, 3.2.2).

They are programs with collectives, so they run on the run's mesh in the main
thread of every process in the same order, and not beside the training as other
rewards do.
"""

import functools

import jax
import numpy as np

from r1jax import config, mesh
from r1jax.data import preferences as data
from r1jax.data.prompts import Prompter
from r1jax.models import reward_head
from r1jax.rewards.compose import given
from r1jax.rewards.format import final_part
from r1jax.training import state as states


def what_it_reads(stage: config.RewardModel, text: str) -> str:
  """The summary of a response (what follows its thought), or all of it."""
  return final_part(text, structure="summary", strict=False) if stage.reads == "summary" else text


def encode(prompter: Prompter, tokenizer, prompt: str, texts) -> tuple[np.ndarray, ...]:
  """Prompt, text and end token of each text. The template's prefill is left out: a whole response has it in it."""
  before = prompter.encode(prompt, prefill=False)
  return tuple(np.array([*before, *tokenizer.encode(text), prompter.end], np.int32) for text in texts)


def sigmoid(x):
  return 0.5 * (1 + np.tanh(0.5 * x))


@functools.partial(jax.jit, static_argnames="c")
def _end_scores(params, tokens, lengths, *, c: config.Model):
  return reward_head.end_scores(c, params, tokens, lengths)[0]


def score_rows(model: config.Model, params, sequences, length: int, rows: int) -> np.ndarray:
  """Scores float32[n] of this process's sequences of tokens, which may be none.

  Every process must call it. Calls have one shape, [rows, length]; length is
  doubled while a sequence of any process is longer: there is no limit in
  inference.

  Args:
    rows: sequences in one call, over all processes; rounded up to what the mesh can split.
  """
  shards = mesh.batch_shards()
  share = mesh.process_rows(-(-rows // shards) * shards)
  sizes = np.array([-(-len(sequences) // share), max(map(len, sequences), default=1)])
  calls, longest = mesh.total(sizes, np.max).tolist()
  while length < longest:
    length *= 2
  scores = np.zeros(calls * share, np.float32)
  padded = [*sequences, *[np.zeros(1, np.int32)] * (len(scores) - len(sequences))]
  for start in range(0, len(scores), share):
    inputs = mesh.to_global(data.lay_out([(ids,) for ids in padded[start : start + share]], length))
    scores[start : start + share] = mesh.to_local(_end_scores(params, *inputs, c=model))[:, 0]
  return scores[: len(sequences)]


class Critic:
  """A reward model that is ready to score.

  A pairwise model's score is only meaningful against others: its reward is the
  score less the held-out mean, over the held-out standard deviation. The paper
  gives no scaling; without one the weight beside rule rewards would depend on
  how long the model was trained. A pointwise model gives the probability of
  safe. A response without anything to read gets the lowest held-out score: the
  model has never seen one.
  """

  def __init__(self, stage: config.RewardModel, model: config.Model, params, figures: dict, tokenizer, shape):
    self.stage, self._model, self._params, self._tokenizer = stage, model, params, tokenizer
    self._prompter = Prompter(stage.template, tokenizer)
    self._spread, (self._rows, self._length) = figures["scores"], shape
    if not self._spread["std"] > 0:
      raise ValueError(f"reward model {stage.name!r} gives every held-out response the same score; train it longer.")

  def score(self, problems, texts, prefill="") -> np.ndarray:
    """Rewards float32[n] of this process's responses; every process must call it, with none if it has none.

    Args:
      problems: n, of which the questions are asked again in the model's own template.
      texts: n, what the policy wrote.
      prefill: what its template had written before.
    """
    read = [what_it_reads(self.stage, prefill + text) for text in texts]
    sequences = [
      encode(self._prompter, self._tokenizer, problem.question, (text,))[0]
      for problem, text in zip(problems, read, strict=True)
    ]
    scores = score_rows(self._model, self._params, sequences, self._length, self._rows)
    scores = np.where([bool(text.strip()) for text in read], scores, np.float32(self._spread["min"]))
    if self.stage.loss == "pointwise":
      return sigmoid(scores).astype(np.float32)
    return ((scores - self._spread["mean"]) / self._spread["std"]).astype(np.float32)


def open_critics(stage: config.RL, run) -> dict[str, Critic]:
  """The reward models that a stage's rewards name, by the name of their stage; their parameters are on the mesh."""
  longest = stage.sampling.max_prompt + stage.sampling.max_response
  shape = max(1, stage.row_length // longest) * stage.microbatch_rows, longest  # no more tokens than a micro-batch
  return {
    name: _open(name, run, shape, stage.name)
    for name in dict.fromkeys(reward.stage for _, reward in given(stage.rewards))
  }


def _open(name, run, shape, taker):
  stage = run.experiment.stage(name)
  model = run.experiment.model_of(stage)
  params = run.restore(name, states.abstract_params(model, reward_head.declare), taker)
  return Critic(stage, model, params, run.figures(name), run.tokenizer, shape)


def judge(critics: dict[str, Critic], rewards, problems, texts, prefill) -> dict[str, np.ndarray]:
  """What reward models give each of n responses: float32[n] by the reward's name, NaN where it is not asked."""
  n, asking = len(problems), given(rewards)
  found = {reward.name: np.full(n, np.nan, np.float32) for _, reward in asking}
  for name, critic in critics.items():  # one pass of each model, whichever rewards it is for
    mine = [(leaf, reward) for leaf, reward in asking if reward.stage == name]
    rows = [i for i, problem in enumerate(problems) if any(leaf.applies(problem.domain) for leaf, _ in mine)]
    scores = dict(zip(rows, critic.score([problems[i] for i in rows], [texts[i] for i in rows], prefill), strict=True))
    for leaf, reward in mine:
      for i in rows:
        if leaf.applies(problems[i].domain):
          found[reward.name][i] = scores[i]
  return found
