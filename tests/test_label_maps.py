"""Label maps: ids without gaps."""

import numpy as np
import pytest

from hseg_jax import label_maps


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, bool])
@pytest.mark.parametrize("shape", [(5, 7), (40,), (0, 3)])
def test_ranks_are_those_of_sorted_ids(dtype, shape):
  labels = np.random.default_rng(0).integers(-128, 128, shape).astype(dtype)
  ids, ranks = label_maps.compact(labels)
  expected, inverse = np.unique(labels, return_inverse=True)
  np.testing.assert_array_equal(ids, expected)
  np.testing.assert_array_equal(ranks, inverse.reshape(shape))
  assert ranks.dtype == np.int32


def test_ids_may_lie_far_apart():
  labels = np.array([[2**62, -(2**62)], [7, 2**62]])
  ids, ranks = label_maps.compact(labels)
  np.testing.assert_array_equal(ids, [-(2**62), 7, 2**62])
  np.testing.assert_array_equal(ranks, [[2, 0], [1, 2]])
