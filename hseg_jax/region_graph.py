"""The graph of the regions of a label map: which of them touch, and in which order they merge."""

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
