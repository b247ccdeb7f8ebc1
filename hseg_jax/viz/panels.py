"""Pictures of one image's hierarchy: the image, its superpixels, and every level in colours.

A family keeps its colour: the regions of the coarsest level share out the circle of hues, and every
region takes a slice of its parent's hues, so what belongs together looks alike at all levels.
"""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Num, UInt8
from PIL import Image, ImageDraw, ImageFont

from hseg_jax.hierarchy import Hierarchy

_CHROMA = 0.125  # in OKLCH, whose hues look equally bright; most of it fits into sRGB
_LIGHTNESS = (0.72, 0.30)  # of the coarsest regions, and over what range their descendants spread
_FAMILY = 0.82  # share of a parent's slice of hues that its children fill, a gap between families
_STRENGTH = 0.72  # of the region's colour over the grey image
_GOLDEN = 0.618034  # multiples of it, modulo 1, spread evenly however many there are
_SILVER = 0.754878  # the same, out of step with the other
_BLANK = (200, 200, 200)
_PAPER = (255, 255, 255)
_INK = (60, 60, 60)


class Tile(NamedTuple):
  """One picture of a row.

  Attributes:
    title: what it shows, such as "16 regions".
    picture: `[h, w, 3]`, enlarged.
  """

  title: str
  picture: UInt8[np.ndarray, "h w 3"]


def level_colors(hierarchy: Hierarchy) -> tuple[UInt8[np.ndarray, "_ 3"], ...]:
  """One RGB colour a region, for every level, finest first; children vary their parent's hue."""
  top = hierarchy.sizes[-1]
  slices = np.stack([np.arange(top), np.arange(1, top + 1)], axis=1) / top
  lightness = np.full(top, _LIGHTNESS[0])
  colors = [_oklch(lightness, slices.mean(axis=1))]
  for depth, parents in enumerate(reversed(hierarchy.parents)):
    rank, siblings = _rank_among_siblings(parents)
    start, stop = slices[parents].T
    width = (stop - start) * _FAMILY
    start = (start + stop - width) / 2
    slices = np.stack([start + width * rank / siblings, start + width * (rank + 1) / siblings], 1)
    spread = _LIGHTNESS[1] / (depth + 2)
    # The first child, and so an only one, keeps its parent's lightness.
    lightness = lightness[parents] + spread * ((rank * _GOLDEN + 0.5) % 1 - 0.5)
    colors.append(_oklch(lightness, slices.mean(axis=1)))
  return tuple(reversed(colors))


def tiles(image: UInt8[np.ndarray, "h w 3"], hierarchy: Hierarchy, size: int) -> tuple[Tile, ...]:
  """The image, its superpixels in their mean colours, and each further level in `level_colors`.

  Args:
    image: RGB in [0, 255], of the hierarchy's height and width, or shrunk from that.
    size: pixels of a tile's longer side; small images are enlarged by a whole number to reach it,
      others keep their size.
  """
  scale = max(round(size / max(image.shape[:2])), 1)
  large = _enlarge(image, scale)
  grey = large @ np.array([0.299, 0.587, 0.114])
  labels = _shrink(hierarchy.segments, *image.shape[:2])
  superpixels = np.kron(labels, np.ones((scale, scale), np.int32))
  means = mean_colors(image, labels)
  pictures = [
    Tile("image", large),
    Tile(_count(hierarchy, 0), _outline(means[superpixels], superpixels, 1.0)),
  ]
  regions = superpixels
  for level, colors in enumerate(level_colors(hierarchy)[1:], start=1):
    regions = hierarchy.parents[level - 1][regions]
    painted = _STRENGTH * colors[regions] + (1 - _STRENGTH) * grey[..., None]
    pictures.append(Tile(_count(hierarchy, level), _outline(painted, regions, 0.85)))
  return tuple(pictures)


def panel(
  image: UInt8[np.ndarray, "h w 3"], hierarchy: Hierarchy, *, size: int = 256, title: str = ""
) -> UInt8[np.ndarray, "rows columns 3"]:
  """All tiles of an image side by side on white, each with its title below it.

  Args:
    image: as `tiles` takes it.
    size: as `tiles` takes it.
    title: what stands below the image itself.
  """
  row = tiles(image, hierarchy, size)
  return _arrange([row[0]._replace(title=title or row[0].title), *row[1:]])


def level_panel(hierarchy: Hierarchy, *, size: int = 192) -> UInt8[np.ndarray, "rows columns 3"]:
  """Every level in `level_colors`, side by side on white: a hierarchy without its image.

  Args:
    size: about how many pixels a tile's longer side has, whatever the label maps have.
  """
  height, width = hierarchy.segments.shape
  scale = size / max(height, width)
  scale = scale if scale < 1 else round(scale)
  columns, rows = (max(round(side * scale), 1) for side in (width, height))
  row = []
  for level, colors in enumerate(level_colors(hierarchy)):
    labels = Image.fromarray(hierarchy.labels(level).astype(np.int32))
    labels = np.asarray(labels.resize((columns, rows), Image.Resampling.NEAREST))
    row.append(Tile(_count(hierarchy, level), _outline(colors[labels], labels, 0.85)))
  return _arrange(row)


def thumbnail(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "_ _ 3"]:
  """The image with at most so many pixels on its longer side."""
  picture = Image.fromarray(image)
  picture.thumbnail((side, side))
  return np.asarray(picture)


