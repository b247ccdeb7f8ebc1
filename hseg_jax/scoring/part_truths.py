"""Truths of parts and wholes by class: label hierarchies such as CCP's, PartWorld, PartImageNet.

In every level id 0 is the background. Truths by instance are in `part_instances`.
"""

import csv
import functools
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from hseg_jax import images
from hseg_jax.errors import UserError
from hseg_jax.scoring import coco_masks, image_names

LABELS_FILE = "labels.csv"
PARTWORLD = "partworld:"
UNLABELLED = 255  # in masks of 8 bits

_PARTS_AND_OBJECTS = ("parts", "objects")
UNKNOWN = -2


class PartTruth(NamedTuple):
  """Parts and wholes of one image.

  Attributes:
    levels: label maps from the finest, the parts, to the coarsest, the wholes; 0 is the background
      and -1 unlabelled. Parts of different wholes have different ids.
    level_names: such as ("parts", "objects"); the same for all images.
    names: what the ids of each level are called, `names[level][id]`; of instances several may
      share a name.
  """

  levels: tuple[Integer[np.ndarray, "h w"], ...]
  level_names: tuple[str, ...]
  names: tuple[tuple[str, ...], ...]


class PartTruths(NamedTuple):
  """The truths of parts and wholes of a data set.

  Attributes:
    names: of the images, sorted.
    read: the `PartTruth` of an image by its name.
    level_names: finest first.
    class_names: what the ids of each level mean in all images, `class_names[level][id]`; empty
      where they are instances.
  """

  names: tuple[str, ...]
  read: Callable[[str], PartTruth]
  level_names: tuple[str, ...]
  class_names: tuple[tuple[str, ...], ...] = ()


class Labels(NamedTuple):
  """What the labels of masks mean.

  Attributes:
    ids: of every label its class at each level, `UNKNOWN` for labels that are not in use.
    level_names: "label", and what the coarser levels are called.
    names: of the classes of each level, in the order of their ids; "" for an id not in use.
  """

  ids: Int[np.ndarray, "l n"]
  level_names: tuple[str, ...]
  names: tuple[tuple[str, ...], ...]


def labelled_masks(path: str | os.PathLike) -> pathlib.Path | None:
  """The folder of masks that a `labels.csv` beside it explains; None if there is no such table."""
  folder = pathlib.Path(path)
  if (folder / LABELS_FILE).is_file():
    return folder / "masks" if (folder / "masks").is_dir() else folder
  return folder if (folder.parent / LABELS_FILE).is_file() and folder.is_dir() else None


def find_labelled(masks: pathlib.Path) -> PartTruths:
  """Masks of labels that a table puts into groups, as those of Clothing Co-Parsing (CCP).

  Yang, Luo and Lin, "Clothing Co-Parsing by Joint Image Segmentation and Labeling", CVPR 2014. The
  masks are `ID.png` or `ID.npy`. The table, `labels.csv` beside them or their folder, has a row a
  label: `id, name`, then for each coarser level, say "group", `group_id, group`. The levels are
  "label" and those. A label that the table lacks is refused, but 255 is unlabelled.

  Raises:
    UserError: there are no masks, or the table is damaged.
  """
  here = masks / LABELS_FILE
  labels = read_table(here if here.is_file() else masks.parent / LABELS_FILE)
  table = image_names.table(masks, (".png", ".npy"))
  read = functools.partial(_read_labelled, table, labels)
  return PartTruths(tuple(sorted(table)), read, labels.level_names, labels.names)


def find_partworld(source: str, size: int) -> PartTruths:
  """The built-in data set, drawn when it is read: parts by kind, objects by class.

  Args:
    source: `partworld:SPLIT`, or `partworld:SPLIT[:N]` for the first N examples. Example 7 of val
      is called "val_00007".
    size: side of the images in pixels.

  Raises:
    UserError: it is written in another way, or there is no such split or size.
  """
  # Drawing needs OpenCV, which no reader does.
  from hseg_jax.data import partworld

  match = re.fullmatch(r"partworld:(\w+)(?:\[:(\d+)\])?", source)
  if not match:
    raise UserError(f"{source} names no truth; write partworld:SPLIT or partworld:SPLIT[:N].")
  split, count = match[1], None if match[2] is None else int(match[2])
  examples = partworld.PartWorld(split, size=size, num_examples=count)
  names = {f"{split}_{i:05d}": i for i in range(len(examples))}
  class_names = tuple(
    ("background", *found) for found in (examples.part_names, examples.class_names)
  )
  read = functools.partial(_read_partworld, examples, names, class_names)
  return PartTruths(tuple(sorted(names)), read, _PARTS_AND_OBJECTS, class_names)


