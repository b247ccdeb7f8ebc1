"""Recipes of augmentation by name: what a host does to an example, or leaves to a device."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hseg_jax.data import transforms
from hseg_jax.data.sources import Example
from hseg_jax.errors import UserError


def on_host(
  name: str, image_size: int, options: Mapping[str, Any]
) -> Callable[[Example, np.random.Generator], Example]:
  """The function of example and generator that makes the images and label of a training example."""
  functions = {
    "none": (_without_augmentation, transforms.evaluation),
    "supervised": (_one_view, transforms.supervised),
    "moco": (_two_views, transforms.moco_views),
  }
  if name not in functions:
    raise UserError(f'Unknown data.augment "{name}"; choose one of {", ".join(functions)}.')
  make, transform = functions[name]
  parameters = inspect.signature(transform).parameters.values()
  accepted = [p.name for p in parameters if p.default is not p.empty]
  for option in options:
    if option not in accepted:
      raise UserError(
        f'The augmentation "{name}" has no option "{option}"; '
        f"its options are: {', '.join(accepted) or 'none'}."
      )
  return functools.partial(
    make, transform=functools.partial(transform, image_size=image_size, **options)
  )


def crops_for_device(augment: str, options: Mapping[str, Any]) -> dict[str, Any]:
  """Which crops a host draws for a device, by `canvases.decode_batches`'s names."""
  if augment not in transforms.VIEWS:
    raise UserError(
      f'data.augment="{augment}" leaves the device nothing to do; set data.augment_on="host".'
    )
  min_scale = options.get("min_scale", transforms.MIN_SCALE)
  return {"views": transforms.VIEWS[augment], "min_scale": min_scale}


def _without_augmentation(example: Example, rng: np.random.Generator, *, transform) -> Example:
  del rng
  return {"image": transform(example["image"]), "label": np.int32(example["label"])}


def _one_view(example: Example, rng: np.random.Generator, *, transform) -> Example:
  return {"image": transform(example["image"], rng), "label": np.int32(example["label"])}


def _two_views(example: Example, rng: np.random.Generator, *, transform) -> Example:
  image_1, image_2 = transform(example["image"], rng)
  return {"image_1": image_1, "image_2": image_2, "label": np.int32(example["label"])}
