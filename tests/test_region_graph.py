"""Borders and merges of the regions of a label map."""

import numpy as np
import pytest
from scipy.cluster import hierarchy
from scipy.spatial import distance

from hseg_jax.region_graph import (
  border_lengths,
  contract,
  dissolve_smallest,
  linkage_order,
  merge,
  merge_order,
)


def test_border_lengths_by_hand():
  lengths = border_lengths(np.array([[0, 0, 1], [0, 2, 1]]), 4)
  np.testing.assert_array_equal(lengths, [[0, 1, 2, 0], [1, 0, 1, 0], [2, 1, 0, 0], [0, 0, 0, 0]])


def test_merge_order_is_ward_on_a_graph():
  sklearn_cluster = pytest.importorskip("sklearn.cluster")
  points = np.random.default_rng(0).normal(size=(30, 3))
  everything = np.ones((30, 30), bool)
  order = merge_order(points, np.ones(30, int), everything)
  assert order.shape == (29, 2)
  region = merge(np.arange(30)[None], order[:24])[0]
  expected = sklearn_cluster.AgglomerativeClustering(6, linkage="ward").fit_predict(points)
  assert len(set(zip(region, expected, strict=True))) == 6
  # Without links nothing merges, and weights make large regions costly to merge.
  assert merge_order(points, np.ones(30, int), np.zeros((30, 30), bool)).shape == (0, 2)
  line = np.array([[0.0], [1.0], [2.1]])
  assert merge_order(line, np.array([100, 100, 1]), np.ones((3, 3), bool))[0].tolist() == [1, 2]


def test_a_union_touches_what_its_members_touched():
  chain = np.abs(np.subtract.outer(np.arange(4), np.arange(4))) == 1
  points = np.array([[0.0], [0.1], [5.0], [0.2]])
  order = merge_order(points, np.ones(4, int), chain)
  # 3 is close to 0 and 1 but touches only 2.
  assert order.tolist() == [[0, 1], [2, 3], [0, 2]]


def test_the_smallest_region_joins_its_longest_border():
  labels = np.array([[0, 0, 0, 1], [0, 0, 2, 2], [3, 3, 3, 2]])
  np.testing.assert_array_equal(dissolve_smallest(labels, 4), labels)
  # The pixel of 1 has a border of one with 0 and with 2, and the lower id wins; then 3 with three
  # pixels is as small as 2, and 2 the first.
  np.testing.assert_array_equal(
    dissolve_smallest(labels, 3), [[0, 0, 0, 0], [0, 0, 1, 1], [2, 2, 2, 1]]
  )
  np.testing.assert_array_equal(
    dissolve_smallest(labels, 2), [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
  )
  assert dissolve_smallest(labels, 1).max() == 0
  corner = np.array([[0, 1, 2], [0, 2, 2]])
  np.testing.assert_array_equal(dissolve_smallest(corner, 2), [[0, 1, 1], [0, 1, 1]])


def test_dissolving_one_by_one_is_dissolving_at_once():
  labels = np.unique(np.random.default_rng(0).integers(0, 40, (12, 12)), return_inverse=True)[1]
  labels = labels.reshape(12, 12)
  one_by_one = labels
  for count in range(labels.max(), 4, -1):
    smallest = np.bincount(one_by_one.ravel()).argmin()
    neighbour = border_lengths(one_by_one, count + 1)[smallest].argmax()
    one_by_one = merge(one_by_one, np.array([sorted((smallest, neighbour))]))
  np.testing.assert_array_equal(dissolve_smallest(labels, 5), one_by_one)


def test_linkage_order_is_average_linkage():
  points = np.random.default_rng(1).normal(size=(20, 3))
  pairs = distance.pdist(points)
  everything = np.ones((20, 20), bool)
  order, heights = linkage_order(distance.squareform(pairs), np.ones((20, 20)), everything)
  expected = hierarchy.linkage(pairs, "average")
  np.testing.assert_allclose(heights, expected[:, 2])
  region = merge(np.arange(20)[None], order[:14])[0]
  six = hierarchy.fcluster(expected, 6, "maxclust")
  assert len(set(zip(region, six, strict=True))) == 6


def test_linkage_weighs_borders_and_leaves_the_rest_to_the_end():
  lengths = np.array([[0, 1, 2, 9], [1, 0, 5, np.inf], [2, 5, 0, 9], [9, np.inf, 9, 0.0]])
  borders = np.array([[0, 1, 3, 0], [1, 0, 1, 4], [3, 1, 0, 0], [0, 4, 0, 0]])
  everything = np.ones((4, 4), bool)
  order, heights = linkage_order(lengths, borders, everything)
  # 2 is (3 * 2 + 1 * 5) / 4 from the union of 0 and 1; 3 shares a border of unknown strength with
  # 1, and none with 0 and 2 to which distances are known.
  assert order.tolist() == [[0, 1], [0, 2], [0, 3]]
  np.testing.assert_allclose(heights, [1, 2.75, 6])
  siblings = np.array([0, 1, 0, 1])
  order, heights = linkage_order(lengths, borders, siblings[:, None] == siblings)
  assert order.tolist() == [[0, 2], [1, 3]] and heights.tolist() == [2, 3]


def test_contraction_averages_along_borders():
  lengths = np.array([[0, 1, 2, np.inf], [1, 0, 5, 4], [2, 5, 0, 7], [np.inf, 4, 7, 0.0]])
  borders = np.array([[0, 1, 3, 2], [1, 0, 1, 4], [3, 1, 0, 0], [2, 4, 0, 0]])
  found, contracted = contract(lengths, borders, np.array([0, 0, 1, 2]))
  np.testing.assert_array_equal(contracted, [[0, 4, 6], [4, 0, 0], [6, 0, 0]])
  assert found[0, 1] == 2.75 and found[0, 2] == 4 and np.isinf(found[1, 2])


def test_lengths_that_rounding_left_uneven_merge_in_pairs():
  lengths = np.full((3, 3), 0.5)
  lengths[2, 0] = np.nextafter(0.5, 0)
  everywhere = np.ones((3, 3), bool)
  order, _ = linkage_order(lengths, everywhere.astype(int), everywhere)
  np.testing.assert_array_equal(order, [[0, 2], [0, 1]])
