"""Sources: what they read, how they refuse, and how unreadable images are replaced and counted."""

import importlib.util
import io
import os
import pathlib
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from hseg_jax.data import sources
from hseg_jax.errors import UserError
from hseg_jax.images import decode


def load(source, **options):
  defaults = {
    "name": "",
    "root": "",
    "split": "train",
    "image_size": 32,
    "seed": 0,
    "max_bad_images": 0,
  }
  return sources.load(source, **{**defaults, **options})


def encoded(array, **options):
  buffer = io.BytesIO()
  Image.fromarray(array).save(buffer, **options)
  return buffer.getvalue()


def flat(value, size=(8, 12)):
  return np.full((*size, 3), value, np.uint8)


@pytest.fixture
def tree(tmp_path):
  """Two classes of five flat images; image i of class c has the grey value 100 c + 10 i."""
  for c, name in enumerate(("ant", "bee")):
    (tmp_path / "train" / name).mkdir(parents=True)
    for i in range(5):
      (tmp_path / "train" / name / f"{i}.png").write_bytes(
        encoded(flat(100 * c + 10 * i), format="png")
      )
  return tmp_path


def values(source):
  return [int(source[i]["image"][0, 0, 0]) for i in range(len(source))]


def test_partworld():
  source = load("partworld", num_examples=20)
  example = source[3]
  assert len(source) == 20 and source.num_classes == len(source.class_names) >= 16
  assert example["image"].shape == (32, 32, 3) and example["image"].dtype == np.uint8
  assert example["object"].dtype == bool and example["parts"].dtype == np.uint8


def test_folder_lists_classes_and_files_in_order(tree):
  (tree / "train" / "ant" / "notes.txt").write_text("not an image")
  (tree / "train" / "ant" / "._0.png").write_text("left by another system")
  (tree / "train" / ".cache").mkdir()
  nested = tree / "train" / "bee" / "more"
  nested.mkdir()
  (nested / "z.PNG").write_bytes(encoded(flat(200), format="png"))
  source = load("folder", root=str(tree))
  assert source.class_names == ("ant", "bee") and source.num_classes == 2
  assert values(source) == [0, 10, 20, 30, 40, 100, 110, 120, 130, 140, 200]
  assert [source[i]["label"] for i in range(11)] == [0] * 5 + [1] * 6


def test_files_are_those_of_the_examples(tree):
  source = load("folder", root=str(tree), num_examples=4)
  for i in range(4):
    np.testing.assert_array_equal(decode(source.file(i), "it"), source[i]["image"])
  assert load("partworld").file(0) is None


def test_num_examples_are_spread_over_the_data_set(tree):
  source = load("folder", root=str(tree), num_examples=4)
  assert len(source) == 4 and values(source) == [0, 20, 100, 120]


