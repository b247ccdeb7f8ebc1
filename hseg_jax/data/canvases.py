"""Squares of one size, on which images of any size travel to an accelerator that augments them."""

import weakref
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from hseg_jax.data import transforms


class _Memory(NamedTuple):
  canvas: UInt8[np.ndarray, "b c c 3"]
  covered: list[tuple[int, int]]  # beyond so many rows and columns a canvas is black


class Canvases:
  """Canvases for one batch after the other, in memory that serves again.

  A batch has tens of megabytes, most of them black: new memory would have to be cleared each time,
  by the system and then for the padding; of what served before only the rest of an image is. There
  is memory for as many batches as were ever held at once.
  """

  def __init__(self, count: int, canvas_size: int):
    """Prepares nothing yet.

    Args:
      count: images in a batch.
      canvas_size: side of a canvas in pixels.
    """
    self._shape = (count, canvas_size, canvas_size, 3)
    self._free: list[_Memory] = []

  def fill(
    self, images: Iterable[UInt8[np.ndarray, "_ _ 3"]]
  ) -> tuple[UInt8[np.ndarray, "b c c 3"], Int32[np.ndarray, "b 2"]]:
    """Lays images into the upper left corners of canvases; see `transforms.on_canvas`.

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
      memory = _Memory(np.zeros(self._shape, np.uint8), [(0, 0)] * self._shape[0])
    canvas, covered = memory
    for i, image in zip(range(len(canvas)), images, strict=True):
      covered[i] = transforms.on_canvas(image, canvas[i], covered=covered[i])
    loan = _Loan(canvas)
    weakref.finalize(loan, self._free.append, memory).atexit = False
    return np.asarray(loan), np.array(covered, np.int32)


class _Loan:
  """What an array and all views of it hold on to; forgotten when none of them is left."""

  def __init__(self, canvas: UInt8[np.ndarray, "b c c 3"]):
    address, _ = canvas.__array_interface__["data"]
    self.__array_interface__ = {**canvas.__array_interface__, "data": (address, True)}  # read-only
