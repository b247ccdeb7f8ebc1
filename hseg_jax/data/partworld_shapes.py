"""What PartWorld's objects are made of: the outlines of the parts and the table of the classes.

The plane is the complex plane, with x to the right and y *down*, as in an image: turning is one
multiplication, and a joint is one number. A part's own frame has its joint at the origin and x
along the part; outlines are unit outlines that the table stretches to a length and a width.
"""

import cmath
import math
from typing import NamedTuple

import numpy as np


def _polygon(*points: tuple) -> np.ndarray:
  return np.array([complex(x, y) for x, y in points])


def _ellipse(centre: float) -> np.ndarray:
  turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
  return centre + 0.5 * np.exp(1j * turn)


def _egg() -> np.ndarray:
  """An ellipse drawn out to a muzzle at the far end."""
  turn = np.linspace(-np.pi, np.pi, 24, endpoint=False)
  x = 0.42 + 0.42 * np.cos(turn) + 0.16 * np.exp(-((turn / 0.6) ** 2))
  return x + 0.5j * np.sin(turn)


def _ribbon(bend: float, root: float, tip: float) -> np.ndarray:
  """A band along x that bends away towards +y and narrows from `root` to `tip` (half widths)."""
  x = np.linspace(0, 1, 8)
  middle, half = bend * x**2 - bend / 2, root + (tip - root) * x
  return np.concatenate([x + 1j * (middle - half), (x + 1j * (middle + half))[::-1]])


OUTLINES = {
  "body": _ellipse(0.5),
  "head": _egg(),
  "leg": _polygon((0, -0.4), (0.76, -0.35), (0.8, -0.9), (1, -0.9), (1, 0.35), (0, 0.4)),
  "tail": _ribbon(bend=0.5, root=0.3, tip=0.14),
  "wing": _polygon(
    *((0, -0.2), (0.2, -0.42), (0.5, -0.5), (0.8, -0.4), (1, -0.1), (0.86, 0.3), (0.74, 0.16)),
    *((0.58, 0.48), (0.42, 0.24), (0.24, 0.5), (0, 0.2)),
  ),
  "horn": _ribbon(bend=0.4, root=0.36, tip=0.04),
  "wheel": _ellipse(0.0),
  "deck": _polygon((0, -0.5), (1, -0.5), (0.97, 0.1), (0.86, 0.5), (0.14, 0.5), (0.03, 0.1)),
  "box": _polygon((0, -0.5), (0.9, -0.5), (1, -0.4), (1, 0.4), (0.9, 0.5), (0, 0.5)),
  "pole": _polygon((0, -0.5), (1, -0.5), (1, 0.5), (0, 0.5)),
  "sail": _polygon((0, 0), (1, 0), (0.7, 0.38), (0.35, 0.75), (0, 1)),
  "blade": _polygon(
    *((0, -0.18), (0.35, -0.2), (0.66, -0.5), (0.88, -0.33), (1, 0)),
    *((0.88, 0.33), (0.66, 0.5), (0.35, 0.2), (0, 0.18)),
  ),
}
PART_NAMES = tuple(OUTLINES)


class Part(NamedTuple):
  """One part of a class, hung on another by a joint.

  Angles are degrees, positive clockwise as seen on the image. Lengths share one free unit: the
  posed object is fitted to the image as a whole. A negative width mirrors the outline.
  """

  kind: str
  parent: int | None  # position of the parent in the class; None for the root
  joint: tuple[float, float]  # on the parent: along it (0 to 1) and across it (-0.5 to 0.5)
  angle: float  # relative to the parent, at rest
  swing: float  # the joint turns at most this far to either side
  length: float
  width: float
  layer: int = 0  # painted from low to high; equal layers in the order of the class


def _walker(*extra: Part) -> tuple[Part, ...]:
  return (
    Part("body", None, (0, 0), 0, 8, 0.56, 0.30),
    Part("head", 0, (0.92, -0.15), -25, 20, 0.30, 0.23, layer=1),
    Part("leg", 0, (0.82, 0.2), 90, 20, 0.34, 0.13, layer=-1),
    Part("leg", 0, (0.18, 0.2), 90, 20, 0.34, 0.13, layer=-1),
    *extra,
  )


def _flyer(*extra: Part) -> tuple[Part, ...]:
  return (
    Part("body", None, (0, 0), 0, 8, 0.50, 0.20),
    Part("head", 0, (0.93, 0), 0, 25, 0.24, 0.20, layer=1),
    Part("wing", 0, (0.62, -0.3), -105, 20, 0.44, 0.26, layer=-1),
    Part("wing", 0, (0.62, 0.3), 105, 20, 0.44, -0.26, layer=-1),
    *extra,
  )


def _cart(*extra: Part) -> tuple[Part, ...]:
  return (
    Part("deck", None, (0, 0), 0, 5, 0.72, 0.17),
    Part("wheel", 0, (0.2, 0.6), 0, 180, 0.27, 0.27, layer=1),
    Part("wheel", 0, (0.8, 0.6), 0, 180, 0.27, 0.27, layer=1),
    *extra,
  )


