"""Checkpoints: bit-identical, asynchronous, and usable after whatever happened to the newest one."""

import asyncio
import gc
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any
import warnings

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.training import checkpoints as module
from r1jax.training.checkpoints import Checkpoints, params_sha256

# A failed read leaves futures behind that nobody awaits; Python mentions them when they are collected.
pytestmark = [
  pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
  pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def collect_left_futures():
  yield
  gc.collect()


@struct.dataclass
class State:
  step: Any
  params: Any
  moments: Any


def make_state(step=0, seed=0, layers=3, width=64):
  rng = np.random.default_rng(seed)
  params = {
    f"layer_{i}": {
      "weight": jnp.asarray(rng.normal(size=(width, 50)), jnp.float32),
      "scale": jnp.asarray(rng.normal(size=50), jnp.bfloat16),
    }
    for i in range(layers)
  }
  return State(step=jnp.int32(step), params=params, moments=jax.tree.map(lambda x: x * 2, params))


def abstract(tree):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def assert_same_bits(tree, other):
  assert jax.tree.structure(tree) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
    assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save(folder, steps, every=1, keep=10, total=100):
  checkpoints = Checkpoints(folder, every, keep)
  for step in steps:
    checkpoints.save_if_due(step, total, make_state(step, seed=step), {"next": step})
  checkpoints.close()


def files(folder):
  return sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file())


def test_restored_state_has_the_saved_bits_and_extras(tmp_path):
  save(tmp_path / "c", [5])
  step, state, extras = Checkpoints(tmp_path / "c", 1, 2).restore_latest(abstract(make_state()))
  assert (step, extras) == (5, {"next": 5})
  assert isinstance(state, State)
  assert_same_bits(state, make_state(5, seed=5))


def test_saves_are_due_every_n_steps_and_at_the_last_and_old_ones_go(tmp_path):
  save(tmp_path / "c", range(1, 12), every=4, keep=2, total=11)
  assert Checkpoints(tmp_path / "c", 4, 2).steps() == [8, 11]


def test_an_empty_folder_restores_nothing(tmp_path):
  assert Checkpoints(tmp_path / "c", 1, 1).restore_latest(abstract(make_state())) is None


def test_donating_the_state_right_after_a_save_does_not_change_what_is_saved(tmp_path):
  overwrite = jax.jit(lambda s: jax.tree.map(lambda x: -x - 1, s), donate_argnums=0)
  checkpoints = Checkpoints(tmp_path / "c", 1, 10)
  state = make_state(1, seed=1, width=2000)
  jax.block_until_ready(overwrite(make_state(width=2000)))
  for step in range(1, 5):
    expected = jax.tree.map(lambda x: np.array(x, copy=True), state)
    checkpoints.save_if_due(step, 10, state, {})
    state = jax.block_until_ready(overwrite(state))
    checkpoints.wait()
    assert_same_bits(checkpoints.restore_latest(abstract(make_state(width=2000)))[1], expected)


