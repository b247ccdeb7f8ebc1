"""Squares of one size, on which parts of images travel to an accelerator that augments them."""

import math
import weakref
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from hseg_jax.data import crops, stream, transforms
from hseg_jax.data.sources import Examples
from hseg_jax.data.transforms import Box


class Memory:
  """Canvases for one batch after the other, in memory that serves again.

  A batch has tens of megabytes, which the system would have to clear each time. There is memory for
  as many batches as were ever held at once.
  """

  def __init__(self, count: int, canvas_size: int):
    """Prepares nothing yet.

    Args:
      count: images in a batch.
      canvas_size: side of a canvas in pixels.
    """
    self._shape = (count, canvas_size, canvas_size, 3)
    self._free: list[UInt8[np.ndarray, "b c c 3"]] = []

  def take(self) -> UInt8[np.ndarray, "b c c 3"]:
    """Canvases to write to, with whatever was on them before. May be called by several threads."""
    try:
      return self._free.pop()
    except IndexError:
      return np.zeros(self._shape, np.uint8)

  def lend(self, canvas: UInt8[np.ndarray, "b c c 3"]) -> UInt8[np.ndarray, "b c c 3"]:
    """The same, which cannot be written to any more, to be taken again when it is not held any
    more, nor any view of it."""
    loan = _Loan(canvas)
    weakref.finalize(loan, self._free.append, canvas).atexit = False
    return np.asarray(loan)


class _Loan:
  """What an array and all views of it hold on to; forgotten when none of them is left."""

  def __init__(self, canvas: UInt8[np.ndarray, "b c c 3"]):
    address, _ = canvas.__array_interface__["data"]
    self.__array_interface__ = {**canvas.__array_interface__, "data": (address, True)}  # read-only


def decode_batch(
  number: int,
  *,
  source: Examples,
  seed: int,
  memory: Memory,
  views: int,
  min_scale: float,
  image_size: int,
) -> dict[str, np.ndarray]:
  """Decodes a host's share of a batch and draws the crops of its images.

  Each image goes straight into its place, or, if that is too small, the parts that will be seen.

  Args:
    number: of the share among all hosts' in the order of the stream.
    source: examples with images of any size.
    seed: as `pipeline.train_batches` takes it.
    memory: of such shares.
    views: crops of an image.
    min_scale: smallest share of an image's area that a crop may cover.
    image_size: side of the squares to which crops will be resized.

  Returns:
    `canvas`, `boxes`, `seed` and `label`, see `pipeline.train_batches`.
  """
  canvas = memory.take()
  count, canvas_size = canvas.shape[:2]
  start = number * count
  words = stream.words(seed, start, count, 1 + views * crops.NUMBERS)
  numbers = ((words[:, 1:] >> 11) * 2.0**-53).reshape(count, views, crops.NUMBERS)

  def draw(index: int, height: int, width: int) -> list[Box]:
    drawn = numbers[index].tolist()
    return [crops.random_box(height, width, view, min_scale=min_scale) for view in drawn]

  labels, sizes, boxes = [], [], {}
  for index, place in enumerate(stream.order(len(source), seed, range(start, start + count))):
    example = source[place]
    image = example["image"]
    height, width = image.shape[:2]
    if max(height, width) <= canvas_size:
      canvas[index, :height, :width] = image
    else:
      parts = draw(index, height, width)
      boxes[index] = on_canvas(image, parts, canvas[index], image_size=image_size)
    sizes.append((height, width))
    labels.append(example["label"])
  # The others in one go: between images that are decoded, each would take three times as long.
  boxes = [boxes.get(index) or draw(index, *size) for index, size in enumerate(sizes)]
  return {
    "canvas": memory.lend(canvas),
    "boxes": np.array(boxes, np.int32),
    "seed": np.ascontiguousarray(words[:, :1]).view(np.uint32),
    "label": np.array(labels, np.int32),
  }


def on_canvas(
  image: transforms.Image, boxes: Sequence[Box], canvas: transforms.Square, *, image_size: int
) -> list[Box]:
  """Lays what is wanted of an image into the upper left corner of a square.

  It keeps its pixels if it fits. Otherwise it is shrunk: by whole blocks of pixels, which is
  cheapest, where every box keeps as many as it will be resized to, and else no more than it must.

  Args:
    image: RGB of any size.
    boxes: the parts that are wanted; what encloses them all is laid.
    canvas: written to; what is beside the image stays.
    image_size: side of the squares to which the boxes will be resized.

  Returns:
    The boxes on the canvas.
  """
  top, left = (min(box[i] for box in boxes) for i in (0, 1))
  bottom, right = (max(box[i] + box[i + 2] for box in boxes) for i in (0, 1))
  image = image[top:bottom, left:right]
  boxes = [(y - top, x - left, rows, columns) for y, x, rows, columns in boxes]
  height, width = image.shape[:2]
  if max(height, width) <= len(canvas):
    canvas[:height, :width] = image
    return boxes
  smallest = min(rows * columns for _, _, rows, columns in boxes)
  size = _shrink(image, canvas, most=math.isqrt(smallest) // image_size)
  return [_scaled(box, (height, width), size) for box in boxes]


def _shrink(image, canvas, *, most: int) -> tuple[int, int]:
  """Lays a smaller version of an image; returns its size. `most` pixels a side may become one."""
  size, sides = len(canvas), image.shape[:2]
  longest = max(sides)
  block = max(longest // size, min(-(-longest // size), most))
  if block > 1:
    # Divisible sides have a kernel of their own, ten times as fast.
    height, width = (max(side // block, 1) for side in sides)
    image = image[: height * block, : width * block]
    place = canvas[:height, :width] if max(height, width) <= size else None
    image = cv2.resize(image, (width, height), dst=place, interpolation=cv2.INTER_AREA)
    if place is not None:
      return height, width
  height, width = (max(round(side * size / longest), 1) for side in sides)
  cv2.resize(image, (width, height), dst=canvas[:height, :width], interpolation=cv2.INTER_LINEAR)
  return height, width


def _scaled(box: Box, old: tuple[int, int], new: tuple[int, int]) -> Box:
  """Where the part of an image is that was resized."""
  starts, sides = [], []
  for start, side, before, now in zip(box[:2], box[2:], old, new, strict=True):
    starts.append(min(round(start * now / before), now - 1))
    sides.append(min(max(round(side * now / before), 1), now - starts[-1]))
  return (*starts, *sides)
