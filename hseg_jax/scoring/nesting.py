"""Whether the tree of a hierarchy puts parts inside their wholes, as a truth of both does.

Truths are a map of wholes and a map of parts of the same image. A part belongs to the whole that
holds most of its pixels (ties: the lowest id); parts mostly outside all wholes are left out, so
parts of different wholes need different ids. The `background` id is neither whole nor part; a
pixel with a negative id in either map is left out of every count. The nodes of the tree are the
regions of all levels; above the last stands the whole image, which counts as no region.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.label_maps import compact
from hseg_jax.scoring import contingency


class Nesting(NamedTuple):
  """How the parts and wholes of one image are found in a tree; see `match`.

  Attributes:
    whole_iou: best IoU of each whole with any region of any level, ids ascending, `[t]`.
    part_iou: the same of each part, ids ascending, `[m]`.
    nested_iou: best IoU of each part with the regions inside the best region of its whole, `[m]`.
    is_nested: whether that loses nothing: a best region of the part lies inside, `[m]`.
  """

  whole_iou: Float[np.ndarray, "t"]
  part_iou: Float[np.ndarray, "m"]
  nested_iou: Float[np.ndarray, "m"]
  is_nested: Bool[np.ndarray, "m"]


class Triplets(NamedTuple):
  """Shares of triplets of pixels that a tree resolves as the truth does, in [0, 1].

  Attributes:
    parts: of a, b in one part and c in another part of the same whole.
    wholes: of a, b in different parts of one whole and c outside that whole.
  """

  parts: float
  wholes: float


def match(
  wholes: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  parts: Integer[np.ndarray, "h w"],
  hierarchy: Hierarchy,
  *,
  background: int = 0,
) -> Nesting:
  """Finds every whole in the tree, and every part in the tree and below its whole.

  The best region of a whole is the one with the largest IoU at any level, the coarsest among
  equals. `nested_iou` is our definition; its mean is at most that of `part_iou`, and what is
  missing is the price of the tree. Arrays are empty where the image shows no whole or no part.
  """
  truth = _tabulate(wholes.astype(np.int64), parts.astype(np.int64), hierarchy, background)
  sizes = contingency.per_level(truth.sizes[None], hierarchy)
  whole_ious, part_ious = (
    [
      contingency.iou(shared, areas, size[0])
      for shared, size in zip(contingency.per_level(table, hierarchy), sizes, strict=True)
    ]
    for table, areas in ((truth.wholes, truth.whole_areas), (truth.parts, truth.part_areas))
  )
  best = np.stack([table.max(axis=1) for table in whole_ious])
  level = len(best) - 1 - best[::-1].argmax(axis=0)
  nested = np.zeros(len(truth.whole_of))
  for part, whole in enumerate(truth.whole_of):
    inside = np.arange(hierarchy.sizes[level[whole]]) == whole_ious[level[whole]][whole].argmax()
    for depth in range(level[whole], -1, -1):
      nested[part] = max(nested[part], part_ious[depth][part].max(initial=0, where=inside))
      if depth:
        inside = inside[hierarchy.parents[depth - 1]]
  part_iou = np.stack([table.max(axis=1) for table in part_ious]).max(axis=0)
  return Nesting(best.max(axis=0), part_iou, nested, nested == part_iou)


def nested_share(nesting: Nesting) -> float:
  """Share of the parts whose best region lies inside the best region of their whole, in [0, 1].

  NaN if there are no parts.
  """
  return float(nesting.is_nested.mean()) if len(nesting.is_nested) else float("nan")


def nh_covering(nesting: Nesting, *, threshold: float | int = 0.5) -> float:
  """Normalised hierarchical covering of one image's wholes and parts together, in [0, 1].

  After Rossetti and Pirri, "Hierarchy-Agnostic Unsupervised Segmentation", NeurIPS 2024: the mean
  over all nodes of the truth of their best IoU, 0 where it is below `threshold`, times the share
  of the node's ancestors, itself included, whose best region holds the node's. For a part that
  is 1 where it is nested and 1/2 elsewhere. Theirs counts the background as one more node, ours
  does not. NaN if there is neither part nor whole.
  """
  covered = np.concatenate(
    [nesting.whole_iou, nesting.part_iou * np.where(nesting.is_nested, 1, 0.5)]
  )
  ious = np.concatenate([nesting.whole_iou, nesting.part_iou])
  return float(np.where(ious >= threshold, covered, 0).mean()) if len(ious) else float("nan")


def dendrogram_purity(
  truth: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  hierarchy: Hierarchy,
  *,
  background: int = 0,
) -> float:
  """Expected purity of the region in which two pixels of one object first meet, in (0, 1].

  Heller and Ghahramani, "Bayesian Hierarchical Clustering", ICML 2005: over all pairs of pixels
  with the same id, other than `background`, the mean share of that id among the labelled pixels
  of the smallest region that holds both. It is 1 where an object's pixels all meet before others
  join them: a tree that nests reaches it for the parts and for the wholes. NaN without pairs.
  """
  table = contingency.tabulate(truth.astype(np.int64), hierarchy.segments)
  sought = table.ids != background
  areas, labelled = table.areas[sought], table.sizes.sum()
  shared = contingency.per_level(table.shared[sought], hierarchy)
  sizes = contingency.per_level(table.sizes[None], hierarchy)
  met, pure = _pairs(areas).sum(), 0.0
  for pairs, inside, size in zip(_first_met(shared, hierarchy), shared, sizes, strict=True):
    pure += float((pairs * inside / np.maximum(size, 1)).sum())
  apart = _pairs(areas) - _pairs(shared[-1]).sum(axis=1)
  pure += float((apart * areas).sum() / max(labelled, 1))
  return pure / float(met) if met else float("nan")


def triplets(
  wholes: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  parts: Integer[np.ndarray, "h w"],
  hierarchy: Hierarchy,
  *,
  background: int = 0,
) -> Triplets:
  """Compares the tree with the truth, triplet by triplet of pixels.

  The truth says of a and b that they belong closer together than either with c; the tree agrees
  where a and b meet in a region without c. These are the triplets in which the triples distance
  of Critchlow, Pearl and Qian (Systematic Biology 1996) compares two trees; all are counted, none
  is sampled. `Triplets` says which there are; a whole needs two parts to have any. Pixels that
  meet all three at once, as in one superpixel, are resolved wrongly. Pixels of a part off its
  whole are of no part here. NaN where there is no triplet.
  """
  wholes, parts = wholes.astype(np.int64), parts.astype(np.int64)
  truth = _tabulate(wholes, _trim(wholes, parts, background), hierarchy, background)
  part_levels = contingency.per_level(truth.parts, hierarchy)
  whole_levels = contingency.per_level(truth.wholes, hierarchy)
  sizes = contingency.per_level(truth.sizes[None], hierarchy)
  members = truth.whole_of == np.arange(len(truth.whole_areas))[:, None]
  grouped = [members @ level for level in part_levels]  # pixels of a whole's parts, [t, n_l]
  within = _first_met(part_levels, hierarchy)
  together = _first_met(grouped, hierarchy)
  inner = outer = 0.0
  others = (members @ truth.part_areas)[truth.whole_of] - truth.part_areas
  outsiders = truth.sizes.sum() - truth.whole_areas
  for level, part in enumerate(part_levels):
    siblings = grouped[level][truth.whole_of] - part
    inner += float((within[level] * (others[:, None] - siblings)).sum())
    mixed = together[level] - members @ within[level]
    strangers = sizes[level] - whole_levels[level]
    outer += float((mixed * (outsiders[:, None] - strangers)).sum())
  same = _pairs(truth.part_areas)
  mixed = _pairs(members @ truth.part_areas) - members @ same
  return Triplets(_share(inner, same @ others), _share(outer, mixed @ outsiders))


class _Truth(NamedTuple):
  """Pixels of wholes and parts in superpixels, and the row of the whole that each part is in."""

  wholes: Int[np.ndarray, "t n"]
  whole_areas: Int[np.ndarray, "t"]
  parts: Int[np.ndarray, "m n"]
  part_areas: Int[np.ndarray, "m"]
  whole_of: Int[np.ndarray, "m"]
  sizes: Int[np.ndarray, "n"]


def _tabulate(wholes, parts, hierarchy: Hierarchy, background: int) -> _Truth:
  """Counts wholes and parts, and gives each part its whole."""
  unlabelled = (wholes < 0) | (parts < 0)
  ids, holders = _find_holders(wholes, parts)
  whole_table, part_table = (
    contingency.tabulate(np.where(unlabelled, -1, truth), hierarchy.segments)
    for truth in (wholes, parts)
  )
  sought = whole_table.ids != background
  belongs = (ids != background) & (holders != background)
  return _Truth(
    wholes=whole_table.shared[sought],
    whole_areas=whole_table.areas[sought],
    parts=part_table.shared[belongs],
    part_areas=part_table.areas[belongs],
    whole_of=np.searchsorted(whole_table.ids[sought], holders[belongs]),
    sizes=whole_table.sizes,
  )


def _find_holders(wholes, parts) -> tuple[np.ndarray, np.ndarray]:
  """The ids of all parts, ascending, and for each the id that most of its pixels have in wholes."""
  labelled = (wholes >= 0) & (parts >= 0)
  table = contingency.tabulate(np.where(labelled, parts, -1), np.where(labelled, wholes, -1))
  if not len(table.ids):
    return table.ids, table.ids
  return table.ids, compact(wholes[labelled])[0][table.shared.argmax(axis=1)]


def _trim(wholes, parts, background: int) -> np.ndarray:
  """Parts without their pixels off the whole that they are in."""
  ids, holders = _find_holders(wholes, parts)
  if not len(ids):
    return parts
  # Pixels of ids that are not labelled anywhere get some holder, but they are not counted.
  holder = holders[np.searchsorted(ids, parts).clip(max=len(ids) - 1)]
  return np.where((parts >= 0) & (holder != wholes), background, parts)


def _pairs(counts: Integer[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
  """How many pairs that many pixels make."""
  counts = counts.astype(np.float64)
  return counts * (counts - 1) / 2


def _first_met(
  levels: list[Integer[np.ndarray, "t _"]], hierarchy: Hierarchy
) -> list[Float[np.ndarray, "t _"]]:
  """Pairs of pixels of each object whose smallest common region is each region of each level."""
  pairs = [_pairs(level) for level in levels]
  met_below = [
    contingency.merge_columns(*each) for each in zip(pairs, hierarchy.parents, strict=False)
  ]
  return [pairs[0], *(upper - met for upper, met in zip(pairs[1:], met_below, strict=True))]


def _share(part: float, total: float) -> float:
  return part / float(total) if total else float("nan")
