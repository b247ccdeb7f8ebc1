"""What stands at a position of the stream does not depend on what was asked for before."""

import numpy as np
import pytest

from hseg_jax.data import stream


@pytest.mark.parametrize("each", [1, 4, 6])
def test_words_belong_to_positions(each):
  whole = stream.words(7, [0], 20, each)
  assert whole.shape == (20, each) and len(np.unique(whole)) == 20 * each
  np.testing.assert_array_equal(
    stream.words(7, [3, 6, 17], 3, each), whole[[3, 4, 5, 6, 7, 8, 17, 18, 19]]
  )
  assert (stream.words(8, [0], 20, each) != whole).all()


def test_words_stay_what_they_were():
  """So that a run of an earlier version goes on as it began."""
  (found,) = stream.words(7, [5], 1, 6)
  assert (int(found[0]), int(found[5])) == (4756569514645990974, 14260028008899091574)
