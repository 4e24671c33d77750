"""Rewards by our own checkpoints: a reward model's score, and a policy as the engine of a judge.

The only file of the rewards that knows jax, and only once a judge is opened.
"""

import contextlib
import dataclasses
import pathlib
import threading
from typing import ClassVar

from r1jax import config
from r1jax.rewards.endpoint import Failure


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class Preference:
  """What a reward model gives a response (DeepSeek-R1 v2 3.1): a reward for RL stages.

  Of a pairwise model the score, standardised by its held-out scores (mean 0,
  standard deviation 1); of a pointwise one the probability of safe, in [0, 1].
  The model is asked in its own template. As a general question belongs to the
  one or the other, they are told apart by domain:

    ByDomain({"writing": (Preference(stage="helpful_rm", name="helpful"),),
              "harm": (Preference(stage="safety_rm", name="safety"),)})
  """

  stage: str  # name of the RewardModel stage
  name: str = "preference"
  weight: float = 1.0
  given: ClassVar[bool] = True  # the stage asks the model, on its mesh, and hands the values to the Scorer

  def takes(self) -> list[tuple[str, str]]:
    return [("reward model", self.stage)]


@dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)
class OwnModel:
  """An engine on the newest checkpoint of a finished stage, with its own copy of the parameters on one device.

  One device, since it is called beside the training and from another thread,
  where programs with collectives of their own could wait for each other for
  good. Serve a larger model and use an Endpoint.

  The same conversations in the same order get the same replies.
  """

  stage: str  # folder of a finished stage, <workdir>/<stage>: its checkpoints and its tokenizer
  model: config.Model  # of that stage
  template: config.Template  # around the conversation, which stands for {question}
  sampling: config.Sampling
  at_once: int = 16  # conversations sampled in one call, at least 2
  seed: int = 0
  device: int = 0  # index among this process's devices

  def validate(self):
    self.sampling.validate()
    self.template.validate()
    config.at_least(2, "own_model", self, "at_once")  # the sampler cannot shard the keys of a single prompt
    for part in ("checkpoints", "tokenizer"):
      if not (pathlib.Path(self.stage) / part).is_dir():
        raise ValueError(
          f"own_model.stage={self.stage!r} has no folder {part!r}; name the folder of a finished stage, as in "
          "<workdir>/base."
        )

  @contextlib.contextmanager
  def open(self):
    """Reads the checkpoint and yields a client.

    Raises:
      ValueError: there is no such checkpoint, it is of another model, or there are several processes.
    """
    import jax

    from r1jax import mesh
    from r1jax.data.tokenizer import open_tokenizer
    from r1jax.training import state
    from r1jax.training.checkpoints import Checkpoints

    self.validate()
    devices = jax.local_devices()
    if jax.process_count() > 1 or not 0 <= self.device < len(devices):
      raise ValueError(
        f"own_model: device {self.device} of {len(devices)} in {jax.process_count()} processes; it runs on one device "
        "of a single process. Serve the model and use an Endpoint where there are several."
      )
    here = mesh.make(config.Mesh(), [devices[self.device]])
    folder = pathlib.Path(self.stage)
    with jax.set_mesh(here), Checkpoints(folder / "checkpoints", 1, 1000) as checkpoints:
      params = checkpoints.restore_params(abstract_params=state.abstract_params(self.model))
    yield Client(self, params, open_tokenizer(folder / "tokenizer"), here)


class Client:
  """Samples replies from a policy; may be used from several threads, one call at a time."""

  def __init__(self, engine: OwnModel, params, tokenizer, here):
    from r1jax.data.prompts import Prompter

    self._engine, self._params, self._tokenizer, self._mesh = engine, params, tokenizer, here
    self._prompter = Prompter(engine.template, tokenizer)
    self._lock = threading.Lock()

  def complete(self, conversations: list[list[dict[str, str]]]) -> list[str | Failure]:
    """A reply to every conversation; a Failure for one that is longer than sampling.max_prompt tokens."""
    import jax

    longest = self._engine.sampling.max_prompt
    prompts = [self._prompter.encode(as_text(messages)) for messages in conversations]
    replies = [
      Failure(f"the conversation takes {len(ids)} tokens, more than sampling.max_prompt={longest}", declined=True)
      for ids in prompts
    ]
    short = [i for i, ids in enumerate(prompts) if len(ids) <= longest]
    with self._lock, jax.set_mesh(self._mesh):  # the mesh of the main thread is not that of others
      for start in range(0, len(short), self._engine.at_once):
        mine = short[start : start + self._engine.at_once]
        for i, reply in zip(mine, self._sample([prompts[i] for i in mine], start), strict=True):
          replies[i] = self._prompter.prefill + reply
    return replies

  def _sample(self, prompts, first_row):
    """Replies to at most `at_once` prompts, in calls of one shape."""
    import jax
    import numpy as np

    from r1jax import mesh
    from r1jax.rl.sampling import sample

    e, prompter = self._engine, self._prompter
    padded = prompts + prompts[:1] * (e.at_once - len(prompts))
    tokens = np.zeros((e.at_once, e.sampling.max_prompt), np.int32)
    for row, ids in zip(tokens, padded, strict=True):
      row[: len(ids)] = ids
    lengths = np.array([len(ids) for ids in padded], np.int32)
    rows = first_row + np.arange(e.at_once, dtype=np.int32)
    rollouts = mesh.to_local(
      sample(
        self._params, *mesh.to_global((tokens, lengths, rows)), jax.random.key(e.seed), c=e.model, sampling=e.sampling,
        group_size=1, ends=prompter.ends, pad=prompter.pad,
      )
    )  # fmt: skip
    drawn = zip(rollouts.tokens[: len(prompts), 0], rollouts.lengths[: len(prompts), 0], strict=True)
    return [self._tokenizer.decode(row[:n].tolist()) for row, n in drawn]


def as_text(messages: list[dict[str, str]]) -> str:
  """A conversation as plain text: the first turns as they are, and from the first reply on with their roles."""
  turns, replied = [], False
  for message in messages:
    replied = replied or message["role"] == "assistant"
    turns.append(f"{message['role'].capitalize()}: {message['content']}" if replied else message["content"])
  return "\n\n".join(turns)
