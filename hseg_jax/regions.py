"""The regions of a hierarchy as plain values, for json: areas, boxes, families, COCO masks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from hseg_jax.hierarchy import Hierarchy


class Runs(NamedTuple):
  """A label map as runs of equal labels down its columns, in order; none spans two columns.

  Attributes:
    start: first pixel of each run, counted down the columns, `[r]`.
    length: its pixels.
    label: its region.
    shape: height and width of the map.
  """

  start: Int[np.ndarray, "r"]
  length: Int[np.ndarray, "r"]
  label: Int[np.ndarray, "r"]
  shape: tuple[int, int]


def describe(
  hierarchy: Hierarchy, class_names: Sequence[str] = (), num_regions: int | None = None
) -> dict[str, Any]:
  """What there is to say of every region, in json values.

  Args:
    hierarchy: of one image.
    class_names: one for each class, or nothing.
    num_regions: also describe a cut into so many.

  Returns:
    `height`, `width`; `classes`, likeliest first, each with `id`, `probability` and `name`, where
    the hierarchy has probabilities; `levels`, finest first, each a list of regions with `id`,
    `area` in pixels, `bbox` (x, y, width, height), `parent` (id in the next level, null at the
    last), `children` (ids in the level before) and `segmentation`, a COCO mask: `size` (height,
    width) and `counts`; where the model classifies single superpixels also `class`, the likeliest
    in the mean over the region's pixels, as in `classes`. With `num_regions` also
    `cut`, such a list whose regions have neither parent nor children.
  """
  height, width = hierarchy.segments.shape
  found: dict[str, Any] = {"height": height, "width": width}
  if hierarchy.probabilities is not None:
    order = np.argsort(-hierarchy.probabilities, kind="stable")
    found["classes"] = [
      _score(int(i), float(hierarchy.probabilities[i]), class_names) for i in order
    ]
  superpixels = runs = find_runs(hierarchy.segments)
  found["levels"] = []
  for level in range(hierarchy.num_levels):
    if level:
      runs = runs._replace(label=hierarchy.parents[level - 1][runs.label])
    regions = _regions(runs)
    _add_family(regions, hierarchy, level)
    _add_classes(regions, hierarchy, superpixels, runs, class_names)
    found["levels"].append(regions)
  if num_regions is not None:
    runs = superpixels._replace(label=_cut_parents(hierarchy, num_regions)[superpixels.label])
    found["cut"] = _regions(runs)
    _add_classes(found["cut"], hierarchy, superpixels, runs, class_names)
  return found


def insert_cut(hierarchy: Hierarchy, num_regions: int) -> Hierarchy:
  """The hierarchy with a cut as one more level, where it differs from all; without features."""
  cut = _cut_parents(hierarchy, num_regions)
  size = int(cut.max()) + 1
  ancestors = [np.arange(hierarchy.sizes[0])]  # of each superpixel, at every level
  for parents in hierarchy.parents:
    ancestors.append(parents[ancestors[-1]])
  if size not in hierarchy.sizes:
    ancestors.insert(sum(other > size for other in hierarchy.sizes), cut)
  parents = []
  for fine, coarse in zip(ancestors, ancestors[1:], strict=False):
    found = np.zeros(fine.max() + 1, np.int32)
    found[fine] = coarse
    parents.append(found)
  return Hierarchy(hierarchy.segments, tuple(parents))


def find_runs(labels: Int[np.ndarray, "h w"]) -> Runs:
  """Cuts the columns of a label map into runs."""
  columns = np.ascontiguousarray(labels.T)
  begins = np.ones(columns.shape, bool)
  np.not_equal(columns[:, 1:], columns[:, :-1], out=begins[:, 1:])
  start = np.flatnonzero(begins)
  length = np.diff(start, append=labels.size)
  return Runs(start, length, columns.ravel()[start], labels.shape)


def encode_mask(start: Int[np.ndarray, "r"], length: Int[np.ndarray, "r"], size: int) -> str:
  """The compressed run lengths of COCO of a mask, given by its runs down the columns.

  Counts of zeros and ones alternate, zeros first. From the fourth on each is stored as the
  difference to the count two before, and every number as groups of five bits, lowest first, in
  characters from "0" on; bit 6 says that more follow, bit 5 of the last is the sign.

  Args:
    start: first pixels of the runs of ones, ascending.
    length: their pixels.
    size: pixels of the mask.
  """
  stop = start + length
  opens = np.append(True, start[1:] != stop[:-1])  # runs that touch are one
  start, stop = start[opens], stop[np.append(opens[1:], True)]
  edges = np.append(np.stack([start, stop], axis=1).ravel(), size)
  counts = np.diff(edges, prepend=0)
  if counts[-1] == 0:
    counts = counts[:-1]
  numbers = counts.copy()
  numbers[3:] -= counts[1:-2]
  groups = []
  more = np.ones(len(numbers), bool)
  while more.any():
    bits, numbers = numbers & 31, numbers >> 5
    written, more = more, more & (numbers != np.where(bits & 16, -1, 0))
    groups.append(np.where(written, bits + 32 * more + 48, 0))
  characters = np.stack(groups, axis=1).ravel()
  return characters[characters > 0].astype(np.uint8).tobytes().decode("ascii")


def _cut_parents(hierarchy: Hierarchy, num_regions: int) -> Int[np.ndarray, "n"]:
  """The region of a cut that holds each superpixel."""
  parents = np.zeros(hierarchy.sizes[0], np.int32)
  parents[hierarchy.segments] = hierarchy.cut(num_regions)
  return parents


def _regions(runs: Runs) -> list[dict[str, Any]]:
  """Id, area, box and mask of every region of the runs."""
  height, width = runs.shape
  order = np.argsort(runs.label, kind="stable")
  bounds = np.cumsum(np.bincount(runs.label))[:-1]
  regions = []
  for i, members in enumerate(np.split(order, bounds)):
    start, length = runs.start[members], runs.length[members]
    column, top = np.divmod(start, height)
    left, upper = int(column[0]), int(top.min())
    regions.append({
      "id": i,
      "area": int(length.sum()),
      "bbox": [left, upper, int(column[-1]) - left + 1, int((top + length).max()) - upper],
      "segmentation": {
        "size": [height, width],
        "counts": encode_mask(start, length, height * width),
      },
    })  # fmt: skip
  return regions


def _add_family(regions: list[dict[str, Any]], hierarchy: Hierarchy, level: int) -> None:
  """Adds the ids of each region's parent and children."""
  last = level == hierarchy.num_levels - 1
  for region in regions:
    i = region["id"]
    region["parent"] = None if last else int(hierarchy.parents[level][i])
    children = np.flatnonzero(hierarchy.parents[level - 1] == i) if level else ()
    region["children"] = [int(child) for child in children]


def _add_classes(
  regions: list[dict[str, Any]],
  hierarchy: Hierarchy,
  superpixels: Runs,
  runs: Runs,
  class_names: Sequence[str],
) -> None:
  """Adds each region's likeliest class where there are logits of superpixels."""
  if hierarchy.logits is None or hierarchy.logits.ndim == 1:
    return
  weights = np.zeros((len(regions), len(hierarchy.logits)))
  np.add.at(weights, (runs.label, superpixels.label), runs.length)
  weights /= weights.sum(axis=1, keepdims=True)
  for region, row in zip(regions, weights @ _softmax(hierarchy.logits), strict=True):
    region["class"] = _score(int(row.argmax()), float(row.max()), class_names)


def _score(i: int, probability: float, class_names: Sequence[str]) -> dict[str, Any]:
  name = {"name": class_names[i]} if class_names else {}
  return {"id": i, **name, "probability": round(probability, 6)}


def _softmax(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
  powers = np.exp(logits - logits.max(axis=1, keepdims=True))
  return powers / powers.sum(axis=1, keepdims=True)
