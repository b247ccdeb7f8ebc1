"""Nested normalised cuts of a ViT's tokens.

Shi and Malik, "Normalized Cuts and Image Segmentation", PAMI 2000, on the graph of all tokens,
whose affinities are the tokens' cosines, cut off at zero (Melas-Kyriazi et al., "Deep Spectral
Methods", CVPR 2022). The eigenvectors are clustered by k-means, in which a node weighs as much as
its degree: so the two together relax the cut of many parts (Bach and Jordan, "Learning Spectral
Clustering", NIPS 2003).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Int32
from scipy import linalg

from hseg_jax.baselines.kmeans import bilinear_weights

_LEAST = 1e-4  # affinity of what has nothing in common: keeps the graph in one piece


def segment(
  tokens: Float32[np.ndarray, "rows columns d"],
  shape: tuple[int, int],
  num_regions: Sequence[int],
  *,
  seed: int,
) -> tuple[Int32[np.ndarray, "h w"], ...]:
  """Clusters the tokens of one image into so many regions, level above level.

  The finest level cuts the graph of the tokens, each coarser one the graph of the regions below,
  whose affinities are the sums over their tokens: so each minimises the normalised cut of the
  tokens among the unions of those regions.

  Args:
    tokens: grid of patch tokens after the last block, without CLS, before any norm.
    shape: height and width of the image in pixels, at least the grid's. A pixel takes the region
      that weighs most in bilinear interpolation between the tokens.
    num_regions: clusters of each level, finest first. There are at most as many as tokens.
    seed: of the k-means.

  Returns:
    One label map a level, each nested in the one before; ids are contiguous.
  """
  rows, columns, _ = tokens.shape
  flat = tokens.reshape(rows * columns, -1).astype(np.float64)
  flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
  affinity = np.maximum(flat @ flat.T, _LEAST)
  levels = [np.arange(len(flat))]
  for number in num_regions:
    parents = _cut(affinity, number, seed)
    members = np.eye(parents.max() + 1)[parents]
    affinity = members.T @ affinity @ members
    levels.append(parents[levels[-1]])
  finest, maps = _enlarge(levels[1].reshape(rows, columns), shape), []
  for labels in levels[1:]:
    parents = np.zeros(levels[1].max() + 1, np.int32)
    parents[levels[1]] = labels
    maps.append(np.unique(parents[finest], return_inverse=True)[1].reshape(shape).astype(np.int32))
  return tuple(maps)


def _cut(affinity: Float[np.ndarray, "n n"], number: int, seed: int) -> Int[np.ndarray, "n"]:
  """Labels without gaps of the normalised cut of a graph."""
  if number >= len(affinity):
    return np.arange(len(affinity))
  if number == 1:
    return np.zeros(len(affinity), np.int64)
  from sklearn import cluster  # only here: it takes a second to import

  degrees = affinity.sum(axis=0)
  scale = 1 / np.sqrt(degrees)
  # Not scikit-learn's embedding, which drops the diagonal: it holds what regions have inside. And
  # no iterative solver: tokens that repeat leave it nothing but chance to go on with.
  largest = len(affinity) - number, len(affinity) - 1
  vectors = linalg.eigh(scale[:, None] * affinity * scale, subset_by_index=largest)[1]
  means = cluster.KMeans(number, n_init=10, random_state=seed)
  labels = means.fit_predict(vectors * scale[:, None], sample_weight=degrees)
  return np.unique(labels, return_inverse=True)[1]


def _enlarge(labels: Int[np.ndarray, "r c"], shape: tuple[int, int]) -> Int[np.ndarray, "h w"]:
  """The label that weighs most among the tokens around each pixel."""
  down, across = (bilinear_weights(*sizes) for sizes in zip(shape, labels.shape, strict=True))
  best, found = np.zeros(shape, np.float32), np.zeros(shape, labels.dtype)
  for label in range(labels.max() + 1):
    weight = down @ (labels == label).astype(np.float32) @ across.T
    found = np.where(weight > best, label, found)
    best = np.maximum(best, weight)
  return found
