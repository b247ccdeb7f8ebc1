"""From pixels to what every model is fed: the ImageNet normalisation, done on the device."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

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
