"""Truths of parts and wholes by class, from files made by hand in the layouts of the data sets."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from hseg_jax.data.partworld import PartWorld
from hseg_jax.errors import UserError
from hseg_jax.scoring import coco_masks, part_truths, truths

TABLE = """id,name,group_id,group,whole_id,whole
0,null,0,background,0,background
1,shirt,2,upper,1,person
2,shoes,1,footwear,1,person
4,boots,1,footwear,1,person
"""
LABELS = np.array([[0, 1, 1, 0], [2, 2, 4, 255]], np.uint8)


def write_labelled(folder, table=TABLE, labels=LABELS):
  (folder / "masks").mkdir(parents=True)
  (folder / "labels.csv").write_text(table)
  (folder / "images").mkdir()
  for name in ("masks/7.png", "images/8.png"):
    Image.fromarray(labels).save(folder / name)
  return folder


def find(benchmark, path, **options):
  found = truths.find(benchmark, path, **options)
  assert found.kind == truths.KINDS[benchmark]
  return pickle.loads(pickle.dumps(found))


def test_labels_become_groups_and_wholes(tmp_path):
  folder = write_labelled(tmp_path)
  for path in (folder, folder / "masks"):
    found = find("part_whole", path)
    assert found.names == ("7",) and found.level_names == ("label", "group", "whole")
    truth = found.read("7")
    np.testing.assert_array_equal(truth.levels[0], [[0, 1, 1, 0], [2, 2, 4, -1]])
    np.testing.assert_array_equal(truth.levels[1], [[0, 2, 2, 0], [1, 1, 1, -1]])
    np.testing.assert_array_equal(truth.levels[2], [[0, 1, 1, 0], [1, 1, 1, -1]])
    assert truth.names == (
      ("null", "shirt", "shoes", "", "boots"),
      ("background", "footwear", "upper"),
      ("background", "person"),
    )


def test_a_truth_of_parts_serves_every_benchmark(tmp_path):
  folder = write_labelled(tmp_path)
  annotators = find("bsds", folder).read("7")
  np.testing.assert_array_equal(annotators.segmentations, [[[0, 1, 1, 0], [2, 2, 4, -1]]])
  assert annotators.boundaries[0].shape == (2, 4)
  for level, expected in ((None, [2, 2, 4, -1]), ("group", [1, 1, 1, -1])):
    found = find("semantic", folder, level=level)
    np.testing.assert_array_equal(found.read("7")[1], expected)
    assert len(found.class_names) == {None: 5, "group": 3}[level]
  figure = find("figure_ground", folder).read("7")
  np.testing.assert_array_equal(figure.mask, [[0, 1, 1, 0], [1, 1, 1, 0]])
  np.testing.assert_array_equal(figure.valid, [[1, 1, 1, 1], [1, 1, 1, 0]])


def test_levels_and_options_that_do_not_fit_are_refused(tmp_path):
  folder = write_labelled(tmp_path)
  with pytest.raises(UserError, match="no level parts; choose one of label, group, whole"):
    truths.find("semantic", folder, level="parts")
  with pytest.raises(UserError, match="Only semantic scores ask for one level"):
    truths.find("part_whole", folder, level="group")
  with pytest.raises(UserError, match="could be binary"):
    truths.find("figure_ground", folder, binary_masks=True)
  with pytest.raises(UserError, match="64 could only be that of PartWorld"):
    truths.find("part_whole", folder, size=64)


@pytest.mark.parametrize(
  "table, reason",
  [
    ("", "no labels"),
    ("name\nnull\n", "no column 'id'"),
    ("id,name\n", "no labels"),
    ("id,name\n0,null\n0,shirt\n", "not distinct"),
    ("id,name\n0,null\n-3,shirt\n", "not within"),
    ("id,name\n0,null\nx,shirt\n", "no number"),
    ("id,name,group_id,group\n0,null\n", "cut short"),
    ("id,name,group_id,group\n0,null,3,g\n", "no background"),
  ],
)
def test_damaged_tables_are_refused(tmp_path, table, reason):
  folder = write_labelled(tmp_path, table)
  with pytest.raises(UserError, match=rf"labels\.csv \(.*({reason})"):
    truths.find("part_whole", folder)


@pytest.mark.parametrize("label", [3, 5, 254])
def test_labels_that_the_table_lacks_are_refused(tmp_path, label):
  folder = write_labelled(tmp_path, labels=np.full((2, 2), label, np.uint8))
  with pytest.raises(UserError, match=rf"7\.png \(the label {label} is not in labels\.csv"):
    truths.find("part_whole", folder).read("7")


def test_folders_without_masks_are_refused(tmp_path):
  (tmp_path / "labels.csv").write_text(TABLE)
  (tmp_path / "masks").mkdir()
  with pytest.raises(UserError, match="holds no file that ends in .png, .npy"):
    truths.find("part_whole", tmp_path)


def test_clothing_co_parsing(tmp_path, shared):
  with zipfile.ZipFile(shared / "data/ccp_300.zip") as archive:
    names = sorted(name for name in archive.namelist() if name.startswith("masks/"))
    for name in ("labels.csv", *names[:2]):
      archive.extract(name, tmp_path)
    mask = np.asarray(Image.open(io.BytesIO(archive.read(names[1]))))
  found = find("part_whole", tmp_path)
  truth = found.read(found.names[1])
  np.testing.assert_array_equal(truth.levels[0], mask)
  assert [len(names) for names in truth.names] == [59, 9, 2]
  np.testing.assert_array_equal(truth.levels[2], mask > 0)


def test_partworld_is_drawn():
  found = find("part_whole", "partworld:val[:12]", size=32)
  assert found.names[0] == "val_00000" and found.names[-1] == "val_00011"
  example = PartWorld("val", size=32)[11]
  truth = found.read("val_00011")
  np.testing.assert_array_equal(truth.levels[0], example["parts"])
  np.testing.assert_array_equal(truth.levels[1] > 0, example["object"])
  assert truth.levels[1].max() == 1 + example["label"]
  assert truth.names[1][1:] == PartWorld.class_names
  assert truth.names[0] == ("background", *PartWorld.part_names)
  assert truth.level_names == ("parts", "objects")
  assert len(find("part_whole", "partworld:val").names) == 2000
  assert find("superpixels", "partworld:val").read("val_00003").segmentations[0].shape == (64, 64)


@pytest.mark.parametrize(
  "source, reason",
  [
    ("partworld:val[1:]", "write partworld:SPLIT"),
    ("partworld:", "write partworld:SPLIT"),
    ("partworld:valid", "no split 'valid'"),
    ("partworld:val[:0]", "at least 1"),
  ],
)
def test_other_partworlds_are_refused(source, reason):
  with pytest.raises(UserError, match=reason):
    truths.find("part_whole", source)
  with pytest.raises(UserError, match="32 pixels"):
    truths.find("part_whole", "partworld:val", size=16)


CATEGORIES = [
  {"id": 0, "name": "Bird Head", "supercategory": "Bird"},
  {"id": 1, "name": "Car Body", "supercategory": "Car"},
  {"id": 7, "name": "Bird Wing", "supercategory": "Bird"},
]


def box(left, top, right, bottom):
  return [[left, top, right, top, right, bottom, left, bottom]]


def write_parts(path, entries, categories=CATEGORIES):
  images = [
    {"id": 1, "file_name": "n1_5.JPEG", "height": 4, "width": 6},
    {"id": 2, "file_name": "n2_6.JPEG", "height": 3, "width": 3},
  ]
  path.parent.mkdir(parents=True, exist_ok=True)
  content = {"images": images, "annotations": entries, "categories": categories}
  path.write_text(json.dumps(content))
  return path


def test_part_categories_and_their_objects(tmp_path):
  entries = [
    {"image_id": 1, "category_id": 0, "segmentation": box(0, 0, 3, 2)},
    {"image_id": 1, "category_id": 7, "segmentation": box(0, 1, 3, 3)},
    {"image_id": 1, "category_id": 1, "segmentation": box(5, 0, 6, 4)},
  ]
  path = write_parts(tmp_path / "annotations/val.json", entries)
  parts = np.zeros((4, 6), int)
  parts[:2, :3], parts[1:3, :3], parts[:, 5] = 1, 3, 2
  for place in (path, tmp_path):
    found = find("part_whole", place)
    assert found.names == ("n1_5", "n2_6")
    truth = found.read("n1_5")
    np.testing.assert_array_equal(truth.levels[0], parts)
    np.testing.assert_array_equal(truth.levels[1], np.array([0, 1, 2, 1])[parts])
    assert truth.names == (
      ("background", "Bird Head", "Car Body", "Bird Wing"),
      ("background", "Bird", "Car"),
    )
    np.testing.assert_array_equal(found.read("n2_6").levels, np.zeros((2, 3, 3)))
  assert find("semantic", path, level="objects").class_names == ("background", "Bird", "Car")
  write_parts(tmp_path / "annotations/train.json", entries)
  with pytest.raises(UserError, match="several files of annotations"):
    truths.find("part_whole", tmp_path)


def test_parts_without_categories_are_refused(tmp_path):
  entries = [{"image_id": 1, "category_id": 3, "segmentation": box(0, 0, 3, 2)}]
  path = write_parts(tmp_path / "a.json", entries)
  with pytest.raises(UserError, match=r"a\.json \(n1_5, mask 1 has no known category"):
    truths.find("part_whole", path).read("n1_5")
  for categories, reason in (([], "no categories"), ([{"id": 1, "name": "x"}], "lacks 'superc")):
    content = coco_masks.load(write_parts(path, entries, categories))
    with pytest.raises(UserError, match=rf"a\.json .*{reason}"):
      part_truths.find_part_categories(content)
