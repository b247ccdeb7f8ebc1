"""The batch that a measurement is made with: from a file, or drawn."""

import os
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from hseg_jax import model_input
from hseg_jax.data import partworld
from hseg_jax.data.segmenters import segmenter
from hseg_jax.errors import UserError

NUM_CLASSES = 1000  # of the models that are measured
SEEDS = {"bins": 15, "iterations": 20}  # of contrastive pretraining

# What arrays may be called in a file; the second name is that of the reference's arrays.
_NAMES = {
  "image": ("image", "x_uint8"),
  "segments": ("segments", "y"),
  "label": ("label", "target"),
}


class Inputs(NamedTuple):
  """A batch of square images.

  Attributes:
    image: RGB.
    label: class of each image.
    segments: superpixel of each pixel; None = not known.
  """

  image: UInt8[np.ndarray, "b h h 3"]
  label: Int32[np.ndarray, " b"]
  segments: Int32[np.ndarray, "b h h"] | None

  @property
  def size(self) -> int:
    """Side of the images in pixels."""
    return self.image.shape[1]

  @property
  def batch(self) -> int:
    """How many images there are."""
    return len(self.image)


def load(path: str | os.PathLike) -> Inputs:
  """Reads a batch from an npz file.

  Its arrays are `image` uint8 `[b, h, h, 3]`, and optionally `segments` `[b, h, h]` and `label`
  `[b]`, integers from 0 on.

  Raises:
    UserError: the file is missing or damaged, or its arrays are others.
  """
  try:
    with np.load(path) as arrays:
      found = {
        name: next((arrays[key] for key in keys if key in arrays), None)
        for name, keys in _NAMES.items()
      }
  except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
    raise UserError(f"{path} cannot be read as an npz file of arrays.") from error
  image, segments, label = found["image"], found["segments"], found["label"]
  if image is None or image.ndim != 4 or len(image) == 0 or image.shape[1] != image.shape[2]:
    raise UserError(f"{path} has no array `image` [b, h, h, 3], a batch of square images.")
  model_input.check_image(image[0])
  for name, array, shape in (
    ("segments", segments, image.shape[:3]),
    ("label", label, image.shape[:1]),
  ):
    if array is None:
      continue
    if array.shape != shape or array.dtype.kind not in "iu" or array.min() < 0:
      raise UserError(f"`{name}` in {path} has to be integers {list(shape)}, none below 0.")
  if label is not None and label.max() >= NUM_CLASSES:
    raise UserError(f"`label` in {path} has to be below {NUM_CLASSES}, the classes of the models.")
  return Inputs(
    image,
    _number(len(image)) if label is None else label.astype(np.int32),
    None if segments is None else segments.astype(np.int32),
  )


def draw(size: int, batch: int) -> Inputs:
  """Images of PartWorld, each of a class of its own as far as classes go.

  Raises:
    UserError: PartWorld has no images so small.
  """
  examples = partworld.PartWorld("train", size=size, seed=0, num_examples=batch)
  image = np.stack([examples[i]["image"] for i in range(batch)])
  return Inputs(image, _number(batch), None)


def _number(count: int) -> Int32[np.ndarray, " b"]:
  """A label for each image; larger batches begin again, for PyTorch refuses labels of no class."""
  return np.arange(count, dtype=np.int32) % NUM_CLASSES


def cut(inputs: Inputs, superpixels: Mapping[str, Any]) -> Inputs:
  """The batch with superpixels of the host's; with none where the device is to make them.

  Args:
    inputs: the batch; superpixels that it has are replaced.
    superpixels: as `data.pipeline.train_batches` takes them.

  Raises:
    UserError: the images are too small for so many superpixels.
  """
  segment = segmenter(superpixels)
  segments = None if segment is None else np.stack([segment(image) for image in inputs.image])
  return inputs._replace(segments=segments)
