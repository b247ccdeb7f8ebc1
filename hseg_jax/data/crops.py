"""Random crops that an accelerator will resize, drawn as `transforms` draws its own."""

import math
from collections.abc import Iterable

from hseg_jax.data import transforms
from hseg_jax.data.transforms import Box

NUMBERS = 2 + 2 * transforms.CROP_TRIES  # that a crop takes
_LOWEST, _HIGHEST = (math.log(ratio) for ratio in transforms.CROP_RATIO)


def random_box(
  height: int, width: int, numbers: Iterable[float], *, min_scale: float = transforms.MIN_SCALE
) -> Box:
  """A crop that `transforms.random_resized_crop` might cut out of an image.

  Without a generator: to make one would take several times as long as all of this.

  Args:
    height: of the image in pixels.
    width: of the image in pixels.
    numbers: random ones in [0, 1), `NUMBERS` of them.
    min_scale: smallest share of the image's area that the crop may cover.

  Returns:
    Top, left, height and width in pixels.
  """
  numbers = iter(numbers)
  down, right = next(numbers), next(numbers)
  for share, aspect in zip(numbers, numbers, strict=True):
    area = height * width * (min_scale + (1 - min_scale) * share)
    aspect = math.exp(_LOWEST + (_HIGHEST - _LOWEST) * aspect)
    rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
    if 0 < rows <= height and 0 < columns <= width:
      return int(down * (height - rows + 1)), int(right * (width - columns + 1)), rows, columns
  return transforms.largest_central_crop((height, width), transforms.CROP_RATIO)
