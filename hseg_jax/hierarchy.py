"""The result of segmenting one image: regions that merge, level by level, into larger regions.

Level 0 is the superpixels; every region of level l lies inside one region of level l + 1. Only
numpy and scipy are needed here, so that a saved hierarchy can be read and cut anywhere.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from hseg_jax.errors import UserError
from hseg_jax.label_maps import compact, fill_unsegmented, find_donors
from hseg_jax.region_graph import meeting_heights, merge, merge_levels, merge_order

# Fields that are stored under their own name, where there are any.
_OPTIONAL = ("probabilities", "logits", "image_features", "embeddings")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Hierarchy:
  """Nested segmentations of one image; the ids of every level are 0, 1, 2, ... without gaps.

  Attributes:
    segments: superpixel of every pixel, `[h, w]` int32; the label map of level 0.
    parents: one array a level but the last: `parents[l][i]`, int32, is the region of level l + 1
      that holds region i of level l.
    features: one float32 array `[n_l, d_l]` a level, the last included; empty when none are known.
    probabilities: of each class for the whole image, `[c]` float32; None without a classifier.
    logits: what a classifier says, float32: of the whole image `[c]`, or of every superpixel
      `[n_0, c]` where it sees them one by one; None without a classifier.
    image_features: of the whole image, `[d]` float32; None when unknown.
    embeddings: of every superpixel, `[n_0, e]` float32, from a segmentation model without a
      classifier, which fuses the tokens of all levels; None from any other.
    unions: by which each level merges into the next, and the last into one region: one int32 array
      `[m_l, 2]` a level, as `merges` gives them; empty when no distances are known.
    heights: how far apart the two regions of each union are, float32 `[m_l]`, ascending in a level.

  Raises:
    ValueError: the arrays do not describe a hierarchy: ids with gaps, lengths that differ.
  """

  segments: Int[np.ndarray, "h w"]
  parents: tuple[Int[np.ndarray, "_"], ...] = ()
  features: tuple[Float[np.ndarray, "_ _"], ...] = ()
  probabilities: Float[np.ndarray, "c"] | None = None
  logits: Float[np.ndarray, "*n c"] | None = None
  image_features: Float[np.ndarray, "d"] | None = None
  embeddings: Float[np.ndarray, "n e"] | None = None
  unions: tuple[Int[np.ndarray, "_ 2"], ...] = ()
  heights: tuple[Float[np.ndarray, "_"], ...] = ()

  def __post_init__(self):
    if self.segments.ndim != 2 or self.segments.size == 0:
      raise ValueError(f"the label map has the shape {self.segments.shape}, not [h, w]")
    size = _count_ids(self.segments, "the superpixels")
    sizes = [size]
    for level, parents in enumerate(self.parents):
      if len(parents) != size:
        raise ValueError(f"level {level} has {size} regions but {len(parents)} parents")
      size = _count_ids(parents, f"level {level + 1}")
      sizes.append(size)
    if self.features and [len(features) for features in self.features] != sizes:
      rows = [len(features) for features in self.features]
      raise ValueError(f"the features have {rows} rows for levels of {sizes} regions")
    wanted = [size - above for size, above in zip(sizes, (*sizes[1:], 1), strict=True)]
    for rows in (self.unions, self.heights):
      if rows and [len(each) for each in rows] != wanted:
        raise ValueError(f"{[len(each) for each in rows]} unions for levels of {sizes} regions")
    for level, (pairs, size) in enumerate(zip(self.unions, sizes, strict=False)):
      kept, absorbed = pairs.T
      if not ((kept >= 0) & (kept < absorbed) & (absorbed < size)).all():
        raise ValueError(f"the unions of level {level} are no pairs of its {size} regions")
    for name in ("logits", "embeddings"):
      rows = getattr(self, name)
      if rows is not None and rows.ndim == 2 and len(rows) != sizes[0]:
        raise ValueError(f"the {name} have {len(rows)} rows for {sizes[0]} superpixels")

  def __repr__(self) -> str:
    height, width = self.segments.shape
    return f"Hierarchy({height}x{width} pixels, {' > '.join(map(str, self.sizes))} regions)"

  def _repr_png_(self) -> bytes:
    """How a notebook shows it: every level in colours, side by side."""
    from hseg_jax.viz import panels  # only here: pictures build on hierarchies

    return panels.encode(panels.level_panel(self))

  @classmethod
  def from_assignments(
    cls,
    segments: Int[np.ndarray, "h w"],
    assignments: Sequence[Int[np.ndarray, "_"]],
    features: Sequence[Float[np.ndarray, "_ _"]] = (),
    probabilities: Float[np.ndarray, "c"] | None = None,
    *,
    logits: Float[np.ndarray, "*n c"] | None = None,
    image_features: Float[np.ndarray, "d"] | None = None,
    embeddings: Float[np.ndarray, "n e"] | None = None,
    lengths: Sequence[Float[np.ndarray, "_ _"]] = (),
  ) -> "Hierarchy":
    """Builds the hierarchy of one image from what a model says about its tokens.

    A region whose token is invalid (its superpixel vanished when labels were shrunk to the stem's
    grid) takes the parent, and the features, of the neighbour with the longest shared border among
    those that have one; ties go to the lowest id, and rounds repeat until every region has a
    parent. Without any valid token the whole image is one region. A pixel that belongs to no
    segment takes the segment of the nearest pixel that has one (Euclidean). Segments without
    pixels and clusters without members drop out, and the ids close up in their old order.
    NOTE(reference): it takes the cluster of the invalid token itself, which saw no pixel.

    Args:
      segments: superpixel of every pixel; ids outside `[0, len(assignments[0]))` are no segment.
      assignments: for each level the cluster of every token, `[n_l]`; -1 = the token is invalid.
      features: a row per token for each level and one row per cluster of the last, or nothing.
      probabilities: of each class for the whole image.
      logits: of the whole image, `[c]`, or a row per token of the first level.
      image_features: of the whole image.
      embeddings: a row per token of the first level.
      lengths: for each level how far tokens are apart, `[n_l, n_l]`, infinite where they do not
        touch; or nothing. With them the result has `unions` and `heights`: by average linkage
        along borders, among siblings, and above the last level among all.

    Raises:
      ValueError: an assignment names a cluster that the next level does not have.
    """
    for level, (lower, upper) in enumerate(zip(assignments, assignments[1:], strict=False)):
      if lower.size and lower.max() >= len(upper):
        raise ValueError(f"assignments[{level}] names cluster {lower.max()} of {len(upper)}")
    num_segments = len(assignments[0]) if len(assignments) else int(segments.max()) + 1
    ids, labels = compact(fill_unsegmented(segments, num_segments))
    base, parents, kept, tables = labels, [], [], []
    for level, assignment in enumerate(assignments):
      cluster = assignment[ids]
      donors = ids[find_donors(cluster >= 0, labels)]
      if features:
        kept.append(features[level][donors].astype(np.float32))
      if level == 0:
        logits, embeddings = (_rows(table, donors) for table in (logits, embeddings))
      if lengths:
        same = donors[:, None] == donors
        tables.append(np.where(same, 0, lengths[level][donors][:, donors]))
      ids, parent = compact(np.maximum(assignment[donors], 0))
      parents.append(parent)
      labels = parent[labels]
    if features:
      kept.append(features[-1][ids].astype(np.float32))
    unions, heights = merge_levels(base, parents, tables) if tables else ((), ())
    said = {"logits": logits, "image_features": image_features, "embeddings": embeddings}
    tree = {"unions": unions, "heights": heights}
    return cls(base, tuple(parents), tuple(kept), probabilities, **said, **tree)

  @classmethod
  def from_labels(cls, maps: Sequence[Int[np.ndarray, "h w"]]) -> "Hierarchy":
    """Builds a hierarchy from nested label maps with contiguous ids, finest first.

    Raises:
      ValueError: a region of one map lies in several regions of the next.
    """
    parents = []
    for fine, coarse in zip(maps, maps[1:], strict=False):
      parent = np.zeros(fine.max() + 1, np.int32)
      parent[fine] = coarse
      if (parent[fine] != coarse).any():
        raise ValueError(f"the map of {coarse.max() + 1} regions cuts regions of the one below")
      parents.append(parent)
    return cls(maps[0].astype(np.int32), tuple(parents))

  @property
  def num_levels(self) -> int:
    """Number of levels, the superpixels included."""
    return len(self.parents) + 1

  @property
  def sizes(self) -> tuple[int, ...]:
    """Number of regions of each level, finest first."""
    return tuple(int(ids.max()) + 1 for ids in (self.segments, *self.parents))

  def labels(self, level: int) -> Int[np.ndarray, "h w"]:
    """Region of every pixel at a level; negative levels count from the coarsest.

    Raises:
      IndexError: there is no such level.
    """
    if not -self.num_levels <= level < self.num_levels:
      raise IndexError(f"level {level} of a hierarchy with {self.num_levels} levels")
    labels = self.segments
    for parents in self.parents[: level % self.num_levels]:
      labels = parents[labels]
    return labels

  def cut(self, num_regions: int) -> Int[np.ndarray, "h w"]:
    """Label map with exactly `num_regions` regions, or with all superpixels if there are fewer.

    Starts from the coarsest level that has enough regions and merges siblings, the closest pair
    first: by `heights` where the hierarchy has them; otherwise by `merge_order`, of unit features
    where there are any and of the regions' centres where not. Above the last level everything is
    siblings. So all cuts nest in each other and in the levels, and a cut at a level's own size is
    that level. `merges` tells the pairs.

    Raises:
      ValueError: `num_regions` is below 1.
    """
    if num_regions < 1:
      raise ValueError(f"an image cannot be cut into {num_regions} regions")
    sizes = self.sizes
    level = max((i for i, size in enumerate(sizes) if size >= num_regions), default=0)
    surplus = max(sizes[level] - num_regions, 0)
    return (
      merge(self.labels(level), self.merges(level)[:surplus]) if surplus else self.labels(level)
    )

  def merges(self, level: int) -> Int[np.ndarray, "m 2"]:
    """The unions by which `cut` leads from a level to the next, or from the last to one region:
    `unions` where the hierarchy has them.

    Returns:
      Rows (kept id, absorbed id) of the level's regions, kept < absorbed, in order: after m of
      them m regions fewer are left, numbered by the lowest id in each.
    """
    if self.unions:
      return self.unions[level]
    size, last = self.sizes[level], level == self.num_levels - 1
    parents = np.zeros(size, np.int32) if last else self.parents[level]
    labels = self.labels(level)
    if self.features:
      points = _unit(self.features[level])
    else:
      points = np.array(ndimage.center_of_mass(np.ones(labels.shape), labels, range(size)))
    return merge_order(points, np.bincount(labels.ravel()), parents[:, None] == parents)

  def boundaries(self) -> Float[np.ndarray, "rows columns"]:
    """Strength of the boundary between neighbouring pixels, float32 `[2h + 1, 2w + 1]` in [0, 1].

    Pixel (i, j) sits at (2i + 1, 2j + 1) with value 0 and the edge to its right-hand neighbour at
    (2i + 1, 2j + 2). A vertex has the largest value of the edges that meet in it; the frame's own
    edges are 0, so it adds no boundary.

    With `heights` an edge's value is x / (1 + x), x being the height of the union that brings its
    two pixels together, and no less than those of the unions below it: an ultrametric map, whose
    values mean the same in every image. Without, it is the share of the levels that separate the
    two: the parts of `boundaries() < (l + 0.5) / num_levels` that hang together, sampled at the
    pixels, are the connected components of level l.
    """
    height, width = self.segments.shape
    strength = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
    maps, apart, most = [self.segments], np.not_equal, 1
    if self.heights:
      table = meeting_heights(self.parents, self.unions, self.heights)
      table /= 1 + table
      apart = lambda first, second: table[first, second]
    else:
      maps, most = [self.labels(level) for level in range(self.num_levels)], self.num_levels
    for labels in maps:
      strength[1::2, 2:-1:2] += apart(labels[:, :-1], labels[:, 1:])
      strength[2:-1:2, 1::2] += apart(labels[:-1], labels[1:])
    strength /= most
    across = np.pad(strength[:, 1::2], ((0, 0), (1, 1)))[::2]
    along = np.pad(strength[1::2], ((1, 1), (0, 0)))[:, ::2]
    strength[::2, ::2] = np.max([across[:, :-1], across[:, 1:], along[:-1], along[1:]], axis=0)
    return strength

  def save(self, path: str | os.PathLike) -> None:
    """Writes one compressed npz file; the name is kept as given."""
    arrays = {"segments": self.segments}
    arrays |= {f"parents_{level}": array for level, array in enumerate(self.parents)}
    for name in ("features", "unions", "heights"):
      arrays |= {f"{name}_{level}": array for level, array in enumerate(getattr(self, name))}
    arrays |= {name: getattr(self, name) for name in _OPTIONAL if getattr(self, name) is not None}
    with open(path, "wb") as file:
      np.savez_compressed(file, **arrays)

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Hierarchy":
    """Reads what `save` wrote; never runs code from the file.

    Raises:
      UserError: the file is missing, unreadable or describes no hierarchy.
    """
    if not pathlib.Path(path).is_file():
      raise UserError(f"There is no hierarchy file {path}; name one that was saved.")
    try:
      with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
      return cls(
        arrays["segments"],
        _numbered(arrays, "parents"),
        _numbered(arrays, "features"),
        unions=_numbered(arrays, "unions"),
        heights=_numbered(arrays, "heights"),
        **{name: arrays.get(name) for name in _OPTIONAL},
      )
    except Exception as error:  # a damaged archive raises nearly anything
      raise UserError(
        f"{path} is damaged or holds no hierarchy ({error}); save it anew."
      ) from error


def _count_ids(labels: Int[np.ndarray, "*shape"], what: str) -> int:
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f"the ids of {what} are {labels.dtype}, not integers")
  ids = compact(labels)[0]
  if ids[0] != 0 or ids[-1] != len(ids) - 1:
    raise ValueError(f"the ids of {what} run from {ids[0]} to {ids[-1]} with gaps")
  return len(ids)


def _rows(table: np.ndarray | None, donors: Int[np.ndarray, "n"]) -> np.ndarray | None:
  """The donors' rows; what is of the whole image, or nothing, as it is."""
  return table if table is None or table.ndim < 2 else table[donors]


def _unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
  return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _numbered(arrays: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, ...]:
  """The arrays `name_0`, `name_1`, ... in order."""
  count = sum(key.startswith(f"{name}_") for key in arrays)
  return tuple(arrays[f"{name}_{level}"] for level in range(count))
