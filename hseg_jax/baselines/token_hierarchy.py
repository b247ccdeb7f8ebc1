"""Hierarchies of a plain ViT: clusters of its tokens, with the mean token of each region."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from scipy import sparse

from hseg_jax.baselines import kmeans, methods
from hseg_jax.hierarchy import Hierarchy

_MAX_PIXELS = 224 * 224  # that are clustered; the reference's number


def segment(
  tokens: Float32[np.ndarray, "rows columns d"],
  height: int,
  width: int,
  num_regions: Sequence[int],
  *,
  method: str,
  seed: int,
) -> Hierarchy:
  """Clusters the tokens of one image at every pixel, up to 50,176 of them.

  Args:
    tokens: grid of patch tokens after the last block, without CLS, before any norm.
    height: of the image, in pixels.
    width: likewise.
    num_regions: the most regions of each level, finest first.
    method: a name among `methods.TOKEN_METHODS`.
    seed: of the method.

  Returns:
    The hierarchy at the size of the image, or at a smaller one of the same aspect ratio. Its
    features: the mean over each region's pixels of the tokens, upsampled bilinearly.
  """
  shrink = min((_MAX_PIXELS / (height * width)) ** 0.5, 1)
  shape = max(int(height * shrink), 1), max(int(width * shrink), 1)
  maps = methods.TOKEN_METHODS[method](tokens, shape, num_regions, seed=seed)
  pixels = kmeans.upsample(tokens, shape)
  means = []
  for labels in maps:
    entries = np.ones(labels.size, np.float32), (labels.ravel(), np.arange(labels.size))
    sums = sparse.csr_array(entries) @ pixels
    means.append((sums / np.bincount(labels.ravel())[:, None]).astype(np.float32))
  tree = Hierarchy.from_labels(maps)
  return Hierarchy(tree.segments, tree.parents, tuple(means))
