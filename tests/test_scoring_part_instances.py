"""Truths of parts and wholes by instance, from files made by hand in the layouts of the data."""

import json

import numpy as np
import pytest
from scipy import io

from hseg_jax import regions
from hseg_jax.errors import UserError
from hseg_jax.scoring import nesting, part_instances, truths

SHAPE = 6, 8


def area(rows, columns, shape=SHAPE):
  mask = np.zeros(shape, np.uint8)
  mask[rows, columns] = 1
  return mask


def structs(fields, rows):
  """An array of structures, `[1, n]`, as MATLAB stores them."""
  found = np.empty((1, len(rows)), [(name, object) for name in fields])
  for i, row in enumerate(rows):
    found[0, i] = row
  return found


def write_pascal(path, objects):
  path.parent.mkdir(exist_ok=True)
  rows = [
    (kind, index, mask, structs(("part_name", "mask"), parts) if parts else np.zeros((0, 0)))
    for kind, index, mask, parts in objects
  ]
  objects = structs(("class", "class_ind", "mask", "parts"), rows) if rows else np.zeros((0, 0))
  io.savemat(path, {"anno": {"imname": path.stem, "objects": objects}})


def test_pascal_part(tmp_path):
  dog = area(slice(0, 4), slice(0, 4))
  head, tail = area(slice(0, 2), slice(0, 2)), area(3, slice(0, 4))
  chair = area(slice(2, 6), slice(2, 8))
  person = area(slice(4, 6), slice(0, 2))
  objects = [
    ("dog", 12, dog, [("head", head), ("tail", tail)]),
    ("chair", 9, chair, []),
    ("person", 15, person, [("head", area(5, 0))]),
  ]
  write_pascal(tmp_path / "2008_1.mat", objects)
  found = truths.find("part_whole", tmp_path)
  assert found.names == ("2008_1",) and found.level_names == ("parts", "objects")
  truth = found.read("2008_1")
  wholes = np.where(chair, 2, np.where(person, 3, dog))
  np.testing.assert_array_equal(truth.levels[1], wholes)
  parts = np.where(chair == 1, 0, head + 2 * tail)
  parts[5, 0] = 3
  np.testing.assert_array_equal(truth.levels[0], parts)
  assert truth.names[0] == ("background", "dog head", "dog tail", "person head")
  assert truth.names[1] == ("background", "dog", "chair", "person")
  with pytest.raises(UserError, match="instances, whose ids are no classes"):
    truths.find("semantic", tmp_path)
  figure = truths.find("figure_ground", tmp_path).read("2008_1")
  np.testing.assert_array_equal(figure.mask, wholes > 0)


def test_damaged_pascal_part(tmp_path):
  write_pascal(tmp_path / "1/a.mat", [])
  objects = [("dog", 12, area(0, 0), [("head", area(0, 0, (3, 3)))])]
  write_pascal(tmp_path / "2/a.mat", objects)
  (tmp_path / "3").mkdir()
  io.savemat(tmp_path / "3/a.mat", {"anno": np.zeros((2, 2))})
  for folder, reason in (("1", "no objects"), ("2", "differ in size"), ("3", "no objects with")):
    with pytest.raises(UserError, match=rf"a\.mat \(.*{reason}"):
      truths.find("part_whole", tmp_path / folder).read("a")
  write_pascal(tmp_path / "1/b.mat", [("dog", 12, area(0, 0), [])])
  (tmp_path / "1/b.mat").write_bytes((tmp_path / "1/b.mat").read_bytes()[:200])
  with pytest.raises(UserError, match="b.mat"):
    truths.find("part_whole", tmp_path / "1").read("b")


def encode(mask):
  runs = regions.find_runs(mask.astype(np.int32))
  ones = runs.label == 1
  counts = regions.encode_mask(runs.start[ones], runs.length[ones], mask.size)
  return {"size": list(mask.shape), "counts": counts}


def write_densepose(path, entries):
  images = [{"id": 1, "file_name": "COCO_1.jpg", "height": SHAPE[0], "width": SHAPE[1]}]
  images.append(images[0] | {"id": 2, "file_name": "COCO_2.jpg"})
  path.write_text(json.dumps({"images": images, "annotations": entries, "categories": []}))
  return path


def half(rows, columns):
  return encode(area(rows, columns, (256, 256)))


