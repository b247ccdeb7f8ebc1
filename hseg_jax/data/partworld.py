"""PartWorld: the built-in data set of drawn objects that are told apart by their parts.

Sixteen classes of articulated objects, drawn in random pose, colour, texture and light before
cluttered backgrounds and behind occluders, with exact masks of the object and of its parts. A class
is a set of parts and their arrangement; its neighbours share all of its parts but one.
"""

import cmath
import math
import operator

import cv2
import numpy as np

from hseg_jax.data.partworld_render import TILE_PERIODS, Light, Materials, Scene, paint, render
from hseg_jax.data.partworld_shapes import CLASSES, PART_NAMES, Part, pose
from hseg_jax.errors import UserError
from hseg_jax.vocabulary import Vocabulary

SPLITS = {"train": 20_000, "val": 2_000, "test": 2_000}
MIN_SIZE = 32

_MARGIN = 0.02  # of the image side, always free around the object
_EXTENT = (0.74, 0.95)  # the object's longer side, in image sides
_TURN = 20  # degrees either way, of the object as a whole
_OCCLUDED = 0.27  # share of the images that have an occluder
_HIDDEN = (0.1, 0.35)  # share of the object behind it
_CONTRAST = 32  # CIELAB distance of a part from its parent and from the background
_CANDIDATES = 8  # colours and occluders to choose from


class PartWorld:
  """Random-access data set of drawn objects; every example is a function of its index alone.

  Examples depend on (split, seed, index) and not on `num_examples`, and the scene not on `size`: at
  another size it is the same picture, only sharper. Every block of 16 consecutive indices holds
  each class once, in an order of its own: any prefix is balanced, and so is any stride that a host
  reads.

  Args:
    split: "train", "val" or "test"; their streams of random numbers are disjoint.
    size: side of the images in pixels, at least 32.
    seed: non-negative; another seed gives another data set.
    num_examples: length of the data set; None takes 20,000 of train and 2,000 of val or test.

  Raises:
    UserError: an unknown split, or a size, seed or number that is too small.
  """

  class_names = tuple(CLASSES)
  part_names = PART_NAMES
  num_classes = len(CLASSES)
  vocabulary = Vocabulary(
    tuple(CLASSES),
    PART_NAMES,
    # Several parts of a kind are one class.
    tuple(tuple({PART_NAMES.index(p.kind): None for p in parts}) for parts in CLASSES.values()),
  )

  def __init__(self, split: str, size: int = 64, seed: int = 0, num_examples: int | None = None):
    if split not in SPLITS:
      raise UserError(f"PartWorld has no split {split!r}; choose one of {', '.join(SPLITS)}.")
    if size < MIN_SIZE:
      raise UserError(f"PartWorld's size is {size}, but parts need {MIN_SIZE} pixels or more.")
    if seed < 0:
      raise UserError(f"PartWorld's seed is {seed}; give a non-negative one.")
    if num_examples is not None and num_examples < 1:
      raise UserError(f"PartWorld's num_examples is {num_examples}; give at least 1.")
    self.split, self.size, self.seed = split, size, seed
    self._num_examples = SPLITS[split] if num_examples is None else num_examples

  def __len__(self) -> int:
    return self._num_examples

  def __getitem__(self, index: int) -> dict:
    """One example.

    Returns:
      `image` uint8 [size, size, 3] RGB; `label` int; `object` bool [size, size], its visible
      pixels; `parts` uint8 [size, size], 0 off the object, else 1 + the index in `part_names`.

    Raises:
      IndexError: the index is negative or not below the length.
    """
    scene = self.scene(index)
    image, visible, parts = render(scene, self.size)
    return {"image": image, "label": scene.label, "object": visible, "parts": parts}

  def scene(self, index: int) -> Scene:
    """The scene of an example before it is drawn, e.g. to draw it without its occluder."""
    index = operator.index(index)
    if not 0 <= index < len(self):
      raise IndexError(f"index {index} of a PartWorld of {len(self)} examples")
    block, place = divmod(index, self.num_classes)
    label = int(self._rng("labels", block).permutation(self.num_classes)[place])
    return _sample_scene(label, self._rng("scene", index))

  def _rng(self, purpose: str, number: int) -> np.random.Generator:
    """The stream of one example: counters far apart under a key of split and seed."""
    key = [self.seed, tuple(SPLITS).index(self.split)]
    counter = [0, 0, ("scene", "labels").index(purpose), number]
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _sample_scene(label: int, rng: np.random.Generator) -> Scene:
  parts = tuple(CLASSES.values())[label]
  outlines = _fit(pose(parts, rng), rng)
  clutter = _sample_clutter(rng)
  materials = _sample_materials(parts, len(clutter), rng)
  painted = sorted(range(len(parts)), key=lambda i: parts[i].layer)
  first = 1 + len(clutter)
  rows = [*range(first), *(first + i for i in painted), -1]
  outlines = [outlines[i] for i in painted]
  return Scene(
    label=label,
    clutter=clutter,
    parts=outlines,
    kinds=[1 + PART_NAMES.index(parts[i].kind) for i in painted],
    occluder=_sample_occluder(outlines, rng) if rng.random() < _OCCLUDED else None,
    materials=Materials(*(column[rows] for column in materials)),
    light=Light(
      direction=cmath.rect(1, rng.uniform(-math.pi, math.pi)),
      gradient=rng.uniform(0, 0.3),
      relief=rng.uniform(0.2, 0.8),
      shadow=rng.uniform(0.1, 0.6),
      reach=rng.uniform(0.02, 0.07),
    ),
  )


