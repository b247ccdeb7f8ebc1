"""The scales at which a prediction is scored: trees are cut, other levels chosen by number."""

import numpy as np
import pytest

from hseg_jax.benchmarks import scales
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.scoring.predictions import Prediction

FINE = np.arange(64).reshape(8, 8).astype(np.int32)


def tree(**options):
  return Hierarchy(FINE, (np.arange(64, dtype=np.int32) // 4,), **options)


def numbers(prediction, regions):
  return [scales.count_regions(labels) for labels in scales.select(prediction, regions)]


def test_levels_are_scored_as_they_are():
  prediction = Prediction((FINE, FINE // 9 - 1))
  assert scales.select(prediction)[1] is prediction.levels[1]
  assert numbers(prediction, ()) == [64, 7]
  assert scales.label(2, ())["level"].tolist() == [0, 1]
  assert scales.label(2, (8, 4))["regions"].tolist() == [8, 4]


def test_trees_are_cut():
  hierarchy = tree()
  prediction = Prediction((FINE, FINE // 4), hierarchy)
  assert numbers(prediction, (90, 40, 16)) == [64, 40, 16]
  np.testing.assert_array_equal(scales.select(prediction, (40,))[0], hierarchy.cut(40))


def test_below_the_last_level_only_features_say_how_to_cut():
  assert numbers(Prediction((FINE, FINE // 4), tree()), (14,)) == [16]
  with pytest.raises(UserError, match=r"No level has about 8 regions \(there are 64, 16\)"):
    scales.select(Prediction((FINE, FINE // 4), tree()), (8,))
  features = tuple(
    np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32) for n in (64, 16)
  )
  assert numbers(Prediction((FINE, FINE // 4), tree(features=features)), (8,)) == [8]


def test_other_levels_are_chosen_by_their_number():
  prediction = Prediction((FINE, np.minimum(FINE, 17), np.minimum(FINE, 12)))
  assert numbers(prediction, (60, 16, 13)) == [64, 18, 13]
  flat = Prediction((FINE,), Hierarchy(FINE))
  assert scales.tree(flat) is None
  with pytest.raises(UserError, match="No level has about 32 regions"):
    scales.select(flat, (32,))
  with pytest.raises(UserError, match="has no regions"):
    scales.select(Prediction(soft=np.zeros((2, 2))))
