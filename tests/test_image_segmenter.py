"""The baselines on images of any size: working sizes, superpixels, what is refused."""

import numpy as np
import pytest

from hseg_jax.baselines import grid, methods, slic, ward
from hseg_jax.baselines.image_segmenter import ImageSegmenter
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.model_input import resize, resize_labels
from hseg_jax.superpixels import seeds
from tests.tiny_segmenter import photograph


def test_ward_merges_superpixels_of_the_image_as_it_is():
  image = photograph(0, 60, 90)
  tree = ImageSegmenter("ward", num_regions=(12, 4), num_segments=50, size=None)(image)
  assert isinstance(tree, Hierarchy) and tree.sizes[1:] == (12, 4)
  assert 12 < tree.sizes[0] <= 50
  for level, labels in enumerate(ward.segment(image, tree.segments, (12, 4)), start=1):
    np.testing.assert_array_equal(tree.labels(level), labels)


def test_a_working_size_is_the_short_side_and_results_are_enlarged():
  image = photograph(1, 60, 90)
  small = resize(image, 40, 60)
  for name, function in (("grid", grid.segment), ("slic", None)):
    found = ImageSegmenter(name, num_regions=(9, 4), size=40)(image)
    if name == "slic":
      maps, expected = found, [slic.segment(small, number) for number in (9, 4)]
    else:
      maps, expected = [found.labels(level) for level in range(2)], function(small, (9, 4))
    for labels, wanted in zip(maps, expected, strict=True):
      np.testing.assert_array_equal(labels, resize_labels(wanted, 60, 90))


def test_images_are_never_enlarged_and_huge_ones_shrunk(monkeypatch):
  monkeypatch.setattr("hseg_jax.baselines.image_segmenter.MAX_PIXELS", 2400)
  segmenter = ImageSegmenter("grid", num_regions=(4,), size=200)
  assert segmenter.prepare(photograph(0, 30, 40)).image.shape == (30, 40, 3)
  assert segmenter.prepare(photograph(0, 60, 160)).image.shape == (30, 80, 3)
  assert segmenter(photograph(0, 60, 160)).segments.shape == (60, 160)


def test_superpixels_of_ones_own_are_merged_and_filled():
  image = photograph(2, 40, 60)
  own = np.kron(np.arange(24).reshape(4, 6), np.ones((10, 10), int)) * 5
  gap = own.copy()
  gap[:10, :10] = -1
  segmenter = ImageSegmenter("ward", num_regions=(8, 3))
  tree = segmenter(image, own)
  assert tree.sizes == (24, 8, 3)
  np.testing.assert_array_equal(tree.segments, own // 5)
  assert segmenter(image, gap).sizes == (23, 8, 3)
  assert segmenter.takes_superpixels
  for other in (ImageSegmenter("ward", size=20), ImageSegmenter("grid")):
    assert not other.takes_superpixels
    with pytest.raises(UserError, match="Superpixels of your own"):
      other(image, own)


def test_as_many_superpixels_as_seeds_makes_of_the_square():
  tree = ImageSegmenter("ward", size=224)(photograph(0, 224, 224))
  assert tree.sizes == (seeds.count(224, 224, 196), 64, 32, 16, 8)
  assert 150 < ImageSegmenter("ward")(photograph(0, 240, 300)).sizes[0] <= 196


def test_numbers_of_regions_if_none_are_given():
  assert ImageSegmenter("slic").num_regions == (64, 32, 16, 8)
  assert ImageSegmenter("seeds").num_regions == (64, 32, 16)


def test_label_maps_where_levels_do_not_nest():
  image = photograph(3, 60, 60)
  for name, method in methods.METHODS.items():
    segmenter = ImageSegmenter(name, num_regions=(20, 10), num_segments=40 * method.merges or None)
    assert segmenter.nests == method.nests
    found = segmenter(image)
    if not method.nests:
      assert isinstance(found, tuple) and [labels.max() + 1 for labels in found] == [20, 10]


@pytest.mark.parametrize(
  "name, options, words",
  [
    ("turbo", {}, "no method 'turbo'; choose among grid"),
    ("grid", dict(num_regions=(4, 8)), "finest first"),
    ("seeds", dict(num_regions=(16, 8)), "numbers from 10 up"),
    ("grid", dict(size=0), "size=0"),
    ("slic", dict(num_segments=50), "merges no superpixels"),
    ("ward", dict(num_segments=5), "num_segments=5 is too few"),
    ("ward", dict(num_segments=0), "num_segments=0 is too few"),
  ],
)
def test_refuses_options_that_do_not_suit(name, options, words):
  with pytest.raises(UserError, match=words):
    ImageSegmenter(name, **options)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 3), np.float32), None])
def test_refuses_what_is_no_image(image):
  with pytest.raises(UserError, match="is no image"):
    ImageSegmenter("grid")(image)
