"""Covering, Rand index and variation: brute force on tiny maps, identities, unlabelled pixels."""

import itertools

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.scoring import bsds, bsds_regions, contingency, contour_maps


def draw(rng, count, low=0):
  return [rng.integers(low, 4, (5, 6)) for _ in range(count)]


def brute_rand(truth, labels):
  pixels = np.flatnonzero(truth.ravel() >= 0)
  pairs = list(itertools.combinations(pixels, 2))
  first, second = truth.ravel(), labels.ravel()
  return np.mean([(first[i] == first[j]) == (second[i] == second[j]) for i, j in pairs])


def brute_variation(truth, labels):
  """H(S|S') + H(S'|S), from the joint distribution."""
  inside = truth >= 0
  total = 0.0
  for a in np.unique(truth[inside]):
    for b in np.unique(labels[inside]):
      one, other = inside & (truth == a), inside & (labels == b)
      joint = (one & other).sum() / inside.sum()
      if joint:
        shares = joint / (one.sum() / inside.sum()), joint / (other.sum() / inside.sum())
        total -= joint * sum(np.log2(shares))
  return total


@pytest.mark.parametrize("low", [0, -1])
def test_counts_equal_brute_force(low):
  rng = np.random.default_rng(3 + low)
  truths, levels = draw(rng, 3, low), draw(rng, 4, low)
  counts = bsds_regions.count_levels(truths, levels)
  areas = [(truth >= 0).sum() for truth in truths]
  assert counts.labelled == sum(areas)
  for k, labels in enumerate(levels):
    covered = [bsds.covering(truth, labels) * n for truth, n in zip(truths, areas, strict=True)]
    assert counts.covered[k] == pytest.approx(sum(covered), abs=1e-9)
    rand_index = np.mean([brute_rand(truth, labels) for truth in truths])
    assert counts.rand_index[k] == pytest.approx(rand_index, abs=1e-12)
    variation = np.mean([brute_variation(truth, labels) for truth in truths])
    assert counts.variation[k] == pytest.approx(variation, abs=1e-12)
  best = 0.0
  for truth in truths:
    tables = [contingency.tabulate(truth, labels) for labels in levels]
    best += tables[0].areas @ np.max([table.ious.max(axis=1) for table in tables], axis=0)
  assert counts.covered_by_best == pytest.approx(best, abs=1e-9)


def test_cuts_of_a_contour_map_score_as_their_label_maps():
  rng = np.random.default_rng(1)
  contours = rng.random((11, 13))
  contours[::2, ::2] = 1
  thresholds = contour_maps.spread_thresholds(7)
  cuts = contour_maps.cut(contours, thresholds)
  levels = [regions[cuts.labels] for regions in cuts.regions]
  assert len({int(labels.max()) for labels in levels}) > 3
  truths = draw(rng, 3, -1)
  found = bsds_regions.count_contours(truths, contours, thresholds)
  for one, other in zip(found, bsds_regions.count_levels(truths, levels), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_an_annotator_as_prediction_is_perfect_under_any_names():
  rng = np.random.default_rng(2)
  truth, other = draw(rng, 2)
  renamed = rng.permutation(9)[truth]
  counts = bsds_regions.count_levels([truth], [other, renamed])
  scores = bsds_regions.summarize([counts])
  assert scores.covering_ods == scores.covering_best == scores.covering_ois == 1
  assert scores.rand_index_ods == scores.rand_index_ois == 1
  assert scores.variation_ods == pytest.approx(0, abs=1e-12)
  assert scores.covering[0] < 1 and scores.rand_index[0] < 1 and scores.variation[0] > 0.1
  again = bsds_regions.count_levels([renamed], [rng.permutation(9)[other], truth])
  for one, same in zip(counts, again, strict=True):
    np.testing.assert_allclose(one, same, atol=1e-12)


def test_scores_of_a_data_set_by_hand():
  first = bsds_regions.RegionCounts(np.array([6.0, 4]), 8.0, 10, np.r_[0.5, 0.75], np.r_[2.0, 1])
  second = bsds_regions.RegionCounts(np.array([6.0, 24]), 27.0, 30, np.r_[1, 0.25], np.r_[3.0, 5])
  scores = bsds_regions.summarize([first, second])
  np.testing.assert_allclose(scores.covering, [0.3, 0.7])
  np.testing.assert_allclose(scores.rand_index, [0.75, 0.5])
  np.testing.assert_allclose(scores.variation, [2.5, 3])
  assert scores.covering_ods == pytest.approx(0.7)
  assert scores.covering_ois == pytest.approx(0.75)
  assert scores.covering_best == pytest.approx(0.875)
  assert (scores.rand_index_ods, scores.rand_index_ois) == pytest.approx((0.75, 0.875))
  assert (scores.variation_ods, scores.variation_ois) == pytest.approx((2.5, 2))


def test_annotators_who_label_nothing_or_one_pixel():
  truth = np.array([[0, 1], [1, 1]])
  nothing, single = np.full((2, 2), -1), np.array([[-1, 2], [-1, -1]])
  alone = bsds_regions.count_levels([truth], [truth])
  for one, other in zip(bsds_regions.count_levels([nothing, truth], [truth]), alone, strict=True):
    np.testing.assert_array_equal(one, other)
  counts = bsds_regions.count_levels([single], [truth])
  assert counts.labelled == 1 and counts.covered == counts.rand_index == 1
  with pytest.raises(UserError, match="labelled"):
    bsds_regions.count_levels([nothing], [truth])


def test_what_does_not_belong_together_is_refused():
  truth = np.zeros((2, 3), int)
  with pytest.raises(UserError, match="2x3 and 3x2"):
    bsds_regions.count_levels([truth], [truth.T])
  with pytest.raises(UserError, match="2x3 and 3x2"):
    bsds_regions.count_contours([truth], np.zeros((7, 5)), np.array([0.5]))
  with pytest.raises(UserError, match="no annotator"):
    bsds_regions.count_levels([], [truth])
  with pytest.raises(UserError, match="no segmentation"):
    bsds_regions.count_levels([truth], [])
  counts = [bsds_regions.count_levels([truth], [truth] * n) for n in (1, 2)]
  with pytest.raises(UserError, match=r"\[1, 2\] levels"):
    bsds_regions.summarize(counts)
  with pytest.raises(UserError, match="at least one"):
    bsds_regions.summarize([])
