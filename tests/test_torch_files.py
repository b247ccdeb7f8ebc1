"""Checkpoints are read as numpy arrays, and nothing in them is run."""

import argparse
import builtins
import functools
import os
import pickle
import struct

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.interop import torch_files


class Attack:
  """Unpickled, it makes the folder that is named."""

  def __init__(self, folder):
    self.folder = str(folder)

  def __reduce__(self):
    return os.mkdir, (self.folder,)


def refused(path, words):
  with pytest.raises(UserError, match=words) as caught:
    torch_files.read(path)
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_npz_and_safetensors_need_no_torch(tmp_path, monkeypatch):
  from safetensors.numpy import save_file

  monkeypatch.setitem(__import__("sys").modules, "torch", None)
  arrays = {"a": np.float16([1.5, 2]), "b": np.arange(3), "c": np.ones((2, 2))}
  np.savez(tmp_path / "x.npz", **arrays)
  save_file(arrays, tmp_path / "x.safetensors")
  for name in ("x.npz", "x.safetensors"):
    found = torch_files.read(tmp_path / name)
    assert [found[key].dtype for key in "abc"] == [np.float32, np.int64, np.float64]
    np.testing.assert_array_equal(found["a"], [1.5, 2])
  (tmp_path / "x.pth").write_bytes(b"x")
  refused(tmp_path / "x.pth", r"pip install 'hseg_jax\[torch\]'")


def test_bfloat16_becomes_float32(tmp_path):
  # A safetensors file by hand: the length of its header, the header, one tensor of 1.5 and -2.
  header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
  data = np.float32([1.5, -2]).view(np.uint16)[1::2].tobytes()
  (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
  found = torch_files.read(tmp_path / "x.safetensors")["a"]
  assert found.dtype == np.float32 and found.tolist() == [1.5, -2]


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors", "x.pth", "x.pth.tar"])
def test_damaged_files_are_named(tmp_path, name):
  if ".pth" in name:
    pytest.importorskip("torch")
  path = tmp_path / name
  refused(path, "There is no checkpoint")
  path.write_bytes(b"")
  refused(path, "is empty")
  path.write_text("<html>404, there is nothing of that name</html>")
  refused(path, "damaged")


def test_truncated_archives_are_named(tmp_path):
  np.savez(tmp_path / "whole.npz", a=np.arange(1000.0))
  content = (tmp_path / "whole.npz").read_bytes()
  (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
  refused(tmp_path / "half.npz", "damaged")
  (tmp_path / "flipped.npz").write_bytes(
    content[:400] + bytes([content[400] ^ 255]) + content[401:]
  )
  refused(tmp_path / "flipped.npz", "damaged")


def test_pickled_objects_in_npz_are_refused(tmp_path):
  np.savez(tmp_path / "x.npz", a=np.array([Attack(tmp_path / "harm")], dtype=object))
  refused(tmp_path / "x.npz", "could run code")
  assert not (tmp_path / "harm").exists()


def test_torch_files_become_numpy(tmp_path):
  torch = pytest.importorskip("torch")
  content = {
    "state_dict": {"a": torch.tensor([1.5], dtype=torch.bfloat16), "b": torch.tensor(3)},
    "args": argparse.Namespace(lr=0.1),
    "epoch": 7,
    3: torch.zeros(2),
  }
  for zipped in (True, False):
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = torch_files.read(tmp_path / "x.pth")
    assert found["state_dict"]["a"].dtype == np.float32 and found["state_dict"]["b"] == 3
    assert 3 not in found and found["epoch"] == 7 and found["args"].lr == 0.1
  content = (tmp_path / "x.pth").read_bytes()
  (tmp_path / "x.pth").write_bytes(content[: len(content) // 2])
  refused(tmp_path / "x.pth", "damaged")
  torch.save([1], tmp_path / "list.pth")
  refused(tmp_path / "list.pth", "holds a list")


@pytest.mark.parametrize("protocol", [2, 4])
def test_torch_files_run_no_code(tmp_path, protocol):
  torch = pytest.importorskip("torch")
  attack, path = {"x": Attack(tmp_path / "harm")}, tmp_path / "x.pth"
  path.write_bytes(pickle.dumps(attack, protocol))
  refused(path, "to run code")
  torch.save(attack, path)
  refused(path, r"wants to run code \(posix\.mkdir\)")
  torch.save(attack, path, _use_new_zipfile_serialization=False)
  refused(path, r"wants to run code \(posix\.mkdir\)")
  torch.save({"x": functools.partial(builtins.print, 1)}, path)
  refused(path, r"wants to run code \(functools\.partial\)")
  assert not (tmp_path / "harm").exists()


def test_tensors_that_are_no_arrays_are_named(tmp_path):
  torch = pytest.importorskip("torch")
  for name, tensor in ("sparse", torch.eye(3).to_sparse()), ("meta", torch.zeros(3, device="meta")):
    torch.save({"x": tensor}, tmp_path / name)
    with pytest.raises(UserError, match=f"{name} holds tensors that are no plain arrays"):
      torch_files.read(tmp_path / name)
