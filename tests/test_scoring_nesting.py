"""Whether parts nest in wholes: brute force over pixels on tiny maps, trees by hand, bad truths."""

import itertools
import math

import numpy as np
import pytest

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.scoring import nesting

SHAPE = (4, 6)


def random_case(seed):
  """Wholes, parts and a tree that know nothing of each other, with unlabelled pixels."""
  rng = np.random.default_rng(seed)
  wholes, parts = rng.integers(-1, 3, SHAPE), rng.integers(-1, 6, SHAPE)
  counts = (10, 6, 3)
  assignments = [rng.integers(0, k, n) for n, k in zip(counts, (6, 3, 2), strict=True)]
  return wholes, parts, Hierarchy.from_assignments(rng.integers(0, 10, SHAPE), assignments)


def true_tree(parts, wholes):
  """The hierarchy whose levels are pixels, parts and wholes."""
  ranks = [np.unique(each, return_inverse=True)[1].reshape(each.shape) for each in (parts, wholes)]
  return Hierarchy.from_labels([np.arange(parts.size).reshape(parts.shape), *ranks])


def holders(wholes, parts):
  """The whole of every part that has one, by counting."""
  both = (wholes >= 0) & (parts >= 0)
  found = {}
  for part in sorted(set(parts[both]) - {0}):
    counts = [(both & (parts == part) & (wholes == whole)).sum() for whole in range(3)]
    if np.argmax(counts):
      found[part] = int(np.argmax(counts))
  return both, found


@pytest.mark.parametrize("seed", range(4))
def test_matches_equal_brute_force(seed):
  wholes, parts, tree = random_case(seed)
  both, whole_of = holders(wholes, parts)

  def regions():  # coarsest first
    for level in reversed(range(tree.num_levels)):
      for region in range(tree.sizes[level]):
        yield tree.labels(level) == region

  def iou(mask, region):
    return (mask & region & both).sum() / ((mask | region) & both).sum()

  found = nesting.match(wholes, parts, tree)
  best = {}
  for whole in sorted(set(wholes[both]) - {0}):
    best[whole] = max(regions(), key=lambda region: iou(wholes == whole, region))
  np.testing.assert_allclose(found.whole_iou, [iou(wholes == w, best[w]) for w in best])
  for i, (part, whole) in enumerate(whole_of.items()):
    scores = [(iou(parts == part, each), not (each & ~best[whole]).any()) for each in regions()]
    assert found.part_iou[i] == pytest.approx(max(score for score, _ in scores))
    assert found.nested_iou[i] == pytest.approx(max(score for score, inside in scores if inside))
    assert found.is_nested[i] == (found.nested_iou[i] == found.part_iou[i])
  assert len(found.part_iou) == len(found.nested_iou) == len(whole_of)


def meet(tree, *pixels):
  """Mask of the smallest region that holds all the pixels; the whole image if none does."""
  for level in range(tree.num_levels):
    labels = tree.labels(level)
    if len({labels[pixel] for pixel in pixels}) == 1:
      return labels == labels[pixels[0]]
  return np.ones(tree.segments.shape, bool)


@pytest.mark.parametrize("seed", range(3))
def test_purity_equals_brute_force(seed):
  _, parts, tree = random_case(seed)
  labelled, scores = parts >= 0, []
  for part in range(1, 6):
    for a, b in itertools.combinations(zip(*np.nonzero(parts == part), strict=True), 2):
      region = meet(tree, a, b) & labelled
      scores.append((region & (parts == part)).sum() / region.sum())
  assert nesting.dendrogram_purity(parts, tree) == pytest.approx(np.mean(scores))


@pytest.mark.parametrize("seed", [0, 2, 4, 7, 9])
def test_triplets_equal_brute_force(seed):
  wholes, parts, tree = random_case(seed)
  both, whole_of = holders(wholes, parts)
  trimmed = parts.copy()
  for part, whole in whole_of.items():
    trimmed[(parts == part) & (wholes != whole)] = 0
  pixels = list(zip(*np.nonzero(both), strict=True))
  inner, outer = [], []
  for a, b in itertools.combinations(pixels, 2):
    whole = whole_of.get(trimmed[a])
    if whole is None or whole_of.get(trimmed[b]) != whole:
      continue
    region = meet(tree, a, b)
    for c in pixels:
      if trimmed[a] == trimmed[b]:
        if trimmed[c] != trimmed[a] and whole_of.get(trimmed[c]) == whole:
          inner.append(not region[c])
      elif wholes[c] != whole:
        outer.append(not region[c])
  found = nesting.triplets(wholes, parts, tree)
  assert found.parts == pytest.approx(np.mean(inner))
  assert found.wholes == pytest.approx(np.mean(outer))


