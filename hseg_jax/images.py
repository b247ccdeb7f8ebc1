"""Image files of any kind to RGB arrays, label maps from files, and where images lie in a folder.

The one decoder of training data and of what is segmented, so that a model sees the same pixels,
save where `decode_smaller` is allowed to make fewer of them.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Callable

import numpy as np
import simplejpeg
from jaxtyping import Integer, Num, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from hseg_jax.errors import UserError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
LABEL_EXTENSIONS = (".npy", ".npz", ".png")
MAX_PIXELS = Image.MAX_IMAGE_PIXELS  # 89 million; Pillow holds larger ones for an attack
_JPEG = b"\xff\xd8\xff"  # how its files begin
# In a JPEG, where a segment begins, and kinds of segments: the last one before pixels, the one that
# holds tags, those of lossless ones, and all that tell their length.
_MARKER, _START_OF_SCAN, _TAGS, _LOSSLESS = 0xFF, 0xDA, 0xE1, {0xC3, 0xCB}
_KINDS = {*range(0xC0, 0xD0), *range(0xDB, 0xF0), 0xFE}
_LYING = (5, 6, 7, 8)  # values of EXIF's tag of orientation that exchange height and width
_FACTORS = (1, 2, 4, 8)  # how many times smaller a JPEG can be decoded
# From the height and width of an image to how many times smaller it may come.
Reduction = Callable[[int, int], int]
Decoded = tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int]]  # and height and width in the file
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
  image, _ = decode_smaller(file, name, _whole)
  return image


def decode_smaller(
  file: str | os.PathLike | io.BytesIO, name: str, reduction: Reduction
) -> Decoded:
  """Decodes an image as `decode` does, or a JPEG to a half, a quarter or an eighth of its size.

  Its decoder then skips the highest frequencies, in less time than it takes to shrink the image.
  A pixel stands for that many in rows and columns, also at the end where the file has fewer; so
  what EXIF's tag turns or mirrors comes smaller only if its sides can be divided. Lossless JPEGs
  come whole, and those whose segments are odd.

  Args:
    file: a path or an open file.
    name: what to call the image in an error.
    reduction: asked, once or twice, with height and width of an upright JPEG whose sides have 8
      pixels or more, how many times smaller it may come.

  Returns:
    The image, and the height and width that it has in the file, upright.

  Raises:
    UnreadableImage: as `decode` does.
  """
  try:
    is_open = hasattr(file, "read")
    with contextlib.nullcontext(file) if is_open else open(file, "rb", buffering=0) as stream:
      if not stream.seekable():  # a pipe
        stream = io.BytesIO(stream.read())
      is_jpeg = stream.read(len(_JPEG)) == _JPEG
      stream.seek(0)
      if is_jpeg:
        data = stream.read()
        kinds = _kinds(data)
        # A lossless one would be decoded whole, beyond the end of memory for a smaller one.
        if not kinds or kinds & _LOSSLESS:
          reduction = _whole
        if found := _decode_upright_jpeg(data, kinds, reduction):
          return found
      return _decode_by_pillow(stream, reduction)
  except UnidentifiedImageError as error:
    raise UnreadableImage(f"Cannot read the image {name} (not an image)") from error
  except Exception as error:  # Decoders raise whatever they please on a damaged file.
    raise UnreadableImage(f"Cannot read the image {name} ({_reason(error)})") from error


def _whole(height: int, width: int) -> int:
  del height, width
  return 1


def _decode_upright_jpeg(
  data: bytes, kinds: set[int] | None, reduction: Reduction
) -> Decoded | None:
  """What Pillow would make of most JPEGs, twice as fast if they are small.

  Both have libjpeg-turbo. None for all others: those that a tag turns, those in CMYK, and those of
  which it so much as warns.
  """
  try:
    if not kinds or _TAGS in kinds:
      with Image.open(io.BytesIO(data)) as image:
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
          return None
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    if colours in ("CMYK", "YCCK"):
      return None
    _check_size(height, width)
    factor = _factor(height, width, reduction)
    rows, columns = -(-height // factor), -(-width // factor)
    # One byte off: aligned rows would be written past the caches, and read again from memory.
    buffer = np.empty(rows * columns * 3 + 1, np.uint8)[1:]
    image = simplejpeg.decode_jpeg(
      data, min_height=rows, min_width=columns, min_factor=factor, buffer=buffer
    )
    return image, (height, width)
  except Exception:  # Pillow then reads it nevertheless, or says what is wrong.
    return None


def _decode_by_pillow(stream: io.IOBase, reduction: Reduction) -> Decoded:
  with Image.open(stream) as image:
    _check_size(image.height, image.width)
    if image.mode == "F":
      raise ValueError("its values are floating-point; save it with 8 or 16 bits")
    if image.mode == "I" and image.format == "TIFF":  # of other formats these are 16 bits
      raise ValueError("its values have 32 bits; save it with 8 or 16 bits")
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    height, width = image.size if orientation in _LYING else image.size[::-1]
    if image.format in ("JPEG", "MPO"):
      factor = _factor(height, width, reduction, divisible=orientation != 1)
      image.draft(None, (image.width // factor, image.height // factor))
    return _as_rgb(ImageOps.exif_transpose(image)), (height, width)


def _kinds(data: bytes) -> set[int] | None:
  """Of the segments of a JPEG before its first scan; None if anything about them is odd."""
  kinds, at, last = set(), 2, len(data) - 4
  while at <= last and data[at] == _MARKER:
    kind = data[at + 1]
    if kind == _START_OF_SCAN:
      return kinds
    if kind == _MARKER:  # the byte before it fills
      at += 1
    elif kind in _KINDS:
      kinds.add(kind)
      at += 2 + (data[at + 2] << 8) + data[at + 3]
    else:
      return None
  return None


def _check_size(height: int, width: int) -> None:
  """Before anything is decoded: a header alone can ask for all the memory there is."""
  if width * height > MAX_PIXELS:
    raise ValueError(
      f"{width}x{height} pixels are more than {MAX_PIXELS / 1e6:.0f} million; shrink it"
    )


def _factor(height: int, width: int, reduction: Reduction, *, divisible: bool = False) -> int:
  """The largest that `reduction` allows, and if asked for one that divides both sides.

  Turned or mirrored, a last block that is not full would be one of the first.
  """
  if min(height, width) < max(_FACTORS):
    return 1
  allowed = reduction(height, width)
  whole = (f for f in _FACTORS if not divisible or height % f == width % f == 0)
  return max((f for f in whole if f <= allowed), default=1)


def _as_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
  if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow's own conversion would clip.
    grey = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image)
  return np.array(image.convert("RGB"))


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
