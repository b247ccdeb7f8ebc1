"""SLIC superpixels inside a jitted step, for comparison with `superpixels.device`.

Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", PAMI 2012:
k-means of colour and position in which a pixel chooses among the centres nearby, here those that
started in its own grid cell and the eight around, as in gSLICr (arXiv 1509.04232). Pieces that are
cut off are left alone: superpixels need not be connected, and may lose all their pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt8

from hseg_jax.superpixels.device import COLOUR_BITS, COLOUR_STEPS, grid_shape, to_lab, unpack

_AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def segment(
  image: UInt8[Array | np.ndarray, "b h w 3"] | Float[Array | np.ndarray, "b h w 3"],
  num_segments: int,
  *,
  compactness: float = 10.0,
  iterations: int = 10,
) -> Int32[Array, "b h w"]:
  """Cuts images into superpixels; may be jitted.

  Args:
    image: RGB in [0, 255], not normalised.
    num_segments: the most there may be; rows x columns of `grid_shape` tells how many are begun.
    compactness: colour distance in CIELAB that weighs as much as a cell's side.
    iterations: of k-means.

  Returns:
    Ids 0 to rows x columns - 1, in raster order of where they started; any may be absent.

  Raises:
    UserError: if the image is empty or `num_segments` is below one.
  """
  _, h, w, _ = image.shape
  rows, columns = grid_shape(h, w, num_segments)
  scale = COLOUR_STEPS * compactness / (h * w / (rows * columns)) ** 0.5
  row, column = np.arange(h) * rows // h, np.arange(w) * columns // w
  # Beyond the grid's edge a pixel has the cells of the edge once more.
  choices = np.stack(
    [
      np.clip(row + dy, 0, rows - 1)[:, None] * columns + np.clip(column + dx, 0, columns - 1)
      for dy, dx in _AROUND
    ]
  ).astype(np.int32)
  place = scale * np.mgrid[:h, :w].astype(np.float32)

  def cut(colour):
    points = jnp.stack([*(c.astype(jnp.float32) for c in unpack(colour, 3, COLOUR_BITS)), *place])

    def improve(_, labels):
      summands = jnp.concatenate([points, jnp.ones((1, h, w))]).reshape(6, -1).T
      sums = jax.ops.segment_sum(summands, labels.ravel(), rows * columns)
      centres = sums[:, :5] / jnp.maximum(sums[:, 5:], 1)
      # An empty segment's centre is at the corner, in black; nobody takes it for the nearest.
      centres = jnp.where(sums[:, 5:] > 0, centres, 1e6)
      distances = jnp.stack(
        [sum(jnp.square(points[k] - centres[:, k][choice]) for k in range(5)) for choice in choices]
      )
      nearest = jnp.argmin(distances, axis=0)
      return jnp.take_along_axis(jnp.asarray(choices), nearest[None], axis=0)[0]

    return jax.lax.fori_loop(0, iterations, improve, jnp.asarray(choices[4]))

  return jax.vmap(cut)(to_lab(jnp.asarray(image, jnp.float32)))
