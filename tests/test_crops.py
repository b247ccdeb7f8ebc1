"""Crops for an accelerator are drawn as the host draws its own."""

import numpy as np
import pytest
from test_device_transforms import assert_alike

from hseg_jax.data import crops, transforms


def draw(shape, seed, **options):
  return random_box(shape, np.random.default_rng(seed).random(crops.NUMBERS), **options)


def random_box(shape, numbers, **options):
  """The crop of one image."""
  (box,) = crops.boxes(np.reshape(numbers, (1, -1)), *shape, **options)
  return box


@pytest.mark.parametrize("shape", [(300, 400), (60, 140)])
def test_crops_are_drawn_as_on_the_host(shape):
  """The second shape falls back to its centre now and then."""
  rng, count = np.random.default_rng(0), 4000
  found = [draw(shape, seed, min_scale=0.2) for seed in range(count)]
  wanted = [
    transforms._random_crop_box(shape, rng, (0.2, 1.0), transforms.CROP_RATIO) for _ in range(count)
  ]

  def describe(boxes):
    top, left, height, width = np.transpose(boxes).astype(float)
    ends = top + height, left + width
    assert min(top.min(), left.min()) >= 0
    assert ends[0].max() <= shape[0] and ends[1].max() <= shape[1]
    return np.stack([height * width, width / height, top, left, *ends], axis=1)

  assert_alike(describe(found), describe(wanted))


@pytest.mark.parametrize(
  ("shape", "box"), [((10, 400), (0, 193, 10, 13)), ((400, 10), (193, 0, 13, 10))]
)
def test_a_crop_that_never_fits_is_the_centre(shape, box):
  assert {draw(shape, seed, min_scale=0.9) for seed in range(20)} == {box}


def test_the_first_try_that_fits_counts():
  """Shares and widths over heights in turn, behind the place."""
  whole, tall, small, broad = (1.0, 0.5), (1.0, 0.0), (0.0, 0.5), (0.2, 1.0)
  for tries, box in (
    ((tall, whole, small), (0, 0, 50, 50)),
    ((tall, small), (20, 9, 10, 10)),
    ((broad,), (15, 5, 21, 28)),
  ):
    numbers = [0.5, 0.24, *sum(tries, ()), *[0.3] * crops.NUMBERS][: crops.NUMBERS]
    assert random_box((50, 50), numbers, min_scale=0.04) == box


def test_the_last_try_counts():
  numbers = [0.5, 0.24, *(1.0, 0.0) * (transforms.CROP_TRIES - 1), 0.0, 0.5]
  assert random_box((50, 50), numbers, min_scale=0.04) == (20, 9, 10, 10)


def test_crops_reach_all_borders():
  edges = np.array([draw((5, 7), seed, min_scale=0.1) for seed in range(2000)])
  top, left, height, width = edges.T
  assert top.min() == left.min() == 0 and (top + height).max() == 5 and (left + width).max() == 7
  assert {draw((1, 1), seed) for seed in range(50)} == {(0, 0, 1, 1)}


def test_views_have_crops_of_their_own():
  sizes = np.random.default_rng(1).integers(1, 900, (400, 2)).tolist()
  numbers = np.random.default_rng(0).random((400, 2, crops.NUMBERS))
  found = [
    crops.boxes(each, *size, min_scale=0.3) for each, size in zip(numbers, sizes, strict=True)
  ]
  for size, each, boxes in zip(sizes, numbers, found, strict=True):
    assert boxes == [random_box(size, view, min_scale=0.3) for view in each]
  assert np.mean([first != second for first, second in found]) > 0.5  # others are the centre
