"""PartImageNet: photographs with masks of the parts of their objects (He et al., ECCV 2022)."""

import pathlib
from typing import Any

import numpy as np

from hseg_jax.data import transforms
from hseg_jax.errors import UserError
from hseg_jax.images import decode, list_folder
from hseg_jax.scoring import coco_masks, part_truths
from hseg_jax.vocabulary import Vocabulary


class PartImageNet:
  """The images of a split, `root/images/SPLIT`, and `root/annotations/SPLIT.json`.

  Images may lie in folders of their own class. What the annotations say of objects and parts is
  read by `part_truths.find_part_categories`. Images and masks come with the short side at
  `image_size` and their central square cut out, as in the reference's notebooks, which crop less
  than evaluation on ImageNet does.

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
    content = coco_masks.load(path)
    self._truths, self._image_size = part_truths.find_part_categories(content), image_size
    self.vocabulary = _vocabulary(content, *self._truths.class_names)
    files = {pathlib.PurePath(file).stem: file for file in list_folder(self._folder)}
    missing = [name for name in self._truths.names if name not in files]
    if missing or not self._truths.names:
      raise UserError(
        f"{len(missing)} of the {len(self._truths.names)} images that {path} lists are not in "
        f"{self._folder}" + (f", such as {missing[0]}." if missing else ".")
      )
    self._files = [files[name] for name in self._truths.names]

  def __len__(self) -> int:
    return len(self._files)

  def __getitem__(self, index: int) -> dict[str, Any]:
    name, file = self._truths.names[index], self._files[index]
    image = decode(self._folder / file, file)
    parts, objects = self._truths.read(name).levels
    if parts.shape != image.shape[:2]:
      raise UserError(f"The masks of {file} are of another size than the image.")
    crop = lambda mask: transforms.square_mask(mask.astype(np.uint8), image_size=self._image_size)
    return {
      "image": transforms.square(image, image_size=self._image_size),
      "label": -1,
      "object": crop(objects),
      "parts": crop(parts),
    }


def _vocabulary(
  content: coco_masks.Annotations, part_names: tuple[str, ...], object_names: tuple[str, ...]
) -> Vocabulary:
  """Objects and parts, from names that start with the background's."""
  if len(part_names) > 255:
    raise UserError(f"{content.path} has {len(part_names) - 1} categories, but 254 are the most.")
  wholes = [str(category["supercategory"]) for category in content.categories]
  return Vocabulary(
    object_names[1:],
    # They are called "Bird Wing", and the vocabulary puts the object's name before each itself.
    tuple(
      part.removeprefix(f"{whole} ") for part, whole in zip(part_names[1:], wholes, strict=True)
    ),
    tuple(
      tuple(kind for kind, whole in enumerate(wholes) if whole == name) for name in object_names[1:]
    ),
  )
