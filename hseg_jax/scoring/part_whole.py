"""How well single objects and parts are found among the regions of a segmentation.

A truth is a map of wholes or one of parts; the scores of each are computed alike. What ties the
two together, that parts nest in wholes, is judged by `nesting`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.label_maps import compact
from hseg_jax.scoring import contingency


def best_ious(
  truth: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  prediction: Integer[np.ndarray, "h w"],
  *,
  background: int = 0,
) -> Float[np.ndarray, "t"]:
  """Largest intersection over union of each object or part with any predicted region.

  Args:
    truth: id of the object or part at every pixel, or the mask of one object. The `background` id
      is nothing to be found, but its pixels count in the unions; negative ids count nowhere.
    prediction: id of the region at every pixel; negative ids are no region.
    background: the id that stands for no object and no part.

  Returns:
    One value in [0, 1] for each id of the truth other than `background`, ascending; empty if the
    image shows none.
  """
  table = contingency.tabulate(truth.astype(np.int64), prediction)
  return table.ious[table.ids != background].max(axis=1, initial=0)


def mean_best_iou(
  truth: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  prediction: Integer[np.ndarray, "h w"],
  *,
  background: int = 0,
) -> float:
  """Mean of `best_ious` over the objects or parts of one image; NaN if it shows none."""
  ious = best_ious(truth, prediction, background=background)
  return float(ious.mean()) if len(ious) else float("nan")


def best_mask_ious(
  truth: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  masks: Bool[np.ndarray, "m h w"],
  *,
  background: int = 0,
) -> Float[np.ndarray, "t"]:
  """`best_ious` where the predicted regions are masks, which may overlap and leave pixels out."""
  truth = truth.astype(np.int64)
  labelled = truth >= 0
  ids, rows = compact(truth[labelled])
  found = masks[:, labelled]
  shared = np.array(
    [np.bincount(rows, weights=mask, minlength=len(ids)) for mask in found]
  ).reshape(len(found), len(ids))
  table = contingency.iou(
    shared.T.astype(np.int64), np.bincount(rows, minlength=len(ids)), found.sum(axis=1)
  )
  return table[ids != background].max(axis=1, initial=0)


def level_ious(
  truth: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  hierarchy: Hierarchy,
  *,
  background: int = 0,
) -> Float[np.ndarray, "n t"]:
  """`best_ious` at every level of a hierarchy, one row a level, the superpixels first.

  The largest of each column is the best that the whole tree holds for that object.
  """
  areas, levels = _count_levels(truth, hierarchy, background)
  tables = (contingency.iou(shared, areas, sizes) for shared, sizes in levels)
  return np.stack([table.max(axis=1) for table in tables])


def cut_ious(
  truth: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  hierarchy: Hierarchy,
  *,
  background: int = 0,
) -> Float[np.ndarray, "n t"]:
  """`best_ious` of every cut of a hierarchy: row k - 1 is that of `hierarchy.cut(k)`."""
  areas, levels = _count_levels(truth, hierarchy, background)
  rows = np.empty((hierarchy.sizes[0], len(areas)))
  for level, (shared, sizes) in enumerate(levels):
    table = contingency.iou(shared, areas, sizes)
    num_regions = len(sizes)
    rows[num_regions - 1] = table.max(axis=1)
    for kept, absorbed in hierarchy.merges(level):
      shared[:, kept] += shared[:, absorbed]
      sizes[kept] += sizes[absorbed]
      table[:, kept] = shared[:, kept] / (areas + sizes[kept] - shared[:, kept])
      table[:, absorbed] = 0
      num_regions -= 1
      rows[num_regions - 1] = table.max(axis=1)
  return rows


def best_level(ious: Float[np.ndarray, "n t"]) -> int:
  """The level of an image whose objects are found best in the mean, from `level_ious`.

  Ties go to the coarsest level, which is also that of an image without objects.
  """
  return len(ious) - 1 - int(ious[::-1].sum(axis=1).argmax())


def best_cut(ious: Float[np.ndarray, "n t"]) -> int:
  """The number of regions at which objects are found best in the mean, from `cut_ious`.

  Ties go to the fewest regions: 1 in an image without objects.
  """
  return 1 + int(ious.sum(axis=1).argmax())


class Found(NamedTuple):
  """How well the objects, or the parts, of many images were found.

  Attributes:
    mean_best_iou: mean of the best IoU over all objects of all images, in [0, 1].
    nf_covering: normalised foreground covering: mean over an image's objects first, then over
      the images that show any, in [0, 1].
  """

  mean_best_iou: float
  nf_covering: float


def summarize(ious: Iterable[Float[np.ndarray, "_"]]) -> Found:
  """Means of `best_ious` over images; NaN if none of them shows an object.

  NFCovering is due to Ke, Hwang, Guo, Wang and Yu, "Unsupervised Hierarchical Semantic
  Segmentation with Multiview Cosegmentation and Clustering Transformers" (HSG), CVPR 2022: unlike
  the covering of BSDS500 it sees the foreground only and gives every region, however small, the
  same weight. Within one image it is `mean_best_iou`; over many it is their mean, while the mean
  over all objects gives an image weight by what it shows.
  """
  shown = [each for each in ious if len(each)]
  if not shown:
    return Found(float("nan"), float("nan"))
  return Found(
    mean_best_iou=float(np.concatenate(shown).mean()),
    nf_covering=float(np.mean([each.mean() for each in shown])),
  )


def _count_levels(
  truth: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"], hierarchy: Hierarchy, background: int
) -> tuple[Int[np.ndarray, "t"], list[tuple[np.ndarray, np.ndarray]]]:
  """Areas of the objects, and for every level the pixels they share with regions, and the sizes."""
  table = contingency.tabulate(truth.astype(np.int64), hierarchy.segments)
  sought = table.ids != background
  counts = np.vstack([table.shared[sought], table.sizes])
  levels = contingency.per_level(counts, hierarchy)
  return table.areas[sought], [(level[:-1], level[-1]) for level in levels]
