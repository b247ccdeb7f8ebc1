"""Semantic scores: brute force on tiny maps, both ways of averaging, ignored labels, refusals."""

import itertools
import math

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.scoring import semantic


def random_maps(seed, shape=(7, 9), classes=4):
  """Class maps with ignored pixels in the truth and pixels of no class in the prediction."""
  rng = np.random.default_rng(seed)
  truth, prediction = rng.integers(0, classes, (2, *shape))
  truth[rng.random(shape) < 0.2], prediction[rng.random(shape) < 0.2] = 255, 255
  truth[0, 0], prediction[1, 1] = -1, -3
  return truth, prediction


def brute_ious(truths, predictions, classes=4):
  valid = (truths != 255) & (truths >= 0)
  scores = []
  for label in range(classes):
    real, found = (truths == label) & valid, (predictions == label) & valid
    if (real | found).any():
      scores.append((real & found).sum() / (real | found).sum())
  return scores


def test_both_means_equal_brute_force():
  pairs = [random_maps(seed, classes=4 - seed % 2) for seed in range(5)]
  confusions = [semantic.confusion_matrix(*pair, 4) for pair in pairs]
  truths, predictions = (np.stack(each) for each in zip(*pairs, strict=True))
  expected = np.mean(brute_ious(truths, predictions))
  assert semantic.dataset_mean_iou(confusions) == pytest.approx(expected)
  expected = np.mean([np.mean(brute_ious(*pair)) for pair in pairs])
  assert semantic.per_image_mean_iou(iter(confusions)) == pytest.approx(expected)
  valid = (truths != 255) & (truths >= 0)
  expected = (truths == predictions)[valid].mean()
  assert semantic.pixel_accuracy(sum(confusions)) == pytest.approx(expected)


