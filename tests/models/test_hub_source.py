"""Folders, the hub's cache, and what comes with the weights."""

import json
import pathlib
import shutil

import huggingface_hub
import huggingface_hub.constants
import jax
import pytest

from r1jax.data.tokenizer import Tokenizer
from r1jax.models import hub

GOLDEN = pathlib.Path(__file__).parent / "golden"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """The hub's cache, with one model in it, and no connection."""
  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
  model = tmp_path / "models--owner--name"
  (model / "refs").mkdir(parents=True)
  (model / "refs/main").write_text(COMMIT)
  shutil.copytree(GOLDEN / "qwen2_tied", model / "snapshots" / COMMIT)
  real = huggingface_hub.snapshot_download
  monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: real(*a, cache_dir=tmp_path, **k))
  return tmp_path


def test_a_folder_is_itself_and_has_no_revisions(tmp_path):
  assert hub.resolve(tmp_path) == tmp_path
  with pytest.raises(ValueError, match="revision='main' names a version of a model of the hub, but .* is a folder"):
    hub.resolve(tmp_path, revision="main")


@pytest.mark.parametrize("name", ["./nowhere", "nowhere", "a/b/c", "~/nowhere"])
def test_what_is_no_folder_and_no_name_is_told(name):
  with pytest.raises(ValueError, match="there is no folder .*; name one, or a model of the hub as owner/name"):
    hub.resolve(name)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_model_is_found_without_a_connection(cache, revision):
  folder = hub.resolve("owner/name", revision)
  assert folder == cache / "models--owner--name/snapshots" / COMMIT
  assert hub.commit(folder) == COMMIT
  assert hub.commit(GOLDEN) == ""
  assert hub.load("owner/name", revision=revision).config.layers == 2


def test_a_model_that_is_not_cached_is_told_when_there_is_no_connection(cache):
  with pytest.raises(ValueError, match="owner/other is not in the cache of the hub and cannot be fetched"):
    hub.resolve("owner/other")
  with pytest.raises(ValueError, match="owner/name is not in the cache of the hub"):
    hub.resolve("owner/name", revision="v2")


def test_no_more_is_fetched_than_is_read(monkeypatch, tmp_path):
  asked = {}
  monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **k: asked.update(k, name=name) or tmp_path)
  hub.resolve("owner/name", "v1", weights=False)
  kept = huggingface_hub.utils.filter_repo_objects
  files = ["config.json", "tokenizer.model", "chat_template.jinja", "merges.txt", "model-00001-of-00002.safetensors"]
  others = ["pytorch_model.bin", "original/consolidated.00.pth", "original/params.json", "model.gguf", "README.md"]
  wanted = dict(allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"])
  assert list(kept(files + others, **wanted)) == files[:-1]
  assert (asked["name"], asked["revision"]) == ("owner/name", "v1")
  hub.resolve("owner/name")
  wanted = dict(allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"])
  assert list(kept(files + others, **wanted)) == files


def test_tokenizer_and_generation_settings_come_in_and_go_out(tmp_path):
  shutil.copytree(GOLDEN / "qwen2_tied", tmp_path / "in")
  Tokenizer.train(["one two three four", "five six seven"], 400).save(tmp_path / "in")
  generation = {"eos_token_id": [1, 5], "temperature": 0.6, "top_p": 0.95}
  (tmp_path / "in/generation_config.json").write_text(json.dumps(generation))
  loaded = hub.load(tmp_path / "in")
  assert loaded.tokenizer.decode(loaded.tokenizer.encode("two six")) == "two six"
  assert loaded.generation == generation
  hub.save(tmp_path / "out", loaded)
  assert (tmp_path / "out/tokenizer.model").read_bytes() == (tmp_path / "in/tokenizer.model").read_bytes()
  assert json.loads((tmp_path / "out/generation_config.json").read_text()) == generation
  assert hub.load(GOLDEN / "qwen2_tied").tokenizer is None


def test_a_model_of_ours_is_saved_with_the_ids_of_its_tokenizer(tmp_path, tiny_model, random_params):
  c = tiny_model()
  tokenizer = Tokenizer.train(["one two three four", "five six seven"], 400)
  hub.save(tmp_path / "out", hub.Loaded(config=c, params=random_params(c), tokenizer=tokenizer))
  fields, generation = hub.read_fields(tmp_path / "out"), hub.read_generation(tmp_path / "out")
  for found in (fields, generation):
    assert (found["eos_token_id"], found["pad_token_id"]) == ([tokenizer.end], tokenizer.pad)
  assert jax.tree.leaves(hub.load(tmp_path / "out").params)


def test_a_tokenizer_that_cannot_be_read_is_told(tmp_path):
  shutil.copytree(GOLDEN / "qwen2_tied", tmp_path / "in")
  (tmp_path / "in/vocab.json").write_text("{}")
  with pytest.raises(ValueError, match="there is no tokenizer in"):
    hub.load(tmp_path / "in")
