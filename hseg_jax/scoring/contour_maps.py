"""Contour maps at double resolution: a strength for every edge between two pixels, cut at will.

A map `[2h+1, 2w+1]` of an image `[h, w]` holds its pixels at the odd rows and columns, the edges
between two neighbours at the odd sums of row and column, and the corners of pixels at the even rows
and columns. Cut at t, it falls into the pieces that hang together where the strength is at most t.
In an ultrametric map (Arbelaez, Maire, Fowlkes and Malik, PAMI 2011, section 3) no strong edge ends
inside a region, and the cuts are a hierarchy of regions. `Hierarchy.boundaries` gives such a map.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from hseg_jax.errors import UserError


class Cuts(NamedTuple):
  """Nested segmentations of one image.

  Attributes:
    labels: region of every pixel in the finest of them, ids from 0 without gaps.
    regions: for every segmentation, finest first, the region that holds each region of `labels`;
      ids from 0 without gaps.
  """

  labels: Int[np.ndarray, "h w"]
  regions: tuple[Int[np.ndarray, "n"], ...]


def spread_thresholds(count: int) -> Float[np.ndarray, "k"]:
  """The thresholds 1 / (count + 1), ..., count / (count + 1) of the benchmark, last bits included.

  Raises:
    ValueError: `count` is below 1.
  """
  if count < 1:
    raise ValueError(f"{count} thresholds are none")
  first = 1 / (count + 1)
  last = 1 - first
  if count == 1:
    return np.array([last])
  # Strengths that were rounded to such fractions tie with thresholds, so the order of the
  # operations counts: this is the one of the benchmark's own language.
  found = first + np.arange(count) * (last - first) / (count - 1)
  found[-1] = last
  return found


def pixel_strength(contours: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "h w"]:
  """The strength at the lower right corner of every pixel: a boundary map at the image's size.

  Thresholded, it is what `bsds.boundary_pixels` finds in the cut below the threshold.
  """
  _check(contours)
  return contours[2::2, 2::2]


def cut(contours: Float[np.ndarray, "H W"], thresholds: Float[np.ndarray, "k"]) -> Cuts:
  """The pieces of a contour map at each threshold; a strength equal to it is no contour.

  Pieces hang together over corners as over edges, as in the benchmark's own code; in an ultrametric
  map that makes no difference. What stands at the pixels themselves is ignored.

  Args:
    contours: strengths at double resolution, `[2h+1, 2w+1]`.
    thresholds: ascending.

  Raises:
    UserError: the map's size is even, or it holds no pixel.
    ValueError: the thresholds do not ascend.
  """
  _check(contours)
  if (np.diff(thresholds) < 0).any():
    raise ValueError("the thresholds do not ascend")
  opens = np.searchsorted(thresholds, contours)  # the first threshold at which an element is open
  opens[1::2, 1::2] = 0
  labels, first = _pieces(opens, 0), None
  regions = []
  for k in range(len(thresholds)):
    if k == 0:
      first, labels = np.unique(labels, return_index=True, return_inverse=True)[1:]
      regions.append(np.arange(len(first)))
    elif (opens == k).any():
      merged = _pieces(opens, k).ravel()[first]
      regions.append(np.unique(merged, return_inverse=True)[1])
    else:
      regions.append(regions[-1])
  return Cuts(labels.reshape(contours[1::2, 1::2].shape), tuple(regions))


def _pieces(opens: Int[np.ndarray, "H W"], k: int) -> Int[np.ndarray, "h w"]:
  return ndimage.label(opens <= k, np.ones((3, 3)))[0][1::2, 1::2]


def _check(contours: Float[np.ndarray, "H W"]) -> None:
  height, width = contours.shape
  if min(height, width) < 3 or height % 2 == 0 or width % 2 == 0:
    raise UserError(
      f"A contour map of {height}x{width} is not at double resolution; an image of h x w pixels "
      "has one of 2h+1 x 2w+1."
    )
