"""From an image of any size to what a model sees of it: resized, with its superpixels."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from hseg_jax.errors import UserError
from hseg_jax.superpixels import grid, seeds

SUPERPIXELS = {"method": "seeds", "bins": 5, "iterations": 15}  # the reference's, supervised

_SIDES_PER_OCTAVE = 8  # long sides that images between 1:1 and 1:2 are resized to
_MAX_ASPECT = 4  # of what a model sees; its positions were never trained on anything longer
MAX_PIXELS = 4_000_000  # of the image that superpixels are computed on; they take a second there


class Prepared(NamedTuple):
  """What the host makes of an image before the model sees it.

  Attributes:
    image: RGB at the size at which the model sees it.
    segments: superpixel of every pixel, ids in [0, room), -1 = none; of the image's size, or of a
      smaller one at which they were computed. None for what sees no superpixels.
    height: of the image itself, in pixels.
    width: likewise.
  """

  image: UInt8[np.ndarray, "sh sw 3"]
  segments: Int32[np.ndarray, "bh bw"] | None
  height: int
  width: int


@dataclasses.dataclass(frozen=True)
class Preparation:
  """Prepares images for a model; needs no accelerator, and threads may share it.

  A model sees each image with its short side at `size` pixels. The aspect ratio is kept, up to
  rounding the long side to an eighth of the short one (a quarter beyond 2:1), so that the model is
  compiled for few shapes; what is longer than 4:1 is squeezed to that.

  Attributes:
    size: short side of what the model sees, in pixels; a multiple of `stride`.
    stride: pixels per cell of the model's stem.
    superpixels: `method` ("seeds" or "grid"), `num_segments`, the most there may be in an image,
      and for SEEDS `bins` and `iterations`. None for a model that sees none, a plain ViT.
    room: how many superpixels the model can take, at least `num_segments`.

  Raises:
    UserError: the options contradict each other.
  """

  size: int
  stride: int
  superpixels: Mapping[str, Any] | None
  room: int

  def __post_init__(self):
    if self.superpixels is not None:
      _check_superpixels(**self.superpixels)
    if self.size < 1 or self.size % self.stride:
      raise UserError(
        f"size={self.size} is not a multiple of the stem's stride; choose a multiple of "
        f"{self.stride}."
      )

  def __call__(self, image: Any, labels: Any = None) -> Prepared:
    """Prepares an image.

    Args:
      image: RGB in [0, 255], uint8 `[h, w, 3]`.
      labels: its superpixels, `[h, w]` of its own size or of the size at which the model sees it;
        any integers, negative = none. Computed if None.

    Raises:
      UserError: something is no such image, too small for its superpixels, or the label map does
        not suit it.
    """
    check_image(image)
    height, width = image.shape[:2]
    size = self.working_size(height, width)
    if self.superpixels is None:
      if labels is not None:
        raise UserError("A plain ViT sees no superpixels; leave them out.")
      segments = None
    elif labels is None:
      segments = self._compute_superpixels(image)
    else:
      segments = self._adopt(labels, (height, width), size)
    return Prepared(resize(image, *size), segments, height, width)

  def working_size(self, height: int, width: int) -> tuple[int, int]:
    """Height and width at which the model sees an image; multiples of its stride."""
    step = max(self.size // _SIDES_PER_OCTAVE // self.stride, 1) * self.stride
    short, long = sorted((height, width))
    aspect = min(long / short, _MAX_ASPECT)
    if aspect > 2:
      step *= 2
    long = self.size + round(self.size * (aspect - 1) / step) * step
    return (self.size, long) if height <= width else (long, self.size)

  def _compute_superpixels(self, image: UInt8[np.ndarray, "h w 3"]) -> Int32[np.ndarray, "bh bw"]:
    # At the image's own resolution, as regions can have no finer boundaries than their superpixels;
    # the model averages over cells of several pixels either way. Only huge images are shrunk first.
    options = self.superpixels
    shrink = min((MAX_PIXELS / (image.shape[0] * image.shape[1])) ** 0.5, 1)
    image = resize(image, *(max(int(side * shrink), 1) for side in image.shape[:2]))
    if options["method"] == "grid":
      return grid.segment(image, options["num_segments"])
    request = self._choose_request(*image.shape[:2])
    return seeds.segment(image, request, bins=options["bins"], iterations=options["iterations"])

  def _choose_request(self, height: int, width: int) -> int:
    """The number to ask SEEDS for, so that it makes about as many superpixels as in training.

    Asked for 64, it makes 64 of 64x64 pixels, but only 35 of 321x481.
    """
    limit = self.superpixels["num_segments"]
    wanted = seeds.count(self.size, self.size, limit)
    try:
      best, error = limit, abs(seeds.count(height, width, limit) - wanted)
    except UserError as failure:
      raise UserError(
        f"An image of {width}x{height} pixels is too small or too elongated for {limit} "
        "superpixels; enlarge it, ask for fewer, or give superpixels of your own."
      ) from failure
    for request in range(limit + 1, 2 * limit):
      try:
        count = seeds.count(height, width, request)
      except UserError:  # too many for an image of this size
        break
      if count <= limit and abs(count - wanted) < error:
        best, error = request, abs(count - wanted)
    return best

  def _adopt(self, labels: Any, *sizes: tuple[int, int]) -> Int32[np.ndarray, "bh bw"]:
    """Checks foreign superpixels; ids that the model has no room for are numbered anew."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
      raise UserError(
        f"An array of {labels.dtype} {list(labels.shape)} is no label map; give integers [h, w]."
      )
    if labels.shape not in sizes:
      wanted = " or ".join(dict.fromkeys(f"{h}x{w}" for h, w in sizes))
      raise UserError(
        f"The label map has {labels.shape[0]}x{labels.shape[1]} rows and columns, the image needs "
        f"{wanted}."
      )
    ids = np.unique(labels)
    ids = ids[ids >= 0]
    if len(ids) > self.room:
      raise UserError(
        f"The label map has {len(ids)} superpixels, the model room for {self.room}; raise "
        "num_segments."
      )
    # Ids that fit stay as they are: to a model that attends to empty segments their number matters.
    anew = len(ids) > 0 and ids[-1] >= self.room
    segments = (np.searchsorted(ids, labels) if anew else labels).astype(np.int32)
    segments[labels < 0] = -1
    # Never larger than the image, or superpixels could vanish when the result gets its size.
    (height, width), (rows, columns) = sizes[0], segments.shape
    return resize_labels(segments, min(rows, height), min(columns, width))


