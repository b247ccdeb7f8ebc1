"""From pixels to what every model is fed, on the device: normalised images, and superpixels."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from hseg_jax.superpixels import device

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(
  image: UInt8[Array, "*b h w 3"] | UInt8[np.ndarray, "*b h w 3"],
) -> Float[Array, "*b h w 3"]:
  """RGB in [0, 255] -> float32 with ImageNet's mean and standard deviation taken out."""
  shape = (1,) * (image.ndim - 1) + (3,)
  mean = jnp.asarray(IMAGENET_MEAN, jnp.float32).reshape(shape)
  std = jnp.asarray(IMAGENET_STD, jnp.float32).reshape(shape)
  return (image.astype(jnp.float32) / 255.0 - mean) / std


def count_on_device(superpixels: Mapping[str, Any]) -> int:
  """The most superpixels that a step has to make of an image: 0 where its batches bring them.

  Args:
    superpixels: `method` and, for the method "device", `num_segments`.
  """
  return superpixels["num_segments"] if superpixels["method"] == "device" else 0


def add_segments(batch: Mapping[str, Any], num_segments: int) -> dict[str, Any]:
  """Adds `segments` beside `image`, `segments_1` beside `image_1` and so on; may be jitted.

  To be called behind everything that changes an image, so that its superpixels are those of what
  the model sees.

  Args:
    batch: its images RGB in [0, 255], `[b, h, w, 3]`, not normalised.
    num_segments: as `count_on_device` gives it; 0 leaves the batch as it is.
  """
  batch = dict(batch)
  for key in [key for key in batch if num_segments and key.startswith("image")]:
    batch[key.replace("image", "segments")] = device.segment(batch[key], num_segments)
  return batch
