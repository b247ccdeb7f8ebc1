"""Tables of shared pixels: brute force, ids with gaps, missing labels, sums over levels."""

import numpy as np
import pytest

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.scoring import contingency


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_brute_force(seed):
  rng = np.random.default_rng(seed)
  truth, prediction = 3 * rng.integers(-1, 4, (6, 7)), 5 * rng.integers(-1, 6, (6, 7))
  table = contingency.tabulate(truth, prediction)
  ids, regions = sorted(set(truth[truth >= 0])), sorted(set(prediction[prediction >= 0]))
  np.testing.assert_array_equal(table.ids, ids)
  labelled = truth >= 0
  for i, one in enumerate(ids):
    assert table.areas[i] == (truth == one).sum()
    for j, other in enumerate(regions):
      inside, found = truth == one, (prediction == other) & labelled
      assert table.shared[i, j] == (inside & found).sum() and table.sizes[j] == found.sum()
      assert table.ious[i, j] == pytest.approx((inside & found).sum() / (inside | found).sum())


def test_a_region_without_labelled_pixels_keeps_its_column():
  table = contingency.tabulate(np.array([[-1, 0, 0, 7]]), np.array([[0, 1, 2, 2]]))
  np.testing.assert_array_equal(table.shared, [[0, 1, 1], [0, 0, 1]])
  np.testing.assert_array_equal(table.sizes, [0, 1, 2])
  np.testing.assert_array_equal(table.areas, [2, 1])
  nothing = contingency.tabulate(np.full((1, 2), -1), np.array([[0, 1]]))
  assert nothing.shared.shape == (0, 2) and nothing.sizes.tolist() == [0, 0]


def test_levels_are_sums_of_superpixels():
  rng = np.random.default_rng(3)
  truth = rng.integers(-1, 3, (7, 7))
  hierarchy = Hierarchy.from_assignments(
    rng.integers(0, 12, (7, 7)), [rng.integers(0, 5, 12), rng.integers(0, 2, 5)]
  )
  counts = contingency.tabulate(truth, hierarchy.segments).shared
  levels = contingency.per_level(counts, hierarchy)
  assert len(levels) == hierarchy.num_levels == 3
  for level, table in enumerate(levels):
    expected = contingency.tabulate(truth, hierarchy.labels(level)).shared
    np.testing.assert_array_equal(table, expected)
