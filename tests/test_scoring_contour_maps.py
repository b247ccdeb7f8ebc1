"""Contour maps cut at thresholds: brute force on tiny maps, and the levels that made a map."""

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.scoring import bsds, contour_maps


def brute_pieces(contours, threshold):
  """Pixels that hang together, as sets of (row, column)."""
  height, width = contours.shape
  is_open = contours <= threshold
  is_open[1::2, 1::2] = True
  left = {(i, j) for i in range(height) for j in range(width) if is_open[i, j]}
  pieces = set()
  while left:
    front, piece = [left.pop()], set()
    while front:
      i, j = front.pop()
      piece.add((i, j))
      near = {(i + y, j + x) for y in (-1, 0, 1) for x in (-1, 0, 1)} & left
      left -= near
      front += near
    pieces.add(frozenset((i // 2, j // 2) for i, j in piece if i % 2 and j % 2))
  return pieces - {frozenset()}


def pieces_of(labels):
  return {frozenset(zip(*np.nonzero(labels == i), strict=True)) for i in np.unique(labels)}


@pytest.mark.parametrize("seed", range(4))
def test_cuts_equal_brute_force(seed):
  rng = np.random.default_rng(seed)
  contours = rng.integers(0, 6, (9, 11)) / 6
  contours[::2, ::2] = contours.max() if seed % 2 else contours[::2, ::2]
  thresholds = np.array([0.1, 0.3, 0.31, 0.5, 5 / 6, 0.9])
  cuts = contour_maps.cut(contours, thresholds)
  assert len(cuts.regions) == len(thresholds)
  for regions, threshold in zip(cuts.regions, thresholds, strict=True):
    assert pieces_of(regions[cuts.labels]) == brute_pieces(contours, threshold)
    np.testing.assert_array_equal(np.unique(regions), np.arange(regions.max() + 1))
  np.testing.assert_array_equal(cuts.regions[0], np.arange(cuts.labels.max() + 1))


def test_cuts_of_a_hierarchy_are_its_levels():
  fine = np.kron(np.arange(12).reshape(3, 4), np.ones((2, 3), int))
  maps = fine, fine % 4 // 2 + 2 * (fine // 8), np.zeros_like(fine)
  maps = [np.unique(labels, return_inverse=True)[1].reshape(fine.shape) for labels in maps]
  contours = Hierarchy.from_labels(maps).boundaries().astype(np.float64)
  cuts = contour_maps.cut(contours, (np.arange(3) + 0.5) / 3)
  for level, labels in enumerate(maps):
    found = cuts.regions[level][cuts.labels]
    assert pieces_of(found) == pieces_of(labels)
    shown = contour_maps.pixel_strength(contours) >= (level + 0.5) / 3
    np.testing.assert_array_equal(shown, bsds.boundary_pixels(found))


def test_thresholds_and_what_equals_one():
  np.testing.assert_allclose(contour_maps.spread_thresholds(3), [0.25, 0.5, 0.75], atol=1e-15)
  np.testing.assert_allclose(contour_maps.spread_thresholds(99), np.arange(1, 100) / 100)
  np.testing.assert_array_equal(contour_maps.spread_thresholds(1), [0.5])
  contours = np.array([[0.0] * 5, [0, 0, 0.5, 0, 0], [0.0] * 5])
  contours[::2, 2] = 0.5
  cuts = contour_maps.cut(contours, np.array([0.4, 0.5]))
  assert [int(regions.max()) + 1 for regions in cuts.regions] == [2, 1]


def test_maps_that_are_not_at_double_resolution_are_refused():
  for shape in ((4, 5), (5, 4), (1, 5)):
    with pytest.raises(UserError, match="double resolution"):
      contour_maps.cut(np.zeros(shape), np.array([0.5]))
    with pytest.raises(UserError, match="double resolution"):
      contour_maps.pixel_strength(np.zeros(shape))
  with pytest.raises(ValueError, match="ascend"):
    contour_maps.cut(np.zeros((3, 3)), np.array([0.5, 0.4]))
  with pytest.raises(ValueError, match="none"):
    contour_maps.spread_thresholds(0)
