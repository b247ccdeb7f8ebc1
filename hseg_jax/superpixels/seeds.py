"""SEEDS superpixels on the host, as in the PyTorch reference (OpenCV's implementation).

"SEEDS: Superpixels Extracted via Energy-Driven Sampling", Van den Bergh et al., arXiv 1309.3848.
The two settings of the reference are bins 15 with 20 iterations (self-supervised pretraining,
linear probes) and bins 5 with 15 iterations (everything supervised).
"""

import cv2
import numpy as np
from jaxtyping import Int32, UInt8

from hseg_jax.errors import UserError

MIN_SEGMENTS = 10  # OpenCV silently raises smaller requests to this number.


def count(h: int, w: int, num_segments: int) -> int:
  """The exact number of superpixels that `segment` makes of an image of this size.

  SEEDS starts from a grid of equal blocks, so the number is known from the size alone. It is at
  most `num_segments`, and often less: 196 for 196 at 224x224, but 768 for 1024 at 384x512.

  Args:
    h: height of the image in pixels.
    w: width of the image in pixels.
    num_segments: the number of superpixels asked for, 10 or more.

  Raises:
    UserError: if `num_segments` is below 10, or the image is too small (or too elongated) for that
      many superpixels of at least two by two pixels; OpenCV would hang or crash on it.
  """
  if num_segments < MIN_SEGMENTS:
    raise UserError(
      f"SEEDS makes no fewer than {MIN_SEGMENTS} superpixels, but {num_segments} were asked for; "
      f'ask for more or choose the method "grid".'
    )
  # The same float32 steps as OpenCV, so that the floor falls on the same side.
  rows = int(np.sqrt(np.float32(num_segments) * np.float32(h) / np.float32(w))) if w > 0 else 0
  columns = rows * w // h if h > 0 else 0
  if rows < 1 or columns < 1 or h < 2 * rows or w < 2 * columns:
    raise UserError(
      f"An image of {h}x{w} pixels is too small or too elongated for {num_segments} SEEDS "
      f"superpixels; ask for fewer or resize the image."
    )
  # Two levels: superpixels are made of two by two blocks, and what is left over joins the last.
  block_h = -(-h // (2 * rows))
  block_w = -(-w // (2 * columns))
  total = (h // block_h // 2) * (w // block_w // 2)
  if total < 1:
    raise UserError(
      f"An image of {h}x{w} pixels is too small for {num_segments} SEEDS superpixels; ask for "
      f"fewer or resize the image."
    )
  return total


def segment(
  image: UInt8[np.ndarray, "h w 3"], num_segments: int, *, bins: int, iterations: int
) -> Int32[np.ndarray, "h w"]:
  """Cuts an image into SEEDS superpixels.

  Deterministic, and equal to the reference's label maps (`suppix_utils/datasets_seeds.py`).

  Args:
    image: RGB in [0, 255], not normalised.
    num_segments: the number of superpixels asked for; `count` tells how many there will be.
    bins: histogram bins per colour channel.
    iterations: sweeps over the pixels of superpixel boundaries.

  Returns:
    Ids 0 to `count(h, w, num_segments) - 1`, in raster order of where they started. A superpixel
    need not be connected; one of a few pixels can lose them all, and its id is then absent.

  Raises:
    UserError: as `count` does.
  """
  h, w, _ = image.shape
  count(h, w, num_segments)
  # The reference clusters in CIELAB, quantised to 8 bits by OpenCV.
  lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
  # A new object each time: keeping one per image size was measured to save nothing.
  algorithm = cv2.ximgproc.createSuperpixelSEEDS(
    image_width=w,
    image_height=h,
    image_channels=3,
    num_superpixels=num_segments,
    num_levels=1,
    prior=2,
    histogram_bins=bins,
    double_step=False,
  )
  algorithm.iterate(lab, iterations)
  return algorithm.getLabels()
