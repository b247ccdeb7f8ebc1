"""What a data set calls its objects and their parts, and class maps of both."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer


class Vocabulary(NamedTuple):
  """Objects, and the parts of each.

  A part of one object is another class than the part of that name of another object: class maps of
  parts number `pairs`. In every class map the number after the last class is the background.

  Attributes:
    objects: their names.
    parts: names of the kinds of part that masks tell apart.
    parts_of: for each object its kinds of part, indices in `parts`.
  """

  objects: tuple[str, ...]
  parts: tuple[str, ...]
  parts_of: tuple[tuple[int, ...], ...]

  @property
  def pairs(self) -> list[tuple[int, int]]:
    """Object and kind of every class of part, in order."""
    return [(i, kind) for i, kinds in enumerate(self.parts_of) for kind in kinds]

  @property
  def part_names(self) -> list[str]:
    """The name of every class of part, such as "Bird Wing"."""
    return [f"{self.objects[i]} {self.parts[kind]}" for i, kind in self.pairs]

  def members(self, index: int) -> Int[np.ndarray, "_"]:
    """The classes of part of an object; none for the background."""
    return np.array([n for n, pair in enumerate(self.pairs) if pair[0] == index], np.int64)

  def object_classes(
    self, mask: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"], label: int
  ) -> Int[np.ndarray, "h w"]:
    """The class map of objects.

    Args:
      mask: 0 = no object, else 1 + its index in `objects`; or True on the one object of the image.
      label: the index of that one object; does not matter to other masks.
    """
    classes = np.where(mask, label, -1) if mask.dtype == bool else mask.astype(np.int64) - 1
    return np.where(classes >= 0, classes, len(self.objects)).astype(np.int64)

  def part_classes(
    self, objects: Int[np.ndarray, "h w"], mask: Integer[np.ndarray, "h w"]
  ) -> Int[np.ndarray, "h w"]:
    """The class map of parts.

    A kind of part that only one object has is that object's, wherever it is; any other belongs to
    the object at its pixel, and is background where that object has no such part.

    Args:
      objects: class map of objects.
      mask: 0 = no part, else 1 + its index in `parts`.
    """
    pairs = self.pairs
    background = len(pairs)
    table = np.full((len(self.objects) + 1, len(self.parts) + 1), background)
    for kind in range(len(self.parts)):
      owned = [n for n, pair in enumerate(pairs) if pair[1] == kind]
      if len(owned) == 1:
        table[:, kind + 1] = owned[0]
      for n in owned:
        table[pairs[n][0], kind + 1] = n
    return table[objects, mask]
