"""`hseg segment` without a model, and by plain ViTs: what it writes and what it refuses."""

import functools
import json

import jax
import numpy as np
import pytest
from PIL import Image

import hseg_jax
from hseg_jax import cli, images, segment
from hseg_jax.baselines import image_segmenter, token_hierarchy
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.interop import exported
from tests import tiny_segmenter
from tests.segmentation_outputs import check_folder
from tests.test_segment_files import refused, write

VIT = dict(num_classes=5, dim=16, depths=(1,), num_heads=2, stem_strides=(4,), position_grid=(8, 8))


@pytest.fixture(scope="module")
def vit():
  model = hseg_jax.create_model("vit_conv_tiny", **VIT)
  init = jax.jit(functools.partial(model.init, train=False))
  return model, init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))


@pytest.fixture(scope="module")
def weights(vit, tmp_path_factory):
  folder = tmp_path_factory.mktemp("weights")
  preprocessing = {"image_size": 32, "superpixels": {"method": "none", "num_segments": 64}}
  info = {"model": {"name": "vit_conv_tiny", **VIT}, "preprocessing": preprocessing}
  exported.save(folder, vit[1], {**info, "class_names": tiny_segmenter.NAMES})
  return str(folder)


@pytest.mark.parametrize("method", ["grid", "ward", "felzenszwalb"])
def test_methods_that_nest_write_what_models_write(tmp_path, method):
  write(tmp_path / "in/a.png", 0, (47, 71))
  write(tmp_path / "in/b/a.png", 1, (71, 47))
  command = ["segment", tmp_path / "in", "--method", method, "--num-clusters", "9,4", "--size"]
  command += [40, "--regions", 6, "--html", "--out", tmp_path / "out"]
  assert cli.main(list(map(str, command))) == 0
  found = check_folder(tmp_path / "out")
  assert list(found) == ["a", "b/a"] and found["a"].sizes[-2:] == (9, 4)
  expected = image_segmenter.ImageSegmenter(method, num_regions=(9, 4), size=40)(
    images.decode(tmp_path / "in/a.png", "a")
  )
  np.testing.assert_array_equal(found["a"].segments, expected.segments)
  said = json.loads((tmp_path / "out/a.json").read_text())
  assert len(said["cut"]) == 6 and "classes" not in said
  assert (tmp_path / "out/explorer.html").exists()


@pytest.mark.parametrize("method", ["slic", "seeds"])
def test_methods_that_do_not_nest_write_a_folder_a_level(tmp_path, capsys, method):
  write(tmp_path / "in/a.png", 0, (80, 91))
  write(tmp_path / "in/b/a.png", 1, (80, 80))
  (tmp_path / "in/bad.png").touch()
  out = tmp_path / "out"
  command = ["segment", tmp_path / "in", "--method", method, "--num-clusters", "20,10"]
  assert "1 of 3 images failed" in refused(capsys, *command, "--out", out)
  files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
  assert files == {"20/a.png", "20/b/a.png", "10/a.png", "10/b/a.png"}
  segmenter = image_segmenter.ImageSegmenter(method, num_regions=(20, 10))
  expected = segmenter(images.decode(tmp_path / "in/a.png", "a"))
  for number, labels in zip((20, 10), expected, strict=True):
    np.testing.assert_array_equal(images.read_labels(out / f"{number}/a.png"), labels)
  (out / "20/a.png").unlink()
  assert "10/a.png exists" in refused(capsys, *command, "--out", out)


def test_label_maps_of_many_regions_have_16_bits(tmp_path):
  write(tmp_path / "a.png", 0, (60, 60))
  command = ["segment", tmp_path / "a.png", "--method", "slic", "--num-clusters", "300,20"]
  assert cli.main([*map(str, command), "--out", str(tmp_path / "out")]) == 0
  assert images.read_labels(tmp_path / "out/300/a.png").max() == 299
  with Image.open(tmp_path / "out/300/a.png") as fine, Image.open(tmp_path / "out/20/a.png") as few:
    assert fine.mode == "I;16" and few.mode == "L"


