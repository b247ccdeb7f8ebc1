"""BSDS500: regions and boundaries of hierarchies against several annotators an image.

The scores of `scoring.bsds_regions` and `scoring.bsds_boundaries`, over the thresholds of contour
maps or over discrete levels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from hseg_jax.benchmarks import Curve, Tally, scales
from hseg_jax.errors import UserError
from hseg_jax.scoring import bsds_boundaries, bsds_regions, contour_maps
from hseg_jax.scoring.bsds_files import GroundTruth
from hseg_jax.scoring.predictions import Prediction

PARTS = ("regions", "boundaries")  # of the scores; the second takes its time
NUM_THRESHOLDS = 99  # of contour and boundary maps, those of the published tables

SCORES = {
  "covering_ods": "covering of the annotators' regions, at one scale for all images",
  "covering_ois": "covering, at the best scale of each image",
  "covering_best": "covering, by the best region of any scale",
  "pri_ods": "probabilistic Rand index, at one scale for all images",
  "pri_ois": "probabilistic Rand index, at the best scale of each image",
  "vi_ods": "variation of information in bits, at one scale for all images",
  "vi_ois": "variation of information in bits, at the best scale of each image",
  "boundary_f_ods": "F of boundaries, at one scale for all images",
  "boundary_f_ois": "F of boundaries, at the best scale of each image",
  "boundary_ap": "average precision of boundaries",
  "boundary_recall_ods": "recall at the scale of boundary_f_ods",
  "boundary_precision_ods": "precision at the scale of boundary_f_ods",
  "boundary_recall_ois": "recall at the scales of boundary_f_ois",
  "boundary_precision_ois": "precision at the scales of boundary_f_ois",
  "covering": "covering at this scale",
  "pri": "probabilistic Rand index at this scale",
  "vi": "variation of information at this scale, bits",
  "boundary_f": "F of boundaries at this scale",
  "boundary_recall": "recall of boundaries at this scale",
  "boundary_precision": "precision of boundaries at this scale",
  "num_regions": "regions of an image",
}
LOWER = ("vi_ods", "vi_ois", "vi")
TITLE = "BSDS500"
HEADLINES = ("covering_*", "pri_ods", "vi_ods", "boundary_f_*", "boundary_ap")


def tally(
  prediction: Prediction,
  truth: GroundTruth,
  *,
  scores: Sequence[str] | None = None,
  thresholds: int | None = None,
  regions: Sequence[int] = (),
) -> Tally:
  """Counts of one image at k scales.

  Args:
    prediction: a contour map, a boundary map, a tree or levels.
    truth: what the annotators drew.
    scores: which of `PARTS` to compute. None stands for both, or for those of boundaries where the
      prediction is a boundary map.
    thresholds: how many, evenly spread. None takes `NUM_THRESHOLDS` of contour and boundary maps,
      and the levels of anything else; a number also cuts a tree's contour map,
      `Hierarchy.boundaries`.
    regions: as `scales.select` takes them.

  Returns:
    `threshold`, `regions` or `level`: the scales, `[k]`. Of regions the fields of `RegionCounts`
    and, except for thresholds, `num_regions [k]`; of boundaries those of `BoundaryCurve`.

  Raises:
    UserError: the prediction is not of a kind that the options need.
  """
  strength = _strength(prediction, thresholds, regions)
  scores = scores or PARTS[prediction.soft is not None :]
  if strength is None:
    levels = scales.select(prediction, regions)
    found = scales.label(len(levels), regions)
    found["num_regions"] = np.array([scales.count_regions(labels) for labels in levels])
    if "regions" in scores:
      found |= bsds_regions.count_levels(truth.segmentations, levels)._asdict()
    if "boundaries" in scores:
      found |= bsds_boundaries.count_levels(truth.boundaries, levels)._asdict()
    return found
  values = contour_maps.spread_thresholds(thresholds or NUM_THRESHOLDS)
  found = {"threshold": values}
  if "regions" in scores:
    if prediction.soft is not None:
      raise UserError("A boundary map has no regions; ask for the scores of boundaries only.")
    found |= bsds_regions.count_contours(truth.segmentations, strength, values)._asdict()
  if "boundaries" in scores:
    if prediction.soft is None:
      strength = contour_maps.pixel_strength(strength)
    found |= bsds_boundaries.count_strength(truth.boundaries, strength, values)._asdict()
  return found


def summarize(tallies: Mapping[str, np.ndarray]) -> dict[str, float]:
  """The scores of `SCORES`, and where one scale for all is best (`best_threshold/covering`).

  Levels and cuts have scores of their own (`level_0/covering`).

  Args:
    tallies: of `tally`, stacked, `[n, ...]`.
  """
  unit, values = scales.axis(tallies)
  found, optima, levels = {}, {}, {}
  if "num_regions" in tallies:
    levels["num_regions"] = tallies["num_regions"].mean(axis=0)
  if "covered" in tallies:
    scores = bsds_regions.summarize(_images(bsds_regions.RegionCounts, tallies))
    found["covering_ods"], found["covering_ois"] = scores.covering_ods, scores.covering_ois
    found["covering_best"] = scores.covering_best
    found["pri_ods"], found["pri_ois"] = scores.rand_index_ods, scores.rand_index_ois
    found["vi_ods"], found["vi_ois"] = scores.variation_ods, scores.variation_ois
    optima["covering"] = values[scores.covering.argmax()]
    optima["pri"] = values[scores.rand_index.argmax()]
    optima["vi"] = values[scores.variation.argmin()]
    levels |= {"covering": scores.covering, "pri": scores.rand_index, "vi": scores.variation}
  if "recalled" in tallies:
    scores = bsds_boundaries.summarize(_images(bsds_boundaries.BoundaryCurve, tallies), values)
    found["boundary_f_ods"], found["boundary_f_ois"] = scores.ods.f, scores.ois.f
    found["boundary_ap"] = scores.average_precision
    for name, point in (("ods", scores.ods), ("ois", scores.ois)):
      found[f"boundary_recall_{name}"] = point.recall
      found[f"boundary_precision_{name}"] = point.precision
    optima["boundary_f"] = scores.ods.threshold
    total = np.maximum(scores.recall + scores.precision, 1e-12)
    levels["boundary_f"] = 2 * scores.recall * scores.precision / total
    levels |= {"boundary_recall": scores.recall, "boundary_precision": scores.precision}
  found |= {f"best_{unit}/{name}": value for name, value in optima.items()}
  for i, place in enumerate(scales.named(tallies)):
    found |= {f"{place}/{name}": row[i] for name, row in levels.items()}
  return {name: float(value) for name, value in found.items()}


def curves(tallies: Mapping[str, np.ndarray]) -> dict[str, Curve]:
  """Region scores by scale, and precision by recall."""
  unit, values = scales.axis(tallies)
  found = {}
  if "covered" in tallies:
    scores = bsds_regions.summarize(_images(bsds_regions.RegionCounts, tallies))
    if "num_regions" in tallies:
      unit, values = "regions", tallies["num_regions"].mean(axis=0)
    line = lambda name, row: Curve(unit, name, np.stack([values, row], axis=1))
    found["Covering by scale"] = line("covering", scores.covering)
    found["PRI by scale"] = line("PRI", scores.rand_index)
    found["VI by scale"] = line("VI, bits", scores.variation)
  if "recalled" in tallies:
    scores = bsds_boundaries.summarize(_images(bsds_boundaries.BoundaryCurve, tallies), values)
    points = np.stack([scores.recall, scores.precision], axis=1)
    found["Boundaries"] = Curve("recall", "precision", points)
  return found


def pictures(
  prediction: Prediction,
  truth: GroundTruth,
  *,
  scores: Sequence[str] | None = None,
  thresholds: int | None = None,
  regions: Sequence[int] = (),
) -> dict[str, np.ndarray]:
  """The annotator with the median number of regions, and the scale that covers all of them best.

  A contour map is cut there; a boundary map is shown as it is.
  """
  del scores
  order = np.argsort([scales.count_regions(labels) for labels in truth.segmentations])
  found = {"annotator": truth.segmentations[order[len(order) // 2]]}
  strength = _strength(prediction, thresholds, regions)
  if strength is None:
    levels = scales.select(prediction, regions)
    best = bsds_regions.count_levels(truth.segmentations, levels).covered.argmax()
    return found | {_title(levels[best]): levels[best]}
  if prediction.soft is not None:
    return found | {"boundaries": _drawing(strength)}
  values = contour_maps.spread_thresholds(thresholds or NUM_THRESHOLDS)
  best = bsds_regions.count_contours(truth.segmentations, strength, values).covered.argmax()
  cuts = contour_maps.cut(strength, values)
  labels = cuts.regions[best][cuts.labels]
  return found | {
    _title(labels): labels,
    "contours": _drawing(contour_maps.pixel_strength(strength)),
  }


def shape(truth: GroundTruth) -> tuple[int, int]:
  """Height and width of the image."""
  return truth.segmentations[0].shape


def _strength(
  prediction: Prediction, thresholds: int | None, regions: Sequence[int]
) -> np.ndarray | None:
  """The map that thresholds cut; None where levels are scored."""
  given = prediction.contours if prediction.soft is None else prediction.soft
  if given is not None:
    if regions:
      raise UserError("A contour map is cut at thresholds; numbers of regions want a hierarchy.")
    if given.max() > 1 or given.min() < 0:
      raise UserError(
        f"A map of strengths runs from {given.min():.3g} to {given.max():.3g}, but thresholds are "
        "within 0 and 1."
      )
    return given
  if thresholds is None:
    return None
  if regions:
    raise UserError("Scales are thresholds or numbers of regions; give one of the two.")
  tree = scales.tree(prediction)
  if tree is None:
    raise UserError("Thresholds want contour maps or trees; these levels do not nest.")
  return tree.boundaries().astype(np.float64)


def _drawing(strength: np.ndarray) -> np.ndarray:
  """Dark lines on white, wide enough to be seen when they are shrunk."""
  return 1 - ndimage.maximum_filter(strength, 3)


def _title(labels: np.ndarray) -> str:
  number = scales.count_regions(labels)
  return f"{number} region{'s' if number != 1 else ''}"


def _images(kind, tallies: Mapping[str, np.ndarray]) -> list:
  """The tuple of counts of each image."""
  rows = zip(*(tallies[name] for name in kind._fields), strict=True)
  return [kind(*(row.item() if row.ndim == 0 else row for row in each)) for each in rows]
