"""Superpixels merged by colour: Ward's method on the graph of regions that touch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32, UInt8
from skimage import color

from hseg_jax.region_graph import border_lengths, merge, merge_order


def segment(
  image: UInt8[np.ndarray, "h w 3"],
  segments: Int[np.ndarray, "h w"],
  num_regions: Sequence[int],
) -> tuple[Int32[np.ndarray, "h w"], ...]:
  """Merges the superpixels of an image until so many regions are left; the cuts nest.

  Of all regions that touch, the pair merges whose union raises the squared error of CIELAB colour
  around the regions' means least, each region weighing as many pixels as it has.

  Args:
    image: RGB in [0, 255].
    segments: superpixel of every pixel, any ids.
    num_regions: how many regions, for each label map wanted, in any order. Numbers above the
      superpixels' give the superpixels themselves.
  """
  ids, labels = np.unique(segments, return_inverse=True)
  labels = labels.reshape(segments.shape).astype(np.int32)
  flat, lab = labels.ravel(), color.rgb2lab(image).reshape(-1, 3)
  areas = np.bincount(flat)
  sums = np.stack([np.bincount(flat, channel) for channel in lab.T], axis=1)
  order = merge_order(sums / areas[:, None], areas, border_lengths(labels, len(ids)) > 0)
  return tuple(merge(labels, order[: max(len(ids) - number, 0)]) for number in num_regions)
