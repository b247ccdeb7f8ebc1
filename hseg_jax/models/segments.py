"""Label map <-> tokens: means over segments, and the way back from coarse levels to fine ones."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def nearest_indices(size: int, target: int) -> np.ndarray:
  """Index along an axis of `size` that each of `target` samples takes: floor(i * size / target).

  PyTorch's "nearest", computed in float32 as there. `jax.image.resize` samples cell centres.
  """
  scale = np.float32(size / target)
  return np.minimum((np.arange(target, dtype=np.float32) * scale).astype(np.int64), size - 1)


def shrink_labels(labels: Int[Array, "b sh sw"], height: int, width: int) -> Int[Array, "b h w"]:
  """Shrinks (or grows) a label map to `height` x `width` by PyTorch's nearest rule."""
  rows = nearest_indices(labels.shape[1], height)
  columns = nearest_indices(labels.shape[2], width)
  return labels[:, rows][:, :, columns]


def segment_sum(
  values: Float[Array, "b p *d"], ids: Int[Array, "b p"], num_segments: int
) -> Float[Array, "b n *d"]:
  """Sums `values` over the `p` positions of each segment; ids outside [0, num_segments) drop."""
  return jax.vmap(functools.partial(jax.ops.segment_sum, num_segments=num_segments))(values, ids)


def segment_mean(
  grid: Float[Array, "b h w d"], labels: Int[Array, "b h w"], num_segments: int
) -> tuple[Float[Array, "b n d"], Bool[Array, "b n"]]:
  """Averages a feature grid over the segments of a label map of the same size.

  Args:
    grid: one feature vector per cell.
    labels: segment of each cell; ids outside [0, num_segments) belong to no segment.
    num_segments: n.

  Returns:
    The means (zero for a segment without cells) and True where a segment has a cell.
  """
  batch, height, width, dim = grid.shape
  ids = labels.reshape(batch, height * width)
  sums = segment_sum(grid.reshape(batch, height * width, dim), ids, num_segments)
  counts = segment_sum(jnp.ones(ids.shape, grid.dtype), ids, num_segments)
  return sums / jnp.maximum(counts, 1)[..., None], counts > 0


def taps(size: int, target: int, method: str) -> list[tuple[np.ndarray, np.ndarray]]:
  """How an axis of `size` cells is interpolated to `target` samples, as PyTorch does it
  (align_corners=False, no antialiasing): per tap the cell index and the weight of every sample.

  Args:
    size: number of cells.
    target: number of samples.
    method: "nearest" (1 tap), "bilinear" (2) or "bicubic" (4, a = -0.75).

  Returns:
    A list of (int64 `[target]` indices, float32 `[target]` weights).
  """
  if method == "nearest":
    return [(nearest_indices(size, target), np.ones(target, np.float32))]
  source = (np.arange(target, dtype=np.float64) + 0.5) * (size / target) - 0.5
  low = np.floor(source).astype(np.int64)
  fraction = source - low
  if method == "bilinear":
    found = [(low, 1 - fraction), (low + 1, fraction)]
  else:
    a = -0.75
    far = lambda x: ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    near = lambda x: ((a + 2) * x - (a + 3)) * x * x + 1
    found = [
      (low - 1, far(fraction + 1)),
      (low, near(fraction)),
      (low + 1, near(1 - fraction)),
      (low + 2, far(2 - fraction)),
    ]
  # Beyond the border every tap reads the border cell.
  return [(np.clip(index, 0, size - 1), weight.astype(np.float32)) for index, weight in found]


def resize_bicubic(
  grid: Float[Array, "rows columns d"], height: int, width: int
) -> Float[Array, "{height} {width} d"]:
  """Resizes a grid of vectors as PyTorch's bicubic does (a = -0.75, no antialiasing)."""
  matrices = []
  for size, target in zip(grid.shape, (height, width), strict=False):
    matrix = np.zeros((target, size), np.float32)
    for index, weight in taps(size, target, "bicubic"):
      np.add.at(matrix, (np.arange(target), index), weight)
    matrices.append(matrix)
  rows, columns = matrices
  highest = jax.lax.Precision.HIGHEST
  return jnp.einsum("hr,wc,rcd->hwd", rows, columns, grid, precision=highest)


