"""Augmentation on the accelerator: the recipes of `hseg_jax.data.transforms`, jitted.

The host decodes, draws which crops of an image will be seen, as large images are cut before they
travel, and lays it on a canvas of one size (`canvases.decode_batches`). What else is drawn at
random and what is done to pixels happens here, from a seed that the host sends along: it belongs to
the example's position in the stream, as the crops do, so neither restarts nor the number of hosts
change an image. Another number of devices makes a level of difference in a few pixels, where sums
round otherwise.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hseg_jax import device_transforms as operations
from hseg_jax.data import transforms
from hseg_jax.device_transforms import Canvas, Image, Key
from hseg_jax.errors import UserError
from hseg_jax.superpixels import grid

Batch = dict[str, Any]
Augment = Callable[[Batch], Batch]

_PRNG = "threefry2x32"  # not the default of the day: a seed is two words, and means one image


def options(settings: Mapping[str, Any]) -> dict[str, Any]:
  """What a config's hosts and devices are told of the augmentation, by `make`'s names.

  `pipeline.check_options` and `pipeline.train_batches` take the same.

  Raises:
    UserError: `data.augment_on` is unknown, or a device cannot do what it is to do.
  """
  data, superpixels = settings["data"], settings["superpixels"]
  on_device = data["augment_on"] == "device"
  if not on_device and data["augment_on"] != "host":
    raise UserError(f'Unknown data.augment_on "{data["augment_on"]}"; choose "host" or "device".')
  if on_device and superpixels["method"] == "seeds":
    raise UserError(
      'SEEDS needs images that the host has augmented; set superpixels.method="device" or '
      'data.augment_on="host".'
    )
  return {
    "augment": data["augment"],
    "augment_options": {} if data["augment"] == "none" else {"min_scale": data["min_scale"]},
    "image_size": data["image_size"],
    "superpixels": superpixels,
    "canvas_size": data["canvas_size"] if on_device else None,
  }


def make(
  *,
  augment: str,
  augment_options: Mapping[str, Any],
  image_size: int,
  superpixels: Mapping[str, Any],
  canvas_size: int | None,
  placement: jax.sharding.Sharding | None = None,
) -> Augment:
  """The function that augments the batches which `pipeline.train_batches` makes of the same.

  Args:
    augment: "supervised" or "moco" (two views).
    augment_options: further keyword arguments of the recipe; `min_scale` is the host's.
    image_size: side in pixels of the images that come out.
    superpixels: `method` and `num_segments`; the method "grid" adds the grid, others nothing.
    canvas_size: None where the host has done everything.
    placement: of the result; None leaves it to the compiler.

  Returns:
    A compiled function: of `canvas` uint8 `[b, c, c, 3]`, `boxes` float32 `[b, v, 4]` and `seed`
    uint32 `[b, 2]` it makes `image` uint8 `[b, h, w, 3]`, with "moco" `image_1` and `image_2`;
    the rest stays. An image depends on its own example alone. Without a canvas it changes nothing.
  """
  if canvas_size is None:
    return lambda batch: batch
  recipe = {"supervised": supervised, "moco": moco_views}[augment]
  strengths = {name: value for name, value in augment_options.items() if name != "min_scale"}
  one = functools.partial(recipe, image_size=image_size, **strengths)

  def run(batch: Batch) -> Batch:
    rest = dict(batch)
    canvas, boxes, seed = (rest.pop(name) for name in ("canvas", "boxes", "seed"))
    images = jax.vmap(one)(canvas, boxes, jax.random.wrap_key_data(seed, impl=_PRNG))
    images = {name: image.astype(jnp.uint8) for name, image in images.items()}
    if superpixels["method"] == "grid":
      blank = np.zeros((image_size, image_size, 3), np.uint8)
      cells = jnp.asarray(grid.segment(blank, superpixels["num_segments"]))
      cells = jnp.broadcast_to(cells, (len(canvas), *cells.shape))
      rest |= {name.replace("image", "segments"): cells for name in images}
    return rest | images

  return jax.jit(run, out_shardings=placement)


def supervised(
  canvas: Canvas,
  boxes: Float[Array, "v 4"],
  key: Key,
  *,
  image_size: int,
  brightness: float = transforms.SUPERVISED_JITTER["brightness"],
  contrast: float = transforms.SUPERVISED_JITTER["contrast"],
  saturation: float = transforms.SUPERVISED_JITTER["saturation"],
  hue: float = transforms.SUPERVISED_JITTER["hue"],
) -> dict[str, Image]:
  """The recipe `transforms.supervised`; see there.

  Args:
    canvas: RGB.
    boxes: top, left, height and width of each view's crop, in pixels.
    key: of every other random choice.
    image_size: side of the result in pixels.
    brightness: see `transforms.color_jitter`, as for `contrast`, `saturation` and `hue`.
  """
  flip_key, jitter_key = jax.random.split(key)
  image = operations.crop_and_resize(canvas, boxes[0], image_size)
  image = operations.random_flip(image, flip_key)
  strengths = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
  return {"image": operations.color_jitter(image, jitter_key, **strengths)}


def moco_views(
  canvas: Canvas, boxes: Float[Array, "v 4"], key: Key, *, image_size: int
) -> dict[str, Image]:
  """The two views of `transforms.moco_views`; arguments as for `supervised`."""
  keys = jax.random.split(key, len(transforms.MOCO_VIEWS))
  return {
    f"image_{i + 1}": _moco_view(canvas, boxes[i], keys[i], image_size, **rates)
    for i, rates in enumerate(transforms.MOCO_VIEWS)
  }


def _moco_view(canvas, box, key, image_size, *, blur, solarization) -> Image:
  """One view; `blur` and `solarization` are probabilities."""
  keys = iter(jax.random.split(key, 7))

  def sometimes(rate: float, change: Callable[[Image], Image], image: Image) -> Image:
    is_chosen = jax.random.bernoulli(next(keys), rate)  # drawn even where it is certain
    return image if rate == 0 else jnp.where(is_chosen, change(image), image)

  image = operations.crop_and_resize(canvas, box, image_size)
  jitter = functools.partial(operations.color_jitter, key=next(keys), **transforms.MOCO_JITTER)
  image = sometimes(transforms.MOCO_JITTER_RATE, jitter, image)
  image = sometimes(transforms.MOCO_GREY_RATE, operations.grayscale, image)
  low, high = (sigma * image_size / transforms.REFERENCE_SIZE for sigma in transforms.MOCO_SIGMA)
  sigma = jax.random.uniform(next(keys), minval=low, maxval=high)
  soften = functools.partial(operations.gaussian_blur, sigma=sigma, max_sigma=high)
  image = sometimes(blur, soften, image)
  image = sometimes(solarization, operations.solarize, image)
  return operations.random_flip(image, next(keys))
