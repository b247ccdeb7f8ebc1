"""SLIC superpixels: k-means of colour and position, with every region made connected.

Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", PAMI 2012; the
implementation is scikit-image's.
"""

import numpy as np
from jaxtyping import Int32, UInt8
from skimage import segmentation

from hseg_jax.region_graph import dissolve_smallest


def segment(
  image: UInt8[np.ndarray, "h w 3"], num_regions: int, *, compactness: float = 10.0
) -> Int32[np.ndarray, "h w"]:
  """Cuts an image into exactly so many regions; cuts of different numbers do not nest.

  SLIC starts from a regular grid, which has not every number of cells, and then dissolves crumbs:
  asked for 8 regions it makes 6 of a small image. So the request grows until there are enough, and
  the smallest region joins the neighbour with the longest shared border until there are not too
  many. (Only an image of fewer pixels, or of one colour, ends with fewer.)

  Args:
    image: RGB in [0, 255].
    num_regions: the number of regions wanted.
    compactness: weight of position against CIELAB colour; 10 is scikit-image's default.
  """
  request = num_regions
  while True:
    labels = segmentation.slic(
      image, n_segments=request, compactness=compactness, start_label=0, channel_axis=-1
    )
    if labels.max() + 1 >= num_regions or request > image.shape[0] * image.shape[1]:
      break
    request += max(request // 8, 1)
  return dissolve_smallest(labels, num_regions)
