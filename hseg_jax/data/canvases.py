"""Squares of one size, on which images travel to an accelerator that augments them."""

import functools
import math
import weakref
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from hseg_jax.data import crops, sources, stream, transforms
from hseg_jax.data.transforms import Box

# The side that a crop keeps where whole blocks become pixels, as a share of what it is resized to.
# With all of it more would be shrunk to fit, for a fifth of the time of decoding: of photographs of
# 550x820, MoCo's crops for 224 come out 1.0 levels from the host's on average, and would .7 then.
_ENOUGH = 0.75

Place = tuple[float | int, ...]  # a box, or one that begins and ends within pixels


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


def decode_batches(
  shares: Sequence[int],
  *,
  source: sources.Examples,
  seed: int,
  memory: Memory,
  views: int,
  min_scale: float,
  image_size: int,
) -> list[dict[str, np.ndarray]]:
  """Decodes a host's shares of some batches and draws the crops of their images.

  Each image goes straight into its place, or, if that is too small, what encloses its crops. Where
  this does not fit either, the decoder makes the image smaller if it can, or it is shrunk.

  Args:
    shares: how many shares, of this host and others, go before each in the stream of examples.
    source: examples with images of any size.
    seed: as `pipeline.train_batches` takes it.
    memory: of such shares.
    views: crops of an image.
    min_scale: smallest share of an image's area that a crop may cover.
    image_size: side in pixels of the squares to which crops will be resized.

  Returns:
    `canvas`, `boxes`, `seed` and `label` of each; see `pipeline.train_batches`.
  """
  canvases = [memory.take() for _ in shares]
  count = len(canvases[0])
  starts = [share * count for share in shares]
  each = 1 + views * crops.NUMBERS  # words that an image takes
  words = stream.words(seed, starts, count, each)
  numbers = ((words[:, 1:] >> 11) * 2.0**-53).reshape(len(words), views, crops.NUMBERS)
  positions = [start + i for start in starts for i in range(count)]
  squares = (square for canvas in canvases for square in canvas)
  order = stream.order(len(source), seed, positions)
  boxes, labels = [], []
  for place, square, of_image in zip(order, squares, numbers, strict=True):
    draw = functools.partial(crops.boxes, of_image, min_scale=min_scale)
    laid, label = _decode_onto(square, source, place, draw, image_size)
    boxes.append(laid)
    labels.append(label)
  seeds = np.ascontiguousarray(words[:, :1]).view(np.uint32)
  found = {"boxes": np.array(boxes, np.float32), "seed": seeds, "label": np.array(labels, np.int32)}
  return [
    {"canvas": memory.lend(canvas), **{key: of[i * count :][:count] for key, of in found.items()}}
    for i, canvas in enumerate(canvases)
  ]


def _decode_onto(
  canvas: transforms.Square,
  source: sources.Examples,
  index: int,
  draw: Callable[[int, int], list[Box]],
  image_size: int,
) -> tuple[Sequence[Place], int]:
  """Lays the image of an example, or what encloses its crops; returns these, and its label.

  What it was decoded to is forgotten at once: the next image takes its memory, which is still at
  hand.
  """
  size = len(canvas)

  def reduction(height: int, width: int) -> int:
    return 1 if max(height, width) <= size else _reduction(draw(height, width), size, image_size)

  example = sources.smaller(source, index, reduction)
  image = example["image"]
  height, width = whole = example.get("size", image.shape[:2])
  boxes = draw(height, width)
  if max(whole) <= size:
    canvas[:height, :width] = image
  else:
    boxes = on_canvas(image, _on_smaller(image, boxes, whole), canvas, image_size=image_size)
  return boxes, example["label"]


