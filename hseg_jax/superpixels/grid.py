"""Superpixels that ignore the image: a regular grid, the baseline for every other method."""

import numpy as np
from jaxtyping import Int32, UInt8

from hseg_jax.errors import UserError


def shape(h: int, w: int, num_segments: int) -> tuple[int, int]:
  """Rows and columns of the grid: cells as square as can be, at most `num_segments` of them.

  Raises:
    UserError: if the image is empty or `num_segments` is below one.
  """
  if h < 1 or w < 1 or num_segments < 1:
    raise UserError(
      f"Cannot cut an image of {h}x{w} pixels into {num_segments} grid cells; sizes and "
      f"superpixels.num_segments must be positive."
    )
  rows = min(max(int((num_segments * h / w) ** 0.5), 1), h, num_segments)
  columns = min(num_segments // rows, w)
  return rows, columns


def count(h: int, w: int, num_segments: int) -> int:
  """The exact number of cells that `segment` makes of an image of `h` by `w` pixels."""
  rows, columns = shape(h, w, num_segments)
  return rows * columns


def segment(image: UInt8[np.ndarray, "h w 3"], num_segments: int) -> Int32[np.ndarray, "h w"]:
  """Cuts an image into a regular grid of rectangles, whatever it shows.

  Args:
    image: only its size is used.
    num_segments: the most cells there may be; `count` tells how many there will be.

  Returns:
    Ids 0 to `count(h, w, num_segments) - 1` in raster order; sides differ by at most one pixel.

  Raises:
    UserError: if the image is empty or `num_segments` is below one.
  """
  h, w, _ = image.shape
  rows, columns = shape(h, w, num_segments)
  row = np.arange(h) * rows // h
  column = np.arange(w) * columns // w
  return (row[:, None] * columns + column[None, :]).astype(np.int32)
