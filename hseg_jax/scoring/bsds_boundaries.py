"""Boundary scores of the Berkeley benchmark (BSDS500): precision, recall, F and average precision.

Martin, Fowlkes and Malik, "Learning to Detect Natural Image Boundaries Using Local Brightness,
Color, and Texture Cues", PAMI 2004, section 3; Arbelaez, Maire, Fowlkes and Malik, PAMI 2011. Every
boundary pixel of the truth may confirm one predicted pixel within the tolerance, and no more. An
image is scored at several thresholds, or at the levels of a hierarchy. "ODS" takes one of them for
the whole data set, "OIS" the best of each image. Where an annotator left pixels unlabelled there is
no boundary to confirm, and what is predicted there is wrong to that annotator.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import sparse
from scipy.sparse import csgraph
from skimage import morphology

from hseg_jax.errors import UserError
from hseg_jax.scoring import bsds

TOLERANCE = 0.0075  # of the diagonal, about 4.3 pixels
UNMATCHED = 100  # what a pixel left without a partner costs, in tolerances


class BoundaryCurve(NamedTuple):
  """Boundary pixels of one image or, summed field by field, of many, at each of k thresholds.

  Attributes:
    recalled: boundary pixels of the annotators with a partner among the predicted ones, `[k]`.
    truth: boundary pixels of all annotators, `[k]`.
    confirmed: predicted boundary pixels with a partner among those of at least one annotator.
    predicted: predicted boundary pixels, `[k]`.
  """

  recalled: Int[np.ndarray, "k"]
  truth: Int[np.ndarray, "k"]
  confirmed: Int[np.ndarray, "k"]
  predicted: Int[np.ndarray, "k"]


class Point(NamedTuple):
  """A point of a precision-recall curve, all but the threshold in [0, 1]."""

  threshold: float
  recall: float
  precision: float
  f: float


class BoundaryScores(NamedTuple):
  """Boundary scores of a data set.

  Attributes:
    recall, precision: at each threshold, `[k]`, from the pixels of all images together.
    ods: the point of that curve with the largest F, found between the thresholds too.
    ois: recall, precision and F with the best threshold of each image; its `threshold` is NaN.
    average_precision: area under the curve, taken at recalls 0, 0.01, ..., 1; recalls that no
      threshold reaches count as 0.
  """

  recall: Float[np.ndarray, "k"]
  precision: Float[np.ndarray, "k"]
  ods: Point
  ois: Point
  average_precision: float


def thin(pixels: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
  """Thins lines to one pixel and keeps them connected (Guo and Hall, CACM 1989)."""
  return morphology.thin(pixels)


def thin_boundaries(labels: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
  """The boundaries of a segmentation as the benchmark draws those of its annotators."""
  return thin(bsds.boundary_pixels(labels))


def match(
  first: Bool[np.ndarray, "h w"], second: Bool[np.ndarray, "h w"], tolerance: float | int
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
  """Pairs the pixels of two maps one to one, and returns those of each that found a partner.

  Partners lie at most `tolerance` pixels apart (Euclidean). Of all such pairings it is the one of
  least cost: the sum of the distances, and `UNMATCHED` tolerances, or pixels where the tolerance is
  below one, for each pixel of the smaller map that stays alone. So there are as many pairs as can
  be, and they are short.
  """
  if first.sum() > second.sum():  # every row below needs a partner, so rows are the fewer
    return match(second, first, tolerance)[::-1]
  reach = math.floor(tolerance)
  y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
  distance = np.hypot(y, x)
  inside = distance <= tolerance
  padded = np.pad(second, reach)
  columns = np.full(padded.size, -1, np.int32)
  columns[padded.ravel()] = np.arange(second.sum())
  starts = np.flatnonzero(np.pad(first, reach))
  neighbours = columns[starts[:, None] + (y * padded.shape[1] + x)[inside]]
  near = neighbours >= 0
  reachable = near.any(axis=1)
  rows, offsets = np.nonzero(near[reachable])
  partners, places = np.unique(neighbours[reachable][rows, offsets], return_inverse=True)
  # One more column for each row stands for no partner. Costs are one too high, for a sparse matrix
  # might take zero for no entry; every row pays exactly one of them.
  spare = np.arange(reachable.sum())
  alone = UNMATCHED * max(tolerance, 1)
  costs = np.append(distance[inside][offsets], np.full(len(spare), alone)) + 1
  columns = np.append(places, len(partners) + spare)
  entries = np.append(rows, spare), columns
  table = sparse.csr_array((costs, entries), (len(spare), len(partners) + len(spare)))
  chosen = csgraph.min_weight_full_bipartite_matching(table)[1]
  paired = chosen < len(partners)
  return (
    _select(first, np.flatnonzero(reachable)[paired]),
    _select(second, partners[chosen[paired]]),
  )


def _select(
  pixels: Bool[np.ndarray, "h w"], numbers: Int[np.ndarray, "n"]
) -> Bool[np.ndarray, "h w"]:
  """Of the set pixels, numbered row by row, those with these numbers."""
  found = np.zeros(pixels.size, bool)
  found[np.flatnonzero(pixels)[numbers]] = True
  return found.reshape(pixels.shape)


def count_maps(
  truths: Sequence[Bool[np.ndarray, "h w"]],
  maps: Iterable[Bool[np.ndarray, "H W"]],
  tolerance: float = TOLERANCE,
) -> BoundaryCurve:
  """Counts the matches of boundary maps of one image, which are thinned first.

  Args:
    truths: boundaries that each annotator drew, thin.
    maps: predicted boundaries at each threshold or level.
    tolerance: how far partners may lie apart, as a share of the image's diagonal.

  Raises:
    UserError: no annotator, no map, or sizes that differ.
  """
  if not len(truths):
    raise UserError("There is no annotator to score against.")
  counts, last = [], None
  for pixels in maps:
    if {truth.shape for truth in truths} != {pixels.shape}:
      sizes = " and ".join(
        f"{h}x{w}" for h, w in sorted({pixels.shape, *(t.shape for t in truths)})
      )
      raise UserError(f"Truth and prediction differ in size: {sizes}.")
    if last is None or (pixels != last).any():  # neighbouring thresholds often agree
      counts.append(_count(truths, thin(pixels), tolerance * math.hypot(*pixels.shape)))
    else:
      counts.append(counts[-1])
    last = pixels
  if not counts:
    raise UserError("There is no boundary map to score.")
  return BoundaryCurve(*np.array(counts).T)


def _count(
  truths: Sequence[Bool[np.ndarray, "h w"]], pixels: Bool[np.ndarray, "h w"], tolerance: float
) -> tuple[int, int, int, int]:
  confirmed = np.zeros_like(pixels)
  recalled = 0
  for truth in truths:
    found, partners = match(pixels, truth, tolerance)
    confirmed |= found
    recalled += int(partners.sum())
  total = sum(int(truth.sum()) for truth in truths)
  return recalled, total, int(confirmed.sum()), int(pixels.sum())


def count_strength(
  truths: Sequence[Bool[np.ndarray, "h w"]],
  strength: Float[np.ndarray, "H W"],
  thresholds: Float[np.ndarray, "k"],
  tolerance: float = TOLERANCE,
) -> BoundaryCurve:
  """Counts the matches of a boundary map at each threshold; a strength equal to it is boundary.

  Errors as of `count_maps`.
  """
  return count_maps(truths, (strength >= threshold for threshold in thresholds), tolerance)


def count_levels(
  truths: Sequence[Bool[np.ndarray, "h w"]],
  levels: Sequence[Integer[np.ndarray, "H W"]],
  tolerance: float = TOLERANCE,
) -> BoundaryCurve:
  """Counts the matches of the boundaries of segmentations. Errors as of `count_maps`."""
  return count_maps(truths, map(bsds.boundary_pixels, levels), tolerance)


def best_point(curve: BoundaryCurve, thresholds: Float[np.ndarray, "k"]) -> Point:
  """The point with the largest F on a curve, straight between thresholds; the first of equals.

  Args:
    curve: of one image or of many.
    thresholds: of each point, or the numbers of the levels.
  """
  recall, precision = _shares(curve)
  weights = np.linspace(0, 1, 100)

  def between(values):
    return np.append(values[0], np.outer(values[:-1], 1 - weights) + np.outer(values[1:], weights))

  points = [between(values) for values in (thresholds, recall, precision)]
  f = _f(points[1], points[2])
  best = int(f.argmax())
  return Point(*(float(values[best]) for values in (*points, f)))


def summarize(
  curves: Sequence[BoundaryCurve], thresholds: Float[np.ndarray, "k"]
) -> BoundaryScores:
  """Scores of a data set from the curves of its images.

  Args:
    curves: one an image.
    thresholds: the same for all images; for levels of a hierarchy their numbers.

  Raises:
    UserError: there is no image, or an image has another number of levels than thresholds.
  """
  if not len(curves):
    raise UserError("There is no image to score.")
  sizes = {len(curve.truth) for curve in curves}
  if sizes != {len(thresholds)}:
    raise UserError(
      f"The images have {sorted(sizes)} levels; all must have the same number, {len(thresholds)}."
    )
  total = BoundaryCurve(*map(sum, zip(*curves, strict=True)))
  recall, precision = _shares(total)
  picked = []
  for curve in curves:
    best = _f(*_shares(curve)).argmax()
    picked.append([[values[best]] for values in curve])
  return BoundaryScores(
    recall=recall,
    precision=precision,
    ods=best_point(total, thresholds),
    ois=best_point(BoundaryCurve(*np.sum(picked, axis=0)), np.array([np.nan])),
    average_precision=_area(recall, precision),
  )


def _shares(curve: BoundaryCurve) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
  """Recall and precision; a share of nothing counts as 0."""
  return (
    curve.recalled / np.maximum(curve.truth, 1),
    curve.confirmed / np.maximum(curve.predicted, 1),
  )


def _f(recall: Float[np.ndarray, "k"], precision: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k"]:
  total = recall + precision
  return 2 * recall * precision / np.where(total == 0, 1, total)


def _area(recall: Float[np.ndarray, "k"], precision: Float[np.ndarray, "k"]) -> float:
  reached, first = np.unique(recall, return_index=True)
  if len(reached) < 2:
    return 0.0
  samples = np.interp(np.arange(101) / 100, reached, precision[first], left=0, right=0)
  return float(samples.sum() / 100)
