"""`Segmenter`: a trained model that turns photographs of any size into hierarchies of regions."""

import collections
import copy
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from hseg_jax import create_model, images, inference
from hseg_jax.baselines import methods, token_hierarchy
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.interop import exported, hub, torch_weights
from hseg_jax.label_maps import filled_border_lengths
from hseg_jax.model_input import SUPERPIXELS, Preparation, Prepared, resize_labels
from hseg_jax.preprocessing import count_on_device, normalize
from hseg_jax.readout import read
from hseg_jax.superpixels import device

MAX_BATCH = 16

File = str | os.PathLike


class Segmenter:
  """Segments images into hierarchies whose levels are the superpixels and those of a model.

  A plain ViT has no levels: its tokens are clustered, and each level is made of clusters.

  The model sees each image with its short side at `size` pixels, as `Preparation` says. Superpixels
  are computed on the image as it is (by the method "device" on what the model sees, as in
  training); label maps of the result have the image's own size.

  Calling it does everything at once. Where files are to be read while the model computes, its
  three steps can be taken apart: `prepare` and `assemble`, on the host, which threads may share,
  and between them `predict`, for images of one shape.

  Attributes:
    class_names: of the entries of a hierarchy's `probabilities`; empty when unknown.
    size: short side of what the model sees, in pixels.
    prepare: `(image, superpixels or None) -> Prepared`.
    takes_superpixels: whether it sees any; a plain ViT does not.
    nests: True, the levels of a hierarchy do.
    model: with room for all superpixels there may be.
    variables: of the model.
  """

  nests = True

  def __init__(
    self,
    model: Any,
    variables: Mapping[str, Any],
    *,
    superpixels: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
    size: int | None = None,
    method: str | None = None,
    num_regions: Sequence[int] | None = None,
  ):
    """Prepares a model.

    Args:
      model: a model with levels or a plain ViT, as `create_model` makes it. More superpixels than
        it was trained with are fine: no parameter depends on their number.
      variables: {"params": ..., "batch_stats": ...}.
      superpixels: `method` ("seeds", "grid" or "device"), `num_segments`, the most there may be in
        an image, and for SEEDS `bins` and `iterations`. What is not given is as in supervised
        training, with as many superpixels as the model has room for. A ViT has none.
      class_names: one for each class of the model's head.
      size: short side of what the model sees, in pixels, a multiple of its stride; the model's own
        image size if None.
      method: of clustering the tokens of a ViT, a name among `methods.TOKEN_METHODS`; k-means if
        None.
      num_regions: clusters of each level of a ViT, finest first; (64, 32, 16, 8) if None.

    Raises:
      UserError: the model has neither levels nor a grid of tokens, or the options do not suit it.
    """
    self.size = min(model.image_size) if size is None else size
    _check_model(model, class_names, method, num_regions)
    self.class_names = tuple(class_names)
    self._stride = model.stride
    self._method, self._num_regions = method or "kmeans", num_regions or methods.NUM_REGIONS
    self.takes_superpixels, room, self._cut = bool(model.num_clusters), 0, None
    if self.takes_superpixels:
      defaults = {**SUPERPIXELS, "num_segments": model.num_segments}
      superpixels = {**defaults, **(superpixels or {})}
      room = max(model.num_segments, superpixels["num_segments"])
      model = model.clone(num_segments=room)
      if on_device := count_on_device(superpixels):
        self._cut = jax.jit(functools.partial(device.segment, num_segments=on_device))
    elif superpixels is not None:
      raise UserError("A plain ViT has no superpixels; leave their options out.")
    self.prepare = Preparation(self.size, model.stride, superpixels, room)
    self.model = model
    self.variables = jax.device_put(dict(variables))
    self._forward = inference.jit(functools.partial(read, model))
    self._room = room if room and model.assignment == "path" else 0
    self._compiled = collections.defaultdict(set)  # working size -> batch sizes

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
    assignment: str | None = None,
    method: str | None = None,
  ) -> "Segmenter":
    """Reads a weights folder; what is not given is as in training.

    Args:
      folder: as `hseg export` writes it.
      size: short side of what the model sees, in pixels.
      num_segments: the most superpixels there may be; raise it along with `size`.
      num_clusters: the most regions there may be at each further level, at each level of a ViT.
      method: of clustering the tokens of a ViT, as the class takes it.
      assignment: "cosine" as published, or "path", with which regions hang together; either may be
        put upon weights that were trained with the other.

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
    except (TypeError, ValueError) as error:
      raise UserError(
        f"{folder}/{exported.INFO} does not describe a model ({error}); export anew."
      ) from error
    model = create_model(**fields)
    if num_segments is not None:
      superpixels["num_segments"] = num_segments
    if num_clusters is not None:
      methods.check_numbers(num_clusters)
    if num_clusters is not None and model.num_clusters:
      fields["num_clusters"] = tuple(num_clusters)
    if assignment is not None:
      fields["assignment"] = assignment
    model = create_model(**fields)
    misfit = torch_weights.find_misfit({name: leaf.shape for name, leaf in flat.items()}, model)
    if misfit:
      raise UserError(
        f"The weights in {folder} are not those of the model that its {exported.INFO} names: "
        f"{misfit}; export anew."
      )
    has_none = superpixels["method"] == "none" and num_segments is None
    return cls(
      model,
      exported.unflatten(flat),
      superpixels=None if has_none else superpixels,
      class_names=class_names,
      size=trained_size if size is None else size,
      method=method,
      num_regions=None if model.num_clusters else num_clusters,
    )

  def __call__(
    self,
    image: File | np.ndarray | Sequence[Any],
    superpixels: np.ndarray | Sequence[np.ndarray | None] | None = None,
  ) -> Hierarchy | list[Hierarchy]:
    """Segments an image, or each of a batch.

    Args:
      image: a file, or RGB in [0, 255], uint8 `[h, w, 3]`; or `[b, h, w, 3]`, or a list of files or
        images, whose sizes may differ. Photographs are turned upright.
      superpixels: a label map of your own, or a list with one, or None, for each image: integers
        `[h, w]`, negative = no superpixel, of the image's size or of the size at which the model
        sees it. None computes them.

    Returns:
      The hierarchy at the image's own resolution, or a list of them. Features: level l has the
      tokens that stage l compares to make level l + 1, and the last level, which no stage follows,
      the centroids that made it; of a ViT, the mean token of each region. Probabilities: of a
      model with a head for whole images.

    Raises:
      UserError: something is no such image, or too small for its superpixels, or a label map does
        not suit its image.
    """
    many = isinstance(image, Sequence) and not isinstance(image, str)
    if not many and (isinstance(image, File) or np.ndim(image) != 4):
      return self._segment([image], [superpixels])[0]
    maps = [None] * len(image) if superpixels is None else list(superpixels)
    if len(maps) != len(image):
      raise UserError(f"{len(maps)} label maps were given for {len(image)} images.")
    return self._segment(list(image), maps)

  def inputs(self, image: File | np.ndarray) -> tuple[Float[Array, "1 h w 3"], np.ndarray | None]:
    """What the model is given for an image, a file or an array: its pixels and its superpixels,
    None for a plain ViT."""
    prepared = self.prepare(_decode(image))
    pixels = normalize(prepared.image[None])
    if prepared.segments is None:
      return pixels, None if self._cut is None else jax.device_get(self._cut(prepared.image[None]))
    return pixels, resize_labels(prepared.segments, *prepared.image.shape[:2])[None]

  def with_variables(self, variables: Mapping[str, Any]) -> "Segmenter":
    """The same segmenter with other variables of its model, adapted ones say."""
    other = copy.copy(self)
    other.variables = jax.device_put(dict(variables))
    return other

  def _segment(self, sources: Sequence[Any], maps: Sequence[np.ndarray | None]) -> list[Hierarchy]:
    prepared = [self.prepare(_decode(image), own) for image, own in zip(sources, maps, strict=True)]
    groups = collections.defaultdict(list)
    for i, each in enumerate(prepared):
      groups[each.image.shape, each.segments is None].append(i)
    found = {}
    for members in groups.values():
      for start in range(0, len(members), MAX_BATCH):
        batch = members[start : start + MAX_BATCH]
        found |= dict(zip(batch, self.predict([prepared[i] for i in batch]), strict=True))
    return [self.assemble(each, found[i]) for i, each in enumerate(prepared)]

  def predict(self, batch: Sequence[Prepared]) -> list[dict[str, Any]]:
    """What the model says of each image of a batch.

    Their `image`s are of one shape, and all or none of them have superpixels.
    """
    size = batch[0].image.shape[:2]
    pixels = np.stack([each.image for each in batch])
    labels, made = None, {}
    if batch[0].segments is not None:
      labels = np.stack([resize_labels(each.segments, *size) for each in batch])
    # A batch is filled up to a size that is compiled already, or to a power of two.
    enough = [count for count in self._compiled[size] if count >= len(batch)]
    count = min(enough, default=1 << (len(batch) - 1).bit_length())
    self._compiled[size].add(count)
    rows = np.arange(count) % len(batch)
    pixels, labels = pixels[rows], None if labels is None else labels[rows]
    if labels is None and self._cut is not None:
      labels = self._cut(pixels)
      made = {"segments": labels}
    inputs = [pixels, labels]
    if self._room:
      # Of the superpixels as they are: once shrunk, thin ones part neighbours or let others meet.
      whole = jax.device_get(labels) if made else [each.segments for each in batch]
      lengths = np.stack([filled_border_lengths(each, self._room) for each in whole])
      inputs.append(lengths if made else lengths[rows])
    out = jax.device_get(self._forward(self.variables, *inputs) | made)
    return [jax.tree.map(lambda values, i=i: values[i], out) for i in range(len(batch))]

  def assemble(self, prepared: Prepared, row: Mapping[str, Any]) -> Hierarchy:
    """The hierarchy of an image at its own resolution, from what `predict` found."""
    if "tokens" in row:
      hierarchy = self._cluster(prepared, **row)
    else:
      row = {"segments": prepared.segments, **row}
      # Never larger than the image: what it has no pixel of must be known before regions are made.
      h, w = map(min, row["segments"].shape, (prepared.height, prepared.width))
      row["segments"] = resize_labels(row["segments"], h, w)
      hierarchy = Hierarchy.from_assignments(**row)
    # Enlarging last spares the work on huge images; every region keeps a pixel.
    segments = resize_labels(hierarchy.segments, prepared.height, prepared.width)
    if segments is hierarchy.segments:
      return hierarchy
    return dataclasses.replace(hierarchy, segments=segments)

  def _cluster(self, prepared: Prepared, tokens: np.ndarray, **rest: np.ndarray) -> Hierarchy:
    rows, columns = (side // self._stride for side in prepared.image.shape[:2])
    hierarchy = token_hierarchy.segment(
      tokens.reshape(rows, columns, -1),
      prepared.height,
      prepared.width,
      self._num_regions,
      method=self._method,
      seed=0,
    )
    return dataclasses.replace(hierarchy, **rest)


def _decode(source: Any) -> Any:
  return images.decode(source, str(source)) if isinstance(source, File) else source


def _check_model(
  model: Any, class_names: Sequence[str], method: str | None, num_regions: Sequence[int] | None
) -> None:
  name = type(model).__name__
  if model.num_segments and not model.num_clusters:
    raise UserError(
      f"A {name} has no levels to segment by, and no grid of tokens; choose a CAST model, "
      "cast_small say, or a plain ViT."
    )
  if model.num_clusters and (method is not None or num_regions is not None):
    raise UserError(
      f"A {name} has levels of its own; a method and numbers of regions are for a plain ViT."
    )
  if method is not None and method not in methods.TOKEN_METHODS:
    raise UserError(
      f"A ViT's tokens cannot be clustered by {method!r}; choose among "
      f"{', '.join(methods.TOKEN_METHODS)}."
    )
  methods.check_numbers(num_regions or methods.NUM_REGIONS)
  if class_names and len(class_names) != model.num_classes:
    raise UserError(
      f"{len(class_names)} class names were given for a model of {model.num_classes} classes; "
      f"give one a class, or none."
    )
