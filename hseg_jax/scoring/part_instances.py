"""Truths of parts and wholes by instance: Pascal-Part and DensePose-COCO.

Every object has an id of its own, and so have its parts. Where objects overlap the later is on top.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from hseg_jax.errors import UserError
from hseg_jax.scoring import bsds_files, coco_masks, image_names
from hseg_jax.scoring.part_truths import PartTruth, PartTruths

# In the order of `dp_masks`, as the data's own description lists them.
BODY_PARTS = (
  "Torso",
  "Right Hand",
  "Left Hand",
  "Left Foot",
  "Right Foot",
  "Upper Leg Right",
  "Upper Leg Left",
  "Lower Leg Right",
  "Lower Leg Left",
  "Upper Arm Left",
  "Upper Arm Right",
  "Lower Arm Left",
  "Lower Arm Right",
  "Head",
)

_BOX = (256, 256)  # of the masks of body parts, stretched over the person's box
_LEVELS = ("parts", "objects")


class _Whole(NamedTuple):
  """An object: what it is, its pixels, and its parts' names and pixels."""

  name: str
  mask: Bool[np.ndarray, "h w"]
  parts: Sequence[tuple[str, Bool[np.ndarray, "h w"]]]


def find_pascal_part(folder: str | os.PathLike) -> PartTruths:
  """Pascal-Part: a `.mat` file an image, as in its folder Annotations_Part.

  Chen, Mottaghi, Liu, Fidler, Urtasun and Yuille, "Detect What You Can: Detecting and Representing
  Objects using Holistic Models and Body Parts", CVPR 2014. A file holds `anno.objects`, each with
  `class`, `mask` and `parts`, these with `part_name` and `mask`. The parts are called "CLASS PART",
  in the data's own short names ("person lhand"). Objects of classes without parts are wholes.

  Raises:
    UserError: the folder holds no such files.
  """
  table = image_names.table(folder, (".mat",))
  return PartTruths(tuple(sorted(table)), functools.partial(_read_pascal, table), _LEVELS)


def find_densepose(content: coco_masks.Annotations) -> PartTruths:
  """DensePose-COCO: persons and 14 parts of their bodies, in COCO annotations with `dp_masks`.

  Guler, Neverova and Kokkinos, "DensePose: Dense Human Pose Estimation in the Wild", CVPR 2018. The
  masks of parts, 256x256, are stretched over the person's box (nearest pixel), as the data's
  notebook does. A person is the mask of its `segmentation` and its parts; many have no parts, and
  images in which none has any are left out. Crowds are unlabelled.
  """
  names = tuple(sorted(name for name, found in content.images.items() if any(map(_parts, found))))
  return PartTruths(names, functools.partial(_read_densepose, content), _LEVELS)


def _read_pascal(table: Mapping[str, str], name: str) -> PartTruth:
  path = table[name]
  annotation = bsds_files.read_variable(path, "anno")
  try:
    wholes = []
    for each in annotation["objects"][0, 0].flat:
      kind = str(each["class"].item())
      parts = [
        (f"{kind} {part['part_name'].item()}", np.asarray(part["mask"]) > 0)
        for part in each["parts"].flat
      ]
      wholes.append(_Whole(kind, np.asarray(each["mask"]) > 0, parts))
  except (IndexError, TypeError, ValueError) as error:
    raise UserError(
      f"Cannot read {path} (its anno has no objects with class, mask and parts)."
    ) from error
  shapes = {each.mask.shape for each in wholes}
  shapes |= {mask.shape for each in wholes for _, mask in each.parts}
  if len(shapes) != 1 or len(shape := shapes.pop()) != 2:
    reason = "its masks differ in size" if wholes else "it has no objects"
    raise UserError(f"Cannot read {path} ({reason}).")
  return _paint(wholes, shape)


def _read_densepose(content: coco_masks.Annotations, name: str) -> PartTruth:
  shape = content.shape(name)
  wholes, crowd = [], np.zeros(shape, bool)
  for i, entry in enumerate(content.images[name]):
    mask = content.mask(name, i, entry.get("segmentation"), shape)
    if entry.get("iscrowd"):
      crowd |= mask
    else:
      wholes.append(_Whole("person", mask, _body_parts(content, name, i, shape)))
  truth = _paint(wholes, shape)
  unlabelled = crowd & (truth.levels[1] == 0)
  for level in truth.levels:
    level[unlabelled] = -1
  return truth


def _parts(entry: Mapping[str, Any]) -> list[Any]:
  """The masks of an annotation's parts; empty where it has none."""
  masks = entry.get("dp_masks")
  return masks if isinstance(masks, list) and any(masks) else []


def _body_parts(
  content: coco_masks.Annotations, name: str, i: int, shape: tuple[int, int]
) -> list[tuple[str, Bool[np.ndarray, "h w"]]]:
  """The parts of the i-th person of an image, at the image's size."""
  entry = content.images[name][i]
  masks = _parts(entry)
  if not masks:
    return []
  try:
    left, top, width, height = (int(side) for side in entry["bbox"])
  except (KeyError, TypeError, ValueError, OverflowError):
    width = height = 0
  if len(masks) > len(BODY_PARTS) or min(width, height) < 1 or min(left, top) < 0:
    raise UserError(
      f"Cannot read {content.path} ({name}, person {i + 1} has no box in the image, or more than "
      f"{len(BODY_PARTS)} parts)."
    )
  height, width = min(height, shape[0] - top), min(width, shape[1] - left)
  rows = np.arange(max(height, 0)) * _BOX[0] // max(height, 1)
  columns = np.arange(max(width, 0)) * _BOX[1] // max(width, 1)
  found = []
  for part, mask in zip(BODY_PARTS, masks, strict=False):
    if mask:
      whole = np.zeros(shape, bool)
      inside = content.mask(name, i, mask, _BOX)
      whole[top : top + height, left : left + width] = inside[rows[:, None], columns]
      found.append((part, whole))
  return found


def _paint(wholes: Sequence[_Whole], shape: tuple[int, int]) -> PartTruth:
  """Lays objects with their parts one over another."""
  parts, objects = np.zeros((2, *shape), np.int64)
  part_names, names = ["background"], ["background"]
  for each in wholes:
    mask = np.logical_or.reduce([each.mask, *(mask for _, mask in each.parts)])
    parts[mask] = 0
    objects[mask] = len(names)
    names.append(each.name)
    for name, mask in each.parts:
      parts[mask] = len(part_names)
      part_names.append(name)
  return PartTruth((parts, objects), _LEVELS, (tuple(part_names), tuple(names)))