def on_canvas(
  image: transforms.Image, crops: Sequence[Place], canvas: transforms.Square, *, image_size: int
) -> list[Place]:
  """Lays what encloses the crops of an image into the upper left corner of a square.

  It keeps its pixels if it fits. Otherwise it is shrunk: by whole blocks of pixels, which is
  cheapest, as long as every crop keeps enough of them, or else just to fit.

  Args:
    image: RGB of any size.
    crops: top, left, height and width in its pixels or fractions of them.
    canvas: written to; what is beside the image stays.
    image_size: side in pixels of the squares to which the crops will be resized.

  Returns:
    The same on the canvas.
  """
  top, left, bottom, right = _hull(crops)
  image = image[top:bottom, left:right]
  crops = [(y - top, x - left, rows, columns) for y, x, rows, columns in crops]
  height, width = image.shape[:2]
  if max(height, width) <= len(canvas):
    canvas[:height, :width] = image
    return crops
  used, size = _shrink(image, canvas, most=_most(crops, image_size))
  return [_scaled(box, used, size) for box in crops]


def _reduction(crops: Sequence[Box], canvas_size: int, image_size: int) -> int:
  """How many times smaller an image is decoded: so that its crops fit, if they may be so small."""
  top, left, bottom, right = _hull(crops)
  most, factor = _most(crops, image_size), 1
  sides = lambda factor: (
    -(-bottom // factor) - top // factor,
    -(-right // factor) - left // factor,
  )
  while max(sides(factor)) > canvas_size and 2 * factor <= most:
    factor *= 2
  return factor


def _on_smaller(image, crops: Sequence[Box], size: tuple[int, int]) -> Sequence[Place]:
  """The crops of an image of this height and width in what its decoder made of it."""
  found = image.shape[:2]
  if found == size:
    return crops
  factor = next(f for f in (2, 4, 8) if tuple(-(-side // f) for side in size) == found)
  used = tuple(factor * side for side in found)  # the last pixels may stand for more than there was
  return [_scaled(box, used, found) for box in crops]


def _hull(crops: Sequence[Place]) -> tuple[int, int, int, int]:
  """Top, left, bottom and right of the whole pixels that hold all crops."""
  top, left = (math.floor(min(box[i] for box in crops)) for i in (0, 1))
  bottom, right = (math.ceil(max(box[i] + box[i + 2] for box in crops)) for i in (0, 1))
  return top, left, bottom, right


def _most(crops: Sequence[Place], image_size: int) -> int:
  """How many times smaller crops can be and keep enough of the pixels that they are resized to."""
  smallest = min(rows * columns for _, _, rows, columns in crops)
  return int(math.sqrt(smallest) / (_ENOUGH * image_size))


def _shrink(image, canvas, *, most: int) -> tuple[tuple[int, int], tuple[int, int]]:
  """Lays a smaller version; returns how many rows and columns became how many.

  Blocks are of up to `most` pixels a side, or larger where the image would not fit otherwise.
  """
  size, sides = len(canvas), image.shape[:2]
  longest = max(sides)
  block = max(longest // size, min(-(-longest // size), most))
  if block > 1:
    # Divisible sides have a kernel of their own, over ten times as fast.
    height, width = (max(side // block, 1) for side in sides)
    image = image[: height * block, : width * block]
    used = image.shape[:2]
    place = canvas[:height, :width] if max(height, width) <= size else None
    image = cv2.resize(image, (width, height), dst=place, interpolation=cv2.INTER_AREA)
    if place is not None:
      return used, (height, width)
  else:
    used = sides
  height, width = (max(round(side * size / longest), 1) for side in sides)
  cv2.resize(image, (width, height), dst=canvas[:height, :width], interpolation=cv2.INTER_LINEAR)
  return used, (height, width)


def _scaled(box: Place, used: tuple[int, int], size: tuple[int, int]) -> Place:
  """The box in what an image became. It holds centres of pixels that were written, and no others:
  it may end beside them, as pixels that did not fill a block were left out."""
  starts, lengths = [], []
  for start, length, before, now in zip(box[:2], box[2:], used, size, strict=True):
    starts.append(min(start * now / before, now - 1))
    lengths.append(min(max(length * now / before, 1), now + 0.49 - starts[-1]))
  return (*starts, *lengths)
