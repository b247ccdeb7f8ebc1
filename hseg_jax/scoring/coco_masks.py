"""COCO's masks and annotation files, read with numpy alone.

The format: https://cocodataset.org/#format-data and #format-results. A mask is a list of polygons
or run lengths down the columns, plain or compressed; `regions.encode_mask` writes the latter.
Files are those of the data set (`images`, `annotations`, `categories`), of results (a list of
annotations, each with `image_id` or `file_name`), and the lists that Segment Anything's automatic
mask generator gives for one image, where the file's name is the image's.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from hseg_jax.errors import UserError
from hseg_jax.scoring import image_names

Shape = tuple[int, int]


class Annotations(NamedTuple):
  """The annotations of many images.

  Attributes:
    path: the file they are from, for messages.
    images: the annotations of each image by its name, in the file's order; none for some.
    shapes: height and width of the images whose entry tells.
    categories: as in the file.
  """

  path: str
  images: Mapping[str, Sequence[Mapping[str, Any]]]
  shapes: Mapping[str, Shape]
  categories: Sequence[Mapping[str, Any]]

  def masks(self, name: str) -> Bool[np.ndarray, "m h w"]:
    """The masks of all annotations of an image.

    Raises:
      UserError: one is damaged or of another size, or there is nothing to tell the size from.
    """
    entries, shape = self.images[name], self.shape(name)
    # Columns first in memory, as run lengths go: copying across takes longer than decoding.
    found = np.zeros((len(entries), *shape[::-1]), bool).transpose(0, 2, 1)
    for i, entry in enumerate(entries):
      found[i] = self.mask(name, i, entry.get("segmentation"), shape)
    return found

  def mask(self, name: str, i: int, segmentation: Any, shape: Shape) -> Bool[np.ndarray, "h w"]:
    """One mask of the i-th annotation of an image; raises as `masks`."""
    try:
      return decode(segmentation, shape)
    except ValueError as error:
      raise UserError(f"Cannot read {self.path} ({name}, mask {i + 1}: {error}).") from error

  def shape(self, name: str) -> Shape:
    """Height and width of an image: those of its entry, or of its first run lengths.

    Raises:
      UserError: neither is there.
    """
    if name in self.shapes:
      return self.shapes[name]
    for entry in self.images[name]:
      if isinstance(entry.get("segmentation"), dict):
        try:
          return _size(entry["segmentation"])
        except ValueError as error:
          raise UserError(f"Cannot read {self.path} ({name}: {error}).") from error
    what = "its masks are polygons" if self.images[name] else "it has no masks"
    raise UserError(
      f"Cannot read {self.path} (nothing tells the size of {name}, since {what}; add images with "
      "height and width)."
    )


def load(path: str | os.PathLike) -> Annotations:
  """Reads a file of annotations that say which image they are of.

  Images are called by their files' names (`image_names.name`), or else by their ids.

  Raises:
    UserError: the file is missing or damaged, or holds no annotations, or some are of no image.
  """
  table, entries, images = _read_entries(path)
  try:
    return _group(str(path), entries, images, table.get("categories", []))
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(f"Cannot read {path} (an image or annotation lacks {error}).") from error


def load_one(path: str | os.PathLike, name: str) -> Annotations:
  """Reads a file of the annotations of one image, whatever they say of it themselves.

  A list, as Segment Anything's generator gives it, or `image` and `annotations`, as in its data.

  Raises:
    UserError: the file is missing or damaged, or holds no annotations.
  """
  table, entries, _ = _read_entries(path)
  image = table.get("image", {})
  try:
    shapes = {name: _entry_shape(image)} if "height" in image else {}
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(f"Cannot read {path} (its image lacks {error}).") from error
  return Annotations(str(path), {name: entries}, shapes, [])


def names_images(path: str | os.PathLike) -> bool:
  """Whether the annotations of a file say which image they are of; raises as `load`."""
  _, entries, images = _read_entries(path)
  return bool(images) or any("image_id" in entry or "file_name" in entry for entry in entries)


def decode(segmentation: Any, shape: Shape) -> Bool[np.ndarray, "h w"]:
  """Decodes one mask: run lengths, compressed or not, or polygons.

  A pixel is in a polygon if its centre is (even-odd rule), and in the mask if it is in any of them.
  COCO's own code rounds the outlines, so that pixels on them may differ.

  Args:
    segmentation: `{"size": [h, w], "counts": str | list}`, or a list of `[x, y, x, y, ...]`.
    shape: height and width of the image.

  Raises:
    ValueError: it is nothing of the kind, the run lengths do not fill the size, or that is not
      `shape`.
  """
  if isinstance(segmentation, dict):
    size = _size(segmentation)
    if size != shape:
      raise ValueError(f"a size of {size[1]}x{size[0]} in an image of {shape[1]}x{shape[0]}")
    return fill_runs(_counts(segmentation.get("counts")), size)
  if not isinstance(segmentation, list):
    raise ValueError("neither run lengths nor polygons")
  mask = np.zeros(shape, bool)
  for polygon in segmentation:
    points = _numbers(polygon, "a polygon").astype(np.float64)
    if points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
      raise ValueError("a polygon is no list of x, y, x, y, ...")
    mask |= fill_polygon(points.reshape(-1, 2), shape)
  return mask


def fill_runs(counts: Int[np.ndarray, "r"], shape: Shape) -> Bool[np.ndarray, "h w"]:
  """The mask of alternating counts of zeros and ones down the columns, zeros first.

  Raises:
    ValueError: a count is negative, or they do not fill the size.
  """
  height, width = shape
  total = int(counts.sum()) if (counts >= 0).all() else -1
  if total < 0:
    raise ValueError("a run length below 0")
  if total != height * width:
    raise ValueError(f"run lengths of {total} pixels for {width}x{height}")
  ones = np.arange(len(counts)) % 2 == 1
  return np.repeat(ones, counts).reshape(width, height).T


def decompress(text: str) -> Int[np.ndarray, "r"]:
  """The run lengths that `regions.encode_mask` compressed.

  Raises:
    ValueError: the text has other characters, or ends within a number.
  """
  groups = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
  if ((groups < 0) | (groups > 63)).any():
    raise ValueError("compressed run lengths with characters that are none of theirs")
  if not len(groups):
    return groups
  last = groups & 32 == 0
  if not last[-1]:
    raise ValueError("compressed run lengths that end within a number")
  start = np.flatnonzero(np.append(True, last[:-1]))
  place = 5 * (np.arange(len(groups)) - np.repeat(start, np.diff(start, append=len(groups))))
  if place.max() > 55:
    raise ValueError("a run length beyond all images")
  numbers = np.add.reduceat((groups & 31) << place, start)
  numbers -= np.where(groups[last] & 16, np.int64(1) << (place[last] + 5), 0)
  # From the fourth on they are differences to the number two before.
  numbers[1::2] = np.cumsum(numbers[1::2])
  numbers[2::2] = np.cumsum(numbers[2::2])
  return numbers


def fill_polygon(points: Float[np.ndarray, "p 2"], shape: Shape) -> Bool[np.ndarray, "h w"]:
  """The pixels whose centres lie in a closed polygon of x, y (even-odd rule)."""
  height, width = shape
  toggles = np.zeros((height, width + 1), bool)
  for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
    if y0 > y1:
      x0, y0, x1, y1 = x1, y1, x0, y0
    # The rows whose centre the edge crosses, and from which column on a pixel is right of it.
    first, stop = np.clip(np.ceil(np.array([y0, y1]) - 0.5), 0, height).astype(np.int64)
    rows = np.arange(first, stop)
    if not len(rows):
      continue
    crossing = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
    toggles[rows, np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)] ^= True
  return np.bitwise_xor.accumulate(toggles.view(np.uint8), axis=1)[:, :-1].view(bool)


def _read_entries(path: str | os.PathLike) -> tuple[dict[str, Any], list, list]:
  """The table that a file holds, its annotations, and its images where it lists them."""
  try:
    with open(path, encoding="utf-8") as file:
      content = json.load(file)
  except (OSError, ValueError, RecursionError) as error:
    reason = getattr(error, "strerror", None) or str(error)
    raise UserError(f"Cannot read {path} ({reason}).") from error
  table = content if isinstance(content, dict) else {"annotations": content}
  entries, images = table.get("annotations"), table.get("images", [])
  if not all(
    isinstance(values, list) and all(isinstance(value, dict) for value in values)
    for values in (entries, images)
  ):
    raise UserError(f"Cannot read {path} (no list of COCO annotations).")
  return table, entries, images


def _group(path: str, entries: list, images: list, categories: list) -> Annotations:
  file_names = {image["id"]: str(image["file_name"]) for image in images}
  keys = [
    file_names.get(entry["image_id"], str(entry["image_id"]))
    if "image_id" in entry
    else str(entry["file_name"])
    for entry in entries
  ]
  names = image_names.name([*file_names.values(), *keys])
  grouped: dict[str, list] = {names[file]: [] for file in file_names.values()}
  for key, entry in zip(keys, entries, strict=True):
    grouped.setdefault(names[key], []).append(entry)
  shapes = {
    names[str(image["file_name"])]: _entry_shape(image) for image in images if "height" in image
  }
  return Annotations(path, grouped, shapes, categories)


def _entry_shape(image: Mapping[str, Any]) -> Shape:
  return int(image["height"]), int(image["width"])


def _size(segmentation: Mapping[str, Any]) -> Shape:
  size = _numbers(segmentation.get("size"), "the size")
  if size.shape != (2,) or size.dtype.kind not in "iu" or size.min() < 1 or size.max() >= 1 << 20:
    raise ValueError("run lengths without a size of height and width")
  return int(size[0]), int(size[1])


def _counts(counts: Any) -> Int[np.ndarray, "r"]:
  if isinstance(counts, str):
    return decompress(counts)
  numbers = _numbers(counts, "the counts")
  if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
    raise ValueError("the counts are no run lengths")
  return numbers.astype(np.int64)


def _numbers(values: Any, what: str) -> np.ndarray:
  try:
    found = np.asarray(values)
  except ValueError as error:
    raise ValueError(f"{what} are no numbers") from error
  if found.size and found.dtype.kind not in "iuf":
    raise ValueError(f"{what} are no numbers")
  return found