def test_the_true_tree_is_perfect_and_names_do_not_matter():
  parts = np.kron(np.array([[0, 1, 2], [0, 3, 4]]), np.ones((2, 2), int))
  wholes = np.array([0, 1, 1, 2, 2])[parts]
  tree = true_tree(parts, wholes)
  found = nesting.match(wholes, parts, tree)
  for values in found:
    assert values.all() and (values == 1).all()
  assert nesting.nested_share(found) == nesting.nh_covering(found) == 1
  assert nesting.dendrogram_purity(parts, tree) == nesting.dendrogram_purity(wholes, tree) == 1
  assert nesting.triplets(wholes, parts, tree) == (1, 1)
  rng = np.random.default_rng(0)
  wholes, parts, tree = random_case(7)
  names, order = np.append(0, 1 + rng.permutation(9)), rng.permutation(tree.sizes[0])
  renamed = Hierarchy(order[tree.segments].astype(np.int32), (tree.parents[0][np.argsort(order)],
                                                             *tree.parents[1:]))  # fmt: skip
  name = lambda ids: np.where(ids < 0, ids, names[ids])
  first = nesting.match(wholes, parts, tree)
  second = nesting.match(name(wholes), name(parts), renamed)
  for one, other in zip(first, second, strict=True):
    np.testing.assert_allclose(np.sort(one), np.sort(other))
  assert nesting.triplets(name(wholes), name(parts), renamed) == pytest.approx(
    nesting.triplets(wholes, parts, tree)
  )


def test_a_tree_that_joins_parts_across_wholes():
  wholes, parts = np.array([[1, 1, 2, 2]]), np.array([[1, 2, 3, 4]])
  crossed = Hierarchy.from_labels([np.array([[0, 1, 2, 3]]), np.array([[0, 1, 1, 0]])])
  found = nesting.match(wholes, parts, crossed)
  np.testing.assert_array_equal(found.part_iou, [1, 1, 1, 1])
  # Each whole is found as one of its pixels, with IoU 1/2, and the other part lies outside.
  np.testing.assert_array_equal(found.whole_iou, [1 / 2, 1 / 2])
  np.testing.assert_array_equal(found.nested_iou, [1, 0, 1, 0])
  assert nesting.nested_share(found) == 1 / 2
  assert nesting.nh_covering(found) == pytest.approx((1 / 2 + 1 / 2 + 1 + 1 / 2 + 1 + 1 / 2) / 6)
  assert nesting.nh_covering(found, threshold=0.6) == pytest.approx((1 + 1 / 2 + 1 + 1 / 2) / 6)
  assert nesting.triplets(wholes, parts, crossed).wholes == 0
  nested = Hierarchy.from_labels([np.array([[0, 1, 2, 3]]), np.array([[0, 0, 1, 1]])])
  assert nesting.triplets(wholes, parts, nested).wholes == 1
  assert nesting.nested_share(nesting.match(wholes, parts, nested)) == 1


def test_a_region_that_stays_through_levels_is_one_region():
  wholes, parts = np.array([[1, 1, 0, 0]]), np.array([[1, 1, 0, 0]])
  maps = [np.array([[0, 0, 1, 2]]), np.array([[0, 0, 1, 1]])]
  found = nesting.match(wholes, parts, Hierarchy.from_labels(maps))
  assert found.is_nested.all() and found.nested_iou == [1]


def test_of_equal_regions_a_whole_takes_the_coarsest():
  # A single pixel of the whole and all four pixels have the same IoU, 1/2.
  wholes, parts = np.array([[1, 1, 0, 0]]), np.array([[1, 2, 0, 0]])
  tree = Hierarchy.from_labels([np.array([[0, 1, 2, 3]]), np.array([[0, 0, 0, 0]])])
  found = nesting.match(wholes, parts, tree)
  assert found.whole_iou == [1 / 2] and found.is_nested.all()


def test_one_region_and_truths_without_parts():
  flat = Hierarchy(np.zeros(SHAPE, np.int32))
  wholes, parts, _ = random_case(0)
  assert nesting.triplets(wholes, parts, flat) == (0, 0)
  nothing = np.zeros(SHAPE, int)
  for empty in (nothing, nothing - 1):
    found = nesting.match(empty, empty, flat)
    assert all(len(values) == 0 for values in found)
    assert math.isnan(nesting.nested_share(found)) and math.isnan(nesting.nh_covering(found))
    assert math.isnan(nesting.dendrogram_purity(empty, flat))
    assert all(math.isnan(share) for share in nesting.triplets(empty, empty, flat))
  # A part mostly off every whole belongs to none; a mask of one object will do as wholes.
  whole = np.array([[False, False, True]])
  found = nesting.match(whole, np.array([[1, 1, 1]]), Hierarchy(np.zeros((1, 3), np.int32)))
  assert len(found.part_iou) == 0 and len(found.whole_iou) == 1
