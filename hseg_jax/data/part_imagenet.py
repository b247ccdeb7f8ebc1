"""PartImageNet: photographs with masks of the parts of their objects (He et al., ECCV 2022)."""

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from hseg_jax.data import transforms
from hseg_jax.errors import UserError
from hseg_jax.images import decode, list_folder
from hseg_jax.scoring import coco_masks
from hseg_jax.vocabulary import Vocabulary


class PartImageNet:
  """The images of a split, `root/images/SPLIT`, and `root/annotations/SPLIT.json`.

  Images may lie in folders of their own class. Objects are the supercategories of the annotations,
  in the order of the categories, and parts are the categories. Where masks overlap, the later one
  counts. Images and masks come with the short side at `image_size` and their central square cut
  out, as in the reference's notebooks, whose evaluation crops less than that of ImageNet.

  An example is `image`, `object` and `parts` (uint8 `[s, s]`, 0 = none, else 1 + the index in the
  vocabulary) and `label`, -1: images as such have no class.
  NOTE(reference): a mask that cannot be read is an error; there it is skipped without a word.

  Attributes:
    class_names: of images; none.
    vocabulary: of objects and their parts.
  """

  class_names: tuple[str, ...] = ()

  def __init__(self, root: str, split: str, image_size: int):
    """Reads the annotations and finds the images.

    Raises:
      UserError: files are missing, or the annotations say nothing of parts.
    """
    if not root:
      raise UserError("data.root is not given; set it to a folder with images/ and annotations/.")
    self._folder, path = pathlib.Path(root, "images", split), f"{root}/annotations/{split}.json"
    if not self._folder.is_dir():
      raise UserError(f"There is no folder {self._folder}; name a split that PartImageNet has.")
    self._annotations, self._image_size = coco_masks.load(path), image_size
    files = {pathlib.PurePath(file).stem: file for file in list_folder(self._folder)}
    self._names = sorted(self._annotations.images)
    missing = [name for name in self._names if pathlib.PurePath(name).name not in files]
    if missing or not self._names:
      raise UserError(
        f"{len(missing)} of the {len(self._names)} images that {path} lists are not in "
        f"{self._folder}" + (f", such as {missing[0]}." if missing else ".")
      )
    self._files = [files[pathlib.PurePath(name).name] for name in self._names]
    self.vocabulary, self._kinds = _read_categories(self._annotations.categories, path)

  def __len__(self) -> int:
    return len(self._names)

  def __getitem__(self, index: int) -> dict[str, Any]:
    file = self._files[index]
    image = decode(self._folder / file, file)
    objects, parts = self._masks(self._names[index], image.shape[:2])
    crop = transforms.square_mask
    return {
      "image": transforms.square(image, image_size=self._image_size),
      "label": -1,
      "object": crop(objects, image_size=self._image_size),
      "parts": crop(parts, image_size=self._image_size),
    }

  def _masks(
    self, name: str, shape: tuple[int, int]
  ) -> tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    objects, parts = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for i, entry in enumerate(self._annotations.images[name]):
      inside = self._annotations.mask(name, i, entry.get("segmentation"), shape)
      if entry.get("category_id") not in self._kinds:
        raise UserError(f"{self._annotations.path} gives {name} a part of no category.")
      kind, whole = self._kinds[entry["category_id"]]
      objects[inside], parts[inside] = 1 + whole, 1 + kind
    return objects, parts


def _read_categories(
  categories: Sequence[Mapping[str, Any]], path: str
) -> tuple[Vocabulary, dict[int, tuple[int, int]]]:
  """The vocabulary, and the part and object of each category's id."""
  kinds, parts_of, parts = {}, collections.defaultdict(list), []
  try:
    for kind, category in enumerate(categories):
      whole = category["supercategory"]
      parts_of[whole].append(kind)
      # Categories are called "Bird Wing" where the vocabulary joins the two itself.
      parts.append(category["name"].removeprefix(f"{whole} "))
      kinds[category["id"]] = kind, list(parts_of).index(whole)
  except (KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f"{path} has a category without {error}; each needs a supercategory."
    ) from error
  if not 0 < len(parts) < 255:
    raise UserError(f"{path} has {len(parts)} categories, which are to be the parts of objects.")
  return Vocabulary(tuple(parts_of), tuple(parts), tuple(map(tuple, parts_of.values()))), kinds
