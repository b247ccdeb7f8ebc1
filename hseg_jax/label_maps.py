"""Label maps of one image: ids without gaps, pixels of no segment, segments without a token."""

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

from hseg_jax.region_graph import border_lengths

_SPREAD = 4  # ids a pixel


def compact(
  labels: Integer[np.ndarray, "*shape"] | Bool[np.ndarray, "*shape"],
) -> tuple[Integer[np.ndarray, "n"], Int[np.ndarray, "*shape"]]:
  """The ids in use, ascending, and the array, int32, with each id replaced by its rank."""
  low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
  if high - low > _SPREAD * labels.size:
    ids, ranks = np.unique(labels, return_inverse=True)
    return ids, ranks.reshape(labels.shape).astype(np.int32)
  # By tables, which is many times faster and smaller than to sort.
  places = labels.astype(np.int64) - low
  used = np.zeros(high - low + 1, bool)
  used[places] = True
  return np.flatnonzero(used) + low, (np.cumsum(used, dtype=np.int32) - 1)[places]


def fill_unsegmented(segments: Int[np.ndarray, "h w"], num_segments: int) -> Int[np.ndarray, "h w"]:
  """Gives pixels of no segment the segment of the nearest pixel that has one."""
  outside = (segments < 0) | (segments >= num_segments)
  if not outside.any():
    return segments
  if outside.all():
    return np.zeros_like(segments)
  nearest = ndimage.distance_transform_edt(outside, return_distances=False, return_indices=True)
  return segments[tuple(nearest)]


def filled_border_lengths(
  segments: Int[np.ndarray, "h w"], num_segments: int
) -> Float[np.ndarray, "n n"]:
  """Pixel edges between segments, float32, once pixels of no segment have the nearest one's."""
  filled = fill_unsegmented(segments, num_segments)
  return border_lengths(filled, num_segments).astype(np.float32)


def find_donors(
  valid: Bool[np.ndarray, "n"], labels: Int[np.ndarray, "h w"]
) -> Int[np.ndarray, "n"]:
  """The region whose token speaks for each region: itself, or a neighbour's where it has none."""
  if not valid.any():
    return np.zeros(len(valid), np.int64)
  if valid.all():
    return np.arange(len(valid))
  borders = border_lengths(labels, len(valid))
  donors = np.where(valid, np.arange(len(valid)), -1)
  while (donors < 0).any():
    shared = np.where(donors >= 0, borders, 0)
    reached = (donors < 0) & shared.any(axis=1)
    donors[reached] = donors[shared.argmax(axis=1)[reached]]
  return donors
