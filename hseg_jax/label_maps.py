"""Label maps of one image: ids without gaps, pixels of no segment, segments without a token."""

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage

from hseg_jax.region_graph import border_lengths


def compact(labels: Int[np.ndarray, "*shape"]) -> tuple[np.ndarray, np.ndarray]:
  """The ids in use, all >= 0, ascending, and the array with each id replaced by its rank."""
  ids = np.unique(labels)
  # A table, since the inverse that numpy returns sorts, and takes eight times an image's memory.
  ranks = np.zeros(ids[-1] + 1, np.int32)
  ranks[ids] = np.arange(len(ids))
  return ids, ranks[labels]


def fill_unsegmented(segments: Int[np.ndarray, "h w"], num_segments: int) -> Int[np.ndarray, "h w"]:
  """Gives pixels of no segment the segment of the nearest pixel that has one."""
  outside = (segments < 0) | (segments >= num_segments)
  if not outside.any():
    return segments
  if outside.all():
    return np.zeros_like(segments)
  nearest = ndimage.distance_transform_edt(outside, return_distances=False, return_indices=True)
  return segments[tuple(nearest)]


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