def test_photographs_come_smaller_where_they_may(tree):
  (tree / "train" / "ant" / "5.jpg").write_bytes(encoded(flat(50, (40, 64)), format="jpeg"))
  source = load("folder", root=str(tree))
  found = [source.smaller(i, lambda height, width: height // 10) for i in range(4, 7)]
  assert [example["image"].shape[:2] for example in found] == [(8, 12), (10, 16), (8, 12)]
  assert [example["size"] for example in found] == [(8, 12), (40, 64), (8, 12)]
  for i, example in enumerate(found, start=4):
    assert source[i]["image"].shape[:2] == example.pop("size")
    assert set(source[i]) == set(example) and source[i]["label"] == example["label"]
  drawn = load("partworld", num_examples=20)
  assert drawn.smaller(0, lambda height, width: 8)["image"].shape == (32, 32, 3)


@pytest.mark.parametrize(
  ("root", "split", "words"),
  [
    ("missing", "train", "missing/train does not exist"),
    (".", "validation", "validation does not exist"),
    ("bare", "train", "bare/train holds no class folders"),
    ("hollow", "train", "hollow/train/ant holds no images"),
  ],
)
def test_folder_names_what_is_missing_and_the_layout(tree, root, split, words):
  (tree / "bare" / "train").mkdir(parents=True)
  (tree / "hollow" / "train" / "ant").mkdir(parents=True)
  with pytest.raises(UserError, match=words) as error:
    load("folder", root=str(tree / root), split=split)
  assert "CLASS/IMAGE" in str(error.value)


def test_a_folder_that_was_not_given_is_asked_for():
  with pytest.raises(UserError, match="data.root is not given"):
    load("folder", root="")


def test_class_names_are_text_whatever_bytes_the_folders_have(tmp_path):
  for name in (b"caf\xe9", b"tea"):
    folder = tmp_path / "train" / os.fsdecode(name)
    folder.mkdir(parents=True)
    Image.fromarray(flat(7)).save(folder / "0.png")
  source = load("folder", root=str(tmp_path))
  assert source.class_names == ("caf\\xe9", "tea")
  "".join(source.class_names).encode()
  assert [example["label"] for example in source] == [0, 1]


def test_unknown_source_is_refused():
  with pytest.raises(UserError, match='"partworld", "folder", "masks", "part_imagenet" or "tfds"'):
    load("imagenet")


def _damage(tree):
  """Two images that cannot be decoded: one truncated, one not an image at all."""
  image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
  (tree / "train" / "ant" / "1.png").write_bytes(encoded(image, format="jpeg")[:900])
  (tree / "train" / "bee" / "4.png").write_text("hello")


def test_unreadable_images_are_replaced_by_the_next(tree, caplog):
  _damage(tree)
  source = load("folder", root=str(tree), max_bad_images=2)
  assert values(source) == [0, 20, 20, 30, 40, 100, 110, 120, 130, 0]
  assert source[9]["label"] == 0
  assert values(source) == [0, 20, 20, 30, 40, 100, 110, 120, 130, 0]
  warnings = [record.getMessage() for record in caplog.records]
  assert len(warnings) == 2  # one for each image, however often it is met
  assert "ant/1.png" in warnings[0] and "1 of at most 2" in warnings[0]
  assert "bee/4.png" in warnings[1] and "2 of at most 2" in warnings[1]


def test_too_many_unreadable_images_stop_the_run(tree):
  _damage(tree)
  with pytest.raises(UserError, match=r"2 images .*max_bad_images=1 .*bee/4.png"):
    values(load("folder", root=str(tree), max_bad_images=1))


def test_smaller_photographs_are_counted_with_the_others(tree, caplog):
  _damage(tree)
  source = load("folder", root=str(tree), max_bad_images=2)
  smaller = [source.smaller(i, lambda *size: 2)["image"][0, 0, 0] for i in range(len(source))]
  assert values(source) == smaller
  assert len(caplog.records) == 2


def test_a_data_set_without_a_readable_image_is_refused(tree):
  for file in tree.glob("train/*/*.png"):
    file.write_text("hello")
  with pytest.raises(UserError, match="None of the 10 images"):
    load("folder", root=str(tree), max_bad_images=100)[0]


def test_copies_in_other_processes_share_the_count(tree):
  _damage(tree)
  source = load("folder", root=str(tree), max_bad_images=1)
  copy = pickle.loads(pickle.dumps(source))
  folder = pathlib.Path(source._bad_images._folder)
  for each in (source, copy):
    np.testing.assert_array_equal(each[1]["image"], source[2]["image"])  # counts once
  for each, index in ((copy, 9), (source, 1)):  # one too many, and one that was counted before
    with pytest.raises(UserError, match="max_bad_images=1"):
      each[index]
  del copy
  assert folder.exists()
  del source, each
  assert not folder.exists()


class TinyShapes(tfds.core.GeneratorBasedBuilder):
  """A data set of flat images that TFDS can prepare without a network."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    features = {
      "image": tfds.features.Image(),
      "label": tfds.features.ClassLabel(names=["disc", "ring"]),
    }
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i in range(6):
      yield i, {"image": flat(10 * i, (8 + i, 12)), "label": i % 2}


@pytest.fixture(scope="module")
def prepare_tfds():
  path = pathlib.Path(__file__).parents[1] / "launch" / "prepare_tfds.py"
  spec = importlib.util.spec_from_file_location("prepare_tfds", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _check_tiny_shapes(root):
  source = load("tfds", name="tiny_shapes", root=root)
  assert source.class_names == ("disc", "ring") and len(source) == 6
  examples = [source[i] for i in range(6)]
  for example in examples:
    i = example["image"][0, 0, 0] // 10
    np.testing.assert_array_equal(example["image"], flat(10 * i, (8 + i, 12)))
    assert example["label"] == i % 2
  assert {int(example["image"][0, 0, 0]) for example in examples} == set(range(0, 60, 10))


def test_tfds_prepared_as_array_record(prepare_tfds, tmp_path):
  root = str(tmp_path)
  with pytest.raises(UserError, match="prepare_tfds.py --name=tiny_shapes") as error:
    load("tfds", name="tiny_shapes", root=root)
  assert "--convert" not in str(error.value)
  prepare_tfds.prepare("tiny_shapes", root)
  _check_tiny_shapes(root)
  with pytest.raises(UserError, match='no split "test"'):
    load("tfds", name="tiny_shapes", root=root, split="test")


def test_tfds_converted_from_tfrecord(prepare_tfds, tmp_path):
  root = str(tmp_path)
  with pytest.raises(UserError, match="not prepared"):
    prepare_tfds.convert("tiny_shapes", root)
  tfds.builder("tiny_shapes", data_dir=root).download_and_prepare()
  with pytest.raises(UserError, match=r"prepare_tfds.py --name=tiny_shapes .* --convert"):
    load("tfds", name="tiny_shapes", root=root)
  with pytest.raises(UserError, match="--convert"):
    prepare_tfds.prepare("tiny_shapes", root)
  folder = pathlib.Path(prepare_tfds.convert("tiny_shapes", root))
  assert len(list(folder.glob("*.tfrecord-*"))) == len(list(folder.glob("*.array_record-*"))) == 1
  assert not list(folder.glob("incomplete*"))
  _check_tiny_shapes(root)
  assert prepare_tfds.convert("tiny_shapes", root) == str(folder)


def test_tfds_without_a_network():
  with tfds.testing.mock_data(num_examples=5):
    source = load("tfds", name="imagenet2012", split="validation")
    assert len(source) == 5 and source.num_classes == 1000
    assert source.class_names[0] == "n01440764"
    example = source[4]
    assert example["image"].ndim == 3 and example["image"].dtype == np.uint8
    rows, columns = example["image"].shape[:2]
    smaller = source.smaller(4, lambda *size: 2)
    assert smaller["image"].shape[:2] == (-(-rows // 2), -(-columns // 2))
    assert smaller["size"] == (rows, columns) and smaller["label"] == example["label"]
    np.testing.assert_array_equal(decode(source.file(4), "it"), example["image"])
    assert 0 <= example["label"] < 1000


def test_unknown_and_unsuitable_tfds_data_sets_are_refused(tmp_path):
  with pytest.raises(UserError, match='no data set "no_such_thing"'):
    load("tfds", name="no_such_thing", root=str(tmp_path))
  with pytest.raises(UserError, match='no "image"'):
    load("tfds", name="glue", root=str(tmp_path))
