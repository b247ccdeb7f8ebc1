"""What models see of images: sizes, superpixels, and label maps from elsewhere."""

import itertools

import numpy as np
import pytest

from hseg_jax import model_input
from hseg_jax.errors import UserError
from hseg_jax.superpixels import grid

PLAIN = model_input.Preparation(64, 8, dict(method="grid", num_segments=20), 24)


def image(height, width):
  return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_few_shapes_serve_all_images():
  large = model_input.Preparation(224, 8, dict(method="grid", num_segments=20), 24)
  for prepare, limit in ((PLAIN, 33), (large, 39)):
    sides = range(50, 2000, 30)
    shapes = {prepare.working_size(*size) for size in itertools.product(sides, sides)}
    assert len(shapes) <= limit and all(side % 8 == 0 for shape in shapes for side in shape)
    assert all(min(shape) == prepare.size for shape in shapes)


@pytest.mark.parametrize(
  "size, expected",
  [((321, 481), (64, 96)), ((500, 333), (96, 64)), ((100, 235), (64, 144)), ((1, 1), (64, 64))],
)
def test_aspect_ratios_are_kept(size, expected):
  assert PLAIN.working_size(*size) == expected


@pytest.mark.parametrize("size", [(10, 20_000), (64, 256), (7, 29)])
def test_elongated_images_are_squeezed(size):
  assert PLAIN.working_size(*size) == (64, 256)
  prepared = PLAIN(image(*size))
  assert prepared.image.shape == (64, 256, 3) and prepared.segments.shape == size


def test_superpixels_of_huge_images_come_from_a_smaller_one(monkeypatch):
  monkeypatch.setattr(model_input, "MAX_PIXELS", 60 * 80)
  prepared = PLAIN(image(240, 320))
  assert (prepared.height, prepared.width) == (240, 320)
  np.testing.assert_array_equal(prepared.segments, grid.segment(image(60, 80), 20))


def test_foreign_labels_keep_ids_for_which_there_is_room():
  labels = np.full((64, 64), 23, np.uint8)
  labels[:9] = 5
  prepared = PLAIN(image(64, 64), labels)
  assert prepared.segments.dtype == np.int32
  np.testing.assert_array_equal(prepared.segments, labels)


def test_other_ids_are_numbered_anew():
  labels = np.full((40, 60), 10**12)
  labels[:9], labels[9:12], labels[12:13] = -7, 3, 99
  expected = np.full((40, 60), 2)
  expected[:9], expected[9:12], expected[12:13] = -1, 0, 1
  np.testing.assert_array_equal(PLAIN(image(40, 60), labels).segments, expected)
  unsigned = np.maximum(labels, 0).astype(np.uint64)
  np.testing.assert_array_equal(PLAIN(image(40, 60), unsigned).segments, expected + 1)


def test_foreign_labels_have_the_size_of_the_image_or_of_what_the_model_sees():
  labels = np.arange(20)[:, None].repeat(32, 1).repeat(16, 0)[:320]
  small = labels[::5, ::1].repeat(3, 1)
  assert small.shape == PLAIN.working_size(320, 481) == (64, 96)
  np.testing.assert_array_equal(PLAIN(image(320, 481), small).segments, small)
  # Smaller images than the model sees: no region may get lost in the result.
  tiny = PLAIN(image(6, 6), np.arange(64)[:, None].repeat(64, 1) // 4)
  assert tiny.segments.shape == (6, 6)
  with pytest.raises(UserError, match="has 3x7 rows and columns, the image needs 320x481 or 64x96"):
    PLAIN(image(320, 481), np.zeros((3, 7), int))


@pytest.mark.parametrize(
  "labels, words",
  [
    (np.zeros((64, 64)), "float64"),
    (np.zeros((64, 64, 3), int), r"\[64, 64, 3\]"),
    (np.arange(64 * 64).reshape(64, 64), "4096 superpixels, the model room for 24"),
  ],
)
def test_what_is_no_label_map_is_refused(labels, words):
  with pytest.raises(UserError, match=words):
    PLAIN(image(64, 64), labels)


@pytest.mark.parametrize("size", [(1, 1), (10, 20_000), (5, 5)])
def test_images_too_small_for_seeds_are_refused(size):
  prepare = model_input.Preparation(
    64, 8, dict(method="seeds", num_segments=20, bins=5, iterations=5), 24
  )
  with pytest.raises(UserError, match=f"{size[1]}x{size[0]} pixels is too small or too elongated"):
    prepare(image(*size))


def test_too_few_superpixels_are_refused_at_once():
  for method, count in (("seeds", 9), ("grid", 0)):
    with pytest.raises(UserError, match=f"num_segments={count} is too few"):
      model_input.Preparation(64, 8, dict(method=method, num_segments=count), 24)
