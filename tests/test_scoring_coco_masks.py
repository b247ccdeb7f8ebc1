"""COCO's masks: what was encoded comes back, as a plain reading of the format has it."""

import json

import numpy as np
import pytest

from hseg_jax import regions
from hseg_jax.errors import UserError
from hseg_jax.scoring import coco_masks


def encode(mask):
  runs = regions.find_runs(mask.astype(np.int32))
  ones = runs.label == 1
  return regions.encode_mask(runs.start[ones], runs.length[ones], mask.size)


def count(mask):
  """Run lengths pixel by pixel."""
  counts, value = [0], 0
  for pixel in mask.T.ravel():
    if pixel != value:
      counts.append(0)
      value = pixel
    counts[-1] += 1
  return counts


def decompress(text):
  """The format, number by number, as COCO's maskApi.c describes it."""
  counts, place = [], 0
  while place < len(text):
    number = shift = 0
    more = True
    while more:
      character = ord(text[place]) - 48
      number |= (character & 31) << shift
      shift, more, place = shift + 5, character & 32, place + 1
      if not more and character & 16:
        number -= 1 << shift
    counts.append(number + (counts[-2] if len(counts) > 2 else 0))
  return counts


def test_run_lengths_come_back():
  rng = np.random.default_rng(0)
  for trial in range(24):
    height, width = rng.integers(1, 20, 2)
    mask = rng.random((height, width)) < rng.random() ** 2
    mask[rng.integers(height), rng.integers(width)] = True
    mask = np.kron(mask, np.ones(((1, 3, 150)[trial % 3], 1), bool))
    size = list(mask.shape)
    text = encode(mask)
    assert coco_masks.decompress(text).tolist() == decompress(text)
    for counts in (text, count(mask)):
      found = coco_masks.decode({"size": size, "counts": counts}, mask.shape)
      assert found.dtype == bool
      np.testing.assert_array_equal(found, mask)


def test_empty_and_full_masks():
  for mask, text in ((np.zeros((3, 5), bool), "?"), (np.ones((3, 5), bool), "0?")):
    for counts in (text, count(mask), [*count(mask), 0, 0]):
      found = coco_masks.decode({"size": [3, 5], "counts": counts}, (3, 5))
      np.testing.assert_array_equal(found, mask)


def inside(points, x, y):
  """Whether a ray to the right crosses the polygon's edges an odd number of times."""
  crossings = 0
  for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
    if (y0 <= y) != (y1 <= y):
      crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x
  return crossings % 2 == 1


def test_polygons_hold_the_pixels_whose_centres_are_inside():
  rng = np.random.default_rng(1)
  for _ in range(20):
    polygons = [rng.uniform(-5, 20, (rng.integers(3, 9), 2)) for _ in range(2)]
    found = coco_masks.decode([each.ravel().tolist() for each in polygons], (12, 15))
    expected = [
      [any(inside(each, x + 0.5, y + 0.5) for each in polygons) for x in range(15)]
      for y in range(12)
    ]
    np.testing.assert_array_equal(found, expected)
  box = coco_masks.decode([[2, 1, 6, 1, 6, 4, 2, 4]], (6, 8))
  assert box[1:4, 2:6].all() and box.sum() == 12
  assert not coco_masks.decode([], (6, 8)).any()
  assert not coco_masks.decode([[1, 1, 5, 5]], (6, 8)).any()


@pytest.mark.parametrize(
  "segmentation, reason",
  [
    ({"size": [3, 4], "counts": [3, 8]}, "11 pixels for 4x3"),
    ({"size": [3, 4], "counts": [3, 10]}, "13 pixels for 4x3"),
    ({"size": [3, 4], "counts": [3, -1, 10]}, "below 0"),
    ({"size": [4, 3], "counts": [12]}, "a size of 3x4 in an image of 4x3"),
    ({"size": [3], "counts": [12]}, "without a size"),
    ({"counts": [12]}, "size"),
    ({"size": [3, 4]}, "counts"),
    ({"size": [3, 4], "counts": [[12]]}, "no run lengths"),
    ({"size": [3, 4], "counts": [11.5]}, "no run lengths"),
    ({"size": [3, 4], "counts": "3\x01"}, "characters"),
    ({"size": [3, 4], "counts": "3µ"}, "characters"),
    ({"size": [3, 4], "counts": "3o"}, "end within"),
    ({"size": [3, 4], "counts": "o" * 20 + "0"}, "beyond all"),
    ({"size": [3, 4], "counts": ""}, "0 pixels"),
    ([[1, 2, 3]], "x, y"),
    ([[1, 2, 3, float("nan")]], "x, y"),
    ([[1, 2, 3, "4"]], "no numbers"),
    ([[1, [2]]], "no numbers"),
    ([1, 2, 3, 4], "x, y"),
    (None, "neither"),
    ("3", "neither"),
  ],
)
def test_damaged_masks_say_why(segmentation, reason):
  with pytest.raises(ValueError, match=reason):
    coco_masks.decode(segmentation, (3, 4))


