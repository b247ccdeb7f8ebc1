"""`Segmenter`: a trained model that turns photographs of any size into hierarchies of regions."""

import collections
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, UInt8
from PIL import Image

from hseg_jax import create_model
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.interop import exported, hub
from hseg_jax.preprocessing import normalize
from hseg_jax.superpixels import grid, seeds

_MAX_BATCH = 16
_SIDES_PER_OCTAVE = 8  # long sides that images between 1:1 and 1:2 are resized to
_SUPERPIXELS = {"method": "seeds", "bins": 5, "iterations": 15}  # the reference's, supervised


class Segmenter:
  """Segments images into hierarchies whose levels are the superpixels and those of a model.

  The model sees each image with its short side at `size` pixels and its aspect ratio kept, up to
  rounding the long side to an eighth of the short one, so that it is compiled for few shapes.
  Superpixels are computed on the image as it is, and so is every label map of the result.

  Attributes:
    class_names: of the entries of a hierarchy's `probabilities`; empty when unknown.
    size: short side of what the model sees, in pixels.
  """

  def __init__(
    self,
    model: Any,
    variables: Mapping[str, Any],
    *,
    superpixels: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
    size: int | None = None,
  ):
    """Prepares a model.

    Args:
      model: a model with levels, as `create_model` makes it. More superpixels than it was trained
        with are fine: no parameter depends on their number.
      variables: {"params": ..., "batch_stats": ...}.
      superpixels: `method` ("seeds" or "grid"), `num_segments`, the most there may be in an image,
        and for SEEDS `bins` and `iterations`. What is not given is as in supervised training, with
        as many superpixels as the model has room for.
      class_names: one for each class of the model's head.
      size: short side of what the model sees, in pixels, a multiple of its stride; the model's own
        image size if None.

    Raises:
      UserError: the model has no levels, or the options do not suit it.
    """
    self.size = min(model.image_size) if size is None else size
    defaults = {**_SUPERPIXELS, "num_segments": model.num_segments}
    superpixels = {**defaults, **(superpixels or {})}
    _check_options(model, superpixels, class_names, self.size)
    self.class_names = tuple(class_names)
    self._superpixels = superpixels
    self._stride = model.stride
    model = model.clone(num_segments=max(model.num_segments, superpixels["num_segments"]))
    self._variables = jax.device_put(dict(variables))
    self._forward = jax.jit(functools.partial(_forward, model))

  @classmethod
  def from_pretrained(
    cls, name_or_folder: str | os.PathLike | None = None, **options: Any
  ) -> "Segmenter":
    """Finds weights and reads them.

    Args:
      name_or_folder: a folder as `hseg export` writes it; OWNER/NAME, a repository of the Hugging
        Face hub; None for the weights that come with the package.
      **options: of `from_exported`.

    Raises:
      UserError: there are no such weights, they cannot be fetched, or an option does not suit.
    """
    return cls.from_exported(hub.locate(name_or_folder), **options)

  @classmethod
  def from_exported(
    cls,
    folder: str | os.PathLike,
    *,
    size: int | None = None,
    num_segments: int | None = None,
    num_clusters: Sequence[int] | None = None,
  ) -> "Segmenter":
    """Reads a weights folder; what is not given is as in training.

    Args:
      folder: as `hseg export` writes it.
      size: short side of what the model sees, in pixels.
      num_segments: the most superpixels there may be; raise it along with `size`.
      num_clusters: the most regions there may be at each further level.

    Raises:
      UserError: the folder is missing, damaged or of another kind, or an option does not suit.
    """
    flat, info = exported.load_exported(folder)
    try:
      fields, preprocessing = dict(info["model"]), info["preprocessing"]
      superpixels, trained_size = dict(preprocessing["superpixels"]), preprocessing["image_size"]
      class_names = info["class_names"]
    except KeyError as error:
      raise UserError(f"{folder}/{exported.INFO} says nothing of {error}; export anew.") from error
    if num_segments is not None:
      superpixels["num_segments"] = num_segments
    if num_clusters is not None:
      fields["num_clusters"] = tuple(num_clusters)
    return cls(
      create_model(**fields),
      exported.unflatten(flat),
      superpixels=superpixels,
      class_names=class_names,
      size=trained_size if size is None else size,
    )

  def __call__(self, image: np.ndarray | Sequence[Any]) -> Hierarchy | list[Hierarchy]:
    """Segments an image, or each of a batch.

    Args:
      image: RGB in [0, 255], uint8 `[h, w, 3]`; or `[b, h, w, 3]`, or a list of images, whose sizes
        may differ.

    Returns:
      The hierarchy at the image's own resolution, or a list of them. Features: level l has the
      tokens that stage l compares to make level l + 1, and the last level, which no stage follows,
      the centroids that made it. Probabilities: of a model with a head for whole images.

    Raises:
      UserError: something is no such image, or too small for its superpixels.
    """
    if isinstance(image, Sequence) or np.ndim(image) == 4:
      return self._segment(list(image))
    return self._segment([image])[0]

  def _segment(self, images: Sequence[Any]) -> list[Hierarchy]:
    for image in images:
      _check_image(image)
    segments = [self._compute_superpixels(image) for image in images]
    groups = collections.defaultdict(list)
    for i, image in enumerate(images):
      groups[self._working_size(*image.shape[:2])].append(i)
    found = {}
    for size, members in groups.items():
      for start in range(0, len(members), _MAX_BATCH):
        batch = members[start : start + _MAX_BATCH]
        rows = self._apply([images[i] for i in batch], [segments[i] for i in batch], size)
        found |= dict(zip(batch, rows, strict=True))
    return [
      Hierarchy.from_assignments(
        segments[i], found[i]["assignments"], found[i]["features"], found[i].get("probabilities")
      )
      for i in range(len(images))
    ]

  def _apply(
    self,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    segments: Sequence[Int32[np.ndarray, "_ _"]],
    size: tuple[int, int],
  ) -> list[dict[str, Any]]:
    """What the model says of each image at the working size."""
    pixels = np.stack([_resize(image, *size) for image in images])
    labels = np.stack([_resize_labels(one, *size) for one in segments])
    # Powers of two keep the number of batch sizes, and so of compilations, small.
    rows = np.arange(1 << (len(images) - 1).bit_length()) % len(images)
    out = jax.device_get(self._forward(self._variables, pixels[rows], labels[rows]))
    return [jax.tree.map(lambda values, i=i: values[i], out) for i in range(len(images))]

  def _compute_superpixels(self, image: UInt8[np.ndarray, "h w 3"]) -> Int32[np.ndarray, "h w"]:
    # At the image's own resolution, as regions can have no finer boundaries than their superpixels;
    # the model averages over cells of several pixels either way.
    options = self._superpixels
    if options["method"] == "grid":
      return grid.segment(image, options["num_segments"])
    request = self._choose_request(*image.shape[:2])
    return seeds.segment(image, request, bins=options["bins"], iterations=options["iterations"])

  def _choose_request(self, height: int, width: int) -> int:
    """The number to ask SEEDS for, so that it makes about as many superpixels as in training.

    Asked for 64, it makes 64 of 64x64 pixels, but only 35 of 321x481.
    """
    limit = self._superpixels["num_segments"]
    wanted = seeds.count(self.size, self.size, limit)
    best, error = limit, abs(seeds.count(height, width, limit) - wanted)
    for request in range(limit + 1, 2 * limit):
      try:
        count = seeds.count(height, width, request)
      except UserError:  # too many for an image of this size
        break
      if count <= limit and abs(count - wanted) < error:
        best, error = request, abs(count - wanted)
    return best

  def _working_size(self, height: int, width: int) -> tuple[int, int]:
    """Height and width at which the model sees an image; multiples of its stride."""
    step = max(self.size // _SIDES_PER_OCTAVE // self._stride, 1) * self._stride
    short, long = sorted((height, width))
    surplus = round(self.size * (long / short - 1) / step) * step
    long = self.size + surplus
    return (self.size, long) if height <= width else (long, self.size)


def _forward(
  model: Any,
  variables: Mapping[str, Any],
  image: UInt8[Array, "b h w 3"],
  segments: Int[Array, "b h w"],
) -> dict[str, Any]:
  """Arguments of `Hierarchy.from_assignments`, for each image of a batch."""
  out = model.apply(variables, normalize(image), segments, train=False)
  found: dict[str, Any] = {
    "assignments": tuple(
      jnp.where(level.mask, level.assignment.argmax(axis=-1), -1) for level in out.levels
    ),
    "features": (*(level.tokens for level in out.levels), out.levels[-1].centroids),
  }
  if model.num_classes and out.logits.ndim == 2:
    found["probabilities"] = jax.nn.softmax(out.logits)
  return found


def _check_options(
  model: Any, superpixels: Mapping[str, Any], class_names: Sequence[str], size: int
) -> None:
  if not model.num_clusters:
    raise UserError(
      f"A {type(model).__name__} has no levels to segment by; choose a CAST model, cast_small say."
    )
  if superpixels["method"] not in ("seeds", "grid"):
    raise UserError(
      f'There are no superpixels by the method "{superpixels["method"]}"; choose "seeds" or "grid".'
    )
  if size < 1 or size % model.stride:
    raise UserError(
      f"size={size} is not a multiple of the stem's stride; choose a multiple of {model.stride}."
    )
  if class_names and len(class_names) != model.num_classes:
    raise UserError(
      f"{len(class_names)} class names were given for a model of {model.num_classes} classes; "
      f"give one a class, or none."
    )


def _check_image(image: Any) -> None:
  if not isinstance(image, np.ndarray):
    raise UserError(f"A {type(image).__name__} is no image; give uint8 arrays [h, w, 3] in RGB.")
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or image.size == 0:
    raise UserError(
      f"An array of {image.dtype} {list(image.shape)} is no image; give uint8 [h, w, 3] in RGB."
    )


def _resize(
  image: UInt8[np.ndarray, "_ _ 3"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
  """Resizes as training does: bilinearly with antialiasing."""
  return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _resize_labels(
  labels: Int32[np.ndarray, "h w"], height: int, width: int
) -> Int32[np.ndarray, "{height} {width}"]:
  """The label under the centre of each pixel of the resized image."""
  rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
  columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
  return labels[rows[:, None], columns[None, :]]
