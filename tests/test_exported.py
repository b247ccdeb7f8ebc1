"""The weights folder: what is written is what is read, and damage is told."""

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.interop import exported

VARIABLES = {
  "params": {"a": {"kernel": np.eye(3, dtype=np.float32)}, "b": np.float32(2)},
  "batch_stats": {"a": {"mean": np.zeros(2, np.float32)}},
}


def test_round_trip(tmp_path):
  exported.save(tmp_path / "w", VARIABLES, {"name": "x", "metrics": {"val/top1": 0.5}})
  flat, info = exported.load_exported(tmp_path / "w")
  assert info == {"name": "x", "metrics": {"val/top1": 0.5}}
  assert list(flat) == ["batch_stats/a/mean", "params/a/kernel", "params/b"]
  tree = exported.unflatten(flat)
  np.testing.assert_array_equal(tree["params"]["a"]["kernel"], np.eye(3))
  assert tree["params"]["b"] == 2 and tree["params"]["b"].dtype == np.float32
  assert sorted(p.name for p in (tmp_path / "w").iterdir()) == ["model.json", "model.safetensors"]


def test_transposed_arrays_keep_their_values(tmp_path):
  x = np.arange(6, dtype=np.float32).reshape(2, 3).T
  exported.save(tmp_path, {"params": {"x": x}}, {})
  np.testing.assert_array_equal(exported.load_exported(tmp_path)[0]["params/x"], x)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_missing_and_damaged_files_are_named(tmp_path, name):
  exported.save(tmp_path, VARIABLES, {})
  content = (tmp_path / name).read_bytes()
  (tmp_path / name).write_bytes(content[: len(content) // 2])
  with pytest.raises(UserError, match="damaged"):
    exported.load_exported(tmp_path)
  (tmp_path / name).unlink()
  with pytest.raises(UserError, match=name):
    exported.load_exported(tmp_path)
