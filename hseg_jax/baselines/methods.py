"""The segmenters we are compared with, by name: one table for commands and evaluators."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hseg_jax.baselines import felzenszwalb, grid, kmeans, seeds, slic, spectral, ward
from hseg_jax.errors import UserError

NUM_REGIONS = (64, 32, 16, 8)  # of the paper's levels


class Method(NamedTuple):
  """A way to segment an image by its pixels.

  Attributes:
    segment: `(image, superpixels, num_regions) -> label maps`, uint8 `[h, w, 3]`, int `[h, w]` or
      None, numbers finest first; one map a number, ids without gaps.
    nests: whether each map nests in the one before.
    fewest: regions that it can make.
    merges: whether it starts from superpixels; the others take None.
  """

  segment: Callable[..., Any]
  nests: bool = True
  fewest: int = 1
  merges: bool = False


METHODS = {
  "grid": Method(lambda image, _, counts: grid.segment(image, counts)),
  "slic": Method(
    lambda image, _, counts: tuple(slic.segment(image, count) for count in counts), nests=False
  ),
  "seeds": Method(
    lambda image, _, counts: tuple(seeds.segment(image, count) for count in counts),
    nests=False,
    fewest=seeds.FEWEST,
  ),
  "ward": Method(ward.segment, merges=True),
  "felzenszwalb": Method(lambda image, _, counts: felzenszwalb.segment(image, counts)),
}

# Of a ViT's tokens: `(tokens, shape, num_regions, *, seed) -> label maps`, which nest.
TOKEN_METHODS = {"kmeans": kmeans.segment, "spectral": spectral.segment}


def check_numbers(num_regions: Sequence[int], fewest: int = 1) -> None:
  """Raises `UserError` where the numbers of regions of levels do not fall or are too few."""
  falls = all(a > b for a, b in zip(num_regions, num_regions[1:], strict=False))
  if not falls or min(num_regions, default=0) < fewest:
    raise UserError(
      f"The numbers of regions are {tuple(num_regions)}; give numbers from {fewest} up, finest "
      "first, such as 64,32,16."
    )
