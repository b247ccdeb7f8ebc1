"""Segments images of any size by a baseline, in the steps of a model's `Segmenter`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from hseg_jax.baselines import methods
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.model_input import (
  MAX_PIXELS,
  SUPERPIXELS,
  Preparation,
  Prepared,
  check_image,
  resize,
  resize_labels,
)

_NUM_SEGMENTS = 196  # superpixels that "ward" merges; the paper's number
_SIZE = 224  # the paper's images, of which SEEDS makes exactly so many


class ImageSegmenter:
  """Segments images by one of `methods.METHODS`, which know nothing but the pixels.

  The steps are those of `segment.Segmenter`: `prepare` and `assemble`, which threads may share,
  and `predict` between them, where nothing is left to do. Needs no accelerator.

  Attributes:
    class_names: none.
    nests: whether the levels of a result nest: then it is a `Hierarchy`, otherwise label maps.
    num_regions: of each level, finest first.
    takes_superpixels: whether an image may come with superpixels of its own.
  """

  class_names = ()

  def __init__(
    self,
    method: str,
    *,
    num_regions: Sequence[int] | None = None,
    size: int | None = None,
    num_segments: int | None = None,
  ):
    """Prepares a method.

    Args:
      method: a name among `methods.METHODS`.
      num_regions: regions of each level, finest first; if None, of 64, 32, 16 and 8 those that
        the method can make. An image that is too small or too plain for a number has fewer.
      size: short side in pixels at which images are segmented; results are enlarged to the
        image's own size. Smaller images, and all if None, are segmented as they are, and what
        has more than 4 million pixels is shrunk to that.
      num_segments: the most superpixels that "ward" merges; they are the finest level of its
        hierarchies. 196 if None.

    Raises:
      UserError: there is no such method, or an option does not suit it.
    """
    if method not in methods.METHODS:
      raise UserError(
        f"There is no method {method!r}; choose among {', '.join(methods.METHODS)}, or for the "
        f"tokens of a ViT {', '.join(methods.TOKEN_METHODS)}."
      )
    self._method = methods.METHODS[method]
    self.nests, fewest = self._method.nests, self._method.fewest
    if num_regions is None:
      num_regions = [number for number in methods.NUM_REGIONS if number >= fewest]
    methods.check_numbers(num_regions, fewest)
    self.num_regions = tuple(num_regions)
    if size is not None and size < 1:
      raise UserError(f"size={size} is no side of an image; give 1 or more pixels.")
    self._size, self._superpixels = size, None
    self.takes_superpixels = self._method.merges and size is None
    if self._method.merges:
      options = {
        **SUPERPIXELS,
        "num_segments": _NUM_SEGMENTS if num_segments is None else num_segments,
      }
      self._superpixels = Preparation(size or _SIZE, 1, options, options["num_segments"])
    elif num_segments is not None:
      raise UserError(f"The method {method!r} merges no superpixels; leave num_segments out.")

  def prepare(self, image: Any, labels: Any = None) -> Prepared:
    """Shrinks an image to its working size and gives it superpixels where the method wants them.

    Args:
      image: RGB in [0, 255], uint8 `[h, w, 3]`.
      labels: its superpixels, as `Preparation` takes them; computed if None.

    Raises:
      UserError: something is no such image, or too small, or no superpixels are wanted, or a
        working size is asked for besides.
    """
    check_image(image)
    height, width = image.shape[:2]
    if labels is not None and not self.takes_superpixels:
      raise UserError(
        "Superpixels of your own are for the method 'ward' on images of their own size; leave out "
        "either."
      )
    shrink = min((MAX_PIXELS / (height * width)) ** 0.5, 1)
    if self._size is not None:
      shrink = min(self._size / min(height, width), shrink)
    if labels is None:
      image = resize(image, *(max(round(side * shrink), 1) for side in (height, width)))
    segments = None
    if self._superpixels is not None:
      segments = self._superpixels(image, labels).segments
    return Prepared(image, segments, height, width)

  def predict(self, batch: Sequence[Prepared]) -> list[dict[str, Any]]:
    """Nothing, for each image of a batch: there is no model."""
    return [{} for _ in batch]

  def assemble(
    self, prepared: Prepared, row: Mapping[str, Any]
  ) -> Hierarchy | tuple[Int32[np.ndarray, "h w"], ...]:
    """The hierarchy of an image at its own resolution, or its label maps, finest first."""
    del row
    image, segments, height, width = prepared
    if segments is not None:  # every pixel gets a superpixel
      segments = Hierarchy.from_assignments(segments, ()).segments
    maps = self._method.segment(image, segments, self.num_regions)
    if not self.nests:
      return tuple(resize_labels(labels, height, width) for labels in maps)
    tree = Hierarchy.from_labels(maps if segments is None else (segments, *maps))
    return dataclasses.replace(tree, segments=resize_labels(tree.segments, height, width))

  def __call__(
    self, image: Any, labels: Any = None
  ) -> Hierarchy | tuple[Int32[np.ndarray, "h w"], ...]:
    """Segments an image, uint8 `[h, w, 3]`; raises what `prepare` does."""
    return self.assemble(self.prepare(image, labels), {})