def paint(
  values: Integer[np.ndarray, "h w"] | Float[np.ndarray, "h w"] | Bool[np.ndarray, "h w"], side: int
) -> UInt8[np.ndarray, "_ _ 3"]:
  """A map without its image: ids in colours that tell neighbours apart, strengths in grey.

  Args:
    values: ids, of which each has its own colour in all pictures and negative ones are blank, or
      strengths in [0, 1], 1 = white.
    side: of the longer side in pixels; small maps are enlarged by a whole number, at most to it.
  """
  scale = side / max(values.shape)
  if scale < 1:
    values = _shrink(values, *(max(round(length * scale), 1) for length in values.shape))
  else:
    values = np.kron(values, np.ones((int(scale), int(scale)), values.dtype))
  if values.dtype.kind in "fb":
    return np.repeat(np.round(255 * values[..., None]).astype(np.uint8), 3, axis=2)
  ids, index = np.unique(values, return_inverse=True)
  colors = _oklch(0.55 + 0.3 * (ids * _SILVER % 1), ids * _GOLDEN % 1)
  colors[ids < 0] = _BLANK
  index = index.reshape(values.shape)
  return _outline(colors[index], index, 0.85)


def encode(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
  """The picture as a PNG file."""
  buffer = io.BytesIO()
  Image.fromarray(picture).save(buffer, "PNG", optimize=True)
  return buffer.getvalue()


def data_url(picture: UInt8[np.ndarray, "h w 3"]) -> str:
  """The picture as an address that holds it, for pages that hold everything."""
  return "data:image/png;base64," + base64.b64encode(encode(picture)).decode()


def mean_colors(
  image: UInt8[np.ndarray, "h w 3"], labels: Int[np.ndarray, "h w"]
) -> Float[np.ndarray, "n 3"]:
  """Mean RGB of every region, in [0, 255]; black where there is no pixel."""
  flat = labels.ravel()
  sums = np.stack([np.bincount(flat, channel) for channel in image.reshape(-1, 3).T], axis=1)
  return sums / np.maximum(np.bincount(flat), 1)[:, None]


def _rank_among_siblings(
  parents: Int[np.ndarray, "n"],
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
  """Each region's place among its parent's children, by id, and how many there are."""
  counts = np.bincount(parents)
  order = np.argsort(parents, kind="stable")
  rank = np.empty(len(parents), np.int64)
  rank[order] = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
  return rank, counts[parents]


def _oklch(lightness: Float[np.ndarray, "n"], hue: Float[np.ndarray, "n"]) -> np.ndarray:
  """OKLCH with a fixed chroma, hue in turns -> RGB uint8 `[n, 3]` (Ottosson's matrices)."""
  a, b = _CHROMA * np.cos(2 * np.pi * hue), _CHROMA * np.sin(2 * np.pi * hue)
  cones = np.stack([
    lightness + 0.3963377774 * a + 0.2158037573 * b,
    lightness - 0.1055613458 * a - 0.0638541728 * b,
    lightness - 0.0894841775 * a - 1.2914855480 * b,
  ])  # fmt: skip
  linear = np.clip(
    np.array([
      [4.0767416621, -3.3077115913, 0.2309699292],
      [-1.2684380046, 2.6097574011, -0.3413193965],
      [-0.0041960863, -0.7034186147, 1.7076147010],
    ]) @ cones**3, 0, 1,
  )  # fmt: skip
  encoded = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
  return np.round(255 * encoded.T).astype(np.uint8)


def _shrink(
  labels: Num[np.ndarray, "_ _"] | Bool[np.ndarray, "_ _"], height: int, width: int
) -> Num[np.ndarray, "{height} {width}"] | Bool[np.ndarray, "{height} {width}"]:
  """The value under the centre of each pixel of the smaller map."""
  rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
  columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
  return labels[rows][:, columns]


def _count(hierarchy: Hierarchy, level: int) -> str:
  """What a level is called: "64 superpixels", "1 region"."""
  number = hierarchy.sizes[level]
  return f"{number} {'region' if level else 'superpixel'}{'s' if number > 1 else ''}"


def _arrange(row: Sequence[Tile]) -> UInt8[np.ndarray, "rows columns 3"]:
  """Tiles side by side on white, each with its title below it."""
  height, width, _ = row[0].picture.shape
  gap, text = max(width // 32, 2), max(width // 14, 10)
  canvas = Image.new("RGB", (len(row) * (width + gap) - gap, height + 2 * text), _PAPER)
  draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(text)
  for i, tile in enumerate(row):
    canvas.paste(Image.fromarray(tile.picture), (i * (width + gap), 0))
    middle = i * (width + gap) + width // 2
    title = _fit(tile.title, font, width)
    draw.text((middle, height + text), title, fill=_INK, font=font, anchor="mm")
  return np.asarray(canvas)


def _fit(words: str, font: ImageFont.FreeTypeFont, width: int) -> str:
  """As much of the words as so many pixels hold."""
  kept = words
  while kept and font.getlength(words) > width:
    kept = kept[:-1]
    words = f"{kept.rstrip(' ,')}…"
  return words


def _enlarge(image: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "rows columns 3"]:
  height, width, _ = image.shape
  return np.asarray(Image.fromarray(image).resize((width * scale, height * scale), Image.BICUBIC))


def _outline(
  picture: Num[np.ndarray, "h w 3"], labels: Int[np.ndarray, "h w"], strength: float
) -> UInt8[np.ndarray, "h w 3"]:
  """Draws white lines, one pixel to each side of every boundary."""
  line = _boundary(labels)[..., None] * strength
  return np.round((1 - line) * picture + line * 255).astype(np.uint8)


def _boundary(labels: Int[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
  padded = np.pad(labels, 1, mode="edge")
  neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
  return np.any([labels != neighbour for neighbour in neighbours], axis=0)
