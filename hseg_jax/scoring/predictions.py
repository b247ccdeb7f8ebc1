"""Predictions of any origin: hierarchies, label maps, contour maps, COCO masks, soft maps.

No model is needed to read them. What a folder holds follows from the names in it and, where they
do not tell, from its first few files: it is decided once for all images. A folder has one kind of
file; other endings than those below are not looked at.

  NAME.npz                hierarchies, as `Hierarchy.save` writes them
  LEVEL/NAME.png, .npy    label maps, one folder a level, whatever the levels are called
  NAME.png, .npy          label maps of one level; arrays may be contour maps instead
  NAME.mat                `ucm2` (contour maps) or `segs` (cells of label maps) of BSDS500
  FILE.json, NAME.json    COCO masks, see `coco_masks`

A contour map among arrays is one of floating point that are no whole numbers. A PNG holds ids in
one channel of 8 or 16 bits, a palette's indices or single bits.
"""

import collections
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from hseg_jax import images
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.label_maps import compact
from hseg_jax.scoring import bsds_files, coco_masks, image_names

ENDINGS = (".npz", ".png", ".npy", ".mat", ".json")

_PEEKED = 3  # images from which the kind of a folder and the order of its levels follow


class Prediction(NamedTuple):
  """What was predicted for one image; what its files do not say is empty or None.

  Attributes:
    levels: label maps, finest first; -1 is no region, and 255 is an id as any other.
    hierarchy: the tree where it is known: the file's own, or that of levels which nest and fill the
      image.
    contours: strengths at double resolution, as a file gave them; those of a hierarchy are made by
      `Hierarchy.boundaries`.
    masks: regions that may overlap and leave pixels out, in the file's order. Their levels are the
      map in which small masks lie on large ones, and the one in which large ones lie on small ones;
      of masks of one size the first is on top.
    soft: a strength at every pixel, of a figure or of a boundary: in [0, 1] from an image, finite
      from an array.
  """

  levels: tuple[Integer[np.ndarray, "h w"], ...] = ()
  hierarchy: Hierarchy | None = None
  contours: Float[np.ndarray, "H W"] | None = None
  masks: Bool[np.ndarray, "m h w"] | None = None
  soft: Float[np.ndarray, "h w"] | None = None

  @property
  def shape(self) -> tuple[int, int]:
    """Height and width of the image."""
    if self.contours is not None:
      return self.contours.shape[0] // 2, self.contours.shape[1] // 2
    return self.soft.shape if self.soft is not None else self.levels[0].shape


class Predictions(NamedTuple):
  """The predictions of a folder or file.

  Attributes:
    kind: "hierarchies", "levels" (one folder a level), "labels" (a single level), "contours",
      "segmentations" (`segs`), "masks" or "soft".
    names: of the images, sorted, without ending; without folders too, unless two would be alike.
    read: the prediction of an image by its name; raises `UserError` where its files are damaged.
      Can be pickled, but may hold a whole COCO file: send it to another process once.
  """

  kind: str
  names: tuple[str, ...]
  read: Callable[[str], Prediction]


def find(path: str | os.PathLike, *, soft: bool = False) -> Predictions:
  """Finds the predictions in a folder or COCO file.

  Args:
    path: a folder, or a `.json` file.
    soft: `NAME.png` (8 bits of grey) and `NAME.npy` hold a strength at every pixel, not ids.

  Raises:
    UserError: there is nothing, something unknown, or several kinds at once.
  """
  if os.path.isfile(path):
    if soft or not str(path).lower().endswith(".json"):
      what = "soft maps" if soft else "predictions, or a .json file of COCO masks"
      raise UserError(f"{path} is a file; give a folder of {what}.")
    return _find_masks(path, [])
  files = image_names.listing(path, ENDINGS)
  hierarchies = [file for file in files if file.suffix.lower() == ".npz"]
  if hierarchies:
    # Beside each, hseg segment writes a picture and a description.
    stems = {file.with_suffix("") for file in hierarchies}
    files = hierarchies + [file for file in files if file.with_suffix("") not in stems]
  kinds = sorted({file.suffix.lower() for file in files})
  if not kinds:
    raise UserError(
      f"The folder {path} holds no predictions: no file ends in {', '.join(ENDINGS)}."
    )
  if len(kinds) > 1:
    raise UserError(
      f"The folder {path} holds several kinds of predictions ({', '.join(kinds)}); keep one."
    )
  if soft and kinds[0] not in (".png", ".npy"):
    raise UserError(f"The folder {path} holds {kinds[0]} files, not soft maps (.png or .npy).")
  if kinds[0] == ".json":
    return _find_masks(path, files)
  if kinds[0] == ".mat":
    return _find_mat(path, files)
  if kinds[0] == ".npz":
    return _predictions("hierarchies", _read_hierarchy, path, files)
  return _predictions("soft", _read_soft, path, files) if soft else _find_maps(path, files)


