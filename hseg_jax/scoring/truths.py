"""Ground truths by benchmark: annotators, parts and wholes, classes, figures."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from hseg_jax.errors import UserError


class Figure(NamedTuple):
  """A figure before its ground.

  Attributes:
    mask: True = figure.
    valid: True at the pixels that count.
  """

  mask: Bool[np.ndarray, "h w"]
  valid: Bool[np.ndarray, "h w"]


class Truths(NamedTuple):
  """The ground truth of a folder, file or data set.

  Attributes:
    kind: "annotators", "parts", "semantic" or "figure".
    names: of the images, sorted; without endings.
    read: the truth of an image by its name: a `bsds_files.GroundTruth`, a `PartTruth`, a class map
      `[h, w]` of integers (255 and below 0: ignored) or a `Figure`; raises `UserError` where its
      files are damaged. Can be pickled, but may hold a whole COCO file: send it to another process
      once.
    level_names: of parts: the levels of every image, finest first.
    class_names: of semantic: the name of each class, in order; empty where nobody knows.
  """

  kind: str
  names: tuple[str, ...]
  read: Callable[[str], Any]
  level_names: tuple[str, ...] = ()
  class_names: tuple[str, ...] = ()


def find(
  benchmark: str,
  path: str | os.PathLike,
  *,
  level: str | None = None,
  binary_masks: bool = False,
  size: int = 64,
) -> Truths:
  """Finds the truths for a benchmark.

  Args:
    benchmark: "bsds" or "superpixels" (annotators), "part_whole", "semantic" or "figure_ground".
    path: a folder, a `.json` file or `partworld:SPLIT[:N]`, as `partworld:val[:500]`.
    level: semantic from a truth of parts: which of its levels holds the classes.
    binary_masks: masks of figures are 0 and 255 (figure), as ECSSD's; else any value but 0 is
      figure and 255 is ignored, as in VOC's class masks.
    size: side of the images in which PartWorld is drawn.

  Raises:
    UserError: there is nothing, or nothing that the benchmark can be scored against.
  """
  raise NotImplementedError


def check_size(name: str, prediction: tuple[int, int], truth: tuple[int, int]) -> None:
  """Raises `UserError` where a prediction and its truth differ in height or width."""
  if tuple(prediction) != tuple(truth):
    (height, width), (true_height, true_width) = prediction, truth
    raise UserError(
      f"The prediction of {name} has {width}x{height} pixels, its ground truth "
      f"{true_width}x{true_height}; score it at the truth's own size."
    )
