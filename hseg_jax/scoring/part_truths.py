"""Truths of parts and wholes: CCP, PartWorld, PartImageNet, Pascal-Part, DensePose."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer


class PartTruth(NamedTuple):
  """Parts and wholes of one image; in every level id 0 is the background, negative unlabelled.

  Attributes:
    levels: label maps from the finest, the parts, to the coarsest, the wholes. Parts of different
      wholes have different ids.
    level_names: such as ("parts", "objects"); the same for all images.
    names: of the ids of each level, `names[level][id]`; several instances may share a name.
  """

  levels: tuple[Integer[np.ndarray, "h w"], ...]
  level_names: tuple[str, ...]
  names: tuple[tuple[str, ...], ...]