def _predictions(kind: str, read, path: str | os.PathLike, files, **options) -> Predictions:
  """Predictions of one file each."""
  table = image_names.index(path, files)
  return Predictions(kind, tuple(sorted(table)), functools.partial(read, table, **options))


def _find_maps(path: str | os.PathLike, files: Sequence[pathlib.PurePath]) -> Predictions:
  """Label maps in the folder itself or in one folder a level, or contour maps."""
  depths = {len(file.parts) for file in files}
  if len(depths) > 1 or max(depths) > 2:
    raise UserError(
      f"The folder {path} holds label maps at several depths; put them into the folder itself or "
      "into one folder a level."
    )
  if depths == {1}:
    paths = [pathlib.Path(path, file) for file in files[:_PEEKED]]
    if any(each.suffix.lower() == ".npy" and _is_contour_map(each) for each in paths):
      return _predictions("contours", _read_contours, path, files)
    return _predictions("labels", _read_labels, path, files)
  levels = collections.defaultdict(dict)
  for file in files:
    if file.stem in levels[file.parts[0]]:  # a.png and a.PNG
      raise UserError(f"The folder {path} holds two files {file.parent / file.stem}; rename one.")
    levels[file.parts[0]][file.stem] = os.path.join(path, file)
  names = {level: set(table) for level, table in levels.items()}
  first = max(names, key=lambda level: len(names[level]))
  for level, found in names.items():
    if found != names[first]:
      odd = sorted(found ^ names[first])[0]
      raise UserError(
        f"The folder {path} has {odd} in one of its levels {level} and {first} only; each level "
        "needs a label map of every image."
      )
  return _find_levels(levels)


def _find_levels(levels: Mapping[str, Mapping[str, str]]) -> Predictions:
  """Orders levels by their mean numbers of regions in the first images."""
  names = tuple(sorted(next(iter(levels.values()))))
  sizes = {
    level: -np.mean([len(np.unique(_label_map(table[name]))) for name in names[:_PEEKED]])
    for level, table in levels.items()
  }
  order = sorted(levels, key=lambda level: (sizes[level], level))
  return Predictions(
    "levels", names, functools.partial(_read_levels, [levels[level] for level in order])
  )


def _find_mat(path: str | os.PathLike, files: Sequence[pathlib.PurePath]) -> Predictions:
  """Contour maps, or cells of segmentations, which are turned over if they come coarsest first."""
  first = os.path.join(path, files[0])
  variables = bsds_files.list_variables(first)
  if "ucm2" in variables:
    return _predictions("contours", _read_contours, path, files)
  if "segs" not in variables:
    raise UserError(f"Cannot read {first} (it has neither a variable ucm2 nor segs).")
  peeked = [bsds_files.read_segmentations(os.path.join(path, file)) for file in files[:_PEEKED]]
  growth = sum(len(np.unique(maps[-1])) - len(np.unique(maps[0])) for maps in peeked)
  return _predictions(
    "segmentations", _read_segmentations, path, files, count=len(peeked[0]), backwards=growth > 0
  )


def _find_masks(path: str | os.PathLike, files: Sequence[pathlib.PurePath]) -> Predictions:
  """Masks of files whose annotations name their images, or in a folder of one file an image."""
  paths = [os.path.join(path, file) for file in files] or [path]
  if files and not coco_masks.names_images(paths[0]):
    return _predictions("masks", _read_masks, path, files)
  table: dict[str, coco_masks.Annotations] = {}
  for each in paths:
    content = coco_masks.load(each)
    doubled = sorted(table.keys() & content.images.keys())
    if doubled:
      raise UserError(f"{each} and another file have masks of {doubled[0]}; keep one of them.")
    table |= dict.fromkeys(content.images, content)
  if not table:
    raise UserError(f"{path} holds masks of no image.")
  return Predictions("masks", tuple(sorted(table)), functools.partial(_read_named_masks, table))


