"""Ground truths by benchmark: annotators, parts and wholes, classes, figures.

A truth of parts is found for every benchmark: its finest level is one annotator's segmentation, one
of its levels a map of classes, and all that is no background in the coarsest the figure.
"""

import functools
import glob
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Integer

from hseg_jax import images
from hseg_jax.errors import UserError
from hseg_jax.scoring import (
  bsds_files,
  coco_masks,
  image_names,
  part_instances,
  part_truths,
)
from hseg_jax.scoring.part_truths import PartTruth, PartTruths

KINDS = {
  "bsds": "annotators",
  "superpixels": "annotators",
  "part_whole": "parts",
  "semantic": "semantic",
  "figure_ground": "figure",
}
VOID = 255  # the label of ignored pixels, as VOC and ADE20K have it

_PARTWORLD_SIZE = 64
_ANNOTATOR = re.compile(r"(.+)_(\d{1,2})")


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
    names: of the images, sorted, without ending; without folders too, unless two would be alike.
    read: the truth of an image by its name: a `bsds_files.GroundTruth`, a `PartTruth`, a class map
      `[h, w]` of integers (255 and below 0: ignored) or a `Figure`; raises `UserError` where its
      files are damaged. Can be pickled, but may hold a whole COCO file: send it to another process
      once.
    level_names: of parts: the levels of every image, finest first; else empty.
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
  size: int | None = None,
) -> Truths:
  """Finds the truths for a benchmark.

  Annotators are `ID.mat` of BSDS500, or label maps `ID_1.png`, `ID_2.png`, ... (`.npy`), or one
  label map an image: numbers of one or two digits, from 0 or 1 on, count annotators where all names
  end in them. Classes and figures are maps of one channel, a palette's indices included. For truths
  of parts see `part_truths` and `part_instances`.

  Args:
    benchmark: "bsds" or "superpixels" (annotators), "part_whole", "semantic" or "figure_ground".
    path: a folder, a `.json` file, or `partworld:SPLIT[:N]`, as `partworld:val[:500]`.
    level: semantic, from a truth of parts: the level that holds the classes; None = the finest.
    binary_masks: figure_ground, from masks: 255 (all above 127; 1 where that is the largest) is
      figure and nothing is ignored, as in ECSSD. Else any value but 0 is figure, and 255 is
      ignored, as in VOC's class masks.
    size: side of PartWorld's images; None = 64.

  Raises:
    UserError: there is nothing, or nothing that the benchmark can be scored against.
  """
  if benchmark not in KINDS:
    raise UserError(f"There is no benchmark {benchmark}; choose one of {', '.join(KINDS)}.")
  kind = KINDS[benchmark]
  parts = _find_parts(path, size)
  if binary_masks and (kind != "figure" or parts is not None):
    raise UserError(f"{path} is no folder of masks of figures, which could be binary.")
  if parts is not None:
    return _from_parts(kind, path, parts, level)
  if kind == "parts":
    raise UserError(
      f"{path} holds no truth of parts: neither masks with labels.csv, nor a .json file of COCO "
      "annotations, nor .mat files of Pascal-Part."
    )
  if level is not None:
    raise UserError(f"{path} holds no truth of parts, of which {level} could be a level.")
  if kind == "annotators":
    return _find_annotators(path)
  table = image_names.table(path, (".png", ".npy"))
  read = (
    functools.partial(_read_figure, table, binary=binary_masks)
    if kind == "figure"
    else functools.partial(_read_classes, table)
  )
  return Truths(kind, tuple(sorted(table)), read)


def check_size(name: str, prediction: tuple[int, int], truth: tuple[int, int]) -> None:
  """Raises `UserError` where a prediction and its truth differ in height or width."""
  if tuple(prediction) != tuple(truth):
    (height, width), (true_height, true_width) = prediction, truth
    raise UserError(
      f"The prediction of {name} has {width}x{height} pixels, its ground truth "
      f"{true_width}x{true_height}; score it at the truth's own size."
    )


def _find_parts(path: str | os.PathLike, size: int | None) -> PartTruths | None:
  """A truth of parts, if that is what there is."""
  if str(path).startswith(part_truths.PARTWORLD):
    return part_truths.find_partworld(str(path), _PARTWORLD_SIZE if size is None else size)
  if size is not None:
    raise UserError(f"{path} has images of its own size; {size} could only be that of PartWorld.")
  if os.path.isfile(path):
    return _find_annotations(path)
  masks = part_truths.labelled_masks(path)
  if masks is not None:
    return part_truths.find_labelled(masks)
  files = sorted(glob.glob(os.path.join(glob.escape(str(path)), "annotations", "*.json")))
  if len(files) > 1:
    raise UserError(f"{path} has several files of annotations; give one, such as {files[0]}.")
  if files:
    return _find_annotations(files[0])
  found = image_names.listing(path, (".mat",))
  if found and "anno" in bsds_files.list_variables(os.path.join(path, found[0])):
    return part_instances.find_pascal_part(path)
  return None


