"""The operations of `hseg_jax.data.transforms` on the accelerator; may be jitted and vmapped.

Each computes what its namesake does, on whole numbers in [0, 255] as there, but in float32: results
differ by a level here and there, where a sum rounds otherwise.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, UInt8

Canvas = UInt8[Array, "c c 3"]
Image = Float[Array, "h w 3"]  # whole numbers in [0, 255]
Scalar = Num[Array, ""] | float | int
Key = jax.Array  # of jax.random

# Rounds to eleven bits at worst: whole numbers up to 255 stay exact, and the error of the weights
# moves no pixel by more than a fifth of a level.
_product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGH)


def crop_and_resize(canvas: Canvas, box: Num[Array, "4"], size: int) -> Image:
  """Cuts a crop out and resizes it to a square of `size` pixels: `transforms.resize`'s filter."""
  top, left, height, width = box
  rows = _resampling(top, height, size, canvas.shape[0])
  columns = _resampling(left, width, size, canvas.shape[1])
  image = _round(_product("ox,yxc->yoc", columns, canvas.astype(jnp.float32)))
  return _round(_product("oy,yxc->oxc", rows, image))


def _resampling(start: Scalar, length: Scalar, num_out: int, num_in: int) -> Float[Array, "o i"]:
  """Weights of the old pixels in each new one: a triangle, as wide as what it reduces."""
  scale = length / num_out
  centre = (jnp.arange(num_out) + 0.5) * scale
  place = jnp.arange(num_in) + 0.5 - start
  distance = jnp.abs(place[None, :] - centre[:, None]) / jnp.maximum(scale, 1.0)
  is_inside = (place >= 0) & (place < length)
  weights = jnp.maximum(1.0 - distance, 0.0) * is_inside[None, :]
  return weights / weights.sum(axis=1, keepdims=True)


def random_flip(image: Image, key: Key) -> Image:
  """Mirrors the image left to right with probability 0.5."""
  return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def color_jitter(
  image: Image, key: Key, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Image:
  """Changes brightness, contrast, saturation and hue, in random order.

  Arguments as for `transforms.color_jitter`.
  """
  factor_key, shift_key, order_key = jax.random.split(key, 3)
  strengths = np.array([brightness, contrast, saturation], np.float32)
  lowest = np.maximum(1 - strengths, 0)
  factors = lowest + (1 + strengths - lowest) * jax.random.uniform(factor_key, (3,))
  shift = jax.random.uniform(shift_key, minval=-hue, maxval=hue)
  factors = jnp.append(factors, shift)
  operations = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
  for which in jax.random.permutation(order_key, len(operations)):
    image = jax.lax.switch(which, operations, image, factors[which])
  return image


def adjust_brightness(image: Image, factor: Scalar) -> Image:
  """Scales all channels: 0 is black, 1 the image itself."""
  return _blend(image, jnp.zeros_like(image), factor)


def adjust_contrast(image: Image, factor: Scalar) -> Image:
  """Moves all channels away from the mean grey: 0 is flat grey, 1 the image itself."""
  # Summed as integers, whose order does not matter.
  mean = jnp.sum(_gray(image).astype(jnp.int32)) / math.prod(image.shape[:2])
  return _blend(image, jnp.full_like(image, _round(mean)), factor)


def adjust_saturation(image: Image, factor: Scalar) -> Image:
  """Moves pixels away from their grey: 0 is a grey image, 1 the image itself."""
  return _blend(image, grayscale(image), factor)


def adjust_hue(image: Image, shift: Scalar) -> Image:
  """Turns the hue by `shift` turns, through hues and saturations of 8 bits as OpenCV does."""
  steps = jnp.trunc(shift * 255)
  red, green, blue = jnp.moveaxis(image, -1, 0)
  value = image.max(axis=-1)
  chroma = value - image.min(axis=-1)
  unit = jnp.maximum(chroma, 1)
  sector = jnp.where(
    value == red,
    (green - blue) / unit,
    jnp.where(value == green, 2 + (blue - red) / unit, 4 + (red - green) / unit),
  )
  turned = jnp.mod(_round(sector * 256 / 6) + steps, 256) * (6 / 255)
  saturation = _round(255 * chroma / jnp.maximum(value, 1)) / 255
  # How far each channel lies below the highest, as its corner of the hexagon is far from the hue.
  corner = jnp.stack([jnp.mod(n + turned, 6) for n in (5, 3, 1)], axis=-1)
  depth = jnp.clip(jnp.minimum(corner, 4 - corner), 0, 1)
  changed = _round(value[..., None] * (1 - saturation[..., None] * depth))
  return jnp.where(steps == 0, image, changed)


def grayscale(image: Image) -> Image:
  """The image's luminance in all three channels."""
  return jnp.broadcast_to(_gray(image)[:, :, None], image.shape)


def gaussian_blur(image: Image, sigma: Scalar, *, max_sigma: float) -> Image:
  """Blurs with a Gaussian of `sigma` pixels, at most `max_sigma`, cut off where OpenCV does."""
  reach = lambda sigma, xp: xp.round(6 * sigma + 1) // 2
  radius = int(reach(max_sigma, np))
  padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
  rows, columns = (
    np.arange(-radius, n + radius)[None, :] - np.arange(n)[:, None] for n in image.shape[:2]
  )
  kernel = lambda offset: (
    jnp.exp(-0.5 * jnp.square(offset / sigma)) * (np.abs(offset) <= reach(sigma, jnp))
  )
  rows, columns = (w / w.sum(axis=1, keepdims=True) for w in map(kernel, (rows, columns)))
  return _round(_product("oy,yxc->oxc", rows, _product("ox,yxc->yoc", columns, padded)))


def solarize(image: Image, threshold: int = 128) -> Image:
  """Inverts the values that are not below `threshold`."""
  return jnp.where(image < threshold, image, 255 - image)


def _gray(image: Image) -> Float[Array, "h w"]:
  """Luminance by ITU-R 601-2, in the fixed-point arithmetic of OpenCV, exact in float32."""
  red, green, blue = jnp.moveaxis(image, -1, 0)
  return jnp.floor((9798 * red + 19235 * green + 3735 * blue + 16384) / 32768)


def _blend(image: Image, anchor: Image, factor: Scalar) -> Image:
  """`anchor + factor * (image - anchor)`, clipped and truncated as Pillow's blend does."""
  return jnp.trunc(jnp.clip(anchor + factor * (image - anchor), 0, 255))


def _round(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  return jnp.floor(x + 0.5)
