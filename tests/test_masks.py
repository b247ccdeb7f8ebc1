"""Images with masks: the splits, the table of labels, what an example has, what is refused."""

import numpy as np
import pytest
from PIL import Image

from hseg_jax.data import masks, sources
from hseg_jax.errors import UserError

TABLE = """id,name,group_id,group,whole_id,whole
0,null,0,background,0,background
1,hat,1,clothes,1,person
2,shoe,1,clothes,1,person
4,hair,2,body,1,person
"""
MASK = np.array([[0, 1, 2], [4, 255, 0]], np.uint8)


def write(root, name, mask=MASK, image=None):
  for folder, pixels in (("images", image), ("masks", mask)):
    path = root / folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*mask.shape, 3), np.uint8) if pixels is None else pixels
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
  for name in "dacb":
    write(tmp_path, name, image=np.full((2, 3, 3), ord(name), np.uint8))
  (tmp_path / "labels.csv").write_text(TABLE)
  return tmp_path


def load(root, split="all"):
  return sources.load(
    "masks", name="", root=str(root), split=split, image_size=32, seed=0, max_bad_images=0
  )


def names(source):
  return "".join(chr(source[i]["image"][0, 0, 0]) for i in range(len(source)))


def test_an_example(root):
  source = load(root)
  example = source[0]
  assert source.num_classes == 0 and source.class_names == () and example["label"] == -1
  np.testing.assert_array_equal(example["semantic"], MASK)
  assert example["semantic"].dtype == example["parts"].dtype == np.uint8
  np.testing.assert_array_equal(example["object"], [[0, 1, 1], [1, 0, 0]])
  np.testing.assert_array_equal(example["parts"], [[0, 1, 2], [4, 0, 0]])


def test_the_table_tells_of_three_levels(root):
  table = load(root).mask_labels
  assert table.names["label"] == ("null", "hat", "shoe", "", "hair")
  assert table.names["group"] == ("background", "clothes", "body")
  np.testing.assert_array_equal(table.ids["group"][[0, 1, 2, 4, 255]], [0, 1, 1, 2, 255])
  assert table.ids["whole"][3] == -1 and set(table.ids) == {"label", "group", "whole"}


def test_wholes_and_labels_are_objects_and_their_parts(root):
  (root / "labels.csv").write_text(TABLE + "3,leash,3,gear,2,dog\n")
  write(root, "a", mask=np.array([[0, 3, 2], [4, 255, 3]], np.uint8))
  source = load(root)
  assert source.vocabulary.objects == ("person", "dog")
  assert source.vocabulary.part_names == ["person hat", "person shoe", "person hair", "dog leash"]
  example = source[0]
  objects = source.vocabulary.object_classes(example["object"], example["label"])
  assert objects.tolist() == [[2, 1, 0], [0, 2, 1]]
  parts = source.vocabulary.part_classes(objects, example["parts"])
  assert parts.tolist() == [[4, 3, 1], [2, 4, 3]]


def test_without_a_table_any_label_may_occur(root):
  (root / "labels.csv").unlink()
  source = load(root)
  assert source.mask_labels.names.keys() == {"label"}
  assert source[0].keys() == {"image", "label", "semantic"} and source.vocabulary is None


def test_splits(root):
  assert names(load(root)) == "abcd"
  assert names(load(root, "all[1:3]")) == "bc" and names(load(root, "all[3:]")) == "d"
  (root / "val.txt").write_text("d\n\nb.png\n")
  assert names(load(root, "val")) == "db" and names(load(root, "val[:1]")) == "d"
  write(root, "train/e", image=np.full((2, 3, 3), ord("e"), np.uint8))
  assert names(load(root, "train")) == "e" and names(load(root, "all")) == "abcde"


def test_source_of_sources_keeps_the_table(root):
  assert sources.Source(load(root), max_bad_images=0).mask_labels.names["group"][2] == "body"


@pytest.mark.parametrize(
  ("split", "message"),
  [
    ("test", 'no split "test"'),
    ("all[9:]", "is empty"),
    ("all[1:2", "no name or slice"),
    ("val", "lists 1 images .* 'nobody' first"),
  ],
)
def test_splits_that_are_not_there(root, split, message):
  (root / "val.txt").write_text("a\nnobody\n")
  with pytest.raises(UserError, match=message):
    load(root, split)


def test_what_is_missing_or_does_not_fit_is_named(root, tmp_path):
  with pytest.raises(UserError, match="data.root"):
    load("")
  with pytest.raises(UserError, match="There is no folder"):
    load(tmp_path / "nowhere")
  write(root, "a", mask=np.full((2, 3), 3, np.uint8))
  with pytest.raises(UserError, match="a.png has the label 3; list it in"):
    load(root)[0]
  write(root, "a", mask=MASK, image=np.zeros((3, 2, 3), np.uint8))
  with pytest.raises(UserError, match="has 2x3 rows and columns, its image 3x2"):
    load(root)[0]
  (root / "masks" / "c.png").unlink()
  with pytest.raises(UserError, match="1 of 4 images have no mask.*c.png"):
    load(root)


def test_labels_that_a_mask_of_8_bits_cannot_hold_are_refused(tmp_path):
  (tmp_path / "labels.csv").write_text("id,name\n1,a\n255,b\n")
  with pytest.raises(UserError, match="has the id 255"):
    masks.read_labels_table(tmp_path / "labels.csv")