def _find_annotations(path: str | os.PathLike) -> PartTruths:
  """DensePose's annotations, or PartImageNet's."""
  if not str(path).lower().endswith(".json"):
    raise UserError(f"{path} is no ground truth; give a folder, or a .json file of annotations.")
  content = coco_masks.load(path)
  if any("dp_masks" in entry for found in content.images.values() for entry in found):
    return part_instances.find_densepose(content)
  return part_truths.find_part_categories(content)


def _from_parts(kind: str, path: str | os.PathLike, parts: PartTruths, level: str | None) -> Truths:
  """A truth of parts as the truth that a benchmark wants."""
  if level is not None and kind != "semantic":
    raise UserError(f"Only semantic scores ask for one level, such as {level}; leave it out.")
  if kind == "parts":
    return Truths(kind, parts.names, parts.read, level_names=parts.level_names)
  if kind != "semantic":
    convert = _first_level if kind == "annotators" else _not_background
    return Truths(kind, parts.names, functools.partial(_convert, parts.read, convert))
  if not parts.class_names:
    raise UserError(f"{path} holds instances, whose ids are no classes.")
  if level is not None and level not in parts.level_names:
    raise UserError(f"{path} has no level {level}; choose one of {', '.join(parts.level_names)}.")
  i = 0 if level is None else parts.level_names.index(level)
  read = functools.partial(_convert, parts.read, functools.partial(_level, i))
  return Truths(kind, parts.names, read, class_names=parts.class_names[i])


def _convert(read: Callable[[str], PartTruth], convert: Callable[[PartTruth], Any], name: str):
  return convert(read(name))


def _first_level(truth: PartTruth) -> bsds_files.GroundTruth:
  return bsds_files.GroundTruth.from_labels([truth.levels[0]])


def _not_background(truth: PartTruth) -> Figure:
  wholes = truth.levels[-1]
  return Figure(wholes > 0, wholes >= 0)


def _level(i: int, truth: PartTruth) -> Integer[np.ndarray, "h w"]:
  return truth.levels[i]


def _find_annotators(path: str | os.PathLike) -> Truths:
  """Human segmentations, in one file an image or in one file an annotator."""
  table = image_names.table(path, (".mat", ".png", ".npy"))
  if next(iter(table.values())).lower().endswith(".mat"):
    return Truths("annotators", tuple(sorted(table)), functools.partial(_read_mat, table))
  groups: dict[str, dict[int, str]] = {}
  for name, file in table.items():
    match = _ANNOTATOR.fullmatch(name)
    if match:
      groups.setdefault(match[1], {})[int(match[2])] = file
  counted = all(min(each) < 2 and max(each) - min(each) < len(each) for each in groups.values())
  if counted and sum(map(len, groups.values())) == len(table):
    maps = {name: [each[i] for i in sorted(each)] for name, each in groups.items()}
  else:
    maps = {name: [file] for name, file in table.items()}
  return Truths("annotators", tuple(sorted(maps)), functools.partial(_read_maps, maps))


def _read_mat(table: Mapping[str, str], name: str) -> bsds_files.GroundTruth:
  return bsds_files.read_ground_truth(table[name])


def _read_maps(table: Mapping[str, list[str]], name: str) -> bsds_files.GroundTruth:
  maps = [images.read_labels(file) for file in table[name]]
  if len({labels.shape for labels in maps}) > 1:
    raise UserError(f"The annotators of {name} differ in size; all maps need the image's.")
  return bsds_files.GroundTruth.from_labels(maps)


def _read_classes(table: Mapping[str, str], name: str) -> Integer[np.ndarray, "h w"]:
  return images.read_labels(table[name]).astype(np.int64)


def _read_figure(table: Mapping[str, str], name: str, *, binary: bool) -> Figure:
  values = images.read_labels(table[name])
  if binary:
    return Figure(values > (VOID // 2 if values.max() > 1 else 0), np.ones(values.shape, bool))
  if VOID in values and np.isin(values, (0, VOID)).all():
    raise UserError(f"{table[name]} holds only 0 and 255; are these binary masks, not classes?")
  return Figure((values > 0) & (values != VOID), (values >= 0) & (values != VOID))
