"""Random crops that an accelerator will resize, drawn as `transforms` draws its own."""

import math

import numpy as np
from jaxtyping import Float64, Int64

from hseg_jax.data import transforms
from hseg_jax.data.transforms import Box

NUMBERS = 2 + 2 * transforms.CROP_TRIES  # that a crop takes
_LOWEST, _HIGHEST = (math.log(ratio) for ratio in transforms.CROP_RATIO)


class Crops:
  """Crops that `transforms.random_resized_crop` might cut out of images, some of each.

  Of many images at once and without generators: to make one for each would take longer than this.
  What does not depend on an image's size is found before.
  """

  def __init__(
    self, numbers: Float64[np.ndarray, "n v k"], *, min_scale: float = transforms.MIN_SCALE
  ):
    """Finds proportions.

    Args:
      numbers: random ones in [0, 1), `NUMBERS` of them for each crop of each image.
      min_scale: smallest share of an image's area that a crop may cover.
    """
    self._places, shares, ratios = numbers[..., :2], numbers[..., 2::2], numbers[..., 3::2]
    shares = min_scale + (1 - min_scale) * shares
    ratios = np.exp(_LOWEST + (_HIGHEST - _LOWEST) * ratios)
    # Height and width of each try, in square roots of the image's area.
    self._sides = np.sqrt(np.stack((shares / ratios, shares * ratios), axis=3))

  def boxes(self, sizes: Int64[np.ndarray, "n 2"]) -> Int64[np.ndarray, "n v 4"]:
    """Top, left, height and width of all crops in pixels, of images of these heights and widths."""
    count, views, tries, _ = self._sides.shape
    size = sizes[:, None]
    sides = np.rint(self._sides * np.sqrt(sizes.prod(axis=1))[:, None, None, None])
    fits = ((sides > 0) & (sides <= size[:, None])).all(axis=3)
    first = fits.argmax(axis=2).ravel() + tries * np.arange(count * views)
    sides = sides.reshape(-1, 2)[first].reshape(count, views, 2)
    starts = np.floor(self._places * (size - sides + 1))
    boxes = np.concatenate((starts, sides), axis=2).astype(np.int64)
    for image, view in np.argwhere(~fits.any(axis=2)):
      boxes[image, view] = _centre(*sizes[image].tolist())
    return boxes

  def boxes_of(self, image: int, height: int, width: int) -> list[Box]:
    """Those of a single image of this size, equal to what `boxes` finds.

    Not by numpy, as it is for between images: with its kernels, which use AVX-512 where they can, a
    batch of photographs took a fifth longer on an Intel Xeon, as decoding itself slowed down.
    """
    root, boxes = math.sqrt(height * width), []
    for place, tries in zip(self._places[image].tolist(), self._sides[image].tolist(), strict=True):
      for sides in tries:
        rows, columns = (round(side * root) for side in sides)
        if 0 < rows <= height and 0 < columns <= width:
          top, left = place[0] * (height - rows + 1), place[1] * (width - columns + 1)
          boxes.append((int(top), int(left), rows, columns))
          break
      else:
        boxes.append(_centre(height, width))
    return boxes


def _centre(height: int, width: int) -> Box:
  return transforms.largest_central_crop((height, width), transforms.CROP_RATIO)
