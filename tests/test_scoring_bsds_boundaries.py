"""Boundaries matched one to one: brute force on tiny maps, identities, curves by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import optimize

from hseg_jax.errors import UserError
from hseg_jax.scoring import bsds, bsds_boundaries
from hseg_jax.scoring.bsds_boundaries import BoundaryCurve

CURVE = BoundaryCurve(*np.array([[8, 4], [10, 10], [6, 6], [12, 6]]))  # R .8 .4, P .5 1


def brute_match(first, second, tolerance):
  """Most pairs, and their least cost, over all ways to pair pixels."""
  here, there = (list(zip(*np.nonzero(pixels), strict=True)) for pixels in (first, second))
  best = (0, 0.0)
  for size in range(1, min(len(here), len(there)) + 1):
    for chosen in itertools.combinations(here, size):
      for partners in itertools.permutations(there, size):
        distances = [math.dist(p, q) for p, q in zip(chosen, partners, strict=True)]
        if max(distances) <= tolerance:
          best = min(best, (-size, sum(distances)))
  return -best[0], best[1]


@pytest.mark.parametrize("seed", range(12))
def test_matches_equal_brute_force(seed):
  rng = np.random.default_rng(seed)
  tolerance = [0, 1, 1.5, 2.3][seed % 4]
  first, second = np.zeros((5, 4), bool), np.zeros((5, 4), bool)
  first.ravel()[rng.choice(20, 3 + seed % 2 * 2, replace=False)] = True
  second.ravel()[rng.choice(20, 5 - seed % 2 * 2, replace=False)] = True
  found = bsds_boundaries.match(first, second, tolerance)
  size, cost = brute_match(first, second, tolerance)
  assert found[0].sum() == found[1].sum() == size
  assert not (found[0] & ~first).any() and not (found[1] & ~second).any()
  points = [np.argwhere(pixels)[:, None] for pixels in found]
  distances = np.linalg.norm(points[0] - points[1].swapaxes(0, 1), axis=2)
  pairs = optimize.linear_sum_assignment(distances)
  assert distances[pairs].sum() == pytest.approx(cost)


def test_one_pixel_confirms_one():
  row = lambda text: np.array([[c == "x" for c in text]])
  found = bsds_boundaries.match(row("xxx....x"), row(".x......"), 1)
  assert [pixels.tolist() for pixels in found] == [row(".x......").tolist()] * 2
  # Most pairs first, though the nearest would leave one pixel alone.
  found = bsds_boundaries.match(row(".xx."), row("xx.."), 1)
  assert [pixels.sum() for pixels in found] == [2, 2]
  nothing = row("........")
  found = bsds_boundaries.match(nothing, row(".x......"), 3)
  assert not np.any(found)


def test_counts_take_a_predicted_pixel_that_any_annotator_confirms():
  truths = [np.zeros((9, 9), bool) for _ in range(3)]
  truths[0][2, :], truths[1][:, 6], truths[2][2, :] = True, True, True
  predicted = np.zeros((9, 9), bool)
  predicted[2, :4], predicted[7, 6], predicted[8, 0] = True, True, True
  curve = bsds_boundaries.count_maps(truths, [predicted, truths[0], truths[0]], 0.01)
  assert [values.tolist() for values in curve] == [
    [4 + 1 + 4, 9 + 1 + 9, 9 + 1 + 9],
    [27] * 3,
    [5, 9, 9],
    [6, 9, 9],
  ]


def test_tolerance_is_a_share_of_the_diagonal_and_maps_are_thinned():
  truth, predicted = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
  truth[10, 5:30] = True
  predicted[12:15, 5:30] = True  # its middle lies 3 pixels off: 0.06 of the diagonal of 50
  near = bsds_boundaries.count_maps([truth], [predicted], 0.061)
  far = bsds_boundaries.count_maps([truth], [predicted], 0.059)
  assert near.predicted == far.predicted <= 25
  assert near.confirmed == near.predicted and far.confirmed < 5


def test_an_annotator_as_prediction_is_perfect_under_any_names():
  rng = np.random.default_rng(4)
  labels = np.kron(rng.integers(0, 5, (4, 5)), np.ones((5, 4), int))
  truth = bsds_boundaries.thin_boundaries(labels)
  curve = bsds_boundaries.count_levels([truth], [labels, rng.permutation(7)[labels], 0 * labels])
  scores = bsds_boundaries.summarize([curve], np.arange(1.0, 4))
  assert scores.recall.tolist() == [1, 1, 0] and scores.precision.tolist() == [1, 1, 0]
  assert scores.ods == (1, 1, 1, 1)
  assert scores.ois[1:] == (1, 1, 1)


def test_strength_equal_to_the_threshold_is_boundary():
  strength = np.array([[0, 0.25, 0, 0.5]])
  truth = strength > 0
  curve = bsds_boundaries.count_strength([truth], strength, np.array([0.25, 0.4, 0.6]), 0.1)
  assert curve.predicted.tolist() == [2, 1, 0] and curve.recalled.tolist() == [2, 1, 0]


def test_the_best_point_lies_between_thresholds():
  point = bsds_boundaries.best_point(CURVE, np.array([1.0, 2.0]))
  shares = [(0.8 - 0.4 * d, 0.5 + 0.5 * d) for d in np.linspace(0, 1, 100)]
  best = max(2 * r * p / (r + p) for r, p in shares)
  assert point.f == pytest.approx(best) and best > 0.62
  d = point.threshold - 1
  assert (point.recall, point.precision) == pytest.approx((0.8 - 0.4 * d, 0.5 + 0.5 * d))
  single = BoundaryCurve(*(values[:1] for values in CURVE))
  assert bsds_boundaries.best_point(single, np.array([3.0]))[:3] == (3, 0.8, 0.5)


def test_scores_of_a_data_set_by_hand():
  other = BoundaryCurve(*np.array([[1, 1], [10, 10], [1, 1], [10, 4]]))  # R .1 .1, P .1 .25
  scores = bsds_boundaries.summarize([CURVE, other], np.array([0.3, 0.6]))
  np.testing.assert_allclose(scores.recall, [9 / 20, 5 / 20])
  np.testing.assert_allclose(scores.precision, [7 / 22, 7 / 10])
  # The first image at its first threshold (F .615 against .571), the second at its second.
  recall, precision = 9 / 20, 7 / 16
  f = 2 * recall * precision / (recall + precision)
  assert scores.ois[1:] == pytest.approx((recall, precision, f))
  assert math.isnan(scores.ois.threshold)
  reached = np.arange(25, 46) / 100
  line = 0.7 + (reached - 0.25) / 0.2 * (7 / 22 - 0.7)
  assert scores.average_precision == pytest.approx(line.sum() / 100)


def test_a_single_point_has_no_area_under_it():
  curve = BoundaryCurve(*np.array([[5], [10], [1], [1]]))
  assert bsds_boundaries.summarize([curve], np.array([0.5])).average_precision == 0


def test_nothing_predicted_and_nothing_to_find_score_zero():
  nothing = np.zeros((4, 4), bool)
  curve = bsds_boundaries.count_maps([nothing], [nothing])
  scores = bsds_boundaries.summarize([curve], np.array([0.5]))
  assert scores.ods == (0.5, 0, 0, 0) and scores.average_precision == 0
  assert not bsds.boundary_pixels(nothing.astype(int)).any()


def test_what_does_not_belong_together_is_refused():
  pixels = np.zeros((2, 3), bool)
  with pytest.raises(UserError, match="2x3 and 3x2"):
    bsds_boundaries.count_maps([pixels], [pixels.T])
  with pytest.raises(UserError, match="no annotator"):
    bsds_boundaries.count_maps([], [pixels])
  with pytest.raises(UserError, match="no boundary map"):
    bsds_boundaries.count_maps([pixels], [])
  with pytest.raises(UserError, match="no image"):
    bsds_boundaries.summarize([], np.array([0.5]))
  with pytest.raises(UserError, match=r"\[2\] levels"):
    bsds_boundaries.summarize([CURVE], np.array([0.5]))