def test_densepose(tmp_path):
  masks = [[] for _ in range(14)]
  masks[0] = half(slice(0, 256), slice(0, 256))  # torso, under the others
  masks[13] = half(slice(0, 128), slice(0, 256))  # head
  masks[3] = half(slice(192, 256), slice(0, 128))  # left foot
  person = encode(area(slice(0, 4), slice(0, 2)))
  other = encode(area(slice(4, 6), slice(0, 5)))
  crowd = encode(area(slice(0, 6), slice(4, 8)))
  entries = [
    # A box that leaves the image: what is outside is cut off before the masks are stretched.
    {"image_id": 1, "bbox": [1.7, 1.2, 2.9, 9.9], "segmentation": person, "dp_masks": masks},
    {"image_id": 1, "bbox": [0, 4, 5, 2], "segmentation": other},
    {"image_id": 1, "bbox": [4, 0, 4, 6], "segmentation": crowd, "iscrowd": 1},
    {"image_id": 2, "bbox": [4, 0, 4, 6], "segmentation": person, "dp_masks": []},
    {"image_id": 2, "bbox": [4, 0, 4, 6], "segmentation": person, "dp_masks": [[]] * 14},
  ]
  found = truths.find("part_whole", write_densepose(tmp_path / "dp.json", entries))
  assert found.names == ("COCO_1",)
  truth = found.read("COCO_1")
  np.testing.assert_array_equal(
    truth.levels[0],
    [
      [0, 0, 0, 0, -1, -1, -1, -1],
      [0, 3, 3, 0, -1, -1, -1, -1],
      [0, 3, 3, 0, -1, -1, -1, -1],
      [0, 3, 3, 0, -1, -1, -1, -1],
      [0, 0, 0, 0, 0, -1, -1, -1],
      [0, 0, 0, 0, 0, -1, -1, -1],
    ],
  )
  np.testing.assert_array_equal(
    truth.levels[1],
    [
      [1, 1, 0, 0, -1, -1, -1, -1],
      [1, 1, 1, 0, -1, -1, -1, -1],
      [1, 1, 1, 0, -1, -1, -1, -1],
      [1, 1, 1, 0, -1, -1, -1, -1],
      [2, 2, 2, 2, 2, -1, -1, -1],
      [2, 2, 2, 2, 2, -1, -1, -1],
    ],
  )
  assert truth.names[0] == ("background", "Torso", "Left Foot", "Head")
  assert truth.names[1] == ("background", "person", "person")
  assert len(part_instances.BODY_PARTS) == 14


def test_body_parts_are_stretched_over_the_box(tmp_path):
  masks = [half(slice(0, 86), slice(0, 256)), half(slice(86, 256), slice(64, 256))]
  masks += [[] for _ in range(12)]
  empty = encode(area(0, 0))
  entries = [{"image_id": 1, "bbox": [2, 1, 4, 3], "segmentation": empty, "dp_masks": masks}]
  truth = truths.find("part_whole", write_densepose(tmp_path / "dp.json", entries)).read("COCO_1")
  expected = np.zeros(SHAPE, int)
  # Of 256 rows the three pixels take rows 0, 85 and 170, and of the columns 0, 64, 128 and 192.
  expected[1:3, 2:6] = 1
  expected[3, 3:6] = 2
  np.testing.assert_array_equal(truth.levels[0], expected)
  assert truth.levels[1][0, 0] == 1 and truth.levels[1][1:4, 3:6].all()


def test_instances_fit_the_scores_of_trees(tmp_path):
  from hseg_jax.hierarchy import Hierarchy

  dog = area(slice(0, 4), slice(0, 4))
  parts = [("head", area(slice(0, 2), slice(0, 4))), ("body", area(slice(2, 4), slice(0, 4)))]
  write_pascal(tmp_path / "a.mat", [("dog", 12, dog, parts)])
  truth = truths.find("part_whole", tmp_path).read("a")
  tree = Hierarchy.from_labels(truth.levels)
  found = nesting.match(truth.levels[-1], truth.levels[0], tree)
  assert found.whole_iou.tolist() == [1] and found.part_iou.tolist() == [1, 1]
  assert found.is_nested.all()


@pytest.mark.parametrize(
  "change, reason",
  [
    ({"bbox": [0, 0, 0, 3]}, "person 1 has no box"),
    ({"bbox": None}, "person 1 has no box"),
    ({"bbox": [-3, 0, 3, 3]}, "person 1 has no box"),
    ({"dp_masks": [{"size": [256, 256], "counts": [65536]}] * 15}, "more than 14 parts"),
    ({"dp_masks": [{"size": [256, 256], "counts": [6]}]}, "run lengths of 6"),
    ({"dp_masks": [{"size": [4, 4], "counts": [16]}]}, "a size of 4x4"),
    ({"segmentation": None}, "neither run lengths"),
  ],
)
def test_damaged_densepose(tmp_path, change, reason):
  masks = [half(0, 0)] + [[] for _ in range(13)]
  entry = {"image_id": 1, "bbox": [0, 0, 3, 3], "segmentation": encode(area(0, 0))}
  entry |= {"dp_masks": masks} | change
  path = write_densepose(tmp_path / "dp.json", [entry])
  with pytest.raises(UserError, match=rf"dp\.json \(COCO_1.*{reason}"):
    truths.find("part_whole", path).read("COCO_1")
