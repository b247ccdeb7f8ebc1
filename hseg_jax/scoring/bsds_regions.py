"""Region scores of the Berkeley benchmark (BSDS500): covering, probabilistic Rand index, variation.

Arbelaez, Maire, Fowlkes and Malik, "Contour Detection and Hierarchical Image Segmentation",
PAMI 2011, section 2.3. An image has several annotators; its hierarchy is scored at every level, and
the levels of all images are compared by their number. "ODS" takes one level for the whole data set,
"OIS" the best level of each image. A negative id in a truth marks an unlabelled pixel, which is
left out of every count of that annotator; negative ids in a prediction are regions that cover
nothing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import sparse

from hseg_jax.errors import UserError
from hseg_jax.label_maps import compact
from hseg_jax.scoring import contour_maps


class RegionCounts(NamedTuple):
  """Region scores of the levels of one image.

  Attributes:
    covered: sum over the regions of all annotators of |R| max IoU(R, R'), R' of the level, `[k]`.
    covered_by_best: the same sum with R' of any level.
    labelled: labelled pixels of all annotators, so many as a perfect level covers.
    rand_index: mean over annotators of the share of pairs of pixels that truth and level both join
      or both part, `[k]` in [0, 1].
    variation: mean over annotators of the variation of information, H(S|S') + H(S'|S), in bits,
      `[k]`, 0 for equal segmentations.
  """

  covered: Float[np.ndarray, "k"]
  covered_by_best: float
  labelled: int
  rand_index: Float[np.ndarray, "k"]
  variation: Float[np.ndarray, "k"]


class RegionScores(NamedTuple):
  """Region scores of a data set.

  Attributes:
    covering: of each level, `[k]` in [0, 1]: shares of the labelled pixels of all images together.
    covering_ods: covering of the level that covers most.
    covering_ois: with the level of each image that covers most.
    covering_best: with the best region of any level for every region of a truth.
    rand_index: probabilistic Rand index (PRI) of each level, mean over images, `[k]` in [0, 1].
    rand_index_ods, rand_index_ois: of the best level of all, of each image's best.
    variation: variation of information (VI) of each level, mean over images, in bits, `[k]`.
    variation_ods, variation_ois: of the best (lowest) level of all, of each image's best.
  """

  covering: Float[np.ndarray, "k"]
  covering_ods: float
  covering_ois: float
  covering_best: float
  rand_index: Float[np.ndarray, "k"]
  rand_index_ods: float
  rand_index_ois: float
  variation: Float[np.ndarray, "k"]
  variation_ods: float
  variation_ois: float


class _Table(NamedTuple):
  """Pixels that the regions of all annotators, rows, share with those of a level, columns."""

  shared: sparse.csr_array  # [t, p] of counts
  annotator: Int[np.ndarray, "t"]
  regions: Bool[np.ndarray, "p"]  # False: a negative id, which covers nothing


def count_levels(
  truths: Sequence[Integer[np.ndarray, "h w"]], levels: Sequence[Integer[np.ndarray, "H W"]]
) -> RegionCounts:
  """Scores segmentations of one image, nested or not, against its annotators.

  Raises:
    UserError: no annotator, no level, no labelled pixel, or sizes that differ.
  """
  if not len(levels):
    raise UserError("There is no segmentation to score.")
  rows, annotator = _truth_rows(truths, levels)
  tables = []
  for labels in levels:
    ids, columns = compact(labels)
    tables.append(_Table(_count_shared(rows, columns, len(ids)), annotator, ids >= 0))
  return _count(tables)


def count_contours(
  truths: Sequence[Integer[np.ndarray, "h w"]],
  contours: Float[np.ndarray, "H W"],
  thresholds: Float[np.ndarray, "k"],
) -> RegionCounts:
  """Scores the cuts of a contour map at double resolution against the annotators of the image.

  Args:
    truths: one label map an annotator.
    contours: strengths, `[2h+1, 2w+1]`.
    thresholds: ascending, at least one.

  Raises:
    UserError: no annotator, no labelled pixel, or sizes that do not belong together.
  """
  cuts = contour_maps.cut(contours, thresholds)
  rows, annotator = _truth_rows(truths, [cuts.labels])
  finest = _count_shared(rows, cuts.labels, len(cuts.regions[0]))

  def tables():
    for regions in cuts.regions:
      size = int(regions.max()) + 1
      ones = np.ones(len(regions), np.int64)
      member = sparse.csr_array((ones, (np.arange(len(regions)), regions)), (len(regions), size))
      yield _Table((finest @ member).tocsr(), annotator, np.ones(size, bool))

  return _count(tables())


def summarize(counts: Sequence[RegionCounts]) -> RegionScores:
  """Scores of a data set from the counts of its images.

  Raises:
    UserError: there is no image, or images differ in their number of levels.
  """
  if len({len(image.covered) for image in counts}) != 1:
    sizes = sorted({len(image.covered) for image in counts})
    raise UserError(f"The images have {sizes} levels; all must have the same number, at least one.")
  labelled = sum(image.labelled for image in counts)
  covered = np.stack([image.covered for image in counts])
  rand_index = np.stack([image.rand_index for image in counts])
  variation = np.stack([image.variation for image in counts])
  covering = covered.sum(axis=0) / labelled
  return RegionScores(
    covering=covering,
    covering_ods=float(covering.max()),
    covering_ois=float(covered.max(axis=1).sum() / labelled),
    covering_best=sum(image.covered_by_best for image in counts) / labelled,
    rand_index=rand_index.mean(axis=0),
    rand_index_ods=float(rand_index.mean(axis=0).max()),
    rand_index_ois=float(rand_index.max(axis=1).mean()),
    variation=variation.mean(axis=0),
    variation_ods=float(variation.mean(axis=0).min()),
    variation_ois=float(variation.min(axis=1).mean()),
  )


def _truth_rows(
  truths: Sequence[Integer[np.ndarray, "h w"]], levels: Sequence[Integer[np.ndarray, "H W"]]
) -> tuple[list[Int[np.ndarray, "h w"]], Int[np.ndarray, "t"]]:
  """Maps whose ids number the regions of all annotators on, -1 = unlabelled; whose each is."""
  if not len(truths):
    raise UserError("There is no annotator to score against.")
  shapes = {labels.shape for labels in (*truths, *levels)}
  if len(shapes) > 1:
    sizes = " and ".join(f"{h}x{w}" for h, w in sorted(shapes))
    raise UserError(f"Truth and prediction differ in size: {sizes}.")
  rows, annotator = [], []
  for truth in truths:
    ids, inverse = compact(truth)
    unlabelled = int((ids < 0).sum())
    if unlabelled == len(ids):  # who labels nothing is no annotator
      continue
    numbers = inverse.astype(np.int64) - unlabelled + len(annotator)
    numbers[inverse < unlabelled] = -1
    annotator += [len(rows)] * (len(ids) - unlabelled)
    rows.append(numbers)
  if not rows:
    raise UserError("No pixel of the truth is labelled.")
  return rows, np.array(annotator)


def _count_shared(
  rows: Sequence[Int[np.ndarray, "h w"]], columns: Int[np.ndarray, "h w"], size: int
) -> sparse.csr_array:
  """Counts the pixels of every row and column, `[t, size]`."""
  keys = np.concatenate([row[row >= 0] * size + columns[row >= 0] for row in rows])
  keys, counts = np.unique(keys, return_counts=True)
  height = 1 + max(int(row.max()) for row in rows)
  return sparse.csr_array((counts, divmod(keys, size)), (height, size))


def _count(tables: Iterable[_Table]) -> RegionCounts:
  levels, best = [], None
  for table in tables:
    cover, rand_index, variation = _score(table)
    best = cover if best is None else np.maximum(best, cover)
    levels.append((cover.sum(), rand_index, variation))
    labelled = int(table.shared.sum())
  covered, rand_index, variation = np.array(levels).T
  return RegionCounts(covered, float(best.sum()), labelled, rand_index, variation)


def _score(table: _Table) -> tuple[Float[np.ndarray, "t"], float, float]:
  """Best cover |R| max IoU of every region of the truths; Rand index; variation in bits."""
  shared = table.shared.data.astype(np.float64)
  row = np.repeat(np.arange(table.shared.shape[0]), np.diff(table.shared.indptr))
  column, annotator = table.shared.indices, table.annotator[row]
  num_annotators, num_regions = table.annotator[-1] + 1, len(table.regions)
  truth = np.bincount(row, shared)
  # By annotator, since each leaves other pixels unlabelled.
  place = annotator * num_regions + column
  level = np.bincount(place, shared, minlength=num_annotators * num_regions)
  iou = shared / (truth[row] + level[place] - shared) * table.regions[column]
  cover = truth * np.maximum.reduceat(iou, table.shared.indptr[:-1])

  def total(values, owner):
    return np.bincount(owner, values, minlength=num_annotators)

  owner = np.repeat(np.arange(num_annotators), num_regions)
  pixels = total(truth, table.annotator)
  pairs = np.maximum(pixels * (pixels - 1), 1)  # of one pixel there is no pair to disagree on
  apart = total(truth**2, table.annotator) + total(level**2, owner)
  rand_index = 1 - (apart - 2 * total(shared**2, annotator)) / pairs

  bits = lambda counts, owner: total(counts * np.log2(np.maximum(counts, 1)), owner)
  information = bits(truth, table.annotator) + bits(level, owner) - 2 * bits(shared, annotator)
  return cover, float(rand_index.mean()), float((information / pixels).mean())
