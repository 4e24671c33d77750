"""A workdir belongs to one config and is never half written."""

import dataclasses
import json
import os

import numpy as np
import pytest

from r1jax import config
from r1jax.training import workdir
from r1jax.training.workdir import claim, config_dict, config_sha256, write_json
from tests.experiments import small


@dataclasses.dataclass(kw_only=True)
class Accuracy:
  weight: float = 1.0


@dataclasses.dataclass(kw_only=True)
class Format:
  weight: float = 1.0


@dataclasses.dataclass(kw_only=True)
class Stage:
  name: str
  steps: int
  rewards: tuple = ()


@dataclasses.dataclass(kw_only=True)
class Run:
  name: str = "tiny"
  seed: int = 0
  stages: tuple = (Stage(name="base", steps=10), Stage(name="zero", steps=100, rewards=(Accuracy(), Format())))
  experts: Stage | None = None
  languages: tuple = ("en", "zh")


def changed(**fields):
  return dataclasses.replace(Run(), **fields)


def test_a_config_becomes_plain_types_with_class_names():
  plain = config_dict(changed(seed=np.int64(3)))
  assert plain == json.loads(json.dumps(plain))
  assert plain["class"] == "Run" and plain["seed"] == 3
  assert plain["stages"][1]["rewards"] == [{"class": "Accuracy", "weight": 1.0}, {"class": "Format", "weight": 1.0}]
  with pytest.raises(ValueError, match=r"Run\.stages\[0\].* a config holds"):
    config_dict(changed(stages=(object(),)))


def test_the_hash_changes_with_any_field_and_with_a_class():
  variants = [
    Run(),
    changed(seed=1),
    changed(languages=("zh", "en")),
    changed(experts=Stage(name="a", steps=1)),
    changed(stages=(*Run().stages[:1], Stage(name="zero", steps=100, rewards=(Format(), Format())))),
  ]
  assert len({config_sha256(v) for v in variants}) == len(variants)
  assert config_sha256(Run()) == config_sha256(Run())


def test_a_new_folder_is_claimed_and_the_same_config_may_come_back(tmp_path):
  folder = claim(tmp_path / "a" / "b", Run())
  before = (folder / "config.json").read_bytes()
  assert json.loads(before) == config_dict(Run())
  claim(folder, Run())
  assert (folder / "config.json").read_bytes() == before
  assert os.listdir(folder) == ["config.json"]


def test_another_config_is_refused_with_the_differing_fields(tmp_path):
  claim(tmp_path, Run())
  stages = (Stage(name="base", steps=10), Stage(name="zero", steps=200, rewards=(Format(weight=0.5),)))
  ours = changed(seed=7, stages=stages, experts=Stage(name="x", steps=1))
  with pytest.raises(ValueError) as caught:
    claim(tmp_path, ours)
  told = str(caught.value)
  for field in (
    "seed: 0 -> 7",
    "stages[1].steps: 100 -> 200",
    "stages[1].rewards[0]: Accuracy -> Format",
    "stages[1].rewards[1]: Format -> (absent)",
    "experts: null -> Stage",
  ):
    assert field in told
  assert "stages[0]" not in told and "name" not in told and "another --workdir" in told and "\n" not in told


def test_at_most_twelve_fields_are_named(tmp_path):
  claim(tmp_path, changed(languages=tuple(range(20))))
  with pytest.raises(ValueError, match="; and 8 more") as caught:
    claim(tmp_path, changed(languages=tuple(range(1, 21))))
  assert str(caught.value).count("languages[") == 12


def test_an_unwritable_place_is_one_sentence(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match=r"--workdir=.*file.run cannot be written \(.*\); choose another"):
    claim(tmp_path / "file" / "run", Run())


def test_a_config_file_that_was_cut_is_one_sentence(tmp_path):
  claim(tmp_path, Run())
  (tmp_path / "config.json").write_text('{"class": ')
  with pytest.raises(ValueError, match=r"config\.json is not JSON"):
    claim(tmp_path, Run())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  write_json(tmp_path / "a.json", {"词": 1})
  assert "词" in (tmp_path / "a.json").read_text(encoding="utf-8")

  def full(_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(workdir.os, "fsync", full)
  with pytest.raises(OSError, match="No space"):
    write_json(tmp_path / "a.json", {"b": 2})
  assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"词": 1}
  assert os.listdir(tmp_path) == ["a.json"]


def test_a_reader_keeps_the_old_file_while_it_is_replaced(tmp_path):
  write_json(tmp_path / "a.json", {"a": 1})
  with open(tmp_path / "a.json") as reader:
    write_json(tmp_path / "a.json", {"a": 2})
    assert json.load(reader) == {"a": 1}
  assert json.loads((tmp_path / "a.json").read_text()) == {"a": 2}


def test_a_run_goes_on_on_another_mesh_and_with_nothing_else_changed(tmp_path):
  experiment = small.get_config()
  claim(tmp_path, experiment)
  moved = dataclasses.replace(experiment, mesh=config.Mesh(data=4, gather=True))
  assert config_sha256(moved) == config_sha256(experiment)
  claim(tmp_path, moved)
  assert json.loads((tmp_path / "config.json").read_text())["mesh"]["data"] == 4
  with pytest.raises(ValueError, match="seed: 0 -> 1"):
    claim(tmp_path, dataclasses.replace(moved, seed=1))
