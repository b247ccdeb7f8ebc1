"""Superpixels: how well one fine segmentation keeps to borders that people drew.

The scores of `scoring.superpixels`. Where an image has several annotators, each score is the mean
over them; those who labelled nothing have no say.
"""

from collections.abc import Mapping

import numpy as np

from hseg_jax.benchmarks import Curve, Tally, mean, scales
from hseg_jax.errors import UserError
from hseg_jax.scoring import superpixels
from hseg_jax.scoring.bsds_files import GroundTruth
from hseg_jax.scoring.predictions import Prediction

# Share of the diagonal, that of Stutz et al., CVIU 2018: the eight neighbours in BSDS500.
TOLERANCE = 0.0025

SCORES = {
  "achievable_accuracy": "share of pixels right if every segment takes its commonest region (ASA)",
  "under_segmentation_error": "how much of the segments leaks over borders (Neubert and Protzel)",
  "boundary_recall": "share of the annotators' boundary that segments follow",
  "boundary_precision": "share of the segments' boundary that annotators drew",
  "compactness": "compactness of the segments, 0.785 for squares",
  "pieces_per_segment": "connected pieces of a segment",
  "num_segments": "segments of an image",
}
LOWER = ("under_segmentation_error", "pieces_per_segment", "num_segments")
TITLE = "Superpixels"
HEADLINES = tuple(SCORES)


def tally(
  prediction: Prediction, truth: GroundTruth, *, level: int = 0, tolerance: float = TOLERANCE
) -> Tally:
  """All scores of one image, scalars.

  Args:
    prediction: label maps.
    truth: what the annotators drew.
    level: which of the maps, finest first; negative ones count from the coarsest.
    tolerance: how far apart boundaries may lie and still agree, as a share of the diagonal.

  Raises:
    UserError: there is no such level.
  """
  labels = _level(prediction, level)
  pixels = tolerance * float(np.hypot(*labels.shape))
  found = [
    superpixels.score(each, labels, pixels) for each in truth.segmentations if each.max() >= 0
  ]
  return {
    name: np.array(mean(np.array([getattr(each, name) for each in found], float)))
    for name in SCORES
  }


def summarize(tallies: Mapping[str, np.ndarray]) -> dict[str, float]:
  """Means over images.

  Args:
    tallies: of `tally`, stacked, `[n]`.
  """
  return {name: mean(tallies[name]) for name in SCORES}


def curves(tallies: Mapping[str, np.ndarray]) -> dict[str, Curve]:
  """How the images spread: accuracy and recall, from the worst image to the best."""
  share = (np.arange(len(tallies["num_segments"])) + 0.5) / len(tallies["num_segments"])
  line = lambda name: np.stack([share, np.sort(tallies[name])], axis=1)
  return {
    "Achievable accuracy of the images": Curve(
      "share of images", "accuracy", line("achievable_accuracy")
    ),
    "Boundary recall of the images": Curve("share of images", "recall", line("boundary_recall")),
  }


def pictures(
  prediction: Prediction, truth: GroundTruth, *, level: int = 0, tolerance: float = TOLERANCE
) -> dict[str, np.ndarray]:
  """An annotator, and the segments."""
  del tolerance
  return {"annotator": truth.segmentations[0], "segments": _level(prediction, level)}


def shape(truth: GroundTruth) -> tuple[int, int]:
  """Height and width of the image."""
  return truth.segmentations[0].shape


def _level(prediction: Prediction, level: int) -> np.ndarray:
  levels = scales.select(prediction)
  if not -len(levels) <= level < len(levels):
    raise UserError(f"There is no level {level}; the prediction has {len(levels)}, from 0 on.")
  return levels[level]
