"""Scores of superpixels: brute force on tiny maps, identities, values by hand, missing labels."""

import math

import numpy as np
import pytest
from scipy import ndimage

from hseg_jax.scoring import bsds, superpixels


def random_maps(seed):
  """A truth and a segmentation, with unlabelled pixels in one, the other, both or neither."""
  rng = np.random.default_rng(seed)
  truth = rng.integers(-1 if seed % 2 else 0, 4, (8, 7))
  return truth, rng.integers(-1 if seed > 1 else 0, 6, (8, 7))


@pytest.mark.parametrize("seed", range(4))
def test_accuracy_and_leakage_equal_brute_force(seed):
  truth, labels = random_maps(seed)
  labelled = truth >= 0
  right, leaked = 0, int((labelled & (labels < 0)).sum())
  for segment in set(labels[labels >= 0]):
    inside = labelled & (labels == segment)
    right += max(int((inside & (truth == region)).sum()) for region in range(4))
    for region in range(4):
      shared = int((inside & (truth == region)).sum())
      leaked += min(shared, int(inside.sum()) - shared)
  total = labelled.sum()
  assert superpixels.achievable_accuracy(truth, labels) == pytest.approx(right / total)
  assert superpixels.under_segmentation_error(truth, labels) == pytest.approx(leaked / total)


@pytest.mark.parametrize("seed", range(4))
def test_compactness_and_pieces_equal_brute_force(seed):
  labels = np.kron(random_maps(seed)[1], np.ones((2, 3), int))
  total, pieces = 0.0, []
  for segment in sorted(set(labels[labels >= 0])):
    mask = np.pad(labels == segment, 1)
    length = sum((mask[1:] != mask[:-1]).ravel()) + sum((mask[:, 1:] != mask[:, :-1]).ravel())
    total += mask.sum() * 4 * math.pi * mask.sum() / length**2
    pieces.append(ndimage.label(mask)[1])
  assert superpixels.compactness(labels) == pytest.approx(total / (labels >= 0).sum())
  np.testing.assert_array_equal(superpixels.count_pieces(labels), pieces)


def test_scores_by_hand():
  truth = np.array([[0, 0, 0, 1], [0, 0, 0, 1]])
  labels = np.array([[5, 5, 2, 2], [5, 5, 2, 2]])
  assert superpixels.achievable_accuracy(truth, labels) == 6 / 8  # segment 2 is half wrong
  assert superpixels.under_segmentation_error(truth, labels) == 4 / 8  # and leaks two ways
  assert superpixels.compactness(labels) == pytest.approx(math.pi / 4)
  assert superpixels.compactness(np.zeros((1, 4), int)) == pytest.approx(4 * math.pi * 4 / 100)
  pieces = np.array([[3, 0, 3], [0, 3, 3], [1, 1, 1]])
  np.testing.assert_array_equal(superpixels.count_pieces(pieces), [2, 1, 2])
  scores = superpixels.score(np.zeros((3, 3), int), pieces, 1)
  assert scores.num_segments == 3 and scores.pieces_per_segment == pytest.approx(5 / 3)


@pytest.mark.parametrize("seed", range(4))
def test_splitting_a_segment_never_lowers_accuracy(seed):
  rng = np.random.default_rng(seed)
  truth, labels = random_maps(seed)
  for _ in range(8):
    split = labels.copy()
    split[(labels == rng.integers(6)) & (rng.random(labels.shape) < 0.5)] = labels.max() + 1
    before, after = (superpixels.achievable_accuracy(truth, each) for each in (labels, split))
    assert after >= before
    labels = split


def test_truth_itself_is_perfect_and_names_do_not_matter():
  rng = np.random.default_rng(5)
  truth = np.kron(rng.integers(0, 5, (4, 4)), np.ones((3, 3), int))
  own = superpixels.score(truth, truth, 0)
  assert own[:5] == (len(np.unique(truth)), 1, 0, 1, 1)
  pixels = np.arange(truth.size).reshape(truth.shape)
  fine = superpixels.score(truth, pixels, 0)
  assert fine.achievable_accuracy == fine.boundary_recall == fine.pieces_per_segment == 1
  assert fine.under_segmentation_error == 0 and fine.boundary_precision < 1
  labels = rng.integers(0, 9, truth.shape)
  renamed = superpixels.score(rng.permutation(70)[truth], rng.permutation(50)[labels], 1.5)
  assert renamed == pytest.approx(superpixels.score(truth, labels, 1.5))


def test_boundaries_are_those_of_the_benchmark_at_the_tolerance():
  truth = np.repeat([[0, 0, 0, 1, 1, 1]], 3, axis=0)
  labels = np.repeat([[0, 1, 1, 1, 1, 2]], 3, axis=0)
  assert superpixels.score(truth, labels, 1)[3:5] == (0, 0)
  assert superpixels.score(truth, labels, 2)[3:5] == (1, 1)
  wide = np.repeat([[0, 1, 2, 2, 2, 3]], 3, axis=0)
  precision, recall, _ = bsds.precision_recall_f(bsds.boundary_counts(truth, wide, 1))
  assert superpixels.score(truth, wide, 1)[3:5] == (recall, precision) == (1, 1 / 3)


def test_pixels_of_no_segment_and_maps_without_labels():
  truth = np.array([[0, 0, 1, -1]])
  assert superpixels.achievable_accuracy(truth, np.array([[3, -1, 3, 3]])) == pytest.approx(1 / 3)
  assert superpixels.under_segmentation_error(truth, np.array([[3, -1, -1, 3]])) == 2 / 3
  nothing = np.full((2, 2), -1)
  assert math.isnan(superpixels.achievable_accuracy(nothing, np.zeros((2, 2), int)))
  assert math.isnan(superpixels.under_segmentation_error(nothing, np.zeros((2, 2), int)))
  scores = superpixels.score(np.zeros((2, 2), int), nothing, 1)
  assert scores[:3] == (0, 0, 1)
  assert math.isnan(scores.compactness) and math.isnan(scores.pieces_per_segment)
