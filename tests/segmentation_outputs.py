"""Checks what `hseg segment` wrote, independently of how; also on a folder of anybody's.

  python -m tests.segmentation_outputs OUT

reads every image again, by the path that its json names.
"""

import json
import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

from hseg_jax.hierarchy import Hierarchy


def decode_mask(segmentation):
  """A COCO mask, by the letter of its format: one character, and one pixel run, after another."""
  numbers, value, shift = [], 0, 0
  for character in segmentation["counts"]:
    bits = ord(character) - 48
    value |= (bits & 31) << shift
    shift += 5
    if not bits & 32:
      if bits & 16:
        value -= 1 << shift
      numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
      value, shift = 0, 0
  pixels = np.repeat(np.arange(len(numbers)) % 2 == 1, numbers)
  return pixels.reshape(segmentation["size"], order="F")


def check_regions(regions, labels):
  """Ids, areas, boxes and masks of the regions of a label map."""
  assert [region["id"] for region in regions] == list(range(labels.max() + 1))
  for region in regions:
    mask = labels == region["id"]
    np.testing.assert_array_equal(decode_mask(region["segmentation"]), mask)
    rows, columns = np.nonzero(mask)
    box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert region["area"] == mask.sum() and region["bbox"] == box


def check_image(folder, name):
  """The three results of one image; returns its hierarchy."""
  said = json.loads((folder / f"{name}.json").read_text())
  hierarchy = Hierarchy.load(folder / f"{name}.npz")
  with Image.open(said["image"]) as image:
    width, height = ImageOps.exif_transpose(image).size
  assert hierarchy.segments.shape == (height, width) == (said["height"], said["width"])
  assert len(said["levels"]) == hierarchy.num_levels
  maps = [hierarchy.labels(level) for level in range(hierarchy.num_levels)]
  for labels, regions in zip(maps, said["levels"], strict=True):
    check_regions(regions, labels)
  for fine, coarse, low, high in zip(
    maps, maps[1:], said["levels"], said["levels"][1:], strict=False
  ):
    for region in low:  # the level above has one region where this one is: its parent
      assert set(coarse[fine == region["id"]]) == {region["parent"]}
      assert region["id"] in high[region["parent"]]["children"]
    for region in high:
      assert region["area"] == sum(low[child]["area"] for child in region["children"])
  assert all(region["parent"] is None for region in said["levels"][-1])
  assert all(region["children"] == [] for region in said["levels"][0])
  if hierarchy.image_features is not None:  # a model's
    assert [len(rows) for rows in hierarchy.features] == list(hierarchy.sizes)
    assert all(np.isfinite(rows).all() for rows in (*hierarchy.features, hierarchy.image_features))
  if "cut" in said:
    check_regions(said["cut"], hierarchy.cut(len(said["cut"])))
  if "classes" in said:
    scores = {each["id"]: each["probability"] for each in said["classes"]}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    wanted = hierarchy.probabilities
    np.testing.assert_allclose([scores[i] for i in range(len(wanted))], wanted, atol=1e-6)
    np.testing.assert_allclose(wanted.sum(), 1, atol=1e-4)
  with Image.open(folder / f"{name}.png") as picture:
    picture.load()
    tiles = hierarchy.num_levels + 1
    assert picture.mode == "RGB" and picture.width > tiles * min(width, 100)
  return hierarchy


def check_folder(folder):
  """Every image of a folder; returns the hierarchies by name."""
  folder = pathlib.Path(folder)
  found = {kind: set() for kind in (".npz", ".json", ".png")}
  for path in folder.rglob("*"):
    if path.is_file() and path != folder / "explorer.html":
      found[path.suffix].add(path.relative_to(folder).as_posix().removesuffix(path.suffix))
  assert found[".npz"] == found[".json"] == found[".png"]
  return {name: check_image(folder, name) for name in sorted(found[".npz"])}


if __name__ == "__main__":
  print(f"{len(check_folder(sys.argv[1]))} images are as they should be.")
