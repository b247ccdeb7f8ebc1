"""Figure against ground: brute force on tiny maps, thresholds by hand, empty masks, refusals."""

import itertools
import math

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.scoring import figure_ground


def random_masks(seed, shape=(7, 8)):
  return np.random.default_rng(seed).random((3, *shape)) < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_masks_are_scored_as_by_brute_force(seed):
  truth, prediction, valid = random_masks(seed)
  for counted in (valid, None):
    pixels = [
      (real, found)
      for real, found, counts in zip(truth.flat, prediction.flat, valid.flat, strict=True)
      if counts or counted is None
    ]
    hits = sum(real and found for real, found in pixels)
    precision = hits / sum(found for _, found in pixels)
    recall = hits / sum(real for real, _ in pixels)
    union = sum(real or found for real, found in pixels)
    assert figure_ground.jaccard(truth, prediction, counted) == pytest.approx(hits / union)
    expected = 1.3 * precision * recall / (0.3 * precision + recall)
    assert figure_ground.f_beta(truth, prediction, counted) == pytest.approx(expected)
    expected = 2 * precision * recall / (precision + recall)
    assert figure_ground.f_beta(
      truth, prediction, counted, beta_squared=1.0
    ) == pytest.approx(expected)  # fmt: skip
    error = np.mean([real != found for real, found in pixels])
    assert figure_ground.mean_absolute_error(truth, prediction, counted) == pytest.approx(error)


def test_errors_of_soft_maps():
  truth = np.array([[True, False, True]])
  values = np.array([[0.75, 0.5, 1.0]], np.float32)
  assert figure_ground.mean_absolute_error(truth, values) == pytest.approx(0.25)
  valid = np.array([[True, True, False]])
  assert figure_ground.mean_absolute_error(truth, values, valid) == pytest.approx(0.375)
  assert math.isnan(figure_ground.mean_absolute_error(truth, values, np.zeros((1, 3), bool)))
  np.testing.assert_array_equal(
    figure_ground.rescale(np.array([[-2.0, 0.0, 2.0]])), [[0.0, 0.5, 1.0]]
  )
  np.testing.assert_array_equal(figure_ground.rescale(np.full((1, 2), 7.0)), [[0, 0]])


def test_empty_masks():
  nothing, something = np.zeros((2, 2), bool), np.eye(2, dtype=bool)
  for score in (figure_ground.jaccard, figure_ground.f_beta):
    assert score(nothing, nothing) == score(something, something) == 1
    assert score(nothing, something) == score(something, nothing) == 0
    assert score(something, something, nothing) == 1
  curve = figure_ground.threshold_curve(nothing, np.eye(2))
  assert (curve.recall == 1).all() and (curve.precision == 0).all()
  assert not figure_ground.best_union(nothing, np.zeros((2, 2), int)).any()
  assert not figure_ground.keep_mass(np.zeros((2, 2)), 0.6).any()
  assert not figure_ground.adaptive_threshold(np.zeros((2, 2))).any()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 1.0])
def test_kept_mass_is_the_smallest_set_of_strongest_pixels(share):
  rng = np.random.default_rng(4)
  values = rng.permutation(20).reshape(4, 5).astype(np.float64)
  mask = figure_ground.keep_mass(values, share)
  order = np.sort(values.ravel())[::-1]
  count = next(n for n in range(1, 21) if order[:n].sum() >= share * order.sum())
  np.testing.assert_array_equal(mask, values >= order[count - 1])
  np.testing.assert_array_equal(mask, figure_ground.keep_mass(3 * values, share))


def test_kept_mass_never_cuts_a_region():
  values = np.array([[0.4, 0.1, 0.1, 0.1, 0.1, 0.2]], np.float32)
  np.testing.assert_array_equal(figure_ground.keep_mass(values, 0.4), [[1, 0, 0, 0, 0, 0]])
  np.testing.assert_array_equal(figure_ground.keep_mass(values, 0.6), [[1, 0, 0, 0, 0, 1]])
  np.testing.assert_array_equal(figure_ground.keep_mass(values, 0.7), [[1, 1, 1, 1, 1, 1]])


