"""Best IoU of objects and parts: brute force, identities, the background, levels and cuts."""

import math

import numpy as np
import pytest

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.scoring import part_whole


@pytest.mark.parametrize("seed", range(3))
def test_best_ious_equal_brute_force(seed):
  rng = np.random.default_rng(seed)
  truth, prediction = rng.integers(-1, 4, (8, 9)), rng.integers(-1, 5, (8, 9))
  expected = []
  for part in range(1, 4):
    scores = []
    for region in range(5):
      inside, found = truth == part, (prediction == region) & (truth >= 0)
      scores.append((inside & found).sum() / (inside | found).sum())
    expected.append(max(scores))
  np.testing.assert_allclose(part_whole.best_ious(truth, prediction), expected)
  assert part_whole.mean_best_iou(truth, prediction) == pytest.approx(np.mean(expected))


def test_background_is_not_sought_but_counts_in_the_union():
  truth = np.array([[0, 0, 2, 2]])
  prediction = np.array([[0, 1, 1, 1]])
  np.testing.assert_allclose(part_whole.best_ious(truth, prediction), [2 / 3])
  np.testing.assert_allclose(part_whole.best_ious(truth, prediction, background=2), [1 / 2])
  np.testing.assert_allclose(part_whole.best_ious(truth > 0, prediction), [2 / 3])


def test_truth_itself_scores_one_under_any_names():
  rng = np.random.default_rng(3)
  truth = rng.integers(0, 5, (8, 8))
  assert part_whole.mean_best_iou(truth, truth) == 1
  assert part_whole.mean_best_iou(truth, rng.permutation(50)[truth]) == 1
  assert part_whole.mean_best_iou(truth.astype(np.uint8), truth) == 1


def test_an_image_without_objects_has_no_score():
  nothing = np.zeros((3, 3), int)
  assert part_whole.best_ious(nothing, nothing).shape == (0,)
  assert math.isnan(part_whole.mean_best_iou(nothing > 0, nothing))
  unlabelled = np.full((3, 3), -1)
  assert part_whole.best_ious(unlabelled, nothing).shape == (0,)


def random_hierarchy(seed, shape=(7, 8), counts=(14, 6, 3)):
  rng = np.random.default_rng(seed)
  assignments = [rng.integers(0, k, n) for n, k in zip(counts, (*counts[1:], 2), strict=True)]
  return Hierarchy.from_assignments(rng.integers(0, counts[0], shape), assignments)


@pytest.mark.parametrize("seed", range(3))
def test_levels_and_cuts_are_scored_as_their_label_maps(seed):
  truth = np.random.default_rng(seed).integers(-1, 4, (7, 8))
  hierarchy = random_hierarchy(seed)
  levels = part_whole.level_ious(truth, hierarchy)
  assert levels.shape == (hierarchy.num_levels, 3)
  for level, row in enumerate(levels):
    np.testing.assert_allclose(row, part_whole.best_ious(truth, hierarchy.labels(level)))
  cuts = part_whole.cut_ious(truth, hierarchy)
  assert cuts.shape == (hierarchy.sizes[0], 3)
  for number, row in enumerate(cuts, start=1):
    np.testing.assert_allclose(row, part_whole.best_ious(truth, hierarchy.cut(number)))
  masks = [hierarchy.labels(1) == region for region in range(hierarchy.sizes[1])]
  np.testing.assert_allclose(part_whole.best_mask_ious(truth, np.stack(masks)), levels[1])


def test_best_level_and_best_cut_by_hand():
  segments = np.array([[0, 1, 2, 3]])
  hierarchy = Hierarchy.from_assignments(segments, [np.array([0, 0, 1, 1]), np.array([0, 0])])
  for truth, level, num_regions in (
    ([[1, 2, 3, 4]], 0, 4),
    ([[1, 1, 2, 2]], 1, 2),
    ([[1, 1, 2, 3]], 0, 3),
    ([[1, 1, 1, 1]], 2, 1),
    ([[0, 0, 0, 0]], 2, 1),
  ):
    truth = np.array(truth)
    assert part_whole.best_level(part_whole.level_ious(truth, hierarchy)) == level
    cuts = part_whole.cut_ious(truth, hierarchy)
    assert part_whole.best_cut(cuts) == num_regions
    assert not cuts.size or cuts[num_regions - 1].mean() == 1
  # Both halves miss half of the object as the whole does: the coarser of equals.
  truth = np.array([[0, 1, 1, 0]])
  ious = part_whole.level_ious(truth, hierarchy)
  np.testing.assert_allclose(ious, [[1 / 2], [1 / 3], [1 / 2]])
  assert part_whole.best_level(ious) == 2


def test_best_cut_is_at_least_as_good_as_best_level():
  for seed in range(5):
    truth = np.random.default_rng(seed).integers(0, 4, (7, 8))
    hierarchy = random_hierarchy(seed)
    levels, cuts = (f(truth, hierarchy) for f in (part_whole.level_ious, part_whole.cut_ious))
    best = levels[part_whole.best_level(levels)].mean()
    assert cuts[part_whole.best_cut(cuts) - 1].mean() >= best


def test_masks_may_overlap_and_may_be_none():
  truth = np.array([[0, 1, 1, 2, -1]])
  masks = np.array([[[0, 1, 1, 1, 1]], [[0, 0, 1, 1, 1]], [[0, 0, 0, 0, 0]]], bool)
  np.testing.assert_allclose(part_whole.best_mask_ious(truth, masks), [2 / 3, 1 / 2])
  np.testing.assert_array_equal(part_whole.best_mask_ious(truth, masks[:0]), [0, 0])


def test_means_over_objects_and_over_images_differ():
  found = part_whole.summarize([np.array([0.2, 0.4, 0.6]), np.array([]), np.array([0.8])])
  assert found == pytest.approx((0.5, 0.6))
  assert all(math.isnan(value) for value in part_whole.summarize([np.array([])]))
  assert all(math.isnan(value) for value in part_whole.summarize([]))
