"""Hierarchies of one image: repair, compaction, cuts, contour maps, files."""

import numpy as np
import pytest
from scipy import ndimage

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.scoring import contour_maps


def random_hierarchy(seed, shape=(11, 9), counts=(20, 9, 4), features=True):
  rng = np.random.default_rng(seed)
  segments = rng.integers(0, counts[0], shape)
  assignments = [rng.integers(0, k, n) for n, k in zip(counts, (*counts[1:], 2), strict=True)]
  tokens = [rng.normal(size=(n, 5)).astype(np.float32) for n in (*counts, 2)] if features else ()
  return Hierarchy.from_assignments(segments, assignments, tokens)


def is_nested(fine, coarse):
  return len(np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1).T) == fine.max() + 1


def same_partition(first, second):
  return is_nested(first, second) and is_nested(second, first)


def test_composes_levels_as_the_reference_does():
  # label_l[s] = assignment_l[label_{l-1}[s]], here without anything to repair or compact.
  segments = np.array([[0, 1], [2, 3]])
  hierarchy = Hierarchy.from_assignments(segments, [np.array([0, 2, 2, 1]), np.array([1, 1, 0])])
  np.testing.assert_array_equal(hierarchy.labels(0), segments)
  np.testing.assert_array_equal(hierarchy.labels(1), [[0, 2], [2, 1]])
  np.testing.assert_array_equal(hierarchy.labels(2), [[1, 0], [0, 1]])
  np.testing.assert_array_equal(hierarchy.labels(-1), hierarchy.labels(2))
  assert hierarchy.num_levels == 3 and hierarchy.sizes == (4, 3, 2)
  with pytest.raises(IndexError):
    hierarchy.labels(3)


def test_compacts_segments_and_clusters_and_their_features():
  segments = np.array([[1, 1], [4, 4]])
  features = [np.arange(6.0)[:, None].astype(np.float32), np.array([[7.0], [8.0], [9.0]], "f4")]
  assignment = np.array([1, 2, 1, 1, 0, 1])
  hierarchy = Hierarchy.from_assignments(segments, [assignment], features)
  np.testing.assert_array_equal(hierarchy.labels(0), [[0, 0], [1, 1]])
  np.testing.assert_array_equal(hierarchy.labels(1), [[1, 1], [0, 0]])
  np.testing.assert_array_equal(hierarchy.features[0], [[1], [4]])
  np.testing.assert_array_equal(hierarchy.features[1], [[7], [9]])


def test_lost_superpixel_joins_the_longest_border():
  segments = np.array([[0, 0, 0, 0], [0, 3, 3, 1], [2, 2, 2, 1]])
  features = [np.arange(4.0)[:, None].astype(np.float32), np.zeros((3, 1), np.float32)]
  # Segment 3 shares two edges with 0, two with 2, one with 1: the tie goes to the lowest id.
  hierarchy = Hierarchy.from_assignments(segments, [np.array([2, 1, 0, -1])], features)
  np.testing.assert_array_equal(hierarchy.parents[0], [2, 1, 0, 2])
  assert hierarchy.features[0][3] == 0
  # Where 0 is lost too it cannot give, and 2 has the longest border with either.
  hierarchy = Hierarchy.from_assignments(segments, [np.array([-1, 1, 0, -1])])
  np.testing.assert_array_equal(hierarchy.parents[0], [1, 1, 0, 0])


def test_repair_walks_through_chains_of_lost_superpixels():
  segments = np.arange(6)[None].repeat(3, axis=0)
  hierarchy = Hierarchy.from_assignments(segments, [np.array([-1, -1, -1, 0, -1, 1])])
  np.testing.assert_array_equal(hierarchy.parents[0], [0, 0, 0, 0, 0, 1])


def test_an_image_without_valid_tokens_is_one_region():
  segments = np.array([[0, 1], [2, 2]])
  features = [np.arange(n)[:, None].astype(np.float32) for n in (3, 2, 2)]
  hierarchy = Hierarchy.from_assignments(segments, [np.full(3, -1), np.full(2, -1)], features)
  assert hierarchy.sizes == (3, 1, 1)
  assert [each[0, 0] for each in hierarchy.features] == [0, 0, 0]


def test_pixels_of_no_segment_take_the_nearest():
  segments = np.array([[0, 0, -1, -1, 7, 7, 1]])
  hierarchy = Hierarchy.from_assignments(segments, [np.array([0, 1])])
  np.testing.assert_array_equal(hierarchy.labels(0), [[0, 0, 0, 0, 1, 1, 1]])
  nowhere = Hierarchy.from_assignments(np.full((2, 3), 9), [np.array([-1, -1])])
  assert nowhere.sizes == (1, 1)


