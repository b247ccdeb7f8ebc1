"""Squares of one size, on which images of any size travel to an accelerator that augments them."""

import weakref
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Int32, UInt8

from hseg_jax.data import transforms


def on_canvas(
  image: transforms.Image, canvas: transforms.Square, *, covered: tuple[int, int] | None = None
) -> tuple[int, int]:
  """Lays an image into the upper left corner of a square, shrunk if it is larger.

  Images of one shape for an accelerator that augments them: what is no longer than the canvas
  keeps its pixels, of the rest crops are cut from a smaller version.

  Args:
    image: RGB of any size.
    canvas: written to; what is beside the image becomes black.
    covered: rows and columns of the canvas beyond which it is black already; None if nowhere.

  Returns:
    Rows and columns of the image on the canvas.
  """
  canvas_size, longest = len(canvas), max(image.shape[:2])
  if longest > canvas_size:
    height, width = (max(round(side * canvas_size / longest), 1) for side in image.shape[:2])
    # Whole blocks, then what is left of the factor: all at once would cost as much as decoding.
    block = longest // canvas_size
    if block > 1:
      rows, columns = (-(-side // block) for side in image.shape[:2])
      image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    place = canvas[:height, :width]
    cv2.resize(image, (width, height), dst=place, interpolation=cv2.INTER_LINEAR)
  else:
    height, width = image.shape[:2]
    canvas[:height, :width] = image
  # No byte is written twice or in vain, for that is what a host's time goes to.
  old_height, old_width = covered or canvas.shape[:2]
  if height < old_height:
    canvas[height:old_height, :old_width] = 0
  if width < old_width:
    canvas[: min(height, old_height), width:old_width] = 0
  return height, width


class _Memory(NamedTuple):
  canvas: UInt8[np.ndarray, "b c c 3"]
  covered: list[tuple[int, int]]  # beyond so many rows and columns a canvas is black


class Canvases:
  """Canvases for one batch after the other, in memory that serves again.

  A batch has tens of megabytes, most of them black: new memory would have to be cleared each time,
  by the system and then for the padding; of what served before only the rest of an image is. There
  is memory for as many batches as were ever held at once.

  Attributes:
    count: images in a batch.
  """

  def __init__(self, count: int, canvas_size: int):
    """Prepares nothing yet.

    Args:
      count: images in a batch.
      canvas_size: side of a canvas in pixels.
    """
    self.count = count
    self._shape = (count, canvas_size, canvas_size, 3)
    self._free: list[_Memory] = []

  def fill(
    self, images: Iterable[UInt8[np.ndarray, "_ _ 3"]]
  ) -> tuple[UInt8[np.ndarray, "b c c 3"], Int32[np.ndarray, "b 2"]]:
    """Lays images into the upper left corners of canvases; see `on_canvas`.

    May be called by several threads.

    Args:
      images: as many RGB images of any size as there are in a batch.

    Returns:
      The canvases, which cannot be written to, and each image's rows and columns. Others are filled
      as long as these, or any view of them, are held.

    Raises:
      ValueError: more images than there are in a batch, or fewer.
    """
    try:
      memory = self._free.pop()
    except IndexError:
      memory = _Memory(np.zeros(self._shape, np.uint8), [(0, 0)] * self.count)
    canvas, covered = memory
    for i, image in zip(range(self.count), images, strict=True):
      covered[i] = on_canvas(image, canvas[i], covered=covered[i])
    loan = _Loan(canvas)
    weakref.finalize(loan, self._free.append, memory).atexit = False
    return np.asarray(loan), np.array(covered, np.int32)


class _Loan:
  """What an array and all views of it hold on to; forgotten when none of them is left."""

  def __init__(self, canvas: UInt8[np.ndarray, "b c c 3"]):
    address, _ = canvas.__array_interface__["data"]
    self.__array_interface__ = {**canvas.__array_interface__, "data": (address, True)}  # read-only