def resize(
  image: UInt8[np.ndarray, "_ _ 3"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
  """Resizes as training does: bilinearly with antialiasing."""
  if image.shape[:2] == (height, width):
    return image
  return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_labels(
  labels: Int32[np.ndarray, "_ _"], height: int, width: int
) -> Int32[np.ndarray, "{height} {width}"]:
  """The label under the centre of each pixel of the resized map."""
  if labels.shape == (height, width):
    return labels
  rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
  columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
  return labels[rows][:, columns]


def check_image(image: Any) -> None:
  """Raises `UserError` where something is no uint8 array `[h, w, 3]` with pixels."""
  if not isinstance(image, np.ndarray):
    raise UserError(
      f"A {type(image).__name__} is no image; give files or uint8 arrays [h, w, 3] in RGB."
    )
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or image.size == 0:
    raise UserError(
      f"An array of {image.dtype} {list(image.shape)} is no image; give uint8 [h, w, 3] in RGB."
    )


def _check_superpixels(method: str, num_segments: int, **_: Any) -> None:
  if method not in ("seeds", "grid"):
    raise UserError(f'There are no superpixels by the method "{method}"; choose "seeds" or "grid".')
  fewest = seeds.MIN_SEGMENTS if method == "seeds" else 1
  if num_segments < fewest:
    raise UserError(
      f"num_segments={num_segments} is too few for {method} superpixels; give {fewest}."
    )
