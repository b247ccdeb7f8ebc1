"""Nested spherical k-means of a ViT's tokens: the hierarchy of a model that was not taught one.

The reference's baseline (`notebooks/save_segmentation_vit.ipynb`): the finest level clusters the
pixels of the upsampled token grid, each coarser one the prototypes of the level below.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Int32
from scipy import sparse


def segment(
  tokens: Float32[np.ndarray, "rows columns d"],
  shape: tuple[int, int],
  num_regions: Sequence[int],
  *,
  seed: int,
  iterations: int = 30,
) -> tuple[Int32[np.ndarray, "h w"], ...]:
  """Clusters the tokens of one image into so many regions, level above level.

  NOTE(reference): the initial labels are drawn from `seed` (the reference leaves them unseeded);
  a cluster that loses all its members takes the vector that suits its own cluster least (there it
  drops out, which leaves as little as half of the clusters); and the iterations end early once no
  label changes, which is the same result.

  Args:
    tokens: grid of patch tokens after the last block, without CLS, before any norm.
    shape: height and width of the image in pixels, to which the grid is upsampled bilinearly.
    num_regions: clusters of each level, finest first. A level has fewer where there are not so many
      distinct vectors.
    seed: of the random initial labels.
    iterations: the most rounds of each clustering; 30 in the reference.

  Returns:
    One label map a level, each nested in the one before; ids are contiguous.
  """
  rng = np.random.default_rng(seed)
  vectors = upsample(tokens, shape)
  maps, composed = [], np.arange(len(vectors))
  for number in num_regions:
    labels, vectors = _spherical_kmeans(vectors, number, rng, iterations)
    composed = labels[composed]
    maps.append(composed.reshape(shape).astype(np.int32))
  return tuple(maps)


def _spherical_kmeans(
  vectors: Float[np.ndarray, "n d"], num_clusters: int, rng: np.random.Generator, iterations: int
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "k d"]]:
  """Labels without gaps, and the unit prototypes of the clusters that have members."""
  lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
  labels = rng.integers(num_clusters, size=len(vectors))
  for _ in range(iterations):
    prototypes = _prototypes(vectors, labels, num_clusters)
    products = vectors @ prototypes.T
    moved = products.argmax(axis=1)
    empty = np.setdiff1d(np.arange(num_clusters), moved)
    worst = np.argsort(products.max(axis=1) / lengths)[: len(empty)]
    moved[worst] = empty[: len(worst)]
    if np.array_equal(moved, labels):
      break
    labels = moved
  kept, labels = np.unique(labels, return_inverse=True)
  return labels, prototypes[kept]


def _prototypes(
  vectors: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], num_clusters: int
) -> Float[np.ndarray, "k d"]:
  """Sum of each cluster's vectors, scaled to length one; zero for a cluster without members."""
  entries = np.ones(len(labels), vectors.dtype), (labels, np.arange(len(labels)))
  sums = sparse.csr_array(entries, shape=(num_clusters, len(labels))) @ vectors
  return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def upsample(
  tokens: Float32[np.ndarray, "rows columns d"], shape: tuple[int, int]
) -> Float32[np.ndarray, "p d"]:
  """The tokens at every pixel of an image, row by row, interpolated bilinearly."""
  rows, columns, dim = tokens.shape
  across = np.einsum("wj,ijd->iwd", bilinear_weights(shape[1], columns), tokens)
  pixels = np.einsum("hi,iwd->hwd", bilinear_weights(shape[0], rows), across)
  return pixels.reshape(-1, dim)


def bilinear_weights(size: int, cells: int) -> Float32[np.ndarray, "size cells"]:
  """Weights of each cell in each pixel; pixel centres, the border cells reach to the edge."""
  source = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
  distance = np.abs(source[:, None] - np.arange(cells))
  return np.maximum(1 - distance, 0).astype(np.float32)
