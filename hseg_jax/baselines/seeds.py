"""SEEDS superpixels alone, in numbers to order; `superpixels.seeds` has the algorithm."""

import numpy as np
from jaxtyping import Int32, UInt8

from hseg_jax.region_graph import dissolve_smallest
from hseg_jax.superpixels import seeds

FEWEST = seeds.MIN_SEGMENTS


def segment(
  image: UInt8[np.ndarray, "h w 3"], num_regions: int, *, bins: int = 5, iterations: int = 15
) -> Int32[np.ndarray, "h w"]:
  """Cuts an image into exactly so many regions; cuts of different numbers do not nest.

  SEEDS starts from a grid, which has not every number of cells: the least request that makes
  enough is made, and the smallest region joins the neighbour with the longest shared border until
  there are not too many. (Superpixels that lose all their pixels can leave fewer.)

  Args:
    image: RGB in [0, 255].
    num_regions: the number of regions wanted, `FEWEST` or more.
    bins: histogram bins per colour channel.
    iterations: sweeps over the pixels of the boundaries.

  Raises:
    UserError: the number is below `FEWEST`, or the image too small for it.
  """
  height, width, _ = image.shape
  request = num_regions
  while seeds.count(height, width, request) < num_regions:
    request += 1
  labels = seeds.segment(image, request, bins=bins, iterations=iterations)
  labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
  return dissolve_smallest(labels, num_regions)
