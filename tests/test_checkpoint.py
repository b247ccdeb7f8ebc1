"""Checkpoints: what comes back, on other devices too, and what a broken file costs."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hseg_jax.errors import UserError
from hseg_jax.training import checkpoint, sharding
from hseg_jax.training import state as states


class Objective:
  """A matrix, its statistics and a target."""

  def __init__(self, width=2):
    self.width = width

  def init(self, key, batch):
    params = {"fc": {"kernel": jax.random.normal(key, (64, self.width))}}
    stats = {"norm": {"mean": jnp.arange(self.width, dtype=jnp.float32)}}
    return {"params": params, "batch_stats": stats, "target": {"params": params}}


def make(seed=0, *, width=2, ema=True, num_devices=4):
  tx = optax.adam(1e-3)
  init = states.make_init(Objective(width), tx, {}, ema=ema)
  placement = sharding.replicated(sharding.make_mesh(jax.devices()[:num_devices]))
  return states.create(init, seed, placement), states.abstract(init, placement)


def equal(a, b):
  return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b))


def save(workdir, *steps, keep=2):
  checkpointer = checkpoint.Checkpointer(workdir, every_steps=5, keep=keep)
  for step in steps:
    checkpointer.save(step, make(step)[0])
  checkpointer.close()


def restore(workdir, wanted):
  checkpointer = checkpoint.Checkpointer(workdir, every_steps=5, keep=2)
  try:
    return checkpointer.restore(wanted), checkpointer.latest_step
  finally:
    checkpointer.close()


def test_the_newest_comes_back_on_any_number_of_devices(tmp_path):
  save(tmp_path, 5, 10, 15)
  assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"10", "15"}
  state, wanted = make(15, num_devices=2)
  restored, step = restore(tmp_path, wanted)
  assert step == 15 and equal(restored, state)
  assert jax.tree.leaves(restored)[0].sharding.num_devices == 2


def test_an_empty_workdir_gives_nothing(tmp_path):
  assert restore(tmp_path, make()[1]) == (None, None)


def test_load_gives_the_whole_state_as_numpy(tmp_path):
  save(tmp_path, 5, 10)
  state, _ = make(5)
  found = checkpoint.load(tmp_path, step=5)
  assert set(found) == {"step", "params", "batch_stats", "opt_state", "target", "ema", "rng"}
  assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
  for name in ("params", "batch_stats", "target", "ema", "rng"):
    assert equal(found[name], getattr(state, name)), name
  newest = checkpoint.load(tmp_path)
  assert equal(newest["params"], make(10)[0].params)
  with pytest.raises(UserError, match="no checkpoint of step 7"):
    checkpoint.load(tmp_path, step=7)
  with pytest.raises(UserError, match="no checkpoint"):
    checkpoint.load(tmp_path / "elsewhere")


def test_a_checkpoint_is_due_at_multiples_and_only_once(tmp_path):
  checkpointer = checkpoint.Checkpointer(tmp_path, every_steps=5, keep=2)
  assert checkpointer.is_due(5) and not checkpointer.is_due(6)
  checkpointer.save(5, make()[0])
  assert not checkpointer.is_due(5) and not checkpointer.is_preempted(5)
  checkpointer.close()


def test_another_model_is_refused_and_nothing_is_touched(tmp_path):
  save(tmp_path, 5)
  with pytest.raises(UserError, match=r"does not fit this run: its .*\(64, 2\).*\(64, 3\)"):
    restore(tmp_path, make(width=3)[1])
  with pytest.raises(UserError, match="the run has none"):
    restore(tmp_path, make(ema=False)[1])
  assert restore(tmp_path, make()[1])[1] == 5


def test_a_truncated_newest_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
  save(tmp_path / "whole", 5, 10)
  wanted = make()[1]
  files = [p for p in (tmp_path / "whole/checkpoints/10").rglob("*") if p.stat().st_size > 1]
  put_aside = 0
  for file in (f for f in files if f.is_file()):
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "whole", broken)
    with (broken / file.relative_to(tmp_path / "whole")).open("r+b") as opened:
      opened.truncate(file.stat().st_size // 2)
    caplog.clear()
    restored, step = restore(broken, wanted)
    # Some files are not needed to restore; then the newest comes back, and comes back right.
    assert equal(restored, make(step)[0]), file
    if step == 5:
      put_aside += 1
      assert (broken / "checkpoints/10.unreadable").is_dir()
      (warning,) = [r for r in caplog.records if "passed over" in r.message]
      assert str(pathlib.Path("checkpoints/10")) in warning.message
      save(broken, 10)  # the run reaches that step again
      assert restore(broken, wanted)[1] == 10
    shutil.rmtree(broken)
  assert put_aside


def test_without_any_readable_checkpoint_the_run_stops(tmp_path):
  save(tmp_path, 5)
  for file in (tmp_path / "checkpoints/5").rglob("*"):
    if file.is_file():
      file.write_bytes(b"")
  with pytest.raises(UserError, match="None of the checkpoints"):
    restore(tmp_path, make()[1])
  assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["5"]  # it may be the disk


def test_two_runs_do_not_share_a_folder(tmp_path):
  first = checkpoint.Checkpointer(tmp_path)
  with pytest.raises(UserError, match="Another process trains in"):
    checkpoint.Checkpointer(tmp_path)
  checkpoint.Checkpointer(tmp_path, read_only=True).close()
  first.close()
  checkpoint.Checkpointer(tmp_path).close()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
  (tmp_path / "checkpoints").write_text("")
  with pytest.raises(UserError, match="checkpoints cannot be written"):
    checkpoint.Checkpointer(tmp_path)


def test_load_passes_over_what_it_cannot_read(tmp_path, caplog):
  save(tmp_path, 5, 10)
  (tmp_path / "checkpoints/10/state/_METADATA").unlink()
  (tmp_path / "checkpoints/15").mkdir()
  assert equal(checkpoint.load(tmp_path)["params"], make(5)[0].params)
  assert [r.message.split()[1][-2:] for r in caplog.records if "passed over" in r.message] == [
    "15",
    "10",
  ]
  with pytest.raises(UserError, match="asked for"):
    checkpoint.load(tmp_path, step=10)


def test_another_run_is_only_read(tmp_path):
  save(tmp_path, 5, 10)
  (tmp_path / "checkpoints/10/state/_METADATA").write_bytes(b"")
  before = sorted(tmp_path.rglob("*"))
  state, wanted = make(5)
  assert equal(checkpoint.restore_from(tmp_path, wanted), state)
  assert sorted(tmp_path.rglob("*")) == before
  with pytest.raises(UserError, match="no checkpoint to resume from"):
    checkpoint.restore_from(tmp_path / "nowhere", wanted)
  assert not (tmp_path / "nowhere").exists()
