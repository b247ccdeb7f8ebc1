"""The regular grid: as many cells as asked for at most, all of them nearly equal."""

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.superpixels import grid

SIZES = [
  (64, 64, 64),
  (224, 224, 196),
  (7, 5, 100),
  (1, 1, 1),
  (3, 200, 64),
  (200, 3, 10),
  (9, 9, 2),
]


@pytest.mark.parametrize(("h", "w", "n"), SIZES)
def test_ids_are_contiguous_and_counted(h, w, n):
  labels = grid.segment(np.zeros((h, w, 3), np.uint8), n)
  assert labels.dtype == np.int32 and labels.shape == (h, w)
  total = grid.count(h, w, n)
  np.testing.assert_array_equal(np.unique(labels), np.arange(total))
  assert total <= n


def test_cells_are_equal_squares_where_they_can_be():
  labels = grid.segment(np.zeros((64, 64, 3), np.uint8), 64)
  np.testing.assert_array_equal(labels[::8, ::8], np.arange(64).reshape(8, 8))
  assert (np.bincount(labels.ravel()) == 64).all()


def test_sides_differ_by_one_pixel_at_most():
  labels = grid.segment(np.zeros((50, 70, 3), np.uint8), 24)
  rows, columns = grid.shape(50, 70, 24)
  assert (rows, columns) == (4, 6)
  for line, number in ((labels[:, 0] // columns, rows), (labels[0], columns)):
    lengths = np.bincount(line, minlength=number)
    assert lengths.max() - lengths.min() <= 1


@pytest.mark.parametrize(("h", "w", "n"), [(0, 5, 4), (5, 0, 4), (5, 5, 0)])
def test_impossible_grids_are_refused(h, w, n):
  with pytest.raises(UserError, match="num_segments"):
    grid.count(h, w, n)
