"""Photographs with masks of parts, from a tiny release of PartImageNet's form."""

import json

import numpy as np
import pytest
from PIL import Image

from hseg_jax.data import sources
from hseg_jax.data.part_imagenet import PartImageNet
from hseg_jax.errors import UserError

CATEGORIES = [
  {"id": 7, "name": "Bird Head", "supercategory": "Bird"},
  {"id": 8, "name": "Bird Wing", "supercategory": "Bird"},
  {"id": 9, "name": "Car Body", "supercategory": "Car"},
]
BOX = lambda left, top, right, bottom: [[left, top, right, top, right, bottom, left, bottom]]


def write(root, *, categories=CATEGORIES, category_id=7, height=20):
  """Two images of 40x20 pixels, one of them in a folder of its class."""
  rng = np.random.default_rng(0)
  for file in ("n01440764_1.png", "n02/n02000001_2.png"):
    path = root / "images" / "val" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (20, 40, 3), np.uint8)).save(path)
  names = ("n01440764_1.png", "n02000001_2.png")
  table = {
    "images": [
      {"id": i, "file_name": n, "height": height, "width": 40} for i, n in enumerate(names)
    ],
    "annotations": [
      {"image_id": 0, "category_id": category_id, "segmentation": BOX(10, 0, 30, 10)},
      {"image_id": 0, "category_id": 8, "segmentation": BOX(20, 4, 40, 12)},
      {"image_id": 1, "category_id": 9, "segmentation": {"size": [20, 40], "counts": [400, 400]}},
    ],
    "categories": categories,
  }
  (root / "annotations").mkdir()
  (root / "annotations" / "val.json").write_text(json.dumps(table))
  return str(root)


def test_masks_name_objects_and_parts_and_the_later_one_counts(tmp_path):
  data = PartImageNet(write(tmp_path), "val", 20)
  assert len(data) == 2 and data.class_names == ()
  assert data.vocabulary.objects == ("Bird", "Car")
  assert data.vocabulary.part_names == ["Bird Head", "Bird Wing", "Car Body"]
  first, second = data[0], data[1]
  # The central square: columns 10 to 29 of 40.
  expected = np.zeros((20, 20), np.uint8)
  expected[:10], expected[4:12, 10:] = 1, 2
  np.testing.assert_array_equal(first["parts"], expected)
  np.testing.assert_array_equal(first["object"], expected > 0)
  assert set(np.unique(second["parts"])) == {0, 3} and set(np.unique(second["object"])) == {0, 2}
  with Image.open(tmp_path / "images/val/n01440764_1.png") as image:
    np.testing.assert_array_equal(first["image"], np.asarray(image)[:, 10:30])


def test_images_are_resized_by_their_short_side(tmp_path):
  data = PartImageNet(write(tmp_path), "val", 10)
  expected = np.zeros((10, 10), np.uint8)
  expected[:5], expected[2:6, 5:] = 1, 2
  np.testing.assert_array_equal(data[0]["parts"], expected)
  assert data[0]["image"].shape == (10, 10, 3)


def test_the_source_passes_the_vocabulary_on(tmp_path):
  options = dict(name="", image_size=20, seed=0, max_bad_images=0)
  data = sources.load("part_imagenet", root=write(tmp_path), split="val", **options)
  assert sources.Source(data, max_bad_images=0).vocabulary.objects == ("Bird", "Car")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"category_id": 3}, "n01440764_1, mask 1 has no known category"),
    ({"categories": [{"id": 7, "name": "Bird Head"}]}, "a category lacks 'supercategory'"),
    ({"categories": []}, "no categories of parts"),
    ({"height": 21}, "The masks of n01440764_1.png are of another size"),
  ],
)
def test_refuses_annotations_that_say_nothing_of_parts(tmp_path, options, message):
  with pytest.raises(UserError, match=message):
    PartImageNet(write(tmp_path, **options), "val", 20)[0]


def test_names_what_is_missing(tmp_path):
  with pytest.raises(UserError, match="data.root is not given"):
    PartImageNet("", "val", 20)
  write(tmp_path)
  with pytest.raises(UserError, match="images/train; name a split"):
    PartImageNet(str(tmp_path), "train", 20)
  (tmp_path / "images/val/n01440764_1.png").unlink()
  with pytest.raises(UserError, match="1 of the 2 images .* such as n01440764_1"):
    PartImageNet(str(tmp_path), "val", 20)
