"""Hierarchies in files: what comes back, and what is refused."""

import pathlib

import numpy as np
import pytest
from test_hierarchy import measured_hierarchy, random_hierarchy

from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy


def test_heights_are_kept_in_files(tmp_path):
  hierarchy = measured_hierarchy(3)
  hierarchy.save(tmp_path / "a.npz")
  loaded = Hierarchy.load(tmp_path / "a.npz")
  for name in ("unions", "heights"):
    for kept, given in zip(getattr(loaded, name), getattr(hierarchy, name), strict=True):
      np.testing.assert_array_equal(kept, given)
  random_hierarchy(3).save(tmp_path / "b.npz")
  assert Hierarchy.load(tmp_path / "b.npz").heights == ()
  with pytest.raises(ValueError, match=r"\[0, 0, 0\] unions for levels of"):
    none = tuple(np.zeros((0, 2), np.int32) for _ in range(3))
    Hierarchy(hierarchy.segments, hierarchy.parents, unions=none)
  with pytest.raises(ValueError, match="the unions of level 0 are no pairs of its"):
    swapped = tuple(pairs[:, ::-1] for pairs in hierarchy.unions)
    Hierarchy(hierarchy.segments, hierarchy.parents, unions=swapped)


class Bomb:
  """Leaves a file behind when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_loading_runs_no_code(tmp_path):
  np.savez(tmp_path / "x.npz", segments=np.array([Bomb(tmp_path / "boom")], dtype=object))
  with pytest.raises(UserError, match="x.npz"):
    Hierarchy.load(tmp_path / "x.npz")
  assert not (tmp_path / "boom").exists()


def test_what_a_model_says_is_kept_in_files(tmp_path):
  fields = {
    "probabilities": np.float32([0.25, 0.75]),
    "logits": np.float32([[1, 2]]),
    "image_features": np.float32([3, 4, 5]),
    "embeddings": np.float32([[6]]),
  }
  for kept in (fields, {"logits": fields["logits"][0]}, {}):
    Hierarchy(np.zeros((2, 2), np.int32), **kept).save(tmp_path / "a.npz")
    loaded = Hierarchy.load(tmp_path / "a.npz")
    for name in fields:
      np.testing.assert_array_equal(getattr(loaded, name), kept.get(name))
  # A file from before there were any of them but probabilities.
  np.savez(
    tmp_path / "old.npz", segments=np.zeros((2, 2), np.int32), probabilities=np.ones(2, "f4")
  )
  assert Hierarchy.load(tmp_path / "old.npz").image_features is None


def test_saves_and_loads(tmp_path):
  hierarchy = random_hierarchy(2)
  path = tmp_path / "photo.hierarchy"
  hierarchy.save(path)
  loaded = Hierarchy.load(path)
  for level in range(hierarchy.num_levels):
    np.testing.assert_array_equal(loaded.labels(level), hierarchy.labels(level))
    np.testing.assert_array_equal(loaded.features[level], hierarchy.features[level])
  assert loaded.probabilities is None
  Hierarchy(np.zeros((2, 2), np.int32), probabilities=np.ones(3, np.float32)).save(path)
  assert Hierarchy.load(path).probabilities.tolist() == [1, 1, 1]


def test_refuses_what_is_no_hierarchy(tmp_path):
  path = tmp_path / "x.npz"
  with pytest.raises(UserError, match="no hierarchy file"):
    Hierarchy.load(path)
  path.write_text("not an archive")
  with pytest.raises(UserError, match="x.npz"):
    Hierarchy.load(path)
  random_hierarchy(0).save(path)
  path.write_bytes(path.read_bytes()[:300])
  with pytest.raises(UserError, match="x.npz"):
    Hierarchy.load(path)
  broken = {
    "gaps": {"segments": np.array([[0, 2]])},
    "reals": {"segments": np.array([[0.0, 1.0]])},
    "nothing": {"labels": np.array([[0, 1]])},
    "short": {"segments": np.array([[0, 1]]), "parents_0": np.array([0])},
    "renamed": {"segments": np.array([[0, 1]]), "parents_1": np.array([0, 0])},
    "features": {"segments": np.array([[0, 1]]), "features_0": np.zeros((3, 2), np.float32)},
  }
  for arrays in broken.values():
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="x.npz"):
      Hierarchy.load(path)
  with pytest.raises(ValueError, match="cluster 5 of 2"):
    Hierarchy.from_assignments(np.zeros((2, 2), int), [np.array([5]), np.array([0, 0])])
