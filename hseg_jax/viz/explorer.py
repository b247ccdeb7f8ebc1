"""The explorer: one page in which a reader walks through hierarchies, region by region.

Everything is inside the file, which asks for nothing from any network. It holds each image's
superpixels and the order in which they merge, from which it makes every cut as `Hierarchy.cut`
does.
"""

import base64
import hashlib
import html
import io
import json
import os
import pathlib
import re
import string
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from hseg_jax import files
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.viz import panels

_SIDE = 960  # pixels of a picture's longer side; larger ones are shrunk for the page
_THUMBNAIL = (120, 80)  # pixels across and down, at most
_QUALITY = 80  # of JPEG
_LOSSLESS = 128 * 128  # pixels up to which a picture is drawn exactly: it will be enlarged
_NUM_CLASSES = 5  # that are named for an image, the likeliest first


class Entry(NamedTuple):
  """An image of the page.

  Attributes:
    name: what the page calls it, a file name say; any text.
    image: RGB in [0, 255], of the hierarchy's height and width, or a smaller copy.
    hierarchy: its segmentation.
    class_names: of the hierarchy's `probabilities`; empty shows no classes.
    region_classes: for each level, finest first, the name of every region's class; empty where the
      model classifies whole images only, as most do.
  """

  name: str
  image: UInt8[np.ndarray, "h w 3"]
  hierarchy: Hierarchy
  class_names: Sequence[str] = ()
  region_classes: Sequence[Sequence[str]] = ()


def write(
  path: str | os.PathLike,
  packed: Sequence[dict[str, Any]],
  *,
  title: str = "Segmentation hierarchies",
) -> pathlib.Path:
  """Writes the page, whole or not at all; arguments and errors as of `render`.

  Raises:
    UserError: the file cannot be written.
  """
  path = pathlib.Path(path)
  page = render(packed, title=title)
  with files.whole(path) as partial:
    partial.write_text(page, encoding="utf-8", newline="\n")
  return path


def render(packed: Sequence[dict[str, Any]], *, title: str = "Segmentation hierarchies") -> str:
  """The page as HTML.

  Args:
    packed: what `pack` made of each image, at least one.
    title: what the page is called.

  Raises:
    ValueError: there is no image.
  """
  if not packed:
    raise ValueError("a page needs at least one image")
  template = pathlib.Path(__file__).with_name("explorer.html").read_text(encoding="utf-8")
  script = re.search(r"<script>(.*?)</script>", template, re.DOTALL).group(1)
  return _Template(template).substitute(
    title=html.escape(title),
    # The browser runs this script and no other, whatever a name may contain.
    script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    data=json.dumps(packed, separators=(",", ":")).replace("<", "\\u003c"),
  )


class _Template(string.Template):
  """Placeholders as `@@name`, since scripts are full of dollars."""

  delimiter = "@@"


def pack(entry: Entry) -> dict[str, Any]:
  """What the page knows of an entry, as values for JSON.

  `labels` are the superpixels as the page draws them, packed by `pack_labels`; `areas` those of the
  superpixels in the image itself. `parents`, `merges` (kept id, absorbed id, ...) and `colors` (six
  hexadecimal digits a region) have one item a level. `classes` are (name, probability). Without a
  `thumbnail` the picture is its own.

  Raises:
    ValueError: the entry's parts do not fit each other.
  """
  image, hierarchy = entry.image, entry.hierarchy
  (rows, columns, _), (height, width) = image.shape, hierarchy.segments.shape
  distorted = abs(rows * width - columns * height) > max(height, width)
  if rows > height or columns > width or distorted:
    raise ValueError(
      f"{entry.name}: an image of {image.shape[:2]} and labels of {hierarchy.segments.shape}"
    )
  if entry.region_classes and tuple(map(len, entry.region_classes)) != hierarchy.sizes:
    raise ValueError(f"{entry.name}: the region classes do not fit levels of {hierarchy.sizes}")
  picture, thumbnail = Image.fromarray(image), Image.fromarray(image)
  picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
  thumbnail.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
  small = rows * columns <= _LOSSLESS
  labels = Image.fromarray(hierarchy.segments.astype(np.int32))
  labels = np.asarray(labels.resize(picture.size, Image.Resampling.NEAREST))
  return {
    "name": entry.name,
    "size": (width, height),
    "columns": picture.width,
    "rows": picture.height,
    "picture": panels.data_url(image) if small else _data_url(picture),
    "thumbnail": "" if small else _data_url(thumbnail),
    "labels": pack_labels(labels),
    "areas": np.bincount(hierarchy.segments.ravel()).tolist(),
    "parents": [parents.tolist() for parents in hierarchy.parents],
    "merges": [hierarchy.merges(i).ravel().tolist() for i in range(hierarchy.num_levels)],
    "colors": [colors.tobytes().hex() for colors in panels.level_colors(hierarchy)],
    "classes": _likeliest(entry),
    "region_classes": [list(names) for names in entry.region_classes],
  }


def pack_labels(labels: Int[np.ndarray, "h w"]) -> str:
  """Base64 of the deflated 16-bit differences between each row and the one above it.

  Most labels equal the one above, so a photograph's superpixels take a few kilobytes.
  """
  rows = np.diff(labels.astype("<u2"), axis=0, prepend=np.zeros((1, labels.shape[1]), "<u2"))
  return base64.b64encode(zlib.compress(rows.tobytes(), 9)).decode()


def _likeliest(entry: Entry) -> list[tuple[str, float]]:
  probabilities = entry.hierarchy.probabilities
  if probabilities is None or not entry.class_names:
    return []
  if len(probabilities) != len(entry.class_names):
    raise ValueError(
      f"{entry.name}: {len(entry.class_names)} names for {len(probabilities)} classes"
    )
  order = np.argsort(-probabilities, kind="stable")[:_NUM_CLASSES]
  return [(entry.class_names[i], round(float(probabilities[i]), 4)) for i in order]


def _data_url(picture: Image.Image) -> str:
  buffer = io.BytesIO()
  picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
  return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