def write(path, content):
  path.write_text(json.dumps(content))
  return path


RUNS = {"size": [3, 4], "counts": [2, 4, 6]}


def test_images_are_called_by_their_files_or_ids(tmp_path):
  images = [
    {"id": 7, "file_name": "val/a.b.jpg", "height": 3, "width": 4},
    {"id": 8, "file_name": "val/c.jpg", "height": 3, "width": 4},
  ]
  polygon = [[0, 0, 2, 0, 2, 3, 0, 3]]
  entries = [
    {"image_id": 7, "segmentation": polygon},
    {"image_id": 9, "segmentation": RUNS},
    {"image_id": 7, "segmentation": RUNS},
    {"file_name": "val/d.png", "segmentation": RUNS},
  ]
  path = write(tmp_path / "all.json", {"images": images, "annotations": entries, "categories": []})
  found = coco_masks.load(path)
  assert {name: len(each) for name, each in found.images.items()} == {
    "a.b": 2,
    "c": 0,
    "9": 1,
    "d": 1,
  }
  masks = found.masks("a.b")
  np.testing.assert_array_equal(masks[0], np.arange(4) < np.full((3, 1), 2))
  assert masks[1].T.ravel().tolist() == [False] * 2 + [True] * 4 + [False] * 6
  assert found.masks("c").shape == (0, 3, 4)
  assert found.shape("9") == (3, 4)
  assert set(coco_masks.load(write(tmp_path / "list.json", entries)).images) == {"7", "9", "d"}


def test_equal_names_keep_their_folders(tmp_path):
  entries = [{"file_name": f"{folder}/1.png", "segmentation": RUNS} for folder in "ab"]
  found = coco_masks.load(write(tmp_path / "x.json", entries))
  assert set(found.images) == {"a/1", "b/1"}


def test_a_file_of_one_image(tmp_path):
  entry = {"segmentation": RUNS, "area": 4, "predicted_iou": 0.9}
  path = write(tmp_path / "a.json", [entry])
  assert not coco_masks.names_images(path)
  assert coco_masks.load_one(path, "a").masks("a").sum() == 4
  whole = {"image": {"image_id": 3, "height": 3, "width": 4}, "annotations": []}
  found = coco_masks.load_one(write(tmp_path / "b.json", whole), "b")
  assert found.masks("b").shape == (0, 3, 4)
  assert coco_masks.names_images(write(tmp_path / "c.json", [entry | {"image_id": 1}]))


@pytest.mark.parametrize(
  "content, reason",
  [
    ({}, "no list"),
    ("text", "no list"),
    ([1, 2], "no list"),
    ({"annotations": [], "images": 3}, "no list"),
    ([{"segmentation": RUNS}], "lacks 'file_name'"),
    ({"annotations": [], "images": [{"file_name": "a.jpg"}]}, "lacks 'id'"),
    ({"annotations": [], "images": [{"id": 1, "file_name": "a", "height": 3}]}, "lacks 'width'"),
  ],
)
def test_other_files_are_refused(tmp_path, content, reason):
  with pytest.raises(UserError, match=rf"x\.json.*{reason}") as error:
    coco_masks.load(write(tmp_path / "x.json", content))
  assert "\n" not in str(error.value)


def test_unreadable_files_are_named(tmp_path):
  (tmp_path / "cut.json").write_text("[{")
  (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
  for name in ("cut.json", "binary.json", "missing.json"):
    for read in (coco_masks.load, coco_masks.names_images):
      with pytest.raises(UserError, match=name):
        read(tmp_path / name)
  path = write(tmp_path / "b.json", {"annotations": [], "image": {"height": 2}})
  with pytest.raises(UserError, match="b.json.*lacks 'width'"):
    coco_masks.load_one(path, "b")


def test_damaged_masks_name_file_image_and_place(tmp_path):
  entries = [
    {"image_id": "a", "segmentation": RUNS},
    {"image_id": "a", "segmentation": RUNS | {"counts": [1]}},
    {"image_id": "b", "segmentation": [[0, 0, 1, 1]]},
    {"image_id": "c", "segmentation": {"size": "?", "counts": [1]}},
  ]
  found = coco_masks.load(write(tmp_path / "x.json", entries))
  with pytest.raises(UserError, match=r"x\.json \(a, mask 2: run lengths of 1 pixels"):
    found.masks("a")
  with pytest.raises(UserError, match=r"x\.json .*the size of b, since its masks are polygons"):
    found.masks("b")
  with pytest.raises(UserError, match=r"x\.json \(c: the size"):
    found.masks("c")
  empty = coco_masks.load_one(write(tmp_path / "e.json", []), "e")
  with pytest.raises(UserError, match=r"e\.json .*it has no masks"):
    empty.masks("e")