def _read_hierarchy(table: Mapping[str, str], name: str) -> Prediction:
  hierarchy = Hierarchy.load(table[name])
  levels = tuple(hierarchy.labels(level) for level in range(hierarchy.num_levels))
  return Prediction(levels, hierarchy)


def _read_labels(table: Mapping[str, str], name: str) -> Prediction:
  return _from_levels((_label_map(table[name]),))


def _read_levels(tables: Sequence[Mapping[str, str]], name: str) -> Prediction:
  levels = tuple(_label_map(table[name]) for table in tables)
  if len({level.shape for level in levels}) > 1:
    sizes = ", ".join(f"{level.shape[1]}x{level.shape[0]}" for level in levels)
    raise UserError(f"The levels of {name} differ in size ({sizes} pixels); score one size.")
  return _from_levels(levels)


def _read_segmentations(
  table: Mapping[str, str], name: str, *, count: int, backwards: bool
) -> Prediction:
  maps = bsds_files.read_segmentations(table[name])
  if len(maps) != count:
    raise UserError(
      f"{table[name]} holds {len(maps)} segmentations, but other files {count}; all images need "
      "the same number."
    )
  maps = maps[::-1] if backwards else maps
  return _from_levels(tuple(np.maximum(labels, -1) for labels in maps))


def _read_contours(table: Mapping[str, str], name: str) -> Prediction:
  return Prediction(contours=bsds_files.read_contours(table[name]))


def _read_soft(table: Mapping[str, str], name: str) -> Prediction:
  path = table[name]
  if path.lower().endswith(".png"):
    return Prediction(soft=bsds_files.read_grey(path))
  values = bsds_files.read_array(path)
  if values.ndim != 2 or not values.size or values.dtype.kind not in "biuf":
    raise UserError(
      f"Cannot read the soft map {path} ({values.dtype} {list(values.shape)} instead of numbers "
      "[h, w])."
    )
  if not np.isfinite(values).all():
    raise UserError(f"Cannot read the soft map {path} (values that are not finite).")
  return Prediction(soft=values.astype(np.float64))


def _read_masks(table: Mapping[str, str], name: str) -> Prediction:
  return _from_masks(coco_masks.load_one(table[name], name).masks(name))


def _read_named_masks(table: Mapping[str, coco_masks.Annotations], name: str) -> Prediction:
  return _from_masks(table[name].masks(name))


def _from_masks(masks: Bool[np.ndarray, "m h w"]) -> Prediction:
  """A prediction of masks: small ones laid on large ones, and large ones on small ones."""
  areas = masks.sum(axis=(1, 2))
  levels = []
  for order in (areas, -areas):
    # In memory as the masks are.
    labels = np.full(masks.shape[:0:-1], -1, np.int32).T
    for i in np.argsort(order, kind="stable")[::-1]:
      labels[masks[i]] = i
    levels.append(np.ascontiguousarray(labels))
  return Prediction(tuple(levels), masks=masks)


def _from_levels(levels: tuple[Integer[np.ndarray, "h w"], ...]) -> Prediction:
  """A prediction of label maps, with their tree if they nest and fill the image."""
  hierarchy = None
  if all(level.min() >= 0 for level in levels):
    try:
      hierarchy = Hierarchy.from_labels([compact(level)[1] for level in levels])
    except ValueError:  # one level cuts regions of another
      pass
  return Prediction(levels, hierarchy)


def _label_map(path: str) -> Int[np.ndarray, "h w"]:
  return np.maximum(images.read_labels(path).astype(np.int64), -1)


def _is_contour_map(path: pathlib.Path) -> bool:
  values = bsds_files.read_array(path)
  if values.dtype.kind != "f" or images.are_whole(values):
    return False
  if not all(side % 2 for side in values.shape):
    raise UserError(
      f"{path} holds neither ids, since its values are no whole numbers, nor contours at double "
      "resolution, since its size is even; is it a soft map?"
    )
  return True
