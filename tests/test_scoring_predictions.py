"""Predictions of any origin are found by kind and read alike; what is wrong is said in one line."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image
from scipy import io

from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.scoring import predictions

FINE = np.kron(np.arange(6).reshape(2, 3), np.ones((4, 3), int))
COARSE = np.where(FINE < 3, 5, 255)


def save(path, labels):
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == ".npy":
    np.save(path, labels)
  else:
    Image.fromarray(labels.astype(np.uint8)).save(path)


def read(folder, name="a", **options):
  found = predictions.find(folder, **options)
  # As another process gets it.
  return pickle.loads(pickle.dumps(found)).read(name)


def test_hierarchies_beside_their_pictures_and_descriptions(tmp_path):
  hierarchy = Hierarchy.from_labels([FINE, (COARSE == 255).astype(int)])
  (tmp_path / "sub").mkdir()
  for name in ("b", "sub/a"):
    hierarchy.save(tmp_path / f"{name}.npz")
    (tmp_path / f"{name}.json").write_text("{}")
    save(tmp_path / f"{name}.png", FINE)
  (tmp_path / "explorer.html").touch()
  (tmp_path / ".a.npz").touch()
  found = predictions.find(tmp_path)
  assert found.kind == "hierarchies" and found.names == ("a", "b")
  prediction = read(tmp_path)
  np.testing.assert_array_equal(prediction.levels, [FINE, COARSE == 255])
  assert prediction.hierarchy.sizes == (6, 2) and prediction.shape == FINE.shape
  assert prediction.contours is prediction.masks is prediction.soft is None


@pytest.mark.parametrize("names", [("64", "8"), ("8", "64"), ("level1", "level2"), ("z", "a")])
@pytest.mark.parametrize("ending", [".png", ".npy"])
def test_levels_come_finest_first_whatever_they_are_called(tmp_path, names, ending):
  for name in "ab":
    save(tmp_path / names[0] / f"{name}{ending}", FINE)
    save(tmp_path / names[1] / f"{name}{ending}", COARSE)
  found = predictions.find(tmp_path)
  assert found.kind == "levels" and found.names == ("a", "b")
  prediction = read(tmp_path)
  np.testing.assert_array_equal(prediction.levels, [FINE, COARSE])
  assert prediction.hierarchy.sizes == (6, 2)


def test_the_order_of_levels_is_that_of_most_images(tmp_path):
  for name, levels in {"a": (COARSE, FINE), "b": (FINE, COARSE), "c": (FINE, COARSE)}.items():
    save(tmp_path / "1" / f"{name}.png", levels[0])
    save(tmp_path / "2" / f"{name}.png", levels[1])
  np.testing.assert_array_equal(read(tmp_path, "a").levels, [COARSE, FINE])
  np.testing.assert_array_equal(read(tmp_path, "b").levels, [FINE, COARSE])


def test_levels_that_do_not_nest_or_fill_the_image_have_no_tree(tmp_path):
  across = np.arange(FINE.size).reshape(FINE.shape) % 2
  save(tmp_path / "across/1/a.npy", FINE)
  save(tmp_path / "across/2/a.npy", across)
  assert read(tmp_path / "across").hierarchy is None
  save(tmp_path / "holes/a.npy", FINE - 3)
  prediction = read(tmp_path / "holes")
  assert prediction.hierarchy is None
  np.testing.assert_array_equal(prediction.levels[0], np.maximum(FINE - 3, -1))
  save(tmp_path / "holes/b.npy", np.where(FINE == 2, -1, FINE << 30))
  assert read(tmp_path / "holes", "b").hierarchy is None


def test_single_label_maps_keep_their_ids(tmp_path):
  save(tmp_path / "a.npy", COARSE * 1.0)
  save(tmp_path / "b.npy", np.zeros((3, 3)))
  found = predictions.find(tmp_path)
  assert found.kind == "labels" and found.names == ("a", "b")
  prediction = found.read("a")
  np.testing.assert_array_equal(prediction.levels, [COARSE])
  assert prediction.levels[0].dtype == np.int64 and prediction.hierarchy.sizes == (2,)
  assert found.read("b").hierarchy.sizes == (1,)
  for factor in (1, 1 << 30):
    save(tmp_path / "c.npy", FINE * 3 * factor)
    np.testing.assert_array_equal(read(tmp_path, "c").hierarchy.segments, FINE)


def test_sixteen_bits_and_palettes(tmp_path):
  Image.fromarray((COARSE * 200).astype(np.uint16)).save(tmp_path / "a.png")
  palette = Image.fromarray(FINE.astype(np.uint8), "L").convert("P")
  palette.putdata(FINE.ravel().tolist())
  palette.save(tmp_path / "b.png")
  np.testing.assert_array_equal(read(tmp_path, "a").levels, [COARSE * 200])
  np.testing.assert_array_equal(read(tmp_path, "b").levels, [FINE])


def test_contour_maps(tmp_path):
  contours = Hierarchy.from_labels([FINE, (COARSE == 255).astype(int)]).boundaries()
  save(tmp_path / "npy/a.npy", contours)
  save(tmp_path / "npy/b.npy", contours.round())
  (tmp_path / "mat").mkdir()
  io.savemat(tmp_path / "mat/a.mat", {"ucm2": contours})
  for folder in ("npy", "mat"):
    assert predictions.find(tmp_path / folder).kind == "contours"
    prediction = read(tmp_path / folder)
    np.testing.assert_array_equal(prediction.contours, contours)
    assert prediction.levels == () and prediction.shape == FINE.shape
  # One decision for the folder: whole numbers among the others are contours too.
  assert read(tmp_path / "npy", "b").contours is not None


@pytest.mark.parametrize("backwards", [False, True])
def test_cells_of_segmentations(tmp_path, backwards):
  for name, maps in {"a": (FINE, COARSE), "b": (COARSE, COARSE), "c": (FINE, FINE)}.items():
    cells = np.empty((1, 2), object)
    cells[0, :] = maps[::-1] if backwards else maps
    io.savemat(tmp_path / f"{name}.mat", {"segs": cells})
  found = predictions.find(tmp_path)
  assert found.kind == "segmentations"
  np.testing.assert_array_equal(read(tmp_path).levels, [FINE, COARSE])
  assert read(tmp_path).hierarchy.sizes == (6, 2)
  cells = np.empty((1, 3), object)
  cells[0, :] = [FINE, FINE, COARSE]
  io.savemat(tmp_path / "d.mat", {"segs": cells})
  with pytest.raises(UserError, match="d.mat holds 3 segmentations, but other files 2"):
    read(tmp_path, "d")


def runs(mask):
  flat = mask.T.ravel().astype(int)
  edges = np.flatnonzero(np.diff(flat)) + 1
  counts = np.diff([0, *edges, flat.size]).tolist()
  return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def test_masks_become_two_levels(tmp_path):
  large, small, same = np.zeros((3, *FINE.shape), bool)
  large[:6, :6] = small[4:, 4:6] = same[4:, 5:7] = True
  entries = [{"segmentation": runs(mask)} for mask in (large, small, same)]
  fine, coarse = np.full((2, *FINE.shape), -1)
  for i, mask in ((0, large), (2, same), (1, small)):
    fine[mask] = i
  for i, mask in ((2, same), (1, small), (0, large)):
    coarse[mask] = i
  (tmp_path / "folder").mkdir()
  (tmp_path / "folder/a.json").write_text(json.dumps(entries))
  named = [entry | {"image_id": "a.jpg"} for entry in entries]
  other = {"image_id": 3, "segmentation": runs(large)}
  (tmp_path / "all.json").write_text(json.dumps([other, *named]))
  (tmp_path / "two").mkdir()
  (tmp_path / "two/1.json").write_text(json.dumps(named))
  (tmp_path / "two/2.json").write_text(json.dumps([other]))
  for place in ("folder", "all.json", "two"):
    assert predictions.find(tmp_path / place).kind == "masks"
    prediction = read(tmp_path / place)
    np.testing.assert_array_equal(prediction.masks, [large, small, same])
    np.testing.assert_array_equal(prediction.levels, [fine, coarse])
    assert prediction.hierarchy is None and prediction.shape == FINE.shape
  assert predictions.find(tmp_path / "all.json").names == ("3", "a")
  assert predictions.find(tmp_path / "two").names == ("3", "a")
  (tmp_path / "two/3.json").write_text(json.dumps([other]))
  with pytest.raises(UserError, match="3.json and another file have masks of 3"):
    predictions.find(tmp_path / "two")


def test_an_image_without_masks(tmp_path):
  images = [{"id": 1, "file_name": "a.jpg", "height": 3, "width": 5}]
  path = tmp_path / "all.json"
  path.write_text(json.dumps({"images": images, "annotations": []}))
  prediction = read(path)
  assert prediction.masks.shape == (0, 3, 5)
  np.testing.assert_array_equal(prediction.levels, np.full((2, 3, 5), -1))
  path.write_text("[]")
  with pytest.raises(UserError, match="all.json holds masks of no image"):
    predictions.find(path)


def test_soft_maps(tmp_path):
  save(tmp_path / "png/a.png", FINE * 51)
  save(tmp_path / "npy/a.npy", FINE * 0.5)
  np.testing.assert_allclose(read(tmp_path / "png", soft=True).soft, FINE / 5)
  np.testing.assert_array_equal(read(tmp_path / "npy", soft=True).soft, FINE * 0.5)
  assert predictions.find(tmp_path / "npy", soft=True).kind == "soft"
  assert read(tmp_path / "npy", soft=True).shape == FINE.shape


def test_wrong_soft_maps(tmp_path):
  for name, values in {"nan": np.full((2, 2), np.nan), "cube": np.ones((2, 2, 2))}.items():
    save(tmp_path / f"{name}.npy", values)
    with pytest.raises(UserError, match=f"soft map .*{name}.npy"):
      read(tmp_path, name, soft=True)
  (tmp_path / "1.json").write_text("[]")
  with pytest.raises(UserError, match="1.json is a file"):
    predictions.find(tmp_path / "1.json", soft=True)
  (tmp_path / "mat").mkdir()
  io.savemat(tmp_path / "mat/a.mat", {"ucm2": np.zeros((3, 3))})
  with pytest.raises(UserError, match="holds .mat files, not soft maps"):
    predictions.find(tmp_path / "mat", soft=True)
  save(tmp_path / "even/a.npy", np.full((4, 5), 0.5))
  with pytest.raises(UserError, match="a.npy holds neither ids.*soft map"):
    predictions.find(tmp_path / "even")


def test_folders_that_hold_no_predictions_or_several_kinds(tmp_path):
  with pytest.raises(UserError, match="There is no folder .*missing"):
    predictions.find(tmp_path / "missing")
  (tmp_path / "a.jpg").touch()
  with pytest.raises(UserError, match="holds no predictions.*.npz, .png"):
    predictions.find(tmp_path)
  with pytest.raises(UserError, match="a.jpg is a file"):
    predictions.find(tmp_path / "a.jpg")
  Hierarchy(FINE).save(tmp_path / "a.npz")
  save(tmp_path / "a.png", FINE)
  assert predictions.find(tmp_path).kind == "hierarchies"
  save(tmp_path / "b.png", FINE)
  with pytest.raises(UserError, match=r"several kinds of predictions \(.npz, .png\)"):
    predictions.find(tmp_path)


def test_levels_that_lack_images(tmp_path):
  save(tmp_path / "1/a.png", FINE)
  save(tmp_path / "2/a.png", COARSE)
  save(tmp_path / "2/b.png", COARSE)
  with pytest.raises(UserError, match="has b in one of its levels 1 and 2 only"):
    predictions.find(tmp_path)
  save(tmp_path / "c.png", FINE)
  with pytest.raises(UserError, match="several depths"):
    predictions.find(tmp_path)


def test_levels_of_several_sizes(tmp_path):
  save(tmp_path / "1/a.png", FINE)
  save(tmp_path / "2/a.png", COARSE[:4])
  with pytest.raises(UserError, match=r"levels of a differ in size \(9x8, 9x4 pixels\)"):
    read(tmp_path)


def test_unreadable_files_are_named(tmp_path):
  def fails(folder, name, match=None):
    with pytest.raises(UserError, match=match or name) as error:
      read(tmp_path / folder)
    assert "\n" not in str(error.value)

  for folder, ending in (("1", "npz"), ("2", "png"), ("3", "npy"), ("4", "mat"), ("5", "json")):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / f"a.{ending}").write_bytes(b"damaged" * 30)
    fails(folder, f"a.{ending}")
  (tmp_path / "6").mkdir()
  Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(tmp_path / "6/a.png")
  fails("6", "a.png", "a.png .*colours; save the ids in one channel")
  save(tmp_path / "7/a.npy", np.zeros((3, 3, 3)))
  fails("7", "a.npy", "instead of integers")
  (tmp_path / "8").mkdir()
  io.savemat(tmp_path / "8/a.mat", {"groundTruth": np.zeros((3, 3))})
  fails("8", "a.mat", "neither a variable ucm2 nor segs")