@pytest.mark.parametrize("listed", [True, False], ids=["files listed", "killed before the list"])
def test_every_damaged_file_of_the_newest_checkpoint_is_noticed_or_harmless(tmp_path, listed):
  save(tmp_path / "whole", [1, 2])
  if not listed:
    (tmp_path / "whole" / "2" / "file_sizes.json").unlink()
  names = [f.relative_to(tmp_path / "whole") for f in files(tmp_path / "whole" / "2")]
  assert len(names) > 5
  noticed, empty = 0, 0
  for name in names:
    for damage in (os.remove, lambda path: os.truncate(path, os.path.getsize(path) // 2)):
      shutil.rmtree(tmp_path / "c", ignore_errors=True)
      shutil.copytree(tmp_path / "whole", tmp_path / "c")
      damage(tmp_path / "c" / name)
      with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step, state, extras = Checkpoints(tmp_path / "c", 1, 2).restore_latest(abstract(make_state()))
      assert_same_bits(state, make_state(step, seed=step))
      assert extras == {"next": step}
      told = [str(w.message) for w in caught if "damaged" in str(w.message)]
      assert bool(told) == (step == 1), name
      assert all("step 2" in t and str(tmp_path) in t for t in told)
      noticed += step == 1
    empty += (tmp_path / "whole" / name).stat().st_size == 0
  # With the list all is noticed but its own loss and the halving of an empty file.
  assert noticed == 2 * len(names) - 1 - empty if listed else noticed > len(names) // 2


def test_after_falling_back_the_damaged_step_can_be_saved_again(tmp_path):
  save(tmp_path / "c", [1, 2])
  for file in (tmp_path / "c" / "2" / "state").rglob("d/*"):
    file.unlink()
  checkpoints = Checkpoints(tmp_path / "c", 1, 2)
  with pytest.warns(UserWarning, match="step 2 .* is damaged"):
    assert checkpoints.restore_latest(abstract(make_state()))[0] == 1
  assert checkpoints.save_if_due(2, 3, make_state(2, seed=2), {})
  checkpoints.wait()
  assert_same_bits(checkpoints.restore_latest(abstract(make_state()))[1], make_state(2, seed=2))
  assert (tmp_path / "c" / "damaged-2").exists()


def test_no_readable_checkpoint_is_an_error_and_not_a_fresh_start(tmp_path):
  save(tmp_path / "c", [1])
  (tmp_path / "c" / "1" / "state" / "_METADATA").unlink()
  with pytest.raises(ValueError, match="no checkpoint in .* can be read"):
    Checkpoints(tmp_path / "c", 1, 2).restore_latest(abstract(make_state()))
  assert (tmp_path / "c" / "1").exists()


def test_a_state_of_another_shape_is_an_error(tmp_path):
  save(tmp_path / "c", [1])
  with pytest.raises(ValueError, match="no checkpoint in .* can be read"):
    Checkpoints(tmp_path / "c", 1, 2).restore_latest(abstract(make_state(width=32)))


def test_bfloat16_parameters_may_be_restored_as_the_float32_that_they_are(tmp_path):
  state = {"params": jax.tree.map(lambda x: x.astype(jnp.bfloat16), make_state().params)}
  with Checkpoints(tmp_path, 1, 1) as checkpoints:
    checkpoints.save_if_due(1, 1, state, {})
  expected = jax.tree.map(lambda x: x.astype(jnp.float32), state["params"])
  with Checkpoints(tmp_path, 1, 1) as checkpoints:
    found = checkpoints.restore_params(abstract(expected))
    _, again, _ = checkpoints.restore_latest(abstract(state))
  assert_same_bits(found, expected)
  assert params_sha256(found) == params_sha256(expected) != params_sha256(state["params"])
  assert_same_bits(again, state)


def test_a_part_of_a_state_may_be_restored_but_not_more_than_there_is(tmp_path):
  state = {"step": jnp.int32(3), "adapters": {"a": jnp.ones((2, 3))}, "params": {"w": jnp.zeros((2, 2))}}
  with Checkpoints(tmp_path, 1, 1) as checkpoints:
    checkpoints.save_if_due(3, 3, state, {})
    part = {name: state[name] for name in ("step", "adapters")}
    assert_same_bits(checkpoints.restore_latest(abstract(part))[1], part)
    with pytest.raises(ValueError, match=r"step 3: it holds all arrays but 1\)"):
      checkpoints.restore_latest(abstract(part | {"reference": {"w": jnp.zeros(2)}}))


def test_the_parameters_alone_can_be_restored(tmp_path):
  save(tmp_path / "c", [1, 2])
  params = abstract(make_state().params)
  checkpoints = Checkpoints(tmp_path / "c", 1, 2)
  assert_same_bits(checkpoints.restore_params(params), make_state(seed=2).params)
  assert_same_bits(checkpoints.restore_params(params, step=1), make_state(seed=1).params)
  assert_same_bits(checkpoints.restore_params(params, name="moments"), make_state(seed=2).moments)
  with pytest.raises(ValueError, match="no checkpoint of step 7"):
    checkpoints.restore_params(params, step=7)
  for other in (make_state(layers=4), make_state(layers=2), make_state(width=32)):
    with pytest.raises(ValueError, match="another model config"):
      checkpoints.restore_params(abstract(other.params))


@pytest.fixture(params=["tmpfs", "file size limit"])
def full_disk(request, tmp_path):
  """(a folder with an intact checkpoint of step 1, a function that lets it run full)."""
  folder = tmp_path / "disk"
  folder.mkdir()
  if request.param == "tmpfs":
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
      pytest.skip("needs the right to mount a tmpfs")
    try:
      save(folder / "c", [1])
      yield folder / "c", lambda: None
    finally:
      subprocess.run(["umount", "-l", str(folder)], check=True)
  else:
    save(folder / "c", [1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield folder / "c", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_sentence_and_leaves_the_previous_checkpoint(full_disk, capfd):
  folder, fill = full_disk
  checkpoints = Checkpoints(folder, 1, 1)
  fill()
  big = make_state(2, seed=2, width=4000)
  with pytest.raises(OSError, match=r"step 2 could not be written to .*MiB free.*step 1 is intact") as caught:
    checkpoints.save_if_due(2, 9, big, {})
    checkpoints.wait()
  assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
  assert "Traceback" not in capfd.readouterr().err
  assert [p.name for p in folder.iterdir()] == ["1"]
  assert_same_bits(checkpoints.restore_latest(abstract(make_state()))[1], make_state(1, seed=1))
  checkpoints.close()


def test_a_write_nobody_waited_for_is_not_told_again_and_a_bug_is(tmp_path, caplog):
  Checkpoints(tmp_path, every=1, keep=1).close()
  loop = asyncio.new_event_loop()
  raised = None
  try:
    raise KeyError("a bug")
  except KeyError as error:
    raised = error
  for error in (ValueError("RESOURCE_EXHAUSTED: Error writing params [os_error_code='28']"), raised):
    loop.create_future().set_exception(error)
    gc.collect()
  loop.close()
  assert [str(record.exc_info[1]) for record in caplog.records if record.name == "asyncio"] == ["'a bug'"]


def test_a_failed_save_is_told_at_the_next_step_not_at_the_next_save(full_disk):
  folder, fill = full_disk
  checkpoints = Checkpoints(folder, 100, 1)
  fill()
  with pytest.raises(OSError, match="step 100 could not"):
    for step in range(100, 200):  # the next save is due at 200
      checkpoints.save_if_due(step, 999, make_state(width=4000), {})
      time.sleep(0.1)
  assert_same_bits(checkpoints.restore_latest(abstract(make_state()))[1], make_state(1, seed=1))


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_kill_during_a_save_leaves_the_earlier_checkpoint(tmp_path, delay):
  save(tmp_path / "c", [1])
  program = f"""
    import sys
    sys.path[:0] = [{str(ROOT)!r}, {str(pathlib.Path(__file__).parent)!r}]
    import test_checkpoints as t
    checkpoints = t.Checkpoints({str(tmp_path / "c")!r}, 1, 1)
    big = t.make_state(2, seed=2, layers=20, width=20_000)
    print("saving", flush=True)
    checkpoints.save_if_due(2, 9, big, {{}})
    checkpoints.wait()
    print("done", flush=True)
  """
  run = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
  assert run.stdout.readline() == "saving\n"
  deadline = time.time() + 20
  while not list((tmp_path / "c").glob("2.*/**/d/*")) and time.time() < deadline:
    time.sleep(0.002)
  time.sleep(delay)
  run.send_signal(signal.SIGKILL)
  assert "done" not in run.stdout.read()
  run.wait()
  assert any(p.name.startswith("2.") for p in (tmp_path / "c").iterdir())
  step, state, _ = Checkpoints(tmp_path / "c", 1, 1).restore_latest(abstract(make_state()))
  assert step == 1
  assert_same_bits(state, make_state(1, seed=1))
  assert [p.name for p in (tmp_path / "c").iterdir()] == ["1"]


def test_a_million_parameters_block_for_less_than_half_a_second(tmp_path):
  state = make_state(layers=20, width=1000)  # 1M float32, 1M moments
  checkpoints = Checkpoints(tmp_path / "c", 1, 2)
  blocked = []
  for step in range(1, 5):
    start = time.perf_counter()
    checkpoints.save_if_due(step, 9, state, {})
    blocked.append(time.perf_counter() - start)
    checkpoints.wait()
  assert min(blocked) < 0.5  # the best of four: other programs may hold the cores
  checkpoints.close()


def test_the_hash_sees_every_bit_name_dtype_and_shape_and_nothing_else():
  params = make_state().params
  digest = params_sha256(params)
  assert digest == params_sha256(jax.tree.map(np.asarray, dict(reversed(params.items()))))
  changed = jax.tree.map(np.array, params)
  changed["layer_1"]["weight"][3, 3] = np.nextafter(changed["layer_1"]["weight"][3, 3], np.float32(9))
  renamed = {**params, "layer_9": params["layer_0"]}
  reshaped = jax.tree.map(lambda x: x.reshape(-1), params)
  del renamed["layer_0"]
  others = [
    params_sha256(p) for p in (changed, renamed, reshaped, jax.tree.map(lambda x: x.astype(jnp.float16), params))
  ]
  assert len({digest, *others}) == 5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_an_array_is_cut_into_pieces_along_split_axes_with_every_bit(dtype, on_devices, monkeypatch):
  words = np.random.default_rng(0).integers(0, 2**16, 3 * 4 * 6 * 8, np.uint16)  # negative zeros, infinities and NaNs
  words[:4] = 0x8000, 0x7F80, 0x7FC1, 0xFF81
  whole = words.view(jnp.bfloat16).reshape(3, 4, 6, 8)
  if dtype == jnp.float32:
    whole = (words.astype(np.uint32) << 16).view(np.float32).reshape(whole.shape)
  with on_devices(data=2, expert=2, tensor=2):
    leaf = jax.device_put(whole, jax.P(None, "expert", "data", "tensor"))
    for at_once, shape, count in ((whole.nbytes, (3, 4, 6, 8), 1), (whole[0].nbytes, (4, 6, 8), 3), (1, (6, 8), 12)):
      monkeypatch.setattr(module, "AT_ONCE", at_once)
      pieces = list(module._pieces(leaf))
      assert [piece.shape for piece in pieces] == [shape] * count
      assert b"".join(np.asarray(piece).tobytes() for piece in pieces) == whole.tobytes()
    assert pieces[0].sharding.shard_shape((6, 8)) == (3, 4)  # and still spread


def test_the_hash_of_a_scalar_leaf_works():
  assert params_sha256({"a": jnp.float32(1)}) != params_sha256({"a": jnp.float32(2)})


def test_a_state_sharded_over_four_devices_restores_on_one_and_hashes_alike(tmp_path):
  program = f"""
    import os, sys
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    sys.path[:0] = [{str(ROOT)!r}, {str(pathlib.Path(__file__).parent)!r}]
    import jax, test_checkpoints as t
    rows = jax.NamedSharding(jax.make_mesh((4,), ("data",)), jax.P("data"))
    whole = jax.NamedSharding(rows.mesh, jax.P())
    state = jax.tree.map(lambda x: jax.device_put(x, rows if x.ndim == 2 else whole), t.make_state(3, seed=3))
    checkpoints = t.Checkpoints({str(tmp_path / "c")!r}, 1, 1)
    checkpoints.save_if_due(3, 9, state, {{}})
    checkpoints.wait()
    again = checkpoints.restore_latest(t.abstract(state))[1]
    t.assert_same_bits(again, state)
    assert again.params["layer_0"]["weight"].sharding == rows
    print(t.params_sha256(again.params))
  """
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  run = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stderr
  state = Checkpoints(tmp_path / "c", 1, 1).restore_latest(abstract(make_state()))[1]
  assert_same_bits(state, make_state(3, seed=3))
  assert run.stdout.split()[-1] == params_sha256(state.params)