def find_part_categories(content: coco_masks.Annotations) -> PartTruths:
  """COCO annotations of parts whose supercategories are the objects, as those of PartImageNet.

  He, Yang, Yang, Kortylewski, Yuan, Chen, Liu, Yang, Yu and Yuille, "PartImageNet: A Large,
  High-Quality Dataset of Parts", ECCV 2022. Parts are numbered from 1 in the order of the
  categories, objects in that of their first part. Of annotations that overlap the last is on top.
  NOTE(reference): it draws with COCO's own code, and puts the background last.

  Raises:
    UserError: categories have no supercategory.
  """
  try:
    keys, names, wholes = (
      [each[field] for each in content.categories] for field in ("id", "name", "supercategory")
    )
  except KeyError as error:
    raise UserError(f"Cannot read {content.path} (a category lacks {error}).") from error
  if not keys:
    raise UserError(f"Cannot read {content.path} (it has no categories of parts).")
  objects = list(dict.fromkeys(wholes))
  ids = {
    key: (i + 1, objects.index(whole) + 1)
    for i, (key, whole) in enumerate(zip(keys, wholes, strict=True))
  }
  class_names = ("background", *map(str, names)), ("background", *map(str, objects))
  read = functools.partial(_read_categories, content, ids, class_names)
  return PartTruths(tuple(sorted(content.images)), read, _PARTS_AND_OBJECTS, class_names)


def _read_labelled(table: Mapping[str, str], labels: Labels, name: str) -> PartTruth:
  found = images.read_labels(table[name])
  beyond = labels.ids.shape[1]
  ids = np.pad(labels.ids, ((0, 0), (0, 1)), constant_values=UNKNOWN)
  index = np.where((found >= 0) & (found < beyond), found, beyond)
  missing = ids[0][index] == UNKNOWN
  unlabelled = missing & (found == UNLABELLED)
  unknown = found[missing & ~unlabelled]
  if unknown.size:
    raise UserError(f"Cannot read {table[name]} (the label {unknown[0]} is not in {LABELS_FILE}).")
  levels = tuple(np.where(unlabelled, -1, level[index]) for level in ids)
  return PartTruth(levels, labels.level_names, labels.names)


def read_table(path: pathlib.Path) -> Labels:
  """Reads a table of labels, as `find_labelled` describes it.

  Raises:
    UserError: it is damaged.
  """
  try:
    with open(path, encoding="utf-8-sig", newline="") as file:
      reader = csv.DictReader(file)
      rows, columns = list(reader), reader.fieldnames or []
    coarser = [name for name in columns if f"{name}_id" in columns]
    pairs = [("id", "name"), *((f"{name}_id", name) for name in coarser)]
    ids = np.array([[int(row[key]) for row in rows] for key, _ in pairs])
    names = [[row[column].strip() for row in rows] for _, column in pairs]
  except (OSError, KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
    raise UserError(f"Cannot read {path} ({_say(error)}).") from error
  if not rows:
    raise UserError(f"Cannot read {path} (it has no labels).")
  if ids.min() < 0 or ids.max() > 0xFFFF or len(set(ids[0])) < len(rows):
    raise UserError(f"Cannot read {path} (its ids are not distinct, or not within 0 and 65535).")
  if ids[:, ids[0] == 0].any():
    raise UserError(f"Cannot read {path} (label 0 is no background: its groups have other ids).")
  table = np.full((len(pairs), ids[0].max() + 1), UNKNOWN)
  table[:, ids[0]] = ids
  return Labels(table, ("label", *coarser), tuple(map(_order, ids.tolist(), names)))


def _order(ids: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
  """Names by id; empty where an id has none."""
  found = dict(zip(ids, names, strict=True))
  return tuple(found.get(i, "") for i in range(max(found) + 1))


def _read_partworld(
  examples, indices: Mapping[str, int], class_names: tuple[tuple[str, ...], ...], name: str
) -> PartTruth:
  example = examples[indices[name]]
  wholes = example["object"] * (1 + example["label"])
  parts = example["parts"].astype(np.int64)
  return PartTruth((parts, wholes.astype(np.int64)), _PARTS_AND_OBJECTS, class_names)


def _read_categories(
  content: coco_masks.Annotations,
  ids: Mapping[int, tuple[int, int]],
  class_names: tuple[tuple[str, ...], ...],
  name: str,
) -> PartTruth:
  levels = np.zeros((2, *content.shape(name)), np.int64)
  masks = content.masks(name)
  for i, (entry, mask) in enumerate(zip(content.images[name], masks, strict=True)):
    if entry.get("category_id") not in ids:
      raise UserError(f"Cannot read {content.path} ({name}, mask {i + 1} has no known category).")
    levels[:, mask] = np.array(ids[entry["category_id"]])[:, None]
  return PartTruth(tuple(levels), _PARTS_AND_OBJECTS, class_names)


def _say(error: Exception) -> str:
  if isinstance(error, KeyError):
    return f"it has no column {error}"
  return getattr(error, "strerror", None) or "a row is cut short or an id is no number"
