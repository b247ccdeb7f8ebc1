"""Random crops that an accelerator will resize, drawn as `transforms` draws its own."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from hseg_jax.data import transforms
from hseg_jax.data.transforms import Box

NUMBERS = 2 + 2 * transforms.CROP_TRIES  # that a crop takes
_LOWEST, _HIGHEST = (math.log(ratio) for ratio in transforms.CROP_RATIO)


def boxes(
  numbers: Float64[np.ndarray, "v k"],
  height: int,
  width: int,
  *,
  min_scale: float = transforms.MIN_SCALE,
) -> list[Box]:
  """Crops that `transforms.random_resized_crop` might cut out of an image.

  Without a generator of its own: to make one for each image would take ten times as long. Nor by
  numpy, as this is for between images: with its kernels, which use AVX-512 where they can, a batch
  of photographs took a fifth longer on an Intel Xeon, as decoding itself slowed down.

  Args:
    numbers: random ones in [0, 1), for each crop `NUMBERS` of them.
    height: of the image in pixels.
    width: of the image in pixels.
    min_scale: smallest share of the image's area that a crop may cover.

  Returns:
    Top, left, height and width of each in pixels.
  """
  return [_box(each, height, width, min_scale) for each in numbers.tolist()]


def _box(numbers: Sequence[float], height: int, width: int, min_scale: float) -> Box:
  """A crop: its place first, then for each try a share of the area and a ratio of sides."""
  root = math.sqrt(height * width)
  for i in range(2, NUMBERS, 2):
    side = math.sqrt(min_scale + (1 - min_scale) * numbers[i]) * root  # of a square
    ratio = math.exp(0.5 * (_LOWEST + (_HIGHEST - _LOWEST) * numbers[i + 1]))
    rows, columns = round(side / ratio), round(side * ratio)
    if 0 < rows <= height and 0 < columns <= width:
      top, left = numbers[0] * (height - rows + 1), numbers[1] * (width - columns + 1)
      return int(top), int(left), rows, columns
  return transforms.largest_central_crop((height, width), transforms.CROP_RATIO)
