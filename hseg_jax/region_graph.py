"""The graph of the regions of a label map: which of them touch, and in which order they merge."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Int32


def border_lengths(labels: Int[np.ndarray, "h w"], num_regions: int) -> Int[np.ndarray, "n n"]:
  """Length of the border that each two regions share: the pairs of 4-neighbours across it."""
  counts = np.zeros(num_regions**2, np.int64)
  for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
    differ = first != second
    pairs = first[differ].astype(np.int64) * num_regions + second[differ]
    counts += np.bincount(pairs, minlength=num_regions**2)
  counts = counts.reshape(num_regions, num_regions)
  return counts + counts.T


def merge_order(
  points: Float[np.ndarray, "n d"],
  weights: Int[np.ndarray, "n"],
  linked: Bool[np.ndarray, "n n"],
) -> Int[np.ndarray, "m 2"]:
  """Greedy order in which linked regions merge by Ward's criterion, until no link is left.

  Merging i and j raises the weighted squared error by w_i w_j / (w_i + w_j) |x_i - x_j|^2; the
  cheapest linked pair goes first, ties by the lowest ids. A union keeps the lower id and the links
  of both (Ward, 1963, on a graph).

  Args:
    points: one vector a region. weights: its pixels. linked: which pairs may merge, symmetric.

  Returns:
    Rows (kept id, absorbed id), kept < absorbed.
  """
  points, weights = points.astype(np.float64), weights.astype(np.float64)
  linked = linked & ~np.eye(len(points), dtype=bool)

  def costs(i):
    distances = np.square(points - points[i]).sum(axis=1)
    return np.where(linked[i], weights * weights[i] / (weights + weights[i]) * distances, np.inf)

  table = np.stack([costs(i) for i in range(len(points))])
  order = []
  while linked.any():
    kept, absorbed = divmod(int(table.argmin()), len(points))
    order.append((kept, absorbed))
    total = weights[kept] + weights[absorbed]
    points[kept] = (weights[kept] * points[kept] + weights[absorbed] * points[absorbed]) / total
    weights[kept] = total
    linked[kept] |= linked[absorbed]
    linked[kept, kept] = False
    linked[:, kept] = linked[kept]
    linked[absorbed] = linked[:, absorbed] = False
    table[absorbed] = table[:, absorbed] = np.inf
    table[kept] = table[:, kept] = costs(kept)
  return np.array(order, np.int64).reshape(-1, 2)


def linkage_order(
  lengths: Float[np.ndarray, "n n"],
  borders: Float[np.ndarray, "n n"] | Int[np.ndarray, "n n"],
  linked: Bool[np.ndarray, "n n"],
) -> tuple[Int[np.ndarray, "m 2"], Float[np.ndarray, "m"]]:
  """Greedy order in which linked regions merge by average linkage, until no link is left.

  The pair that lies closest merges first, ties by the lowest ids. How far two unions are apart is
  the mean along the border between them, so heights never fall. Linked regions that do not touch
  merge after all that do.

  Args:
    lengths: how far each two regions are apart, symmetric, not negative; infinite if unknown.
    borders: how long a border they share; they touch where it is above zero.
    linked: which pairs may merge at all, symmetric; a union keeps the links of both.

  Returns:
    Rows (kept id, absorbed id), kept < absorbed, and the distance at which each merges.
  """
  linked = linked & ~np.eye(len(lengths), dtype=bool)
  touch = linked & (borders > 0) & np.isfinite(lengths)
  borders = np.where(touch, borders, 0).astype(np.float64)
  sums = np.where(touch, lengths, 0) * borders
  far = np.where(touch, lengths, 0).max(initial=0) + 1

  def means(rows):
    near = sums[rows] / np.maximum(borders[rows], 1e-12)
    return np.where(borders[rows] > 0, near, np.where(linked[rows], far, np.inf))

  table, order, heights = means(slice(None)), [], []
  while linked.any():
    # Rounded sums may make one of a pair's two entries the smaller one.
    kept, absorbed = sorted(divmod(int(table.argmin()), len(table)))
    order.append((kept, absorbed))
    heights.append(table[kept, absorbed])
    for each in (sums, borders, linked):
      each[kept] += each[absorbed]
      each[kept, kept] = 0
      each[:, kept] = each[kept]
      each[absorbed] = each[:, absorbed] = 0
    table[absorbed] = table[:, absorbed] = np.inf
    table[kept] = table[:, kept] = means(kept)
  # Rounding may leave a mean a hair below the one before.
  return np.array(order, np.int64).reshape(-1, 2), np.maximum.accumulate(np.array(heights))


def contract(
  lengths: Float[np.ndarray, "n n"],
  borders: Float[np.ndarray, "n n"] | Int[np.ndarray, "n n"],
  parents: Int[np.ndarray, "n"],
) -> tuple[Float[np.ndarray, "k k"], Float[np.ndarray, "k k"]]:
  """Distances of unions of regions, as means along the borders between them, and their borders.

  Args:
    lengths, borders: as `linkage_order` takes them.
    parents: the union that holds each region.
  """
  member = np.eye(parents.max() + 1)[parents]
  known = np.where(np.isfinite(lengths), borders, 0).astype(np.float64)
  sums = member.T @ (np.where(known > 0, lengths, 0) * known) @ member
  weights = member.T @ known @ member
  borders = member.T @ borders @ member
  np.fill_diagonal(borders, 0)
  return np.where(weights > 0, sums / np.maximum(weights, 1e-12), np.inf), borders


def merge_levels(
  labels: Int[np.ndarray, "h w"],
  parents: Sequence[Int[np.ndarray, "_"]],
  tables: Sequence[Float[np.ndarray, "_ _"]],
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
  """Unions, and the heights at which they happen, that lead from each level to the next and from
  the last to one region: `linkage_order` among siblings.

  Args:
    labels: region of every pixel at the finest level.
    parents: for each level but the last the region above that holds each region.
    tables: how far the regions of those levels are apart, as `linkage_order` takes it; for the last
      it follows from the one below.
  """
  found = []
  borders = border_lengths(labels, len(tables[0]))
  for parent, table in zip(parents, tables, strict=True):
    found.append(linkage_order(table, borders, parent[:, None] == parent))
    table, borders = contract(table, borders, parent)
  found.append(linkage_order(table, borders, np.ones(table.shape, bool)))
  unions, heights = zip(*found, strict=True)
  return tuple(each.astype(np.int32) for each in unions), tuple(
    each.astype(np.float32) for each in heights
  )


def meeting_heights(
  parents: Sequence[Int[np.ndarray, "_"]],
  unions: Sequence[Int[np.ndarray, "_ 2"]],
  heights: Sequence[Float[np.ndarray, "_"]],
) -> Float[np.ndarray, "n n"]:
  """The height at which each two of the finest regions come together, an ultrametric: that of their
  union, or of one that made either side of it, if that was higher.

  Args:
    parents: for each level but the last the region above that holds each region.
    unions, heights: for each level, as `merge_levels` finds them.
  """
  size = len(parents[0]) if parents else len(unions[0]) + 1
  region, reached = np.arange(size), np.zeros(size, np.float32)
  table = np.zeros((size, size), np.float32)
  for level, (pairs, values) in enumerate(zip(unions, heights, strict=True)):
    union = region.copy()
    for (kept, absorbed), height in zip(pairs, values, strict=True):
      first, second = np.flatnonzero(union == kept), np.flatnonzero(union == absorbed)
      height = max(height, reached[first[0]], reached[second[0]])
      table[np.ix_(first, second)] = table[np.ix_(second, first)] = height
      reached[first] = reached[second] = height
      union[second] = kept
    if level < len(parents):
      region = parents[level][region]
  return table


def merge(labels: Int[np.ndarray, "h w"], order: Int[np.ndarray, "m 2"]) -> Int[np.ndarray, "h w"]:
  """Label map after the merges of `merge_order`, numbered by each union's lowest old id."""
  region = np.arange(labels.max() + 1)
  for kept, absorbed in order:
    region[region == absorbed] = kept
  ranks = np.unique(region, return_inverse=True)[1]
  return ranks.astype(np.int32)[labels]


def dissolve_smallest(labels: Int[np.ndarray, "h w"], num_regions: int) -> Int32[np.ndarray, "h w"]:
  """Leaves at most so many regions: the smallest joins the neighbour of the longest shared border.

  Ties go to the lowest id. The result nests: every region of it is a union of old ones.

  Args:
    labels: ids without gaps.
    num_regions: how many regions may be left, 1 or more.
  """
  count = int(labels.max()) + 1
  areas, borders = np.bincount(labels.ravel()).astype(float), border_lengths(labels, count)
  order = []
  for _ in range(count - num_regions):
    smallest = areas.argmin()
    kept, absorbed = sorted((smallest, borders[smallest].argmax()))
    order.append((kept, absorbed))
    areas[kept], areas[absorbed] = areas[kept] + areas[absorbed], np.inf
    borders[kept] += borders[absorbed]
    borders[kept, kept] = 0
    borders[:, kept] = borders[kept]
    borders[absorbed] = borders[:, absorbed] = 0
  return merge(labels, np.array(order, np.int64).reshape(-1, 2)).astype(np.int32)
