"""The BSDS500 benchmark: which scales of what are scored, and that sums are the core's own."""

import numpy as np
import pytest

from hseg_jax.benchmarks import bsds
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.score import stack
from hseg_jax.scoring import bsds_boundaries, bsds_regions
from hseg_jax.scoring.bsds_files import GroundTruth
from hseg_jax.scoring.predictions import Prediction

FINE = np.kron(np.arange(6).reshape(2, 3), np.ones((5, 5), int)).astype(np.int32)
COARSE = np.array([0, 0, 1, 0, 0, 1], np.int32)[FINE]
TREE = Hierarchy.from_labels([FINE, COARSE])
LEVELS = Prediction((FINE, COARSE), TREE)


def truth(seed):
  labels = np.kron(np.random.default_rng(seed).integers(0, 3, (2, 3)), np.ones((5, 5), int))
  return GroundTruth.from_labels([labels, np.roll(labels, 2, 1)])


def test_scores_are_those_of_the_core():
  truths = [
    *map(truth, range(2)),
    GroundTruth.from_labels([FINE]),
    GroundTruth.from_labels([COARSE]),
  ]
  found = bsds.summarize(stack("abcd", [bsds.tally(LEVELS, each) for each in truths]))
  regions = bsds_regions.summarize(
    [bsds_regions.count_levels(each.segmentations, LEVELS.levels) for each in truths]
  )
  assert found["covering_ods"] == regions.covering_ods < regions.covering_ois
  assert (found["covering_ois"], found["covering_best"]) == (
    regions.covering_ois, regions.covering_best)  # fmt: skip
  assert (found["pri_ois"], found["vi_ois"]) == (
    regions.rand_index_ois, regions.variation_ois)  # fmt: skip
  assert found["level_1/vi"] == regions.variation[1] and found["vi_ods"] == regions.variation_ods
  assert found["best_level/vi"] == regions.variation.argmin()
  curves = [bsds_boundaries.count_levels(each.boundaries, LEVELS.levels) for each in truths]
  boundaries = bsds_boundaries.summarize(curves, np.arange(2.0))
  assert found["boundary_f_ods"] == boundaries.ods.f
  assert found["boundary_recall_ois"] == boundaries.ois.recall
  assert found["boundary_ap"] == boundaries.average_precision
  assert found["level_1/boundary_precision"] == boundaries.precision[1]
  assert found["level_1/num_regions"] == 2


def test_thresholds_cut_the_contours_of_trees():
  levels, cuts = bsds.tally(LEVELS, truth(0)), bsds.tally(LEVELS, truth(0), thresholds=3)
  contours = bsds.tally(
    Prediction(contours=TREE.boundaries().astype(float)), truth(0), thresholds=3
  )
  assert cuts["threshold"].tolist() == [0.25, 0.5, 0.75]
  for key in ("covered", "variation", "recalled", "predicted"):
    np.testing.assert_array_equal(cuts[key], contours[key])
  # Half of the two levels separate the fine regions: at 0.25 all are there, from 0.5 on the coarse.
  np.testing.assert_allclose(cuts["covered"], levels["covered"][[0, 1, 1]])
  assert len(bsds.tally(Prediction(contours=np.zeros((21, 31))), truth(0))["covered"]) == 99


def test_only_what_is_asked_for_is_counted():
  assert "recalled" not in bsds.tally(LEVELS, truth(0), scores=("regions",))
  assert "covered" not in bsds.tally(LEVELS, truth(0), scores=("boundaries",))
  soft = Prediction(soft=bsds_boundaries.thin_boundaries(FINE).astype(float))
  found = bsds.tally(soft, truth(0))
  assert "covered" not in found and found["predicted"].shape == (99,)
  expected = bsds.tally(LEVELS, truth(0))["recalled"][0]
  assert (found["recalled"] == expected).all()
  assert not any("covering" in name for name in bsds.summarize(stack("a", [found])))


@pytest.mark.parametrize(
  ("prediction", "options", "said"),
  [
    (Prediction(soft=np.zeros((10, 15))), {"scores": ("regions",)}, "has no regions"),
    (Prediction(soft=np.full((10, 15), 2.0)), {}, "runs from 2 to 2"),
    (Prediction(soft=np.zeros((10, 15))), {"regions": (4,)}, "want a hierarchy"),
    (LEVELS, {"regions": (4,), "thresholds": 3}, "give one of the two"),
    (Prediction((FINE, FINE // 4)), {"thresholds": 3}, "these levels do not nest"),
  ],
)
def test_what_does_not_fit_is_refused(prediction, options, said):
  with pytest.raises(UserError, match=said):
    bsds.tally(prediction, truth(0), **options)