def test_ward_of_superpixels_from_elsewhere(tmp_path):
  write(tmp_path / "a.png", 0, (40, 60))
  own = np.kron(np.arange(24).reshape(4, 6), np.ones((10, 10), int))
  np.save(tmp_path / "a.npy", own)
  command = ["segment", tmp_path / "a.png", "--method", "ward", "--superpixels", tmp_path]
  command += ["--num-clusters", "8,3", "--out", tmp_path / "out"]
  assert cli.main(list(map(str, command))) == 0
  tree = Hierarchy.load(tmp_path / "out/a.npz")
  np.testing.assert_array_equal(tree.segments, own)
  assert tree.sizes == (24, 8, 3)


@pytest.mark.parametrize("method", [None, "spectral"])
def test_a_plain_vit_segments_by_clusters_of_its_tokens(tmp_path, weights, vit, method):
  path = write(tmp_path / "a.png", 0, (47, 71))
  command = ["segment", path, "--weights", weights, "--num-clusters", "9,4", "--size", 64]
  command += ["--out", tmp_path / "out"] + (["--method", method] if method else [])
  assert cli.main(list(map(str, command))) == 0
  found = check_folder(tmp_path / "out")["a"]
  assert found.segments.shape == (47, 71) and found.sizes == (9, 4)
  segmenter = segment.Segmenter(*vit, size=64, class_names=tiny_segmenter.NAMES)
  prepared = segmenter.prepare(images.decode(path, "a"))
  assert prepared.image.shape == (64, 96, 3) and prepared.segments is None
  image = segment.normalize(prepared.image[None])
  out = vit[0].apply(vit[1], image, None, train=False)
  expected = token_hierarchy.segment(
    np.asarray(out.tokens[0]).reshape(16, 24, -1), 47, 71, (9, 4), method=method or "kmeans", seed=0
  )
  for level in range(2):
    agree = (found.labels(level) == expected.labels(level)).mean()
    assert agree > 0.99  # compiled tokens may differ in the last digit
    np.testing.assert_allclose(found.features[level], expected.features[level], atol=0.05)
  np.testing.assert_allclose(found.probabilities, jax.nn.softmax(out.logits[0]), atol=1e-5)


def test_features_of_a_plain_vit(tmp_path, weights):
  paths = [write(tmp_path / f"{i}.png", i) for i in range(2)]
  command = ["features", *paths, "--weights", weights, "--num-clusters", "6,2"]
  assert cli.main([*map(str, command), "--out", str(tmp_path / "out")]) == 0
  with np.load(tmp_path / "out/features.npz") as table:
    assert table["features_0"].shape == (12, 16) and table["features_1"].shape == (4, 16)
    assert table["image_features"].shape == (2, 16)


def test_what_does_not_suit_ends_in_one_line(tmp_path, weights, capsys):
  path = write(tmp_path / "a.png")
  cast = str(tiny_segmenter.save(tmp_path / "cast"))
  np.save(tmp_path / "a.npy", np.zeros((40, 60), int))
  for options, words in (
    (["--method", "turbo"], "no method 'turbo'; choose among grid, slic"),
    (["--method", "ward", "--weights", weights], "--method ward uses no model"),
    (["--method", "kmeans", "--weights", cast], "has levels of its own"),
    (["--method", "seeds", "--num-clusters", "16,8"], "numbers from 10 up"),
    (["--method", "grid", "--num-clusters", "4,8"], "finest first"),
    (["--method", "slic", "--regions", "4"], "--regions is for levels that nest"),
    (["--method", "slic", "--html"], "--html is for levels that nest"),
    (["--method", "slic", "--superpixels", tmp_path], "Superpixels of your own"),
    (["--method", "ward", "--size", "32", "--superpixels", tmp_path], "Superpixels of your own"),
    (["--method", "grid", "--num-segments", "64"], "merges no superpixels"),
    (["--weights", weights, "--num-segments", "64"], "A plain ViT has no superpixels"),
    (["--weights", weights, "--superpixels", tmp_path], "Superpixels of your own"),
    (["--weights", weights, "--num-clusters", "4,8"], "finest first"),
  ):
    assert words in refused(capsys, "segment", path, "--out", tmp_path / "out", *options), options
  assert not (tmp_path / "out").exists()


def test_the_segmenter_refuses_what_does_not_suit_a_vit(vit):
  with pytest.raises(UserError, match="cannot be clustered by 'ward'"):
    segment.Segmenter(*vit, method="ward")
  with pytest.raises(UserError, match="A plain ViT sees no superpixels"):
    segment.Segmenter(*vit)(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), int))
  with pytest.raises(UserError, match="no grid of tokens"):
    segment.Segmenter(hseg_jax.create_model("tome_small"), {})
