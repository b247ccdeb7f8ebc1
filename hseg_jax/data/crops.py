"""Random crops that an accelerator will resize, drawn as `transforms` draws its own."""

import math

import numpy as np
from jaxtyping import Float64, Int64

from hseg_jax.data import transforms

NUMBERS = 2 + 2 * transforms.CROP_TRIES  # that a crop takes
_LOWEST, _HIGHEST = (math.log(ratio) for ratio in transforms.CROP_RATIO)


def random_boxes(
  sizes: Int64[np.ndarray, "n 2"],
  numbers: Float64[np.ndarray, "n v k"],
  *,
  min_scale: float = transforms.MIN_SCALE,
) -> Int64[np.ndarray, "n v 4"]:
  """Crops that `transforms.random_resized_crop` might cut out of images.

  Of many images at once and without generators: to make one for each would take longer than this.

  Args:
    sizes: height and width of the images in pixels.
    numbers: random ones in [0, 1), `NUMBERS` of them for each crop of each image.
    min_scale: smallest share of an image's area that a crop may cover.

  Returns:
    Top, left, height and width of the crops in pixels.
  """
  height, width = sizes[:, 0, None, None], sizes[:, 1, None, None]
  down, right, share, ratio = (numbers[..., i::2] for i in range(4))
  area = height * width * (min_scale + (1 - min_scale) * share)
  ratio = np.exp(_LOWEST + (_HIGHEST - _LOWEST) * ratio)
  rows, columns = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
  fits = (0 < rows) & (rows <= height) & (0 < columns) & (columns <= width)
  first = fits.argmax(axis=2, keepdims=True)
  rows, columns, fits = (np.take_along_axis(of, first, axis=2) for of in (rows, columns, fits))
  top = np.floor(down[..., :1] * (height - rows + 1))
  left = np.floor(right[..., :1] * (width - columns + 1))
  boxes = np.concatenate((top, left, rows, columns), axis=2).astype(np.int64)
  for image, view in np.argwhere(~fits[..., 0]):
    size = tuple(sizes[image].tolist())
    boxes[image, view] = transforms.largest_central_crop(size, transforms.CROP_RATIO)
  return boxes