def test_adaptive_threshold_by_hand():
  values = np.array([[0.0, 1.0, 2.0, 5.0]])
  np.testing.assert_array_equal(figure_ground.adaptive_threshold(values), [[0, 0, 0, 1]])
  np.testing.assert_array_equal(figure_ground.adaptive_threshold(np.ones((1, 2))), [[1, 1]])
  values = np.array([[0.0, 0.0, 2.0, 2.0]])
  np.testing.assert_array_equal(figure_ground.adaptive_threshold(values), [[0, 0, 1, 1]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_curves_and_their_best_f_equal_brute_force(dtype):
  curves, precisions, recalls = [], [], []
  for seed in range(3):
    truth, _, valid = random_masks(seed)
    levels = np.random.default_rng(seed).integers(0, 256, truth.shape)
    curves.append(figure_ground.threshold_curve(truth, (levels / 255).astype(dtype), valid))
    kept = [(levels >= threshold) & valid for threshold in range(256)]
    precisions.append([(truth & each).sum() / each.sum() if each.any() else 1 for each in kept])
    recalls.append([(truth & each).sum() / (truth & valid).sum() for each in kept])
    np.testing.assert_allclose(curves[-1].precision, precisions[-1])
    np.testing.assert_allclose(curves[-1].recall, recalls[-1])
  every = np.arange(256).reshape(16, 16)
  curve = figure_ground.threshold_curve(every >= 0, (every / 255).astype(dtype))
  np.testing.assert_array_equal(curve.recall, np.arange(256, 0, -1) / 256)
  precision, recall = np.mean(precisions, axis=0), np.mean(recalls, axis=0)
  scores = 1.3 * precision * recall / (0.3 * precision + recall + 1e-15)
  best, threshold = figure_ground.max_f_beta(curves)
  assert best == pytest.approx(scores.max()) and threshold == scores.argmax() / 255
  assert all(math.isnan(value) for value in figure_ground.max_f_beta([]))


@pytest.mark.parametrize("seed", range(6))
def test_the_best_union_is_the_best_of_all(seed):
  rng = np.random.default_rng(seed)
  truth, valid = rng.random((2, 5, 5)) < 0.5
  labels = rng.integers(-1, 6, (5, 5))
  for counted in (valid, None):
    best = max(
      figure_ground.jaccard(truth, np.isin(labels, chosen), counted)
      for size in range(7)
      for chosen in itertools.combinations(range(6), size)
    )
    union = figure_ground.best_union(truth, labels, counted)
    assert figure_ground.jaccard(truth, union, counted) == pytest.approx(best)
    assert not (union & (labels < 0)).any()
    for region in range(6):
      assert len(set(union[labels == region])) <= 1


def test_averages_over_regions():
  labels = np.array([[4, 4, 0, -1, -1]])
  values = np.array([[0.2, 0.4, 0.6, 0.9, 0.1]], np.float32)
  np.testing.assert_allclose(
    figure_ground.average_regions(values, labels), [[0.3, 0.3, 0.6, 0.9, 0.1]], rtol=1e-6
  )
  assert values[0, 0] == np.float32(0.2)  # the argument stays as it is


def test_refuses_maps_out_of_range():
  truth = np.ones((1, 2), bool)
  for score in (figure_ground.mean_absolute_error, figure_ground.threshold_curve):
    with pytest.raises(UserError, match="from 0 to 255, not within 0 and 1"):
      score(truth, np.array([[0.0, 255.0]]))
    with pytest.raises(UserError, match="not finite"):
      score(truth, np.array([[0.0, np.nan]]))
  for threshold in (lambda values: figure_ground.keep_mass(values, 0.6),
                    figure_ground.adaptive_threshold):  # fmt: skip
    with pytest.raises(UserError, match="negative value, -1"):
      threshold(np.array([[0.0, -1.0]]))
  with pytest.raises(UserError, match="is 60"):
    figure_ground.keep_mass(np.ones((1, 2)), 60)
