"""Pixels that the regions of a truth share with predicted regions: the table of most scores."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer, Num

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.label_maps import compact


class Contingency(NamedTuple):
  """Counts of the pixels that are labelled in the truth.

  Attributes:
    ids: id of each region of the truth, ascending, `[t]`.
    areas: its pixels, those of no predicted region included, `[t]`.
    shared: its pixels in each predicted region, `[t, p]`.
    sizes: labelled pixels of each predicted region, `[p]`; 0 where it has none.
  """

  ids: Int[np.ndarray, "t"]
  areas: Int[np.ndarray, "t"]
  shared: Int[np.ndarray, "t p"]
  sizes: Int[np.ndarray, "p"]

  @property
  def ious(self) -> Float[np.ndarray, "t p"]:
    """Intersection over union of every pair, in [0, 1]."""
    return iou(self.shared, self.areas, self.sizes)


def tabulate(
  truth: Integer[np.ndarray, "h w"], prediction: Integer[np.ndarray, "h w"]
) -> Contingency:
  """Counts which pixels two label maps share.

  Args:
    truth: region of every pixel; pixels with negative ids are left out of every count.
    prediction: region of every pixel; negative ids are no region. There is a column for each
      other id, ascending, so that ids without gaps are the numbers of their columns.
  """
  labelled = truth >= 0
  ids, rows = compact(truth[labelled])
  regions, columns = compact(prediction)
  shape = len(ids), len(regions)
  pairs = rows.astype(np.int64) * shape[1] + columns[labelled]
  shared = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
  areas, shared = shared.sum(axis=1), shared[:, regions >= 0]
  return Contingency(ids.astype(np.int64), areas, shared, shared.sum(axis=0))


def iou(
  shared: Integer[np.ndarray, "t p"],
  areas: Integer[np.ndarray, "t"],
  sizes: Integer[np.ndarray, "p"],
) -> Float[np.ndarray, "t p"]:
  """Intersection over union of every pair, from the counts of a `Contingency`."""
  return shared / (areas[:, None] + sizes - shared)


def merge_columns(
  counts: Num[np.ndarray, "t n"], parents: Int[np.ndarray, "n"]
) -> Num[np.ndarray, "t _"]:
  """Adds up the columns of the regions that have the same parent."""
  merged = np.zeros((parents.max() + 1, len(counts)), counts.dtype)
  np.add.at(merged, parents, counts.T)
  return merged.T


def per_level(counts: Num[np.ndarray, "t n"], hierarchy: Hierarchy) -> list[Num[np.ndarray, "t _"]]:
  """Sums counts of superpixels, `[t, n_0]`, to those of the regions of every level, `[t, n_l]`."""
  levels = [counts]
  for parents in hierarchy.parents:
    levels.append(merge_columns(levels[-1], parents))
  return levels
