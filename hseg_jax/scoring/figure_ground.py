"""The figure against the ground: masks and soft maps of one image against a mask of its figure.

A truth is a mask, True = figure; `valid`, where given, is True at the pixels that count, so that
the void rims of VOC are left out (`labels != 255`). Masks stored as grey values, as those of ECSSD
(0 and 255), must be made boolean first. A soft map is real-valued, larger = more of the figure:
attention of the class token, or saliency.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from hseg_jax.errors import UserError
from hseg_jax.label_maps import compact

Mask = Bool[np.ndarray, "h w"]


class Curve(NamedTuple):
  """Precision and recall of one image's soft map at every threshold k / 255, k = 0 .. 255.

  Attributes:
    precision: share of the pixels at or above the threshold that are figure, `[256]`; 1 where
      there are none.
    recall: share of the figure that is at or above the threshold, `[256]`; 1 without a figure.
  """

  precision: Float[np.ndarray, "256"]
  recall: Float[np.ndarray, "256"]


def jaccard(truth: Mask, prediction: Mask, valid: Mask | None = None) -> float:
  """Intersection over union of two masks, in [0, 1]; 1 if both are empty."""
  hits, missed, wrong = _count(truth, prediction, valid)
  union = hits + missed + wrong
  return hits / union if union else 1.0


def f_beta(
  truth: Mask, prediction: Mask, valid: Mask | None = None, *, beta_squared: float | int = 0.3
) -> float:
  """F = (1 + b^2) P R / (b^2 P + R) of a mask, in [0, 1]; 1 if both masks are empty.

  With b^2 = 0.3 precision weighs more than recall, as saliency is scored since Achanta, Hemami,
  Estrada and Susstrunk, "Frequency-tuned Salient Region Detection", CVPR 2009.
  """
  hits, missed, wrong = _count(truth, prediction, valid)
  total = (1 + beta_squared) * hits + beta_squared * missed + wrong
  return (1 + beta_squared) * hits / total if total else 1.0


def mean_absolute_error(
  truth: Mask,
  prediction: Float[np.ndarray, "h w"] | Mask,
  valid: Mask | None = None,
) -> float:
  """Mean of |prediction - truth| over pixels, in [0, 1]; 0 is best. NaN without valid pixels.

  Raises:
    UserError: the prediction is not in [0, 1]; `rescale` brings it there.
  """
  _check_range(prediction)
  errors = np.abs(prediction.astype(np.float64) - truth)
  errors = errors.ravel() if valid is None else errors[valid]
  return float(errors.mean()) if errors.size else float("nan")


def rescale(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
  """Brings a soft map to [0, 1], smallest value to 0, largest to 1; a constant one becomes 0.

  Raises:
    UserError: a value is not finite.
  """
  _check_finite(values)
  low, high = values.min(), values.max()
  return (values - low) / (high - low) if high > low else np.zeros_like(values)


def keep_mass(values: Float[np.ndarray, "h w"], share: float | int) -> Mask:
  """The fewest strongest pixels that hold at least `share` of a map's mass.

  The thresholding of attention in DINO (Caron et al., ICCV 2021, there with 0.6). Pixels of equal
  value go together, so that regions of constant attention are never cut; their mass is that of
  their pixels. A map without mass gives an empty mask.

  Raises:
    UserError: a value is negative or not finite, or the share is not in (0, 1].
  """
  _check_finite(values)
  if values.min() < 0:
    raise UserError(
      f"A map has a negative value, {values.min():.3g}, which is no mass; rescale it."
    )
  if not 0 < share <= 1:
    raise UserError(f"The share of the mass to keep is {share}; give one in (0, 1], such as 0.6.")
  levels, index = np.unique(values, return_inverse=True)
  mass = np.bincount(index.ravel(), weights=values.ravel().astype(np.float64))
  above = np.cumsum(mass[::-1])[::-1]  # mass at or above each value
  # Sums in floating point: what equals the share but for rounding has reached it.
  reached = above >= share * above[0] * (1 - 1e-12)
  return (values >= levels[reached][-1]) & (values > 0)


def adaptive_threshold(values: Float[np.ndarray, "h w"]) -> Mask:
  """Pixels at or above twice the mean, at most the largest value (Achanta et al., CVPR 2009).

  Raises:
    UserError: a value is negative or not finite.
  """
  _check_finite(values)
  if values.min() < 0:
    raise UserError(f"A map has a negative value, {values.min():.3g}; rescale it.")
  return (values >= min(2 * values.mean(), values.max())) & (values > 0)


def threshold_curve(
  truth: Mask, values: Float[np.ndarray, "h w"], valid: Mask | None = None
) -> Curve:
  """Precision and recall at 256 thresholds, as saliency maps of 8 bits are scored.

  Raises:
    UserError: a value is not in [0, 1].
  """
  _check_range(values)
  valid = np.ones(truth.shape, bool) if valid is None else valid
  # The highest threshold that each pixel reaches; k / 255 reaches its own, in float32 as well.
  bins = (values[valid].astype(np.float64) * 255).astype(np.int64)
  figure = truth[valid]
  kept = np.cumsum(np.bincount(bins, minlength=256)[::-1])[::-1]
  hits = np.cumsum(np.bincount(bins[figure], minlength=256)[::-1])[::-1]
  total = figure.sum()
  return Curve(
    precision=np.where(kept > 0, hits / np.maximum(kept, 1), 1.0),
    recall=hits / total if total else np.ones(256),
  )


def max_f_beta(curves: Sequence[Curve], *, beta_squared: float | int = 0.3) -> tuple[float, float]:
  """Largest F of the mean precision and recall of many images, and the threshold of it.

  The "maximal F-measure" of saliency benchmarks (Borji, Cheng, Jiang and Li, TIP 2015). Of equal
  ones the lowest threshold. NaN without images.
  """
  if not curves:
    return float("nan"), float("nan")
  precision = np.mean([curve.precision for curve in curves], axis=0)
  recall = np.mean([curve.recall for curve in curves], axis=0)
  total = np.maximum(beta_squared * precision + recall, 1e-12)  # both may be zero
  scores = (1 + beta_squared) * precision * recall / total
  best = int(scores.argmax())
  return float(scores[best]), best / 255


def average_regions(
  values: Float[np.ndarray, "h w"], labels: Integer[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
  """Gives every pixel the mean of its region, so that a threshold follows the regions' borders.

  Pixels with negative ids, of no region, keep their own value.
  """
  inside = labels >= 0
  _, index = compact(labels[inside])
  sums = np.bincount(index, weights=values[inside].astype(np.float64))
  averaged = values.astype(np.float64)
  averaged[inside] = (sums / np.bincount(index))[index]
  return averaged


def best_union(truth: Mask, labels: Integer[np.ndarray, "h w"], valid: Mask | None = None) -> Mask:
  """The union of regions with the largest Jaccard index: the best figure that they allow.

  An upper bound for any choice of regions without the truth. Exact: in the best union every
  region has a larger share of figure than any outside it, so the regions are added by that share
  until the index falls. Empty if the image shows no figure; negative ids are no region.
  """
  counted = labels >= 0 if valid is None else (labels >= 0) & valid
  regions, index = compact(labels[counted])
  sizes = np.bincount(index)
  hits = np.bincount(index, weights=truth[counted])
  order = np.argsort(-hits / sizes, kind="stable")
  total = truth.sum() if valid is None else (truth & valid).sum()
  union = total + np.cumsum((sizes - hits)[order])
  scores = np.cumsum(hits[order]) / np.maximum(union, 1)
  if not scores.any():
    return np.zeros(truth.shape, bool)
  return np.isin(labels, regions[order[: scores.argmax() + 1]])


def _count(truth: Mask, prediction: Mask, valid: Mask | None) -> tuple[int, int, int]:
  """Pixels that are figure in both masks, in the truth alone, in the prediction alone."""
  if valid is not None:
    truth, prediction = truth & valid, prediction & valid
  hits = int((truth & prediction).sum())
  return hits, int(truth.sum()) - hits, int(prediction.sum()) - hits


def _check_finite(values: Float[np.ndarray, "h w"] | Mask) -> None:
  if not np.isfinite(values).all():
    raise UserError("A map has values that are not finite; replace them.")


def _check_range(values: Float[np.ndarray, "h w"] | Mask) -> None:
  _check_finite(values)
  if values.min() < 0 or values.max() > 1:
    raise UserError(
      f"A map runs from {values.min():.3g} to {values.max():.3g}, not within 0 and 1; rescale it."
    )
