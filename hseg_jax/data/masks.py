"""Images with masks of what their pixels show: two folders, and a table of what labels mean."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from hseg_jax.errors import UserError
from hseg_jax.images import EXTENSIONS, decode, list_folder, read_labels
from hseg_jax.scoring import part_truths
from hseg_jax.vocabulary import Vocabulary

IGNORE = 255  # the label of pixels of which nothing is known
TABLE = part_truths.LABELS_FILE


class Labels(NamedTuple):
  """What the labels of masks mean, at each level of their table: "label", "group", "whole".

  Attributes:
    names: of each level, the classes in the order of their ids; "" for an id that is not used.
    ids: of each level, the class of every label, `[256]`; -1 for a label that there is not. 255
      stays 255.
  """

  names: Mapping[str, tuple[str, ...]]
  ids: Mapping[str, Int[np.ndarray, "256"]]

  @property
  def vocabulary(self) -> Vocabulary | None:
    """Wholes as objects, labels as their parts; None where nothing is said of wholes."""
    if "whole" not in self.ids:
      return None
    labels, wholes = self.names["label"][1:], self.names["whole"][1:]
    whole_of = self.ids["whole"][1 : 1 + len(labels)]
    parts_of = (np.flatnonzero(whole_of == 1 + i).tolist() for i in range(len(wholes)))
    return Vocabulary(wholes, labels, tuple(map(tuple, parts_of)))

  def whole_map(self, semantic: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The whole at every pixel; 0 for the background and where nothing is known."""
    return np.where(semantic == IGNORE, 0, self.ids["whole"][semantic]).clip(0).astype(np.uint8)


class MaskExamples:
  """The images `root/images/NAME.jpg` and their masks `root/masks/NAME.png`, sorted by name.

  An example is `image` and `semantic` (uint8 `[h, w]`, 255 = ignored); where `root/labels.csv`
  tells of wholes, also `object` (uint8 `[h, w]`, the whole, 0 = background) and `parts` (uint8
  `[h, w]`, the label inside a whole, 0 elsewhere). Images as such have no class: `label`
  is -1 and `class_names` is empty, so nothing can be trained supervised, or classified.

  labels.csv has the columns id and name, and for each coarser level, say group, also group_id and
  group; label 0 is the background at every level. Of a level called "whole" follow the objects.
  Without the file every label from 0 to 254 may occur.

  Attributes:
    class_names: of images; none.
    mask_labels: what the masks' labels mean.
    vocabulary: of wholes and their parts; None where nothing is said of wholes.
  """

  class_names: tuple[str, ...] = ()

  def __init__(self, root: str, split: str):
    """Lists the images of a split.

    Args:
      root: holds the folders `images` and `masks`.
      split: a subfolder of both; or the name of a list `root/SPLIT.txt`, a name a line; or "all".
        Each may be cut, as in "all[:200]".

    Raises:
      UserError: something is missing, empty or malformed.
    """
    if not root:
      raise UserError("data.root is not given; set it to a folder with images/ and masks/.")
    self._root = pathlib.Path(root)
    for name in ("images", "masks"):
      if not (self._root / name).is_dir():
        raise UserError(f"There is no folder {self._root / name}; masks go beside images there.")
    self.mask_labels = read_labels_table(self._root / TABLE)
    self.vocabulary = self.mask_labels.vocabulary
    self._files = _select(self._root, split)
    missing = [file for file in self._files if not self._mask_path(file).is_file()]
    if missing:
      raise UserError(
        f"{len(missing)} of {len(self._files)} images have no mask; the first lacks "
        f"{self._mask_path(missing[0])}."
      )

  def __len__(self) -> int:
    return len(self._files)

  def __getitem__(self, index: int) -> dict[str, Any]:
    file = self._files[index]
    image = decode(self._root / "images" / file, file)
    path = self._mask_path(file)
    semantic = self._check(read_labels(path), path, image.shape[:2])
    example = {"image": image, "label": -1, "semantic": semantic}
    if "whole" in self.mask_labels.ids:
      wholes = self.mask_labels.whole_map(semantic)
      example |= {"object": wholes, "parts": np.where(wholes, semantic, np.uint8(0))}
    return example

  def _mask_path(self, file: str) -> pathlib.Path:
    return (self._root / "masks" / file).with_suffix(".png")

  def _check(self, mask: np.ndarray, path: pathlib.Path, shape: tuple[int, int]) -> np.ndarray:
    if mask.shape != shape:
      raise UserError(
        f"The mask {path} has {mask.shape[0]}x{mask.shape[1]} rows and columns, its image "
        f"{shape[0]}x{shape[1]}."
      )
    found = np.unique(mask)
    known = self.mask_labels.ids["label"]
    for label in found:
      if not 0 <= label <= IGNORE or known[label] < 0:
        where = self._root / TABLE
        remedy = f"list it in {where}" if where.exists() else "labels run from 0 to 254"
        raise UserError(f"The mask {path} has the label {label}; {remedy}, or give it 255.")
    return mask.astype(np.uint8)


def read_labels_table(path: pathlib.Path) -> Labels:
  """What labels mean by a table, or, where there is none, that any may occur.

  Raises:
    UserError: the file is no such table.
  """
  if not path.is_file():
    ids = np.append(np.arange(IGNORE), IGNORE)
    return Labels({"label": tuple(str(i) for i in range(IGNORE))}, {"label": ids})
  table = part_truths.read_table(path)
  if table.ids.max() >= IGNORE:
    raise UserError(f"{path} has the id {table.ids.max()}; labels and classes run from 0 to 254.")
  ids = np.full((len(table.ids), IGNORE + 1), -1)
  ids[:, : table.ids.shape[1]] = np.where(table.ids == part_truths.UNKNOWN, -1, table.ids)
  ids[:, IGNORE] = IGNORE
  levels = table.level_names
  return Labels(dict(zip(levels, table.names, strict=True)), dict(zip(levels, ids, strict=True)))


def _select(root: pathlib.Path, split: str) -> Sequence[str]:
  """Paths of a split's images, relative to `root/images`."""
  match = re.fullmatch(r"([^\[\]]+?)(?:\[(\d*):(\d*)\])?", split)
  if not match:
    raise UserError(f'The split "{split}" is no name or slice; write "train" or "all[:200]".')
  name, start, stop = match.groups()
  images = root / "images"
  if (images / name).is_dir():
    files = [f"{name}/{file}" for file in list_folder(images / name)]
  elif (root / f"{name}.txt").is_file():
    files = _listed(images, root / f"{name}.txt")
  elif name == "all":
    files = list_folder(images)
  else:
    raise UserError(
      f'There is no split "{name}": neither {images / name}/ nor {root / name}.txt exists; "all" '
      'takes every image, "all[:200]" the first 200.'
    )
  if not files:
    raise UserError(f'The split "{name}" of {root} holds no images ({", ".join(EXTENSIONS)}).')
  chosen = files[int(start) if start else None : int(stop) if stop else None]
  if not chosen:
    raise UserError(f'The split "{split}" is empty: {root} has {len(files)} images there.')
  return chosen


def _listed(images: pathlib.Path, path: pathlib.Path) -> list[str]:
  names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
  known = {}
  for file in list_folder(images):
    known[file] = known[str(pathlib.Path(file).with_suffix(""))] = file
  missing = [name for name in names if name not in known]
  if missing:
    raise UserError(
      f"{path} lists {len(missing)} images that {images} does not have, {missing[0]!r} first."
    )
  return [known[name] for name in names]
