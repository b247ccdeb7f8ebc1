"""Nested normalised cuts: the best ones of tiny graphs, what they cost, and how they get pixels."""

import itertools

import numpy as np
import pytest

from hseg_jax.baselines import kmeans, spectral
from tests.test_baselines import assert_contiguous, assert_nested


def ncut(affinity, labels):
  """The sum over clusters of what is cut from the rest over all that its members hold."""
  total = 0
  for label in np.unique(labels):
    inside = labels == label
    total += affinity[inside][:, ~inside].sum() / affinity[inside].sum()
  return total


def groups(rng, sizes, spread):
  """Vectors around as many directions, and whose each is."""
  owners = np.repeat(np.arange(len(sizes)), sizes)
  return np.eye(5)[owners] + spread * rng.random((len(owners), 5)), owners


def as_tokens(vectors, rows, columns):
  return vectors.reshape(rows, columns, -1).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_two_regions_have_the_least_normalised_cut_of_all(seed):
  rng = np.random.default_rng(seed)
  vectors, _ = groups(rng, (3, 5), 0.8)
  order = rng.permutation(8)
  (labels,) = spectral.segment(as_tokens(vectors[order], 2, 4), (2, 4), (2,), seed=0)
  unit = vectors[order] / np.linalg.norm(vectors[order], axis=1, keepdims=True)
  affinity = np.maximum(unit @ unit.T, 1e-4)
  best = min(
    ncut(affinity, np.array((0, *rest)))
    for rest in itertools.product((0, 1), repeat=7)
    if any(rest)
  )
  assert ncut(affinity, labels.ravel()) == pytest.approx(best)


@pytest.mark.parametrize("seed", [38, 42, 48])
def test_three_regions_of_nodes_of_any_weight_have_the_least_cut(seed):
  """In the first two the cut is not the best unless nodes weigh what their degree is."""
  rng = np.random.default_rng(seed)
  points = rng.random((8, 5))
  weights = 0.2 + 3 * rng.random(8)
  distances = np.square(points[:, None] - points).sum(axis=-1)
  affinity = np.exp(-4 * distances) * weights[:, None] * weights
  splits = (np.array(split) for split in itertools.product(range(3), repeat=8))
  best = min(ncut(affinity, split) for split in splits if len(set(split)) == 3)
  assert ncut(affinity, spectral._cut(affinity, 3, 0)) == pytest.approx(best)


def test_levels_nest_and_a_coarse_one_cuts_the_graph_of_the_fine_regions_best():
  rng = np.random.default_rng(0)
  vectors, owners = groups(rng, (6, 4, 8, 6), 0.2)
  vectors[owners < 2, 4] += 0.5  # the first two groups are alike
  maps = spectral.segment(as_tokens(vectors, 4, 6), (16, 24), (4, 2, 1), seed=0)
  for labels, count in zip(maps, (4, 2, 1), strict=True):
    assert labels.shape == (16, 24) and labels.dtype == np.int32
    assert_contiguous(labels, count)
  assert_nested(maps)
  centres = np.s_[2::4, 2::4]
  pairs = {tuple(pair) for pair in np.stack([owners, maps[0][centres].ravel()], axis=1).tolist()}
  assert len(pairs) == 4
  unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  affinity = np.maximum(unit @ unit.T, 1e-4)
  fine = maps[0][centres].ravel()
  costs = {
    split: ncut(affinity, np.array((0, *split))[fine])
    for split in itertools.product((0, 1), repeat=3)
    if any(split)
  }
  assert ncut(affinity, maps[1][centres].ravel()) == pytest.approx(min(costs.values()))


def test_there_are_no_more_regions_than_tokens_and_the_same_seed_gives_the_same():
  tokens = np.random.default_rng(2).normal(size=(3, 4, 6)).astype(np.float32)
  first, again = (spectral.segment(tokens, (12, 16), (40, 5), seed=1) for _ in range(2))
  assert_contiguous(first[0], 12)
  np.testing.assert_array_equal(first[0], np.kron(np.arange(12).reshape(3, 4), np.ones((4, 4))))
  np.testing.assert_array_equal(first[1], again[1])


def test_a_region_that_no_pixel_takes_drops_out():
  labels = np.zeros((4, 4), int)
  labels[1, 1] = 1
  enlarged = spectral._enlarge(labels, (40, 40))
  assert enlarged[15, 15] == 1 and enlarged.mean() < 0.1
  tokens = np.random.default_rng(3).normal(size=(6, 6, 40)).astype(np.float32)
  for labels in spectral.segment(tokens, (4, 4), (30, 20), seed=0):
    assert_contiguous(labels, labels.max() + 1)


def test_pixels_take_the_label_with_the_most_weight():
  labels = np.random.default_rng(4).integers(0, 5, (3, 4))
  vectors = np.eye(5, dtype=np.float32)[labels]
  votes = kmeans.upsample(vectors, (13, 18)).reshape(13, 18, 5)
  np.testing.assert_array_equal(spectral._enlarge(labels, (13, 18)), votes.argmax(axis=2))
