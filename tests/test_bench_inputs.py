"""Tests of batches from files and drawn ones."""

import numpy as np
import pytest

from hseg_jax.bench import inputs
from hseg_jax.errors import UserError

IMAGE = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
GRID = {"method": "grid", "num_segments": 16}


def save(path, **arrays):
  np.savez(path, **arrays)
  return path


@pytest.mark.parametrize("names", [("image", "segments", "label"), ("x_uint8", "y", "target")])
def test_arrays_under_either_name(tmp_path, names):
  segments, label = np.ones((2, 8, 8), np.uint8), np.array([3, 5])
  path = save(tmp_path / "a.npz", **dict(zip(names, (IMAGE, segments, label), strict=True)))
  found = inputs.load(path)
  np.testing.assert_array_equal(found.image, IMAGE)
  np.testing.assert_array_equal(found.segments, segments)
  assert found.label.tolist() == [3, 5] and found.label.dtype == found.segments.dtype == np.int32
  assert (found.size, found.batch) == (8, 2)


def test_images_alone(tmp_path):
  found = inputs.load(save(tmp_path / "a.npz", image=IMAGE))
  assert found.segments is None and found.label.tolist() == [0, 1]


@pytest.mark.parametrize(
  ("arrays", "said"),
  [
    ({}, "no array `image`"),
    ({"image": IMAGE[:, :4]}, "square"),
    ({"image": IMAGE.astype(float)}, "uint8"),
    ({"image": IMAGE, "segments": np.zeros((2, 4, 4), int)}, r"\[2, 8, 8\]"),
    ({"image": IMAGE, "segments": np.zeros((2, 8, 8))}, "`segments`"),
    ({"image": IMAGE, "label": np.array([1, -1])}, "below 0"),
  ],
)
def test_other_arrays_are_refused(tmp_path, arrays, said):
  with pytest.raises(UserError, match=said):
    inputs.load(save(tmp_path / "a.npz", **arrays))


def test_other_files_are_refused(tmp_path):
  (tmp_path / "text.npz").write_text("no arrays")
  whole = save(tmp_path / "whole.npz", image=IMAGE).read_bytes()
  (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
  for name in ("text.npz", "half.npz", "absent.npz"):
    with pytest.raises(UserError, match=name):
      inputs.load(tmp_path / name)


def test_drawn_images_differ():
  drawn = inputs.draw(32, 3)
  assert drawn.image.shape == (3, 32, 32, 3) and drawn.label.tolist() == [0, 1, 2]
  assert (drawn.image[0] != drawn.image[1]).any()


def test_superpixels_take_the_place_of_those_that_are_there():
  batch = inputs.Inputs(IMAGE, np.zeros(2, np.int32), np.full((2, 8, 8), 99, np.int32))
  assert inputs.cut(batch, GRID).segments.max() == 15
  assert inputs.cut(batch, {**GRID, "method": "device"}).segments is None
