"""The baseline that never looks at the image: rectangles, halved again and again."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, UInt8

from hseg_jax.errors import UserError


def segment(
  image: UInt8[np.ndarray, "h w 3"], num_regions: Sequence[int]
) -> tuple[Int32[np.ndarray, "h w"], ...]:
  """Cuts an image into exactly so many rectangles, for several numbers at once; the cuts nest.

  The largest rectangle, the oldest among equals, is halved across its longer side until there are
  enough: powers of two give equal rectangles.

  Args:
    image: only its size is used.
    num_regions: how many rectangles, for each label map wanted, in any order.

  Raises:
    UserError: an image has fewer pixels than regions, or a number is below 1.
  """
  height, width, _ = image.shape
  if not 1 <= min(num_regions) <= max(num_regions) <= height * width:
    raise UserError(
      f"An image of {height}x{width} pixels cannot be cut into {num_regions} regions; ask for "
      f"numbers from 1 to {height * width}."
    )
  cells = [(0, 0, height, width)]
  maps = {}
  while True:
    if len(cells) in num_regions:
      maps[len(cells)] = _paint(cells, height, width)
    if len(cells) >= max(num_regions):
      return tuple(maps[number] for number in num_regions)
    top, left, h, w = cells.pop(max(range(len(cells)), key=lambda i: cells[i][2] * cells[i][3]))
    if w >= h:
      cells += [(top, left, h, w // 2), (top, left + w // 2, h, w - w // 2)]
    else:
      cells += [(top, left, h // 2, w), (top + h // 2, left, h - h // 2, w)]


def _paint(
  cells: Sequence[tuple[int, int, int, int]], height: int, width: int
) -> Int32[np.ndarray, "h w"]:
  labels = np.zeros((height, width), np.int32)
  for region, (top, left, h, w) in enumerate(sorted(cells)):
    labels[top : top + h, left : left + w] = region
  return labels
