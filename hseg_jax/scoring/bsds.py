"""Regions and boundaries against human segmentations, after the Berkeley benchmark (BSDS500).

Arbelaez, Maire, Fowlkes and Malik, "Contour Detection and Hierarchical Image Segmentation",
PAMI 2011. Throughout, a negative id in the truth marks an unlabelled pixel, which is left out of
every count; a negative id in a prediction marks a pixel of no region, which matches nothing.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage

from hseg_jax.scoring import contingency


def covering(truth: Integer[np.ndarray, "h w"], prediction: Integer[np.ndarray, "h w"]) -> float:
  """Covering of the truth by a prediction, in [0, 1]: sum_R |R| max_R' IoU(R, R') / sum_R |R|.

  R runs over the truth's regions and R' over the predicted ones (equation 8 of the paper above).
  NaN if no pixel of the truth is labelled.
  """
  table = contingency.tabulate(truth, prediction)
  if not len(table.ids):
    return float("nan")
  return float(table.areas @ table.ious.max(axis=1, initial=0) / table.areas.sum())


class BoundaryCounts(NamedTuple):
  """Boundary pixels of one image or, summed field by field, of many.

  Attributes:
    recalled: boundary pixels of the truth with a predicted one within the tolerance.
    truth: boundary pixels of the truth.
    confirmed: predicted boundary pixels with one of the truth's within the tolerance.
    predicted: predicted boundary pixels.
  """

  recalled: int
  truth: int
  confirmed: int
  predicted: int


def boundary_pixels(labels: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
  """The pixels whose lower right corner touches an edge between two regions.

  These are the thin boundary maps of the benchmark. An edge beside a negative id is none.
  """
  padded = np.pad(labels, ((0, 1), (0, 1)), mode="edge")
  corner, right = padded[:-1, :-1], padded[:-1, 1:]
  below, opposite = padded[1:, :-1], padded[1:, 1:]
  edges = (corner, right), (corner, below), (right, opposite), (below, opposite)
  return np.any([(a != b) & (a >= 0) & (b >= 0) for a, b in edges], axis=0)


def boundary_counts(
  truth: Integer[np.ndarray, "h w"], prediction: Integer[np.ndarray, "h w"], tolerance: float | int
) -> BoundaryCounts:
  """Counts the boundary pixels of either side that lie within `tolerance` pixels of the other's.

  Distances are Euclidean. One pixel may confirm many, unlike the one-to-one matching of the
  benchmark's own code, so thick agreement is not punished and scores are a little higher.
  """
  real = boundary_pixels(truth)
  predicted = boundary_pixels(prediction) & (truth >= 0)
  return BoundaryCounts(
    recalled=int((real & _within(predicted, tolerance)).sum()),
    truth=int(real.sum()),
    confirmed=int((predicted & _within(real, tolerance)).sum()),
    predicted=int(predicted.sum()),
  )


def precision_recall_f(counts: BoundaryCounts) -> tuple[float, float, float]:
  """Precision = confirmed / predicted, recall = recalled / truth, F = 2 P R / (P + R), in [0, 1].

  A share of nothing counts as 1: who predicts no boundary makes no error, but recalls nothing.
  """
  precision = counts.confirmed / counts.predicted if counts.predicted else 1.0
  recall = counts.recalled / counts.truth if counts.truth else 1.0
  total = precision + recall
  return precision, recall, 2 * precision * recall / total if total else 0.0


def _within(pixels: Bool[np.ndarray, "h w"], tolerance: float | int) -> Bool[np.ndarray, "h w"]:
  """Where the nearest of `pixels` is at most `tolerance` away."""
  if not pixels.any():
    return pixels
  return ndimage.distance_transform_edt(~pixels) <= tolerance
