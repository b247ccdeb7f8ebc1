"""Best IoU of objects and parts: brute force on tiny maps, identities, the background's role."""

import math

import numpy as np
import pytest

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