def _fit(outlines: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
  """Turns, mirrors, scales and places a posed object so that it lies within the unit square."""
  points = np.concatenate(outlines)
  if rng.random() < 0.5:
    points = -points.conj()
  points *= cmath.rect(1, math.radians(rng.uniform(-_TURN, _TURN)))
  low = complex(points.real.min(), points.imag.min())
  span = complex(points.real.max(), points.imag.max()) - low
  scale = rng.uniform(*_EXTENT) / max(span.real, span.imag)
  free = (1 - 2 * _MARGIN) * (1 + 1j) - scale * span
  corner = _MARGIN * (1 + 1j) + complex(rng.random() * free.real, rng.random() * free.imag)
  points = (points - low) * scale + corner
  return np.split(points, np.cumsum([len(outline) for outline in outlines])[:-1])


def _sample_clutter(rng: np.random.Generator) -> list[np.ndarray]:
  """Bands across the image, and jagged shards; neither looks like a part."""
  count = rng.integers(2, 5)
  centres = rng.random(count) + 1j * rng.random(count)
  shards = rng.uniform(0.04, 0.2, (count, 7)) * np.exp(2j * np.pi * np.arange(7) / 7)
  along = 2 * np.exp(1j * rng.uniform(-np.pi, np.pi, count))
  across = along * 1j * rng.uniform(0.01, 0.04, count)
  bands = np.stack([along + across, along - across, -along - across, -along + across], axis=1)
  is_band = rng.random(count) < 0.2
  return [centres[i] + (bands[i] if is_band[i] else shards[i]) for i in range(count)]


def _sample_occluder(parts: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
  """A beam across the image that hides a given share of the object.

  In a random direction the object's pixels are ranked; a beam from one quantile to another hides
  exactly the share between them. Of several such beams the one is taken that leaves most of the
  part it hides most of, so that the class can still be told. The pixels are those of a small
  picture of fixed size: the choice must not depend on the size that is drawn later.
  """
  painted = paint(parts, size=MIN_SIZE, density=1)
  rows, columns = np.nonzero(painted)
  points = (columns + 0.5 + 1j * (rows + 0.5)) / MIN_SIZE
  member = painted[rows, columns][:, None] == np.arange(1, len(parts) + 1)
  axes = np.exp(1j * rng.uniform(-np.pi, np.pi, _CANDIDATES))
  rank = (points[None, :] * axes.conj()[:, None]).real
  ordered = np.sort(rank, axis=1)
  share = rng.uniform(*_HIDDEN)
  starts = rng.uniform(0, 1 - share, _CANDIDATES)
  beams = np.arange(_CANDIDATES)
  low = ordered[beams, (starts * len(points)).astype(int)]
  high = ordered[beams, np.minimum(((starts + share) * len(points)).astype(int), len(points) - 1)]
  left = ((rank < low[:, None]) | (rank > high[:, None])).astype(np.float32) @ member
  best = np.argmax((left / np.maximum(member.sum(0), 1)).min(axis=1))
  ends = np.array([-2j, 2j, 2j, -2j])
  return axes[best] * (np.array([low[best]] * 2 + [high[best]] * 2) + ends)


def _sample_materials(
  parts: tuple[Part, ...], num_clutter: int, rng: np.random.Generator
) -> Materials:
  """Colours and textures of background, clutter, parts and occluder, in this order."""
  first = 1 + num_clutter
  count = first + len(parts) + 1
  hsv = rng.random((count, _CANDIDATES, 3), np.float32)
  hsv = hsv * np.float32([360, 0.65, 0.75]) + np.float32([0, 0.35, 0.25])
  # Paler than the parts on the whole, though a background may well be gaudier than a part.
  hsv[:first, :, 1] = 0.7 * rng.random((first, _CANDIDATES), np.float32)
  rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
  lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
  chosen = [0] * count
  for row, part in enumerate(parts, start=first):
    near = [0] if part.parent is None else [0, first + part.parent]
    chosen[row] = _contrasting(lab[row], lab[near, [chosen[i] for i in near]])
  chosen[-1] = _contrasting(lab[-1], lab[range(first, count - 1), chosen[first:-1]])

  main = rgb[np.arange(count), chosen]
  # Clutter leans towards the background, or no part could stand out from all of it.
  main[1:first] = 0.5 * (main[1:first] + main[0])
  texture = rng.integers(len(TILE_PERIODS), size=count)
  draws = rng.random((6, count))
  ink = (draws[0] < 0.5).astype(np.float32)[:, None]
  amount = np.float32(0.06 + 0.18 * draws[1])[:, None]
  period = 0.05 * 4 ** draws[2] * TILE_PERIODS[texture]
  turn = np.exp(2j * np.pi * draws[3])
  return Materials(
    colours=np.stack([main, main + amount * (ink - main)], axis=1),
    texture=texture,
    frequency=turn / period,
    phase=64 + 64j + draws[4] + 1j * draws[5],
  )


def _contrasting(candidates: np.ndarray, neighbours: np.ndarray) -> int:
  """The first candidate that stands out from all neighbours, or else the one that does most."""
  offset = candidates[:, None] - neighbours
  distance = np.square(offset).sum(axis=-1).min(axis=1)
  return int(np.argmax(np.minimum(distance, _CONTRAST**2)))
