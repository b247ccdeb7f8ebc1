"""Truths of annotators, classes and figures, and that what does not fit is said in one line."""

import pickle

import numpy as np
import pytest
from PIL import Image
from scipy import io

from hseg_jax.errors import UserError
from hseg_jax.scoring import bsds_boundaries, truths

LABELS = np.kron(np.arange(1, 7).reshape(2, 3), np.ones((4, 3), int)).astype(np.uint8)


def save(path, labels):
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == ".npy":
    np.save(path, labels)
  else:
    Image.fromarray(labels).save(path)
  return path.parent


def find(benchmark, path, **options):
  found = truths.find(benchmark, path, **options)
  assert found.kind == truths.KINDS[benchmark]
  return pickle.loads(pickle.dumps(found))


@pytest.mark.parametrize("benchmark", ["bsds", "superpixels"])
def test_annotators_in_one_file_an_image(tmp_path, benchmark):
  cells = np.empty((1, 2), object)
  drawn = bsds_boundaries.thin_boundaries(LABELS)
  cells[0, :] = [{"Segmentation": maps, "Boundaries": drawn * 1} for maps in (LABELS, LABELS // 2)]
  (tmp_path / "test").mkdir()
  io.savemat(tmp_path / "test/8068.mat", {"groundTruth": cells})
  found = find(benchmark, tmp_path)
  assert found.names == ("8068",)
  truth = found.read("8068")
  np.testing.assert_array_equal(truth.segmentations, [LABELS, LABELS // 2])
  np.testing.assert_array_equal(truth.boundaries[1], drawn)


@pytest.mark.parametrize("first", [0, 1])
def test_annotators_in_one_file_each(tmp_path, first):
  for i in range(11):
    save(tmp_path / f"a_{first + i}.png", LABELS + np.uint8(i))
  save(tmp_path / f"2_b_{first}.png", LABELS)
  found = find("bsds", tmp_path)
  assert found.names == ("2_b", "a")
  truth = found.read("a")
  np.testing.assert_array_equal(truth.segmentations, [LABELS + i for i in range(11)])
  np.testing.assert_array_equal(truth.boundaries[0], bsds_boundaries.thin_boundaries(LABELS))


@pytest.mark.parametrize(
  "names", [("a_1", "b"), ("a_2", "a_3"), ("a_1", "a_3"), ("a_000", "a_001"), ("a", "b")]
)
def test_one_label_map_an_image(tmp_path, names):
  save(tmp_path / f"{names[0]}.png", LABELS)
  save(tmp_path / f"{names[1]}.png", np.full((3, 3), 255, np.uint8))
  found = find("superpixels", tmp_path)
  assert found.names == names
  np.testing.assert_array_equal(found.read(names[0]).segmentations, [LABELS])
  # A label as any other, for annotators number their regions as they like.
  np.testing.assert_array_equal(found.read(names[1]).segmentations, np.full((1, 3, 3), 255))


def test_annotators_of_several_sizes(tmp_path):
  save(tmp_path / "a_1.png", LABELS)
  save(tmp_path / "a_2.png", LABELS[:3])
  with pytest.raises(UserError, match="annotators of a differ in size"):
    find("bsds", tmp_path).read("a")


def test_classes(tmp_path):
  palette = Image.fromarray(LABELS).convert("P")
  palette.putdata([255, *LABELS.ravel()[1:].tolist()])
  (tmp_path / "sub").mkdir()
  palette.save(tmp_path / "sub/2007_1.png")
  found = find("semantic", tmp_path)
  assert found.names == ("2007_1",) and found.class_names == ()
  labels = found.read("2007_1")
  assert labels[0, 0] == 255 and labels.dtype == np.int64
  np.testing.assert_array_equal(labels.ravel()[1:], LABELS.ravel()[1:])


def test_figures_of_class_masks(tmp_path):
  labels = LABELS - 1
  labels[0, :2] = 255
  labels[1, 0] = 0
  save(tmp_path / "a.png", labels)
  figure = find("figure_ground", tmp_path).read("a")
  np.testing.assert_array_equal(figure.valid, labels != 255)
  np.testing.assert_array_equal(figure.mask, (labels > 0) & (labels < 255))
  assert figure.mask.dtype == figure.valid.dtype == bool


def test_figures_of_binary_masks(tmp_path):
  binary = np.where(LABELS > 4, 255, 0).astype(np.uint8)
  binary[0, :2] = 127, 128
  save(tmp_path / "a.png", binary)
  save(tmp_path / "b.png", LABELS > 4)
  save(tmp_path / "empty.png", np.zeros((3, 3), np.uint8))
  found = find("figure_ground", tmp_path, binary_masks=True)
  expected = LABELS > 4
  np.testing.assert_array_equal(found.read("b").mask, expected)
  expected[0, 1] = True
  figure = found.read("a")
  np.testing.assert_array_equal(figure.mask, expected)
  assert figure.valid.all()
  assert not found.read("empty").mask.any()


def test_binary_masks_are_no_class_masks(tmp_path):
  save(tmp_path / "a.png", np.where(LABELS > 4, 255, 0).astype(np.uint8))
  save(tmp_path / "b.png", np.zeros((3, 3), np.uint8))
  found = find("figure_ground", tmp_path)
  with pytest.raises(UserError, match="a.png holds only 0 and 255"):
    found.read("a")
  assert not found.read("b").mask.any() and found.read("b").valid.all()


def test_what_is_no_truth_is_refused(tmp_path):
  with pytest.raises(UserError, match="no benchmark bsd; choose one of bsds"):
    truths.find("bsd", tmp_path)
  for benchmark in truths.KINDS:
    with pytest.raises(UserError, match="There is no folder .*missing"):
      truths.find(benchmark, tmp_path / "missing")
  (tmp_path / "a.txt").touch()
  for benchmark in ("bsds", "semantic", "figure_ground"):
    with pytest.raises(UserError, match="holds no file that ends in"):
      truths.find(benchmark, tmp_path)
    with pytest.raises(UserError, match="a.txt is no ground truth"):
      truths.find(benchmark, tmp_path / "a.txt")
  save(tmp_path / "a.png", LABELS)
  with pytest.raises(UserError, match="no truth of parts"):
    truths.find("part_whole", tmp_path)
  with pytest.raises(UserError, match="of which group could be a level"):
    truths.find("semantic", tmp_path, level="group")
  with pytest.raises(UserError, match="could be binary"):
    truths.find("semantic", tmp_path, binary_masks=True)
  save(tmp_path / "b.npy", LABELS)
  with pytest.raises(UserError, match=r"several kinds of files \(.npy, .png\)"):
    truths.find("semantic", tmp_path)


def test_unreadable_truths_are_named(tmp_path):
  (tmp_path / "a.png").write_text("damaged")
  Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(tmp_path / "b.png")
  for benchmark in ("bsds", "semantic", "figure_ground"):
    found = truths.find(benchmark, tmp_path)
    for name in found.names:
      with pytest.raises(UserError, match=f"{name}.png"):
        found.read(name)
  (tmp_path / "mat").mkdir()
  (tmp_path / "mat/a.mat").write_text("damaged")
  with pytest.raises(UserError, match="a.mat"):
    truths.find("bsds", tmp_path / "mat")


def test_files_of_one_name_keep_their_folders(tmp_path):
  save(tmp_path / "x/1.png", LABELS)
  save(tmp_path / "y/1.png", LABELS)
  assert find("semantic", tmp_path).names == ("x/1", "y/1")
  save(tmp_path / "y/1.PNG", LABELS)
  with pytest.raises(UserError, match="two files of one name"):
    truths.find("semantic", tmp_path)


def test_sizes_that_differ_are_refused():
  truths.check_size("a", (3, 4), (3, 4))
  with pytest.raises(UserError, match="of a has 4x3 pixels, its ground truth 8x6"):
    truths.check_size("a", (3, 4), (6, 8))
