"""Covering and boundary scores: brute force on tiny maps, identities, unlabelled pixels."""

import itertools
import math

import numpy as np
import pytest

from hseg_jax.scoring import bsds


def random_map(rng, shape=(9, 7), regions=5, unlabelled=False):
  return rng.integers(-1 if unlabelled else 0, regions, shape)


def brute_iou(truth, prediction, region, predicted):
  labelled = truth >= 0
  inside, found = (truth == region) & labelled, (prediction == predicted) & labelled
  return (inside & found).sum() / (inside | found).sum() if predicted >= 0 else 0.0


@pytest.mark.parametrize("seed", range(4))
def test_covering_equals_brute_force(seed):
  rng = np.random.default_rng(seed)
  truth = random_map(rng, unlabelled=seed % 2 == 1)
  prediction = random_map(rng, regions=4, unlabelled=seed > 1)
  total = 0.0
  for region in set(truth[truth >= 0]):
    best = max(brute_iou(truth, prediction, region, other) for other in set(prediction.ravel()))
    total += (truth == region).sum() * best
  assert bsds.covering(truth, prediction) == pytest.approx(total / (truth >= 0).sum(), abs=1e-12)


def test_covering_of_itself_is_one_and_names_do_not_matter():
  rng = np.random.default_rng(5)
  truth, prediction = random_map(rng), random_map(rng)
  assert bsds.covering(truth, truth) == 1
  renamed = rng.permutation(100)[prediction]
  assert bsds.covering(truth, renamed) == bsds.covering(truth, prediction)
  assert bsds.covering(renamed, truth) == pytest.approx(bsds.covering(prediction, truth))
  assert math.isnan(bsds.covering(np.full((2, 2), -1), prediction[:2, :2]))


def test_boundary_pixels_by_hand():
  labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 1]])
  np.testing.assert_array_equal(bsds.boundary_pixels(labels), [[0, 1, 0], [1, 1, 0], [0, 1, 0]])
  np.testing.assert_array_equal(bsds.boundary_pixels(np.array([[0, -1, 1]])), [[0, 0, 0]])
  np.testing.assert_array_equal(bsds.boundary_pixels(np.array([[-1, -1], [0, 1]])), [[1, 0]] * 2)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 3])
def test_boundary_counts_equal_brute_force(tolerance):
  rng = np.random.default_rng(7)
  truth = np.kron(random_map(rng, (3, 3), 6), np.ones((4, 4), int))
  prediction = np.kron(random_map(rng, (4, 4), 3), np.ones((3, 3), int))

  def edge_pixels(labels):
    found = set()
    for i, j in itertools.product(*map(range, labels.shape)):
      for (y, x), (v, u) in itertools.combinations(itertools.product((i, i + 1), (j, j + 1)), 2):
        within = max(y, v) < labels.shape[0] and max(x, u) < labels.shape[1]
        if within and abs(y - v) + abs(x - u) == 1 and labels[y, x] != labels[v, u]:
          found.add((i, j))
    return found

  def near(first, second):
    return sum(any(math.dist(p, q) <= tolerance for q in second) for p in first)

  real, found = edge_pixels(truth), edge_pixels(prediction)
  counts = bsds.boundary_counts(truth, prediction, tolerance)
  assert counts == (near(real, found), len(real), near(found, real), len(found))


def test_boundary_scores_and_their_identities():
  rng = np.random.default_rng(8)
  truth = random_map(rng)
  one_region = np.zeros_like(truth)
  for labels in (truth, one_region):
    counts = bsds.boundary_counts(labels, labels, 0)
    assert bsds.precision_recall_f(counts) == (1, 1, 1)
  counts = bsds.boundary_counts(truth, one_region, 2)
  assert bsds.precision_recall_f(counts) == (1, 0, 0)
  counts = bsds.boundary_counts(one_region, truth, 2)
  assert bsds.precision_recall_f(counts) == (0, 1, 0)
  assert bsds.precision_recall_f(bsds.BoundaryCounts(1, 4, 3, 4)) == (0.75, 0.25, 0.375)
  renamed = rng.permutation(9)[truth]
  assert bsds.boundary_counts(truth, renamed, 0) == bsds.boundary_counts(truth, truth, 0)


def test_predicted_boundaries_on_unlabelled_pixels_do_not_count():
  truth = np.array([[0, 0, -1, -1]])
  assert bsds.boundary_counts(truth, np.array([[0, 0, 0, 1]]), 1) == (0, 0, 0, 0)
