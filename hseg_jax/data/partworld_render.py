"""From a PartWorld scene to pixels: paint which shape is where, then colour every pixel at once.

A scene lives in the unit square (complex points, x right, y down) and knows no resolution, so the
same scene at another size is the same picture, only sharper. It is painted at twice the
resolution, placed such that every other sample falls on the centre of a pixel: those samples are
the masks, exactly, and the Gaussian pyramid step from all of them is the antialiased image.
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Complex, Float, UInt8

_TILE = 32  # texels to the side of a texture tile; a power of two, so that wrapping is one `&`
_LEVELS = 8  # a texture mixes two colours in this many steps
_SUBPIXEL_BITS = 4


def _make_tiles() -> np.ndarray:
  """The textures, each a tile that repeats seamlessly: uint8 [tile, y, x] in [0, _LEVELS)."""
  x, y = np.meshgrid(np.arange(_TILE), np.arange(_TILE))
  plain = np.full((_TILE, _TILE), 0.5)
  stripes = 0.5 + 0.5 * np.clip(2 * np.sin(2 * np.pi * x / _TILE), -1, 1)
  checks = ((x // (_TILE // 2) + y // (_TILE // 2)) % 2).astype(float)
  dots = (np.hypot(x - _TILE / 2, y - _TILE / 2) < 0.3 * _TILE).astype(float)
  rng = np.random.default_rng(0)
  waves = sum(
    np.cos(2 * np.pi * ((u * x + v * y) / _TILE + rng.random()))
    for u in range(-3, 4)
    for v in range(1, 4)
  )
  noise = (waves - waves.min()) / (waves.max() - waves.min())
  tiles = np.stack([plain, stripes, checks, dots, noise])
  return np.round(tiles * (_LEVELS - 1)).astype(np.uint8)


_TILES = _make_tiles()
# Periods of the pattern within one tile: the noise tile holds about three bumps.
TILE_PERIODS = np.array([1, 1, 1, 1, 3])


class Materials(NamedTuple):
  """What every shape of a scene is made of; row 0 is the background."""

  colours: Float[np.ndarray, "n 2 3"]  # the two RGB colours a texture mixes, in [0, 1]
  texture: np.ndarray  # int [n], row of the table of textures
  frequency: Complex[np.ndarray, "n"]  # texture periods per image side, and the turn
  phase: Complex[np.ndarray, "n"]  # texture periods, both parts non-negative


class Light(NamedTuple):
  """Where the light comes from and what it does."""

  direction: complex  # unit, from the scene towards the light
  gradient: float  # how much brighter than the middle the edge nearest the light is
  relief: float  # how much the side of an object that faces the light stands out
  shadow: float  # share of the light that the object takes from the background
  reach: float  # length of the shadow, in image sides


class Scene(NamedTuple):
  """Everything there is to know of one picture, but its size."""

  label: int
  clutter: list[np.ndarray]  # complex outlines behind the object, part of no object
  parts: list[np.ndarray]  # complex outlines of the object's parts, back to front
  kinds: list[int]  # part number (1 + index in PART_NAMES) of each of `parts`
  occluder: np.ndarray | None  # complex outline in front of everything
  materials: Materials  # of background, clutter, parts and occluder, in this order
  light: Light


def paint(outlines: list[np.ndarray], size: int, density: int) -> UInt8[np.ndarray, "n n"]:
  """Paints shape i (from 1; 0 is bare) over those before it, `density` samples to a pixel.

  Sample [density * y, density * x] lies on the centre of pixel [y, x].
  """
  canvas = np.zeros((density * size, density * size), np.uint8)
  for i, outline in enumerate(outlines, start=1):
    points = (outline * size - (0.5 + 0.5j)) * (density << _SUBPIXEL_BITS)
    points = np.round(points).view(np.float64).reshape(-1, 2).astype(np.int32)
    cv2.fillPoly(canvas, [points], i, shift=_SUBPIXEL_BITS)
  return canvas


def render(
  scene: Scene, size: int
) -> tuple[
  UInt8[np.ndarray, "size size 3"], Bool[np.ndarray, "size size"], UInt8[np.ndarray, "size size"]
]:
  """Draws a scene: the image, the visible object, and the visible parts (0 = none)."""
  shapes = [*scene.clutter, *scene.parts]
  if scene.occluder is not None:
    shapes.append(scene.occluder)
  painted = paint(shapes, size, density=2)
  kinds = np.zeros(len(shapes) + 1, np.uint8)
  first = 1 + len(scene.clutter)
  kinds[first : first + len(scene.parts)] = scene.kinds
  kinds = kinds.take(painted)
  parts = np.ascontiguousarray(kinds[::2, ::2])
  cover = cv2.pyrDown((kinds > 0).astype(np.float32))
  shade = _shade(scene.light, cover)
  image = cv2.pyrDown(_colour(painted, scene.materials, size))
  image = cv2.multiply(image, cv2.merge([shade] * 3), dtype=cv2.CV_8U)
  return image, parts > 0, parts


@functools.lru_cache(maxsize=8)
def _sample_positions(size: int) -> np.ndarray:
  """Positions in the unit square of the samples painted at density 2."""
  axis = (np.arange(2 * size) + 1) / (2 * size)
  return (axis[None, :] + 1j * axis[:, None]).astype(np.complex64)


def _colour(painted: np.ndarray, materials: Materials, size: int) -> np.ndarray:
  """Looks up every sample's colour: by its shape and by the texel of the shape's texture.

  The table of colours has 256 rows, which allows 32 shapes; small integers because this is where
  the time goes.
  """
  shape = painted.astype(np.intp)  # once, or every look-up below would convert it again
  frequency = (materials.frequency * _TILE).astype(np.complex64)
  phase = (materials.phase * _TILE).astype(np.complex64)
  texel = _sample_positions(size) * frequency.take(shape)
  texel += phase.take(shape)
  texel = texel.view(np.float32).astype(np.int16) & (_TILE - 1)
  tile = (materials.texture * _TILE * _TILE).astype(np.int16).take(shape)
  level = _TILES.ravel().take(tile + texel[:, 1::2] * _TILE + texel[:, 0::2])
  mix = np.linspace(0, 1, _LEVELS, dtype=np.float32)[:, None]
  first, second = materials.colours[:, None, 0], materials.colours[:, None, 1]
  table = np.zeros((256 // _LEVELS, _LEVELS, 3), np.uint8)
  table[: len(materials.colours)] = np.round(255 * (first + mix * (second - first)))
  return cv2.applyColorMap(painted * np.uint8(_LEVELS) + level, table.reshape(256, 1, 3))


def _shade(light: Light, cover: np.ndarray) -> np.ndarray:
  """The factor [size, size] by which light and shadow change each pixel, always positive."""
  size = len(cover)
  axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
  towards = light.direction.real * axis[None, :] + light.direction.imag * axis[:, None]
  shade = 1 + 2 * light.gradient * towards

  blur = 0.03 * size
  height = cv2.GaussianBlur(cover, (0, 0), blur)
  slope = light.direction.real * cv2.Sobel(height, -1, 1, 0, ksize=3, scale=blur / 4)
  slope += light.direction.imag * cv2.Sobel(height, -1, 0, 1, ksize=3, scale=blur / 4)
  shade *= 1 - light.relief * slope * cover

  away = -light.direction * light.reach * size
  move = np.array([[1, 0, away.real], [0, 1, away.imag]])
  shadow = cv2.warpAffine(height, move, (size, size))
  shade *= 1 - light.shadow * shadow * (1 - cover)
  return shade
