"""Image files of any kind to RGB arrays, label maps from files, and where images lie in a folder.

The one decoder of training data and of what is segmented, so that a model sees the same pixels,
save where `decode_smaller` is allowed to make fewer of them.
"""

import contextlib
import io
import os
import pathlib
import re
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Integer, Num, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from hseg_jax.errors import UserError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
LABEL_EXTENSIONS = (".npy", ".npz", ".png")
MAX_PIXELS = Image.MAX_IMAGE_PIXELS  # 89 million; Pillow holds larger ones for an attack
# Of JPEG. What begins with 0xff is a marker, but for that byte itself within a scan, which zero
# follows, and for restarts of it.
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
_LYING = (5, 6, 7, 8)  # values of EXIF's tag of orientation that exchange height and width
# OpenCV's flags for decoding JPEGs so many times smaller.
_REDUCED = {
  1: 0,
  2: cv2.IMREAD_REDUCED_GRAYSCALE_2,  # grey only without IMREAD_COLOR_RGB
  4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
  8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
# From the height and width of an image to how many times smaller it may come.
Reduction = Callable[[int, int], int]
LABELS_KEY = "segments"  # of a label map in an npz file; what `Hierarchy.save` calls it


class UnreadableImage(UserError):
  """An image or label map that cannot be decoded; the message names the file and says why."""


def decode(file: str | os.PathLike | io.BytesIO, name: str) -> UInt8[np.ndarray, "h w 3"]:
  """Decodes an image file of any common format to RGB in [0, 255].

  Grey, palette, CMYK and 16-bit images are converted, what is transparent is laid on white, as on a
  page, and a photograph is turned upright as its EXIF tag says. Of several frames the first counts.
  NOTE(reference): torchvision's loader ignores that tag, and transparency.

  Args:
    file: a path or an open file.
    name: what to call the image in an error.

  Raises:
    UnreadableImage: if the file is missing, damaged, truncated, no image, has more than
      `MAX_PIXELS` pixels, or values whose range nobody knows (floating point, 32 bits).
  """
  image, _ = decode_smaller(file, name, lambda height, width: 1)
  return image


def decode_smaller(
  file: str | os.PathLike | io.BytesIO, name: str, reduction: Reduction
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int]]:
  """Decodes an image as `decode` does, or a JPEG to a half, a quarter or an eighth of its size.

  Its decoder then skips the highest frequencies, in less time than it takes to shrink the image.
  A pixel stands for that many in rows and columns, also at the end where the file has fewer; so
  what EXIF's tag turns or mirrors comes smaller only if its sides can be divided.

  Args:
    file: a path or an open file.
    name: what to call the image in an error.
    reduction: asked, with height and width of an upright JPEG whose sides have 8 pixels or more,
      how many times smaller it may come.

  Returns:
    The image, and the height and width that it has in the file, upright.

  Raises:
    UnreadableImage: as `decode` does.
  """
  try:
    is_open = hasattr(file, "read")
    opened = contextlib.nullcontext(file) if is_open else open(file, "rb")
    with opened as stream, Image.open(stream) as image:
      # Before anything is decoded: a header alone can ask for all the memory there is.
      if image.width * image.height > MAX_PIXELS:
        raise ValueError(
          f"{image.width}x{image.height} pixels are more than {MAX_PIXELS / 1e6:.0f} million; "
          "shrink it"
        )
      if image.mode == "F":
        raise ValueError("its values are floating-point; save it with 8 or 16 bits")
      if image.mode == "I" and image.format == "TIFF":  # of other formats these are 16 bits
        raise ValueError("its values have 32 bits; save it with 8 or 16 bits")
      if image.format in ("JPEG", "MPO"):
        return _decode_jpeg(image, stream, reduction)
      image = _as_rgb(ImageOps.exif_transpose(image))
      return image, image.shape[:2]
  except UnidentifiedImageError as error:
    raise UnreadableImage(f"Cannot read the image {name} (not an image)") from error
  except Exception as error:  # Decoders raise whatever they please on a damaged file.
    raise UnreadableImage(f"Cannot read the image {name} ({_reason(error)})") from error


