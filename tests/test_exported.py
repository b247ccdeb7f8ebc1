"""The weights folder: what is written is what is read, and damage is told."""

import numpy as np
import pytest
import safetensors.numpy

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
  assert tree["params"]["b"].shape == ()
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


def half_of(**params):
  """What is stored of parameters, and what is read of that."""
  rng = np.random.default_rng(0)
  kernel = lambda: rng.normal(size=(8, 4)).astype(np.float32)
  pool = lambda: {"expand": {"fc": {"kernel": kernel(), "bias": kernel()[0]}}}
  pools = {f"pool_{i}": pool() | {"reduce": {"fc": {"kernel": kernel()}}} for i in (9, 10)}
  variables = {"params": {**pools, **params}, "batch_stats": {"var": np.float32([1e-7, 3])}}
  return exported.flatten(variables), exported.halve(exported.flatten(variables))


def test_half_precision_is_float16_save_for_the_last_poolings_kernels(tmp_path):
  flat, half = half_of(x=np.float32([1e-3, 60_000]), ids=np.int32([70_000]))
  coarse = [f"params/pool_10/{part}/fc/kernel" for part in ("expand", "reduce")]
  assert sorted(n for n, v in half.items() if v.dtype == np.int8) == coarse
  full = {"batch_stats/var", "params/ids", *(f"{name}.scale" for name in coarse)}
  assert {n for n, v in half.items() if v.dtype not in (np.int8, np.float16)} == full
  exported.save(tmp_path, exported.unflatten(half), {})
  found, _ = exported.load_exported(tmp_path)
  assert found.keys() == flat.keys()
  for name, value in flat.items():
    assert found[name].dtype == value.dtype and found[name].shape == value.shape
    # Half a step: of 10 bits behind the leading one, or of a column's largest over 127.
    step = np.abs(value).max(axis=0) / 127 if name in coarse else np.abs(value) / 1024
    assert np.all(np.abs(found[name] - value) <= (0 if name in full else 0.501 * step)), name
  stored = safetensors.numpy.load_file(tmp_path / "model.safetensors")
  assert stored["params/pool_10/expand/fc/kernel"].dtype == np.int8
  again = exported.widen(exported.halve(found))
  for name in flat:
    np.testing.assert_allclose(again[name], found[name], rtol=1e-6)


@pytest.mark.parametrize("value", [7e4, -7e4, np.nan, np.inf])
def test_what_is_beyond_half_precision_is_named(value):
  with pytest.raises(UserError, match="params/a/x has values beyond half precision"):
    half_of(a={"x": np.float32([0, value])})


def test_columns_of_zeros_stay_zero():
  zeros = np.zeros((3, 2), np.float32)
  flat = {"params/pool_0/expand/fc/kernel": zeros}
  np.testing.assert_array_equal(exported.widen(exported.halve(flat))[next(iter(flat))], zeros)


def test_files_of_an_earlier_export_go(tmp_path):
  exported.save(tmp_path, VARIABLES, {}, {exported.PROGRAM: b"1", exported.CARD: b"2"})
  (tmp_path / "mine").write_text("kept")
  exported.save(tmp_path, VARIABLES, {}, {exported.CARD: b"3"})
  found = {path.name for path in tmp_path.iterdir()}
  assert found == {"model.json", "model.safetensors", "README.md", "mine"}
  assert (tmp_path / "README.md").read_bytes() == b"3"


def test_everybody_may_read_what_the_owner_shares(tmp_path):
  exported.save(tmp_path, VARIABLES, {})
  modes = {path.stat().st_mode for path in tmp_path.iterdir()}
  assert len(modes) == 1  # those of any new file; safetensors' own are private
