"""Felzenszwalb and Huttenlocher's graph segmentation at several scales, made to nest.

"Efficient Graph-Based Image Segmentation", IJCV 2004; the implementation is scikit-image's.
"""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32, UInt8
from skimage import segmentation

from hseg_jax.errors import UserError
from hseg_jax.region_graph import dissolve_smallest

_SIGMA = 0.8  # of the smoothing, in pixels; the paper's and scikit-image's
_SCALES = 18  # powers of two that are tried, from 1 on
_TOO_SMALL = 1 / 16  # of the finest level's mean region


def segment(
  image: UInt8[np.ndarray, "h w 3"], num_regions: Sequence[int]
) -> tuple[Int32[np.ndarray, "h w"], ...]:
  """Cuts an image into exactly so many regions, for several numbers; the cuts nest.

  The method has a scale, not a number of regions, and its segmentations at different scales nearly
  nest. So for each number, finest first, the largest power of two is taken as the scale that
  leaves enough regions, found by halving, as though every larger one left fewer. Each region of
  the level before joins the one that has most of its pixels. What is too many then goes as the
  method itself lets small regions go: the smallest joins a neighbour, here the one with the
  longest shared border. What is below a sixteenth of the finest level's mean region is too small
  at any scale (`min_size`).

  Args:
    image: RGB in [0, 255].
    num_regions: how many regions, finest first. A level has fewer where the finest scale has.

  Raises:
    UserError: the numbers rise, or one is below 1.
  """
  if min(num_regions) < 1 or list(num_regions) != sorted(num_regions, reverse=True):
    raise UserError(f"An image cannot be cut into {tuple(num_regions)} regions, finest first.")
  height, width, _ = image.shape
  min_size = int(_TOO_SMALL * height * width / num_regions[0])

  @functools.cache
  def at_scale(power):
    return segmentation.felzenszwalb(image, scale=2.0**power, sigma=_SIGMA, min_size=min_size)

  levels: list[np.ndarray] = []
  for number in num_regions:
    enough, few = 0, _SCALES
    while few - enough > 1:
      middle = (enough + few) // 2
      if _nest(at_scale(middle), levels[-1:]).max() + 1 >= number:
        enough = middle
      else:
        few = middle
    levels.append(dissolve_smallest(_nest(at_scale(enough), levels[-1:]), number))
  return tuple(levels)


def _nest(coarse: Int[np.ndarray, "h w"], below: Sequence[np.ndarray]) -> Int[np.ndarray, "h w"]:
  """A segmentation with its borders moved to those of the level below, if there is one."""
  if not below:
    return coarse
  (fine,) = below
  shape = fine.max() + 1, coarse.max() + 1
  shared = np.bincount((fine * shape[1] + coarse).ravel(), minlength=shape[0] * shape[1])
  return np.unique(shared.reshape(shape).argmax(axis=1), return_inverse=True)[1][fine]