def _decode_jpeg(
  image: Image.Image, stream: io.BufferedIOBase, reduction: Reduction
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int]]:
  orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
  width, height = image.size[::-1] if orientation in _LYING else image.size
  factor = 1
  if min(height, width) >= max(_REDUCED) and (allowed := reduction(height, width)) > 1:
    # Turned, a last block that is not full would be one of the first.
    whole = [f for f in _REDUCED if orientation == 1 or image.width % f == image.height % f == 0]
    factor = max(f for f in whole if f <= allowed)
    image.draft(None, (image.width // factor, image.height // factor))
  decoded = _decode_by_opencv(image, stream, factor) if orientation == 1 else None
  if decoded is None:
    decoded = _as_rgb(ImageOps.exif_transpose(image))
  return decoded, (height, width)


def _decode_by_opencv(
  image: Image.Image, stream: io.BufferedIOBase, factor: int
) -> UInt8[np.ndarray, "h w 3"] | None:
  """What Pillow would make of a photograph, in two thirds of the time: OpenCV has the same decoder,
  and makes no copies. None for all but baseline RGB, and where markers betray damage, of which
  OpenCV accepts more."""
  if image.mode != "RGB":
    return None
  stream.seek(0)
  data = stream.read()
  # The first marker behind the start of the scan, the only one then, has to be the end of the file.
  marker = _MARKER.search(data, _start_of_scan(data))
  if marker is None or data[marker.start() :] != _END_OF_IMAGE:
    return None
  flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | _REDUCED[factor]
  return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _as_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
  if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow's own conversion would clip.
    grey = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image)
  return np.array(image.convert("RGB"))


def _start_of_scan(data: bytes) -> int:
  """Where the first scan of a JPEG begins; what is embedded in segments before has scans too."""
  at = 2
  while data[at : at + 1] == b"\xff" and data[at : at + 2] != _START_OF_SCAN:
    at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
  return at + 2


def read_labels(path: str | os.PathLike) -> Integer[np.ndarray, "h w"]:
  """Reads a label map: any whole numbers, one a pixel; negative = no segment.

  Args:
    path: `.npy`, `.npz` (a single array, or one called "segments", as in a saved hierarchy), or a
      `.png` of one channel, whose values are the ids; those of a palette are its indices. Whole
      numbers in floating point and booleans become integers.

  Raises:
    UnreadableImage: the file is missing or damaged, or holds no such map.
  """
  try:
    if str(path).lower().endswith(".png"):
      with Image.open(path) as image:
        labels = np.asarray(image)
    else:
      labels = np.load(path, allow_pickle=False)
      if not isinstance(labels, np.ndarray):
        with labels as archive:
          key = LABELS_KEY if LABELS_KEY in archive or len(archive) != 1 else archive.files[0]
          labels = archive[key]
  except Exception as error:  # a damaged archive raises nearly anything
    raise UnreadableImage(f"Cannot read the label map {path} ({_reason(error)})") from error
  if labels.ndim == 3 and str(path).lower().endswith(".png"):
    raise UnreadableImage(
      f"Cannot read the label map {path} (colours; save the ids in one channel of 8 or 16 bits)"
    )
  if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "biuf":
    raise UnreadableImage(
      f"Cannot read the label map {path} ({labels.dtype} {list(labels.shape)} instead of integers "
      "[h, w])"
    )
  if labels.dtype.kind == "f" and not are_whole(labels):
    raise UnreadableImage(f"Cannot read the label map {path} (its values are no whole numbers)")
  return labels.astype(np.int64) if labels.dtype.kind in "bf" else labels


def are_whole(values: Num[np.ndarray, "*shape"]) -> bool:
  """Whether all values are whole numbers that can be ids."""
  return bool((np.abs(values) < 1 << 62).all() and (values == np.round(values)).all())


def _reason(error: Exception) -> str:
  """What an error says, without the file's name, which the message around it has."""
  if "allow_pickle" in str(error):  # numpy takes whatever it does not know for a pickle
    return "damaged, or objects instead of integers"
  return getattr(error, "strerror", None) or str(error)


def list_folder(folder: str | os.PathLike) -> list[str]:
  """Paths, relative to `folder`, of the images anywhere below it; hidden ones are left out."""
  found = []
  for parent, folders, files in os.walk(folder, followlinks=True):
    folders[:] = [name for name in folders if not name.startswith(".")]
    relative = pathlib.Path(parent).relative_to(folder)
    found += [
      str(relative / name)
      for name in files
      if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    ]
  return sorted(found)
