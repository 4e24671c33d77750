"""A published model as one object: `load` and `save`."""

from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from r1jax import config, mesh as meshes
from r1jax.data import tokenizer as tokenizers
from r1jax.models import transformer
from r1jax.models.hub import description, published, reading, source, writing
from r1jax.models.hub.fields import GENERATION, read_fields, read_generation


@dataclasses.dataclass(kw_only=True)
class Loaded:
  """A model with all that came with it.

  `loaded.apply(loaded.params, tokens)` are the logits; `dataclasses.replace` gives one with trained parameters.
  """

  config: config.Model
  params: Any
  tokenizer: Any = None  # of r1jax.data.tokenizer; None where the folder has none
  generation: dict[str, Any] = dataclasses.field(default_factory=dict)  # generation_config.json
  published: dict[str, Any] | None = None  # the config.json it came from; None: a model of ours
  mesh: jax.sharding.Mesh | None = None  # that the parameters are on; None: the current one

  def apply(self, params, tokens):
    """Logits float32[b, t, v] of the token after each: whole rows of tokens int32[b, t], positions from 0.

    b must be a multiple of the mesh's data x expert.
    """
    with on(self.mesh):
      if not isinstance(tokens, jax.core.Tracer):
        sharding = NamedSharding(jax.sharding.get_mesh(), meshes.batch_spec(2))
        meshes.process_rows(len(tokens))
        tokens = jax.device_put(np.asarray(tokens, np.int32), sharding)
      return _forward(self.config, params, tokens)


@functools.partial(jax.jit, static_argnums=0)
def _forward(c: config.Model, params, tokens):
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape, out_sharding=jax.typeof(tokens).sharding.spec)
  out = transformer.apply(c, params, tokens, positions, jnp.ones_like(tokens))
  return transformer.logits(c, params, out.hidden)


def on(mesh: jax.sharding.Mesh | None):
  """The context of a mesh, unless it is the current one already."""
  if mesh is None or jax.sharding.get_abstract_mesh() == mesh.abstract_mesh:
    return contextlib.nullcontext()
  return jax.set_mesh(mesh)


def load(
  folder_or_id: str | os.PathLike,
  mesh: config.Mesh | jax.sharding.Mesh | None = None,
  revision: str | None = None,
  dtype: str = "float32",
  activations: str | None = None,
  mtp: bool = False,
) -> Loaded:
  """A published model, ready to be applied, trained and saved.

  Args:
    folder_or_id: a local folder, or a model of the hub such as "Qwen/Qwen2.5-1.5B".
    mesh: what the parameters are spread over; None: the mesh that is set, or one device where none is.
    revision: branch, tag or commit of a model of the hub.
    dtype: of the parameters, "float32" or "bfloat16".
    activations: "float32" or "bfloat16"; None: float32 on CPU, bfloat16 elsewhere.
    mtp: whether DeepSeek-V3's multi-token prediction layer is loaded, too.

  Raises:
    ValueError: see read_config, load_params and resolve.
  """
  folder = source.resolve(folder_or_id, revision)
  c = published.read_config(folder, mtp)
  mesh = _mesh(mesh)
  with on(mesh):
    c.activations = activations or ("float32" if meshes.platform() == "cpu" else "bfloat16")
    c.validate()
    params = reading.load_params(folder, c, dtype)
  return Loaded(
    config=c,
    params=params,
    tokenizer=tokenizers.open_tokenizer(folder) if source.has_tokenizer(folder) else None,
    generation=read_generation(folder),
    published=read_fields(folder),
    mesh=mesh,
  )


def _mesh(mesh) -> jax.sharding.Mesh:
  if isinstance(mesh, config.Mesh):
    return meshes.make(mesh)
  current = jax.sharding.get_mesh() if mesh is None else mesh
  return meshes.make(config.Mesh(), jax.devices()[:1]) if current.empty else current


def save(
  folder: str | os.PathLike,
  loaded: Loaded,
  dtype: str = "bfloat16",
  max_shard_bytes: int = writing.SHARD,
  files: Mapping[str, bytes] | None = None,
) -> pathlib.Path:
  """Writes a folder that transformers and vLLM load; it appears whole or not at all.

  config.json is the one the model came from with the fields that changed, or one made from its config; beside the
  weights lie generation_config.json and the tokenizer's files with its chat template.

  Args:
    files: further ones by name, in the place of the tokenizer's of that name.

  Raises:
    ValueError: the folder exists already, or see save_params.
  """
  fields, generation, ids = loaded.published, loaded.generation, _token_ids(loaded.tokenizer)
  if fields is None:
    fields = description.describe(loaded.config, dtype, **ids)
    generation = {f"{name}_token_id": id for name, id in zip(("bos", "eos", "pad"), ids.values())} | generation
  with writing.whole(folder) as partial:
    writing.save_params(partial, loaded.config, loaded.params, fields, dtype, max_shard_bytes)
    if jax.process_index() == 0:
      if loaded.tokenizer is not None:
        loaded.tokenizer.save(partial)
      for name, content in (files or {}).items():
        (partial / name).write_bytes(content)
      if generation:
        (partial / GENERATION).write_text(json.dumps(generation, indent=2, ensure_ascii=False) + "\n")
  return pathlib.Path(folder)


def _token_ids(tokenizer) -> dict[str, Any]:
  if tokenizer is None:
    return {}
  return {"begin": tokenizer.begin, "end": tuple(tokenizer.ends), "pad": tokenizer.pad}
