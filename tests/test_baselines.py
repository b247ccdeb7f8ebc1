"""The segmenters we are compared with: counts, nesting, connectedness, determinism."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import segmentation

from hseg_jax.baselines import felzenszwalb, grid, kmeans, methods, seeds, slic, ward
from hseg_jax.errors import UserError
from hseg_jax.region_graph import border_lengths, dissolve_smallest
from hseg_jax.superpixels import seeds as superpixels

COUNTS = (16, 8, 5, 2)


@pytest.fixture(scope="module")
def image():
  """Four quadrants of flat colour with a little noise, `[40, 32, 3]`."""
  rng = np.random.default_rng(0)
  colors = np.array([[[200, 40, 40], [40, 160, 60]], [[50, 60, 190], [220, 210, 60]]])
  noise = rng.integers(-12, 13, (40, 32, 3))
  return (np.kron(colors, np.ones((20, 16, 1), int)) + noise).astype(np.uint8)


def assert_nested(maps):
  for fine, coarse in zip(maps, maps[1:], strict=False):
    pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
    assert pairs.shape[1] == fine.max() + 1


def assert_contiguous(labels, count):
  np.testing.assert_array_equal(np.unique(labels), np.arange(count))


def test_grid_has_exact_counts_and_nests(image):
  maps = grid.segment(image, COUNTS)
  for labels, count in zip(maps, COUNTS, strict=True):
    assert labels.shape == (40, 32)
    assert_contiguous(labels, count)
  assert_nested(maps)
  assert set(np.bincount(maps[0].ravel())) == {80}
  assert len(np.unique(maps[0][0])) == len(np.unique(maps[0][:, 0])) == 4
  np.testing.assert_array_equal(grid.segment(image, (2, 16))[1], maps[0])
  with pytest.raises(UserError, match="cannot be cut"):
    grid.segment(image[:2, :2], (5,))


@pytest.mark.parametrize("count", [25, *COUNTS])
def test_slic_has_exact_counts_and_connected_regions(image, count):
  labels = slic.segment(image, count)
  assert_contiguous(labels, count)
  assert all(ndimage.label(labels == region)[1] == 1 for region in range(count))


def test_slic_finds_four_colours(image):
  labels = slic.segment(image, 4)
  assert border_lengths(labels, 4).sum() / 2 < 40 + 32 + 8


def test_slic_of_one_colour_ends():
  assert slic.segment(np.zeros((3, 3, 3), np.uint8), 30).max() < 9


def test_ward_nests_and_ends_at_the_colours(image):
  cells = np.arange(40)[:, None] // 4 * 8 + np.arange(32) // 4
  maps = ward.segment(image, 3 * cells + 1, (80, *COUNTS, 4))
  for labels, count in zip(maps, (80, *COUNTS, 4), strict=True):
    assert_contiguous(labels, count)
  assert_nested(maps[:-1])
  np.testing.assert_array_equal(maps[-1], np.kron([[0, 1], [2, 3]], np.ones((20, 16), int)))
  np.testing.assert_array_equal(ward.segment(image, cells, (81,))[0], cells)


def test_ward_merges_only_regions_that_touch():
  image = np.repeat(np.array([[[0] * 3, [255] * 3, [0] * 3]], np.uint8), 2, axis=0)
  (labels,) = ward.segment(image, np.array([[0, 1, 2], [0, 1, 2]]), (2,))
  assert labels[0, 0] != labels[0, 2]


@pytest.mark.parametrize("count", [25, 16, 10])
def test_seeds_has_exact_counts(image, count):
  image = np.kron(image, np.ones((2, 2, 1), np.uint8))
  labels = seeds.segment(image, count)
  assert labels.shape == (80, 64)
  assert_contiguous(labels, count)


def test_seeds_are_those_of_the_least_request_that_makes_enough():
  image = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
  expected = superpixels.segment(image, 16, bins=5, iterations=15)
  np.testing.assert_array_equal(seeds.segment(image, 16), expected)
  assert superpixels.count(48, 48, 12) == 9  # so that 12 need a request of 16
  fewer = seeds.segment(image, 12)
  assert_nested((expected, fewer))
  assert_contiguous(fewer, 12)
  with pytest.raises(UserError, match="no fewer than 10"):
    seeds.segment(image, 9)


def test_felzenszwalb_has_exact_counts_and_nests(image):
  image = np.random.default_rng(1).integers(0, 256, (40, 32, 3)).astype(np.uint8) // 4 + image // 2
  maps = felzenszwalb.segment(image, COUNTS)
  for labels, count in zip(maps, COUNTS, strict=True):
    assert_contiguous(labels, count)
  assert_nested(maps)
  for numbers in ((4, 8), (3, 0)):
    with pytest.raises(UserError, match="finest first"):
      felzenszwalb.segment(image, numbers)


def test_felzenszwalb_ends_at_the_colours(image):
  (labels,) = felzenszwalb.segment(image, (4,))
  quadrants = np.kron([[0, 1], [2, 3]], np.ones((20, 16), int))
  owners = [np.bincount(labels[quadrants == i]).argmax() for i in range(4)]
  assert sorted(owners) == [0, 1, 2, 3]
  assert (np.array(owners)[quadrants] == labels).mean() > 0.9  # smoothing blurs the seams
  assert felzenszwalb.segment(np.zeros((9, 9, 3), np.uint8), (5, 2))[0].max() == 0


def test_felzenszwalb_takes_the_largest_scale_that_leaves_enough(image):
  """Against all scales, from coarse to fine, and a vote counted pixel by pixel."""
  image = np.random.default_rng(1).integers(0, 256, (40, 32, 3)).astype(np.uint8) // 4 + image // 2
  found, below = felzenszwalb.segment(image, (12, 5)), None
  for labels, number in zip(found, (12, 5), strict=True):
    for power in reversed(range(18)):
      coarse = segmentation.felzenszwalb(image, scale=2**power, sigma=0.8, min_size=6)
      if below is not None:
        votes = [np.bincount(coarse[below == region]).argmax() for region in range(12)]
        coarse = np.unique(votes, return_inverse=True)[1][below]
      if coarse.max() + 1 >= number:
        break
    np.testing.assert_array_equal(labels, dissolve_smallest(coarse, number))
    below = labels


def test_felzenszwalb_takes_a_scale_that_leaves_just_enough(image):
  image = np.random.default_rng(1).integers(0, 256, (40, 32, 3)).astype(np.uint8) // 4 + image // 2
  exact = 0
  for number in range(5, 15):
    for power in reversed(range(18)):
      min_size = 40 * 32 // (16 * number)
      labels = segmentation.felzenszwalb(image, scale=2**power, sigma=0.8, min_size=min_size)
      if labels.max() + 1 == number:
        exact += 1
        np.testing.assert_array_equal(felzenszwalb.segment(image, (number,))[0], labels)
        break
  assert exact


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_table_says_what_nests(image, name):
  image = np.kron(image, np.ones((2, 2, 1), np.uint8))
  method = methods.METHODS[name]
  cells = np.arange(80)[:, None] // 10 * 8 + np.arange(64) // 8
  maps = method.segment(image, cells if method.merges else None, (25, 16, 10))
  for labels in maps:
    assert labels.shape == (80, 64) and labels.dtype == np.int32
    assert_contiguous(labels, labels.max() + 1)
  if method.nests:
    assert_nested(maps)
  else:
    with pytest.raises(AssertionError):
      assert_nested(maps)


def test_numbers_of_regions_fall():
  methods.check_numbers((4, 2, 1))
  for numbers, fewest in (((2, 4), 1), ((4, 4), 1), ((4, 0), 1), ((), 1), ((20, 8), 10)):
    with pytest.raises(UserError, match="finest first"):
      methods.check_numbers(numbers, fewest)


def test_kmeans_nests_and_depends_on_its_seed_alone():
  # Alike, so that random first labels have nearly equal prototypes, which lose their members.
  tokens = np.random.default_rng(1).normal(3.0, size=(5, 4, 8)).astype(np.float32)
  first = kmeans.segment(tokens, (40, 32), COUNTS, seed=3)
  again = kmeans.segment(tokens, (40, 32), COUNTS, seed=3)
  other = kmeans.segment(tokens, (40, 32), COUNTS, seed=4)
  for labels, same, count in zip(first, again, COUNTS, strict=True):
    assert labels.shape == (40, 32)
    assert_contiguous(labels, count)
    np.testing.assert_array_equal(labels, same)
  assert_nested(first)
  assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_kmeans_separates_directions_not_lengths():
  tokens = np.zeros((2, 4, 2), np.float32)
  tokens[:, :2, 0] = [[1, 9], [5, 3]]
  tokens[:, 2:, 1] = [[2, 8], [4, 1]]
  maps = kmeans.segment(tokens, (8, 16), (2,), seed=0)
  halves = np.repeat(np.arange(2), 8)[None].repeat(8, axis=0)
  # Between two tokens the longer one wins, so only the tokens' own centres are told apart surely.
  sure = np.abs(np.arange(16) - 7.5) > 3
  agree = (maps[0] == halves)[:, sure]
  assert agree.all() or not agree.any()


def test_kmeans_upsamples_as_bilinear_interpolation_does():
  cv2 = pytest.importorskip("cv2")
  grid_values = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
  weights = kmeans.bilinear_weights(12, 3), kmeans.bilinear_weights(20, 5)
  expected = cv2.resize(grid_values, (20, 12), interpolation=cv2.INTER_LINEAR)
  np.testing.assert_allclose(weights[0] @ grid_values @ weights[1].T, expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(1, 4))
def test_kmeans_equals_the_reference_recipe(seed):
  """Thirty plain rounds of M step (normalised sum) and E step (arg-max product), then compose.

  From these seeds no cluster loses all its members, which is where the two differ.
  """
  tokens = np.random.default_rng(seed).normal(size=(6, 6, 6)).astype(np.float32)
  maps = kmeans.segment(tokens, (6, 6), (5, 2), seed=seed)
  rng = np.random.default_rng(seed)
  vectors, expected = tokens.reshape(36, 6), np.arange(36)
  for count in (5, 2):
    labels = rng.integers(count, size=len(vectors))
    for _ in range(30):
      sums = np.stack([vectors[labels == k].sum(axis=0) for k in range(count)])
      prototypes = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
      labels = (vectors @ prototypes.T).argmax(axis=1)
    kept, labels = np.unique(labels, return_inverse=True)
    vectors, expected = prototypes[kept], labels[expected]
    np.testing.assert_array_equal(maps[0 if count == 5 else 1].ravel(), expected)