def interpolation_matrix(
  labels: Int[Array, "b h w"], num_segments: int, rows: int, columns: int, method: str
) -> tuple[Float[Array, "b n rc"], Float[Array, "b n"]]:
  """The linear map from a grid to the segment sums of its upsampled version.

  The sum over a segment of an interpolated `rows` x `columns` grid is linear in the grid's cells,
  so the interpolation weights are summed per (segment, cell), tap by tap; the upsampled map, which
  would hold `[h, w, d]` numbers, is never built.

  Args:
    labels: segment of each pixel; ids outside [0, num_segments) belong to no segment.
    num_segments: n.
    rows: height of the grid.
    columns: width of the grid.
    method: "nearest", "bilinear" or "bicubic".

  Returns:
    The map, and how many pixels each segment has, which its row sums to.
  """
  batch, height, width = labels.shape
  cells = rows * columns
  ids = labels.reshape(batch, height * width)
  inside = (ids >= 0) & (ids < num_segments)
  pairs = itertools.product(taps(rows, height, method), taps(columns, width, method))
  pairs = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)

  def accumulate(matrix, pair):
    (row_index, row_weight), (column_index, column_weight) = pair
    cell = (row_index[:, None] * columns + column_index[None]).astype(jnp.int32).reshape(1, -1)
    weight = (row_weight[:, None] * column_weight[None]).reshape(-1)
    target = jnp.where(inside, ids * cells + cell, num_segments * cells)
    add = jax.vmap(lambda total, index: total.at[index].add(weight, mode="drop"))
    return add(matrix, target), None

  # A segment sum into the running matrix, pair after pair, so that neither several matrices nor
  # the indices of several pairs are ever held.
  matrix = jnp.zeros((batch, num_segments * cells), jnp.float32)
  matrix, _ = jax.lax.scan(accumulate, matrix, pairs)
  pixels = segment_sum(jnp.ones(ids.shape, jnp.float32), ids, num_segments)
  return matrix.reshape(batch, num_segments, cells), pixels


def interpolated_mean(
  grid: Float[Array, "#b rows columns d"],
  labels: Int[Array, "b h w"],
  num_segments: int,
  method: str,
) -> tuple[Float[Array, "b n d"], Bool[Array, "b n"]]:
  """Averages a grid interpolated to the size of a label map over its segments.

  Args:
    grid: feature vectors; a batch of one serves every label map.
    labels: segment of each pixel; ids outside [0, num_segments) belong to no segment.
    num_segments: n.
    method: "nearest", "bilinear" or "bicubic".

  Returns:
    The means in float32 (zero for a segment without pixels) and True where a segment has a pixel.
  """
  batch, rows, columns, dim = grid.shape
  matrix, pixels = interpolation_matrix(labels, num_segments, rows, columns, method)
  flat = grid.reshape(batch, rows * columns, dim).astype(jnp.float32)
  flat = jnp.broadcast_to(flat, (labels.shape[0], *flat.shape[1:]))
  sums = jnp.einsum("bnc,bcd->bnd", matrix, flat, precision=jax.lax.Precision.HIGHEST)
  # Not the matrix is divided: a second one of its size would be made.
  return sums / jnp.maximum(pixels, 1)[..., None], pixels > 0


def hard_assignment(
  logits: Float[Array, "b n k"], cluster_mask: Bool[Array, "b k"]
) -> Int[Array, "b n"]:
  """The valid cluster with the largest logit for each token; ties go to the lowest index."""
  return jnp.argmax(jnp.where(cluster_mask[:, None], logits, -jnp.inf), axis=-1).astype(jnp.int32)


def compose(fine: Int[Array, "b n"], coarse: Int[Array, "b k"]) -> Int[Array, "b n"]:
  """Follows two assignments: token -> `fine` -> `coarse`."""
  return jnp.take_along_axis(coarse, fine, axis=1)


def unpool(values: Float[Array, "b k d"], assignment: Int[Array, "b n"]) -> Float[Array, "b n d"]:
  """Gives each token the values of its cluster; the gradient is a segment sum."""
  return jnp.take_along_axis(values, assignment[..., None], axis=1)