def _boat(*extra: Part) -> tuple[Part, ...]:
  return (
    Part("deck", None, (0, 0), 0, 5, 0.72, 0.20),
    Part("pole", 0, (0.5, -0.3), -90, 10, 0.74, 0.10, layer=1),
    Part("sail", 1, (0.16, 0.3), 0, 8, 0.66, 0.36),
    *extra,
  )


def _staff(*extra: Part) -> tuple[Part, ...]:
  return (Part("pole", None, (0, 0), -90, 8, 0.90, 0.11), *extra)


_TAIL = Part("tail", 0, (0.05, -0.1), 205, 30, 0.38, 0.24, layer=-1)
_HORN = Part("horn", 1, (0.35, -0.3), -95, 18, 0.30, 0.20)
_WING = Part("wing", 0, (0.55, -0.2), -110, 22, 0.46, 0.28, layer=2)
_CRATE = Part("box", 0, (0.28, -0.3), -90, 6, 0.34, 0.36, layer=-1)
_MAST = Part("pole", 0, (0.5, -0.2), -90, 10, 0.68, 0.10, layer=-1)
_LEFT_BLADE = Part("blade", 0, (0.8, -0.2), -90, 12, 0.30, 0.36)
_RIGHT_BLADE = Part("blade", 0, (0.8, 0.2), 90, 12, 0.30, 0.36)
_LEFT_HORN = Part("horn", 0, (0.84, -0.2), -90, 12, 0.36, -0.20)
_RIGHT_HORN = Part("horn", 0, (0.84, 0.2), 90, 12, 0.36, 0.20)

# Every class has a neighbour that shares all its parts but one, or all of them in another
# arrangement (hound, kangaroo); no part kind belongs to one class alone.
CLASSES: dict[str, tuple[Part, ...]] = {
  "hound": _walker(_TAIL),
  "goat": _walker(_HORN),
  "griffin": _walker(_TAIL, _WING),
  "chimera": _walker(_HORN, _WING),
  "kangaroo": (
    Part("body", None, (0, 0), -70, 10, 0.52, 0.28),
    Part("head", 0, (0.92, 0.1), 50, 20, 0.30, 0.23, layer=1),
    Part("leg", 0, (0.16, 0.2), 140, 15, 0.34, 0.13, layer=-1),
    Part("leg", 0, (0.12, -0.2), 180, 15, 0.34, 0.13, layer=-1),
    Part("tail", 0, (0.08, -0.3), 250, 22, 0.40, 0.24, layer=-1),
  ),
  "bird": _flyer(Part("tail", 0, (0.05, 0), 180, 25, 0.34, 0.22, layer=-1)),
  "beetle": _flyer(Part("horn", 1, (0.75, 0), 0, 25, 0.32, 0.20)),
  "wagon": _cart(_CRATE),
  "crane": _cart(_CRATE, Part("pole", 0, (0.7, -0.2), -60, 20, 0.58, 0.10, layer=-1)),
  "yacht": _cart(_MAST, Part("sail", 3, (0.2, 0.3), 0, 8, 0.60, 0.40)),
  "reaper": _cart(_MAST, Part("blade", 3, (0.84, 0.2), 90, 18, 0.32, 0.38)),
  "sloop": _boat(Part("sail", 1, (0.16, -0.3), 0, 8, 0.66, -0.36)),
  "junk": _boat(Part("box", 0, (0.2, -0.3), -90, 6, 0.24, 0.26, layer=-1)),
  "axe": _staff(_LEFT_BLADE, _RIGHT_BLADE),
  "halberd": _staff(_LEFT_BLADE, _RIGHT_HORN),
  "pickaxe": _staff(_LEFT_HORN, _RIGHT_HORN),
}


def pose(parts: tuple[Part, ...], rng: np.random.Generator) -> list[np.ndarray]:
  """One random pose of a class: an outline of complex points for each of its parts.

  Joints turn within their swing and every part is stretched a little; the object is still in the
  table's own unit and place.
  """
  draws = rng.uniform(-1, 1, (len(parts), 3)).tolist()
  frames, outlines = [], []
  for part, (turn, longer, wider) in zip(parts, draws, strict=True):
    length, width = part.length * (1 + 0.15 * longer), part.width * (1 + 0.15 * wider)
    turned = cmath.rect(1, math.radians(part.angle + turn * part.swing))
    origin = 0
    if part.parent is not None:
      start, axis, along, across = frames[part.parent]
      origin = start + axis * complex(part.joint[0] * along, part.joint[1] * abs(across))
      turned = turned * axis
    frames.append((origin, turned, length, width))
    outline = OUTLINES[part.kind]
    outlines.append(origin + turned * (length * outline.real + 1j * width * outline.imag))
  return outlines