def test_the_two_ways_by_hand():
  first = semantic.confusion_matrix(np.array([[0, 0, 0, 1]]), np.array([[0, 0, 0, 0]]), 3)
  second = semantic.confusion_matrix(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 1, 7]]), 3)
  np.testing.assert_array_equal(first, [[3, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
  np.testing.assert_array_equal(second, [[0, 0, 0, 0], [0, 3, 0, 1], [0, 0, 0, 0]])
  np.testing.assert_array_equal(semantic.class_ious(first), [3 / 4, 0, np.nan])
  assert semantic.per_image_mean_iou([first, second]) == (3 / 8 + 3 / 4) / 2
  assert semantic.dataset_mean_iou([first, second]) == (3 / 4 + 3 / 5) / 2
  assert semantic.pixel_accuracy(first + second) == 6 / 8


@pytest.mark.parametrize("tolerance", [0, 1, 2])
def test_boundary_counts_equal_brute_force(tolerance):
  rng = np.random.default_rng(3)
  truth, prediction = np.kron(rng.integers(0, 3, (2, 3, 3)), np.ones((1, 3, 3), int))
  prediction[rng.random(prediction.shape) < 0.2] = 255

  def edge_pixels(mask):
    found = set()
    for i, j in itertools.product(*map(range, mask.shape)):
      block = [(y, x) for y in (i, i + 1) for x in (j, j + 1)]
      block = [(y, x) for y, x in block if y < mask.shape[0] and x < mask.shape[1]]
      if any(
        mask[p] != mask[q] and abs(p[0] - q[0]) + abs(p[1] - q[1]) == 1
        for p, q in itertools.combinations(block, 2)
      ):
        found.add((i, j))
    return found

  near = lambda first, second: sum(any(math.dist(p, q) <= tolerance for q in second) for p in first)
  counts = semantic.boundary_counts(truth, prediction, 4, tolerance)
  scores = []
  for label in range(3):
    real, found = edge_pixels(truth == label), edge_pixels(prediction == label)
    assert counts[label].tolist() == [near(real, found), len(real), near(found, real), len(found)]
    if real or found:
      recall = near(real, found) / len(real) if real else 1
      precision = near(found, real) / len(found) if found else 1
      total = precision + recall
      scores.append(2 * precision * recall / total if total else 0)
  assert semantic.mean_boundary_f(counts) == pytest.approx(np.mean(scores))
  assert math.isnan(semantic.class_boundary_fs(counts)[3])


def test_boundary_means_pool_or_average():
  first = np.array([[1, 2, 1, 2], [0, 0, 0, 0]])  # F = 1/2; the second class has no boundary
  second = np.array([[4, 4, 4, 4], [2, 2, 1, 2]])  # F = 1 and 2/3
  assert semantic.per_image_boundary_f([first, second]) == pytest.approx((1 / 2 + 5 / 6) / 2)
  assert semantic.dataset_boundary_f([first, second]) == pytest.approx((5 / 6 + 2 / 3) / 2)


def test_a_class_that_is_not_there_is_claimed_wrongly():
  truth, prediction = np.zeros((3, 4), int), np.repeat([[0, 0, 2, 2]], 3, axis=0)
  counts = semantic.boundary_counts(truth, prediction, 3, 5)
  np.testing.assert_array_equal(counts, [[0, 0, 0, 3], [0, 0, 0, 0], [0, 0, 0, 3]])
  np.testing.assert_array_equal(semantic.class_boundary_fs(counts), [0, np.nan, 0])
  assert semantic.mean_iou(semantic.confusion_matrix(truth, prediction, 3)) == (1 / 2 + 0) / 2


def test_void_rims_are_boundaries_in_their_middle():
  truth = np.array([[0, 0, 0, 255, 255, 255, 255, 1, 1, 1]])
  step = lambda column: (np.arange(10)[None] >= column).astype(int)
  for column in range(1, 10):
    counts = semantic.boundary_counts(truth, step(column), 2, 1)
    assert semantic.mean_boundary_f(counts) == (column in (4, 5, 6)), column
  # Off the middle, but still within the rim, nothing is claimed wrongly: only the recall falls.
  for column, expected in ((5, [1, 1, 1, 1]), (4, [0, 1, 0, 0]), (3, [0, 1, 0, 1])):
    counts = semantic.boundary_counts(truth, step(column), 2, 0)
    np.testing.assert_array_equal(counts, [expected] * 2)


def test_truth_itself_is_perfect_and_names_do_not_matter():
  truth = np.random.default_rng(1).integers(0, 5, (8, 8))
  confusion = semantic.confusion_matrix(truth, truth, 5)
  counts = semantic.boundary_counts(truth, truth, 5, 0)
  assert semantic.mean_iou(confusion) == semantic.pixel_accuracy(confusion) == 1
  assert semantic.mean_boundary_f(counts) == 1
  truth, prediction = random_maps(2)
  names = np.arange(300)
  names[:4] = [2, 0, 3, 1]
  rename = lambda labels: np.where(labels < 0, labels, names[labels])
  for scores in (semantic.confusion_matrix, lambda *a: semantic.boundary_counts(*a, 1)):
    renamed, plain = scores(rename(truth), rename(prediction), 4), scores(truth, prediction, 4)
    mean = semantic.mean_iou if renamed.shape[1] == 5 else semantic.mean_boundary_f
    assert mean(renamed) == pytest.approx(mean(plain))


def test_what_is_ignored_counts_nowhere():
  truth = np.array([[0, 1, 255, -1]])
  counted = semantic.confusion_matrix(truth, np.array([[0, 1, 0, 0]]), 2)
  assert counted.sum() == 2 and semantic.mean_iou(counted) == 1
  unsigned = semantic.confusion_matrix(truth[:, :3].astype(np.uint8), np.array([[0, 1, 0]]), 2)
  np.testing.assert_array_equal(unsigned, counted)
  nothing = np.full((2, 2), 255)
  empty = semantic.confusion_matrix(nothing, nothing, 2)
  assert math.isnan(semantic.mean_iou(empty)) and math.isnan(semantic.pixel_accuracy(empty))
  assert semantic.per_image_mean_iou([empty, counted]) == 1
  boundaries = semantic.boundary_counts(nothing, nothing, 2, 1)
  assert not boundaries.any() and math.isnan(semantic.per_image_boundary_f([boundaries]))
  for mean in (semantic.dataset_mean_iou, semantic.per_image_mean_iou, semantic.dataset_boundary_f):
    assert math.isnan(mean([]))


def test_refuses_labels_that_are_no_class():
  truth = np.array([[0, 7]])
  for count in (semantic.confusion_matrix, lambda *a: semantic.boundary_counts(*a, 1)):
    with pytest.raises(UserError, match="label 7, but there are 3 classes"):
      count(truth, truth, 3)
  with pytest.raises(UserError, match="300 classes it is one of them"):
    semantic.confusion_matrix(truth, truth, 300)
  assert semantic.confusion_matrix(truth, truth, 300, ignore=-1).sum() == 2
  assert semantic.confusion_matrix(truth, truth, 1, ignore=7).sum() == 1
