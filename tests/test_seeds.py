"""SEEDS superpixels: equal to the reference's label maps, counted exactly for any size."""

import cv2
import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.superpixels import seeds

PRETRAINING = {"bins": 15, "iterations": 20}
SUPERVISED = {"bins": 5, "iterations": 15}

_rng = np.random.default_rng(0)
# Odd, elongated and tiny sizes beside the usual ones.
SIZES = [
  (224, 224, 196),
  (64, 64, 64),
  (512, 512, 1024),
  (480, 480, 900),
  (384, 512, 1024),
  (375, 500, 1024),
  (333, 500, 1024),
  (512, 683, 1024),
  (16, 16, 64),
  (15, 17, 64),
  (4, 10, 10),
  (28, 28, 196),
  *((int(h), int(w), int(n)) for h, w, n in _rng.integers((40, 40, 10), (200, 200, 200), (30, 3))),
]


def _noise(h, w):
  return np.random.default_rng(h * 1000 + w).integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_equals_the_reference_at_224(shared):
  arrays = np.load(shared / "golden" / "bench_inputs_224.npz")
  for image, expected in zip(arrays["x_uint8"], arrays["y"], strict=True):
    np.testing.assert_array_equal(seeds.segment(image, 196, **SUPERVISED), expected)


def test_equals_the_reference_at_64(shared):
  arrays = np.load(shared / "golden" / "cast_tiny.npz")
  for image, expected in zip(arrays["x_uint8"], arrays["a/y"], strict=True):
    np.testing.assert_array_equal(seeds.segment(image, 64, **SUPERVISED), expected)


def test_equals_the_reference_in_pretraining(shared):
  arrays = np.load(shared / "golden" / "moco_tiny.npz")
  mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
  for view in "12":
    normalised = arrays["x" + view].transpose(0, 2, 3, 1)
    images = np.rint((normalised * std + mean) * 255).astype(np.uint8)
    for image, expected in zip(images, arrays["y" + view], strict=True):
      np.testing.assert_array_equal(seeds.segment(image, 64, **PRETRAINING), expected)


@pytest.mark.parametrize(("h", "w", "n"), SIZES)
def test_count_is_what_opencv_makes(h, w, n):
  algorithm = cv2.ximgproc.createSuperpixelSEEDS(w, h, 3, n, 1, 2, 5, False)
  assert algorithm.getNumberOfSuperpixels() == seeds.count(h, w, n) <= n


@pytest.mark.parametrize(("h", "w", "n"), SIZES[:2] + SIZES[-8:])
def test_ids_are_contiguous(h, w, n):
  labels = seeds.segment(_noise(h, w), n, bins=5, iterations=2)
  assert labels.dtype == np.int32 and labels.shape == (h, w)
  np.testing.assert_array_equal(np.unique(labels), np.arange(seeds.count(h, w, n)))


def test_counts_of_the_reference():
  """As measured with the reference (reference sizes of its four tasks)."""
  counted = {
    (224, 224, 196): 196,
    (512, 512, 1024): 1024,
    (480, 480, 900): 900,
    (384, 512, 1024): 768,
    (375, 500, 1024): 910,
    (333, 500, 1024): 805,
    (512, 683, 1024): 850,
  }
  assert {size: seeds.count(*size) for size in counted} == counted


# OpenCV hangs for ever on some of these and crashes on the others.
@pytest.mark.parametrize(
  "size", [(0, 0), (1, 1), (5, 5), (7, 7), (8, 8), (10, 10), (14, 14), (3, 200), (200, 3), (1, 99)]
)
def test_too_small_images_are_refused(size):
  with pytest.raises(UserError, match="ask for fewer or resize"):
    seeds.count(*size, 196)
  with pytest.raises(UserError, match="ask for fewer or resize"):
    seeds.segment(np.zeros((*size, 3), np.uint8), 196, **SUPERVISED)


def test_too_few_segments_are_refused():
  with pytest.raises(UserError, match="grid"):
    seeds.count(64, 64, 9)  # OpenCV would silently take ten
