"""Predictions of any origin: hierarchies, label maps, contour maps, COCO masks, soft maps.

No model is needed to read them. Which kind a file or folder holds follows from its names, and where
names do not tell, from its first few files: one decision for all images.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer

from hseg_jax.hierarchy import Hierarchy


class Prediction(NamedTuple):
  """What was predicted for one image; what its files do not say is empty or None.

  Attributes:
    levels: label maps, finest first; a negative id is no region, and 255 is an id as any other.
    hierarchy: the tree, where it is known: the file's own, or of levels that nest and fill the
      image.
    contours: strengths at double resolution, as a file gave them; a hierarchy's are made by
      `Hierarchy.boundaries`.
    masks: regions that may overlap and leave pixels out, in the file's order.
    soft: a strength in [0, 1] at every pixel: of a figure, or of a boundary.
  """

  levels: tuple[Integer[np.ndarray, "h w"], ...] = ()
  hierarchy: Hierarchy | None = None
  contours: Float[np.ndarray, "H W"] | None = None
  masks: Bool[np.ndarray, "m h w"] | None = None
  soft: Float[np.ndarray, "h w"] | None = None

  @property
  def shape(self) -> tuple[int, int]:
    """Height and width of the image."""
    if self.contours is not None:
      return self.contours.shape[0] // 2, self.contours.shape[1] // 2
    return self.soft.shape if self.soft is not None else self.levels[0].shape


class Predictions(NamedTuple):
  """The predictions of a folder or file.

  Attributes:
    kind: "hierarchies", "levels", "labels", "contours", "segmentations", "masks" or "soft".
    names: of the images, sorted; without endings.
    read: the prediction of an image by its name; raises `UserError` where its files are damaged.
      Can be pickled, but may hold a whole COCO file: send it to another process once.
  """

  kind: str
  names: tuple[str, ...]
  read: Callable[[str], Prediction]


def find(path: str | os.PathLike, *, soft: bool = False) -> Predictions:
  """Finds the predictions in a folder or COCO file.

  Args:
    path: a folder or a `.json` file.
    soft: images and arrays hold strengths (grey values, floating point), not ids of regions.

  Raises:
    UserError: there is nothing, something unknown, or several kinds at once.
  """
  raise NotImplementedError
