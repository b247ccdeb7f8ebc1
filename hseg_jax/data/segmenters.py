"""What cuts the images of a batch into superpixels on the host."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from hseg_jax.errors import UserError
from hseg_jax.superpixels import grid, seeds

HOST_SUPERPIXELS = ("seeds", "grid")  # methods whose superpixels are in the batches


def segmenter(
  superpixels: Mapping[str, Any],
) -> Callable[[UInt8[np.ndarray, "h w 3"]], Int32[np.ndarray, "h w"]] | None:
  """The function that cuts an image into superpixels; None where the host does not."""
  method = superpixels["method"]
  if method in ("device", "none"):
    return None
  if method == "grid":
    return functools.partial(grid.segment, num_segments=superpixels["num_segments"])
  if method == "seeds":
    return functools.partial(
      seeds.segment,
      num_segments=superpixels["num_segments"],
      bins=superpixels["bins"],
      iterations=superpixels["iterations"],
    )
  raise UserError(
    f'Unknown superpixels.method "{method}"; choose "seeds", "grid", "device" or "none".'
  )
