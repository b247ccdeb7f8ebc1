"""What the benchmarks have in common: perfect predictions, ids that mean nothing, stacks of one."""

import numpy as np
import pytest

from hseg_jax import score
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.scoring.bsds_files import GroundTruth
from hseg_jax.scoring.part_truths import PartTruth
from hseg_jax.scoring.predictions import Prediction
from hseg_jax.scoring.truths import Figure

# Two objects of two parts each before the background; each region is connected.
PARTS = np.kron([[0, 0, 0, 0], [1, 2, 0, 3], [1, 2, 0, 4]], np.ones((5, 5), int))
WHOLES = np.array([0, 1, 1, 2, 2])[PARTS]
TREE = Hierarchy.from_labels([PARTS.astype(np.int32), WHOLES.astype(np.int32)])
OPTIONS = {"semantic": {"class_names": [f"class_{i}" for i in range(5)]}}


def shuffled(seed=0):
  """The tree with other ids."""
  first, second = (np.random.default_rng(seed + i).permutation(n) for i, n in enumerate((5, 3)))
  levels = first[PARTS].astype(np.int32), second[WHOLES].astype(np.int32)
  return Prediction(levels, Hierarchy.from_labels(levels))


def truth_of(name, parts=PARTS):
  wholes = np.array([0, 1, 1, 2, 2])[parts]
  if name in ("bsds", "superpixels"):
    return GroundTruth.from_labels([parts])
  if name == "part-whole":
    return PartTruth((parts, wholes), ("parts", "objects"), ((), ()))
  return parts if name == "semantic" else Figure(wholes > 0, np.ones(wholes.shape, bool))


def prediction_of(name):
  if name == "semantic":
    return Prediction((PARTS,))
  return Prediction((PARTS, WHOLES), TREE)


def stack(name, predictions, truths):
  module = score.BENCHMARKS[name]
  options = OPTIONS.get(name, {})
  rows = [module.tally(*pair, **options) for pair in zip(predictions, truths, strict=True)]
  return score.stack([str(i) for i in range(len(rows))], rows)


PERFECT = {
  "bsds": {
    **{name: 1 for name in ("covering_ods", "covering_ois", "covering_best", "pri_ods")},
    **{"pri_ois": 1, "vi_ods": 0, "vi_ois": 0, "boundary_f_ods": 1, "boundary_f_ois": 1},
    **{"best_level/covering": 0, "level_0/covering": 1, "level_0/vi": 0, "level_0/boundary_f": 1},
    **{"level_0/num_regions": 5, "level_1/num_regions": 3},
  },
  "superpixels": {
    **{"achievable_accuracy": 1, "under_segmentation_error": 0, "boundary_recall": 1},
    **{"boundary_precision": 1, "pieces_per_segment": 1, "num_segments": 5},
  },
  "part-whole": {
    **{"parts/nf_covering": 1, "parts/mean_best_iou": 1, "parts/best_level_iou": 1},
    **{"parts/best_level": 0, "parts/best_cut_iou": 1, "parts/best_cut_regions": 5},
    **{
      "objects/nf_covering": 1,
      "objects/best_level": 1,
      "objects/best_level_iou": 1,
      "objects/best_cut_regions": 3,
    },
    **{"parts/num_objects": 4, "objects/num_objects": 2, "level_1/objects/nf_covering": 1},
    **{"nested_share": 1, "nested_iou": 1, "nh_covering": 1, "purity_parts": 1},
    **{"purity_wholes": 1, "triplets_parts": 1, "triplets_wholes": 1},
  },
  "semantic": {
    **{"miou": 1, "per_image_miou": 1, "pixel_accuracy": 1, "boundary_f": 1},
    **{"per_image_boundary_f": 1, "class_4/iou": 1, "class_4/boundary_f": 1},
  },
  "figure-ground": {
    **{"best_union_jaccard": 1, "level_1/best_union_jaccard": 1, "level_1/num_regions": 3},
    "best_region_jaccard": 2 / 3,
  },
}


@pytest.mark.parametrize("name", PERFECT)
def test_a_prediction_equal_to_the_truth_has_the_best_scores(name):
  tallies = stack(name, [prediction_of(name)] * 2, [truth_of(name)] * 2)
  found = score.BENCHMARKS[name].summarize(tallies)
  assert {key: found[key] for key in PERFECT[name]} == pytest.approx(PERFECT[name])


@pytest.mark.parametrize("name", [name for name in PERFECT if name != "semantic"])
def test_other_ids_change_nothing(name):
  truth = truth_of(name, np.roll(PARTS, (1, 2), (0, 1)))
  before = stack(name, [prediction_of(name)], [truth])
  after = stack(name, [shuffled()], [truth])
  assert before.keys() == after.keys()
  for key, values in before.items():
    if values.dtype.kind != "U":
      np.testing.assert_allclose(values, after[key], rtol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", PERFECT)
def test_pages_get_what_they_need(name):
  module, options = score.BENCHMARKS[name], OPTIONS.get(name, {})
  truths = [truth_of(name, np.roll(PARTS, shift, (0, 1))) for shift in ((0, 0), (0, 3))]
  tallies = stack(name, [prediction_of(name)] * 2, truths)
  for curve in module.curves(tallies).values():
    assert curve.points.ndim == 2 and curve.points.shape[1] == 2 and np.isfinite(curve.points).all()
  pictures = module.pictures(prediction_of(name), truths[0], **options)
  assert len(pictures) >= 2
  assert {picture.shape for picture in pictures.values()} == {module.shape(truths[0])}
  summary = module.summarize(tallies)
  said = {key.rpartition("/")[2] for key in summary if not key.startswith("best_")}
  assert said <= set(module.SCORES)
  assert set(module.LOWER) <= set(module.SCORES)
  # The first score ranks images, and the perfect one is the first of the two.
  first = next(iter(summary))
  ranks = [module.summarize({k: v[i : i + 1] for k, v in tallies.items()})[first] for i in (0, 1)]
  assert ranks[0] > ranks[1] and ranks[0] == 1 and first not in module.LOWER