def test_permuting_segment_ids_permutes_nothing_else():
  rng = np.random.default_rng(0)
  segments, assignment = rng.integers(0, 12, (8, 8)), rng.integers(0, 4, 12)
  order = rng.permutation(12)
  permuted = np.empty(12, int)
  permuted[order] = assignment
  first = Hierarchy.from_assignments(segments, [assignment])
  second = Hierarchy.from_assignments(order[segments], [permuted])
  assert same_partition(first.labels(0), second.labels(0))
  np.testing.assert_array_equal(first.labels(1), second.labels(1))


@pytest.mark.parametrize("features", [True, False])
def test_cuts_have_the_requested_size_and_nest(features):
  hierarchy = random_hierarchy(1, features=features)
  finer = hierarchy.labels(0)
  for num_regions in range(hierarchy.sizes[0], 0, -1):
    cut = hierarchy.cut(num_regions)
    assert len(np.unique(cut)) == num_regions == cut.max() + 1
    assert is_nested(finer, cut)
    finer = cut
  for level, size in enumerate(hierarchy.sizes):
    np.testing.assert_array_equal(hierarchy.cut(size), hierarchy.labels(level))
  np.testing.assert_array_equal(hierarchy.cut(1000), hierarchy.labels(0))
  with pytest.raises(ValueError, match="0 regions"):
    hierarchy.cut(0)


@pytest.mark.parametrize("features", [True, False])
def test_merges_are_those_of_the_cuts(features):
  hierarchy = random_hierarchy(4, features=features)
  counts = (*hierarchy.sizes, 1)
  for level in range(hierarchy.num_levels):
    unions, labels = hierarchy.merges(level), hierarchy.labels(level)
    assert unions.shape == (counts[level] - counts[level + 1], 2)
    for number, (kept, absorbed) in enumerate(unions, start=1):
      labels = np.where(labels == absorbed, kept, labels)
      ranks = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
      assert kept < absorbed and same_partition(ranks, hierarchy.cut(counts[level] - number))


def test_cut_merges_the_most_alike_siblings_first():
  segments = np.arange(4)[None].repeat(2, axis=0)
  features = [np.array([[1, 0], [0, 1], [1, 0.1], [1, 0]], "f4"), np.zeros((2, 2), "f4")]
  hierarchy = Hierarchy.from_assignments(segments, [np.array([0, 0, 0, 1])], features)
  # 0 and 3 are the same but no siblings; among siblings 0 and 2 are closest.
  np.testing.assert_array_equal(hierarchy.cut(3)[0], [0, 1, 0, 2])
  # Without features the nearest centres merge.
  np.testing.assert_array_equal(
    Hierarchy.from_assignments(segments, [np.array([0, 0, 1, 0])]).cut(3)[0], [0, 0, 1, 2]
  )


@pytest.mark.parametrize("seed", range(3))
def test_thresholded_boundaries_are_the_components_of_a_level(seed):
  hierarchy = random_hierarchy(seed, shape=(7, 6), counts=(6, 4, 3))
  strength = hierarchy.boundaries()
  assert strength.shape == (15, 13) and strength.dtype == np.float32
  assert strength.min() == 0 and strength.max() <= 1
  for level in range(hierarchy.num_levels):
    below = strength < (level + 0.5) / hierarchy.num_levels
    labels = hierarchy.labels(level)
    expected = np.zeros_like(labels)
    for region in range(hierarchy.sizes[level]):
      pieces, count = ndimage.label(labels == region)
      expected += np.where(pieces > 0, pieces + expected.max(), 0)
    for corners in (0, 1):
      structure = np.ones((3, 3)) if corners else None
      components = ndimage.label(below, structure)[0][1::2, 1::2]
      assert same_partition(components - 1, expected - 1)


def test_boundary_values_by_hand():
  hierarchy = Hierarchy.from_assignments(np.array([[0, 1], [0, 2]]), [np.array([0, 1, 0])])
  np.testing.assert_array_equal(
    hierarchy.boundaries(),
    [
      [0, 0, 1, 0, 0],
      [0, 0, 1, 0, 0],
      [0, 0, 1, 1, 1],
      [0, 0, 0.5, 0, 0],
      [0, 0, 0.5, 0, 0],
    ],
  )


def measured_hierarchy(seed, side=12, counts=(30, 8, 3)):
  """A hierarchy with distances between touching regions, some superpixels lost, as of a model."""
  rng = np.random.default_rng(seed)
  blocks = rng.permutation(36).reshape(6, 6) % counts[0]
  segments = blocks.repeat(side // 6, 0).repeat(side // 6, 1)
  first = rng.integers(0, counts[1], counts[0])
  first[rng.permutation(counts[0])[:4]] = -1
  assignments = [first, rng.integers(0, counts[2], counts[1])]
  lengths = []
  for n in counts[:2]:
    far = rng.random((n, n)).astype(np.float32)
    lengths.append(np.where(rng.random((n, n)) < 0.8, far + far.T, np.inf))
    lengths[-1] = np.maximum(lengths[-1], lengths[-1].T)
  return Hierarchy.from_assignments(segments, assignments, lengths=lengths)


@pytest.mark.parametrize("seed", range(3))
def test_distances_give_cuts_that_nest_and_an_ultrametric_map(seed):
  hierarchy = measured_hierarchy(seed)
  assert all(np.diff(heights).min(initial=0) >= 0 for heights in hierarchy.heights)
  finer = hierarchy.labels(0)
  for num_regions in range(hierarchy.sizes[0], 0, -1):
    cut = hierarchy.cut(num_regions)
    assert len(np.unique(cut)) == num_regions and is_nested(finer, cut)
    finer = cut
  for level, size in enumerate(hierarchy.sizes):
    np.testing.assert_array_equal(hierarchy.cut(size), hierarchy.labels(level))
  strength = hierarchy.boundaries()
  assert strength.dtype == np.float32 and 0 <= strength.min() and strength.max() < 1
  # Cut anywhere, no edge above the threshold lies inside a region: that is what ultrametric means.
  thresholds = np.unique(strength)
  cuts = contour_maps.cut(strength, thresholds)
  for threshold, regions in zip(thresholds, cuts.regions, strict=True):
    labels = regions[cuts.labels]
    inside = labels[:, :-1] == labels[:, 1:]
    assert strength[1::2, 2:-1:2][inside].max(initial=0) <= threshold
    inside = labels[:-1] == labels[1:]
    assert strength[2:-1:2, 1::2][inside].max(initial=0) <= threshold
  assert cuts.regions[-1].max() == 0


def test_heights_by_hand():
  segments = np.arange(4)[None].repeat(2, axis=0)
  lengths = [
    np.array([[0, 1, np.inf, np.inf], [1, 0, 3, np.inf], [np.inf, 3, 0, 0.5], [9, 9, 0.5, 0]]),
    np.array([[0, 0.25], [0.25, 0]]),
  ]
  assignments = [np.array([0, 0, 1, 1]), np.array([0, 0])]
  hierarchy = Hierarchy.from_assignments(segments, assignments, lengths=lengths)
  assert [each.tolist() for each in hierarchy.unions] == [[[2, 3], [0, 1]], [[0, 1]], []]
  assert [each.tolist() for each in hierarchy.heights] == [[0.5, 1], [0.25], []]
  # What has grown together at 1 does not fall apart again at 0.25.
  np.testing.assert_allclose(hierarchy.boundaries()[1], [0, 0, 1 / 2, 0, 1 / 2, 0, 1 / 3, 0, 0])
  np.testing.assert_array_equal(hierarchy.cut(3)[0], [0, 1, 2, 2])


def test_a_lost_superpixel_lies_where_its_neighbour_lies():
  lengths = [np.array([[0, np.inf, 3], [np.inf, 0, np.inf], [3, np.inf, 0]])]
  assignment = np.array([0, -1, 0])
  hierarchy = Hierarchy.from_assignments(np.array([[0, 1, 2]]), [assignment], lengths=lengths)
  assert hierarchy.unions[0].tolist() == [[0, 1], [0, 2]]
  assert hierarchy.heights[0].tolist() == [0, 3]


def test_what_is_said_of_superpixels_follows_them():
  segments = np.array([[4, 4, 2, 2], [-1, 4, 2, 1]])
  rows = np.arange(10.0, dtype=np.float32).reshape(5, 2)
  hierarchy = Hierarchy.from_assignments(
    segments,
    [np.array([0, -1, 1, 0, 0])],
    logits=rows,
    embeddings=rows + 1,
    image_features=rows[0],
  )
  # Superpixel 1 has no token: it says what 2 beside it says.
  np.testing.assert_array_equal(hierarchy.logits, rows[[2, 2, 4]])
  np.testing.assert_array_equal(hierarchy.embeddings, rows[[2, 2, 4]] + 1)
  np.testing.assert_array_equal(hierarchy.image_features, rows[0])
  whole = Hierarchy.from_assignments(segments, [np.zeros(5, int)], logits=rows[0])
  np.testing.assert_array_equal(whole.logits, rows[0])
  for name in ("logits", "embeddings"):
    with pytest.raises(ValueError, match=f"the {name} have 5 rows for 3 superpixels"):
      Hierarchy(hierarchy.segments, **{name: rows})


def test_from_labels_refuses_maps_that_do_not_nest():
  hierarchy = random_hierarchy(3)
  again = Hierarchy.from_labels([hierarchy.labels(level) for level in range(4)])
  assert again.sizes == hierarchy.sizes
  np.testing.assert_array_equal(again.labels(3), hierarchy.labels(3))
  with pytest.raises(ValueError, match="cuts regions"):
    Hierarchy.from_labels([np.array([[0, 0, 1]]), np.array([[0, 1, 1]])])
