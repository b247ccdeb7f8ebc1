"""`hseg segment` and `hseg features`: what they write, what they refuse, what they go on after."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest
from PIL import Image

import hseg_jax
from hseg_jax import cli, segment, segment_files
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.interop import exported, torch_weights
from tests import tiny_segmenter
from tests.segmentation_outputs import check_folder
from tests.test_torch_weights import CLASSES, TINY, assert_close, state_dict_of


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  return str(tiny_segmenter.save(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def traced(monkeypatch):
  """The shapes for which a model is compiled, in order; it sees only mean colours."""
  shapes = []
  monkeypatch.setattr(segment, "read", tiny_segmenter.quick_forward(shapes))
  return shapes


def write(path, seed=0, size=(40, 60)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(tiny_segmenter.photograph(seed, *size)).save(path)
  return path


def refused(capsys, *argv):
  assert cli.main(list(map(str, argv))) == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1, lines
  return lines[0]


def test_every_image_gets_its_hierarchy_regions_and_picture(tmp_path, weights, capsys):
  write(tmp_path / "in/a.png", 0, (47, 71))
  write(tmp_path / "in/b/a.png", 1, (71, 47))
  out = str(tmp_path / "out")
  command = ["segment", str(tmp_path / "in"), "--weights", weights, "--out", out]
  assert cli.main([*command, "--regions", "5", "--html"]) == 0
  assert "2 images in " in capsys.readouterr().out
  page = pathlib.Path(out, "explorer.html")
  packed = re.search(r'id="data">(.*?)</script>', page.read_text()).group(1)
  assert [image["name"] for image in json.loads(packed)] == ["a", "b/a"]
  assert "explorer.html exists" in refused(
    capsys, "segment", write(tmp_path / "c.png"), *command[2:6], "--html"
  )
  found = check_folder(out)
  assert list(found) == ["a", "b/a"]
  segmenter = segment.Segmenter.from_exported(weights)
  expected = segmenter(tmp_path / "in/b/a.png")
  np.testing.assert_array_equal(found["b/a"].segments, expected.segments)
  np.testing.assert_allclose(found["b/a"].logits, expected.logits, atol=1e-5)
  said = json.loads(pathlib.Path(out, "b/a.json").read_text())
  assert len(said["cut"]) == 5 and said["classes"][0]["name"] in tiny_segmenter.NAMES
  assert not list(pathlib.Path(out).rglob("*.partial"))


def test_few_shapes_are_compiled_and_little_is_held(tmp_path, weights, traced):
  for i in range(22):
    write(tmp_path / f"in/{i:02d}.png", i, (40, 60) if i % 3 else (61, 40))
  segment_files.segment(
    segment.Segmenter.from_exported(weights), [tmp_path / "in"], tmp_path / "out", batch_size=4
  )
  assert sorted(traced) == [(4, 32, 48, 3), (4, 48, 32, 3)]
  assert len(check_folder(tmp_path / "out")) == 22


def test_reading_stays_a_few_batches_ahead(tmp_path, weights, traced, monkeypatch):
  paths = [write(tmp_path / f"{i:02d}.png", i, (20 + 2 * i, 60)) for i in range(20)]
  reading, most = set(), []
  decode = segment_files.images.decode

  def count(path, name):
    reading.add(name)
    most.append(len(reading))
    return decode(path, name)

  monkeypatch.setattr(segment_files.images, "decode", count)
  monkeypatch.setattr(segment_files.os, "cpu_count", lambda: 2)
  segmenter = segment.Segmenter.from_exported(weights)
  found = segment_files.inputs.find(paths)
  finish = lambda job, hierarchy: reading.remove(str(job.input.path))
  names = [each.name for each, _ in segment_files.stream(segmenter, found, finish, 1)]
  # Batches of one: four wait for others of their shape, three are read ahead, the rest is on its
  # way out.
  assert sorted(names) == [f"{i:02d}" for i in range(20)] and max(most) <= 4 + 3 + 3


def test_bad_images_are_reported_and_the_others_done(tmp_path, weights, traced, caplog, capsys):
  folder = tmp_path / "in"
  good = tiny_segmenter.photograph(0, 40, 60)
  image = Image.fromarray(good)
  for i in range(10):
    write(folder / f"good_{i}.jpg", i)
  image.convert("CMYK").save(folder / "cmyk.jpg")
  image.convert("P").save(folder / "palette.gif")
  image.convert("RGBA").save(folder / "alpha.png")
  Image.fromarray(good[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
  exif = Image.Exif()
  exif[0x0112] = 6
  image.save(folder / "turned.jpg", exif=exif)
  (folder / "cut.jpg").write_bytes((folder / "good_1.jpg").read_bytes()[:700])
  (folder / "empty.png").touch()
  (folder / "text.jpg").write_text("dear diary")
  write(folder / "dot.png", 0, (1, 1))
  write(folder / "strip.png", 0, (10, 20_000))
  write(folder / f"{'x' * 251}.jpg")  # which with .json or .partial is longer than names may be
  out = str(tmp_path / "out")
  said = refused(capsys, "segment", folder, "--weights", weights, "--out", out)
  assert said == "hseg: 6 of 21 images failed, as said above; the others are done."
  lines = [record.getMessage() for record in caplog.records]
  assert all("\n" not in line for line in lines) and len(lines) == 6
  for name, words in {
    "cut.jpg": "truncated",
    "empty.png": "(not an image)",
    "text.jpg": "(not an image)",
    "dot.png": ": An image of 1x1 pixels is too small",
    "strip.png": ": An image of 20000x10 pixels is too small or too elongated for 16",
    f"{'x' * 251}.jpg": ": Its name is too long",
  }.items():
    assert any(f"{folder / name}" in line and words in line for line in lines), name
  found = check_folder(out)
  assert len(found) == 15 and found["turned"].segments.shape == (60, 40)
  assert max(shape[2] for shape in traced) <= 4 * 32


def test_results_and_images_are_never_overwritten_by_accident(tmp_path, weights, traced, capsys):
  path = write(tmp_path / "a.png")
  before = path.read_bytes()
  command = ["segment", path, "--weights", weights, "--out"]
  assert "would take the place of" in refused(capsys, *command, tmp_path, "--force")
  assert path.read_bytes() == before
  assert cli.main([*map(str, command), str(tmp_path / "out")]) == 0
  (tmp_path / "out/a.npz").unlink()
  other = write(tmp_path / "new.png")
  traced.clear()
  assert "a.json exists; give another" in refused(
    capsys, "segment", other, *command[1:], tmp_path / "out"
  )
  assert not traced and not (tmp_path / "out/new.npz").exists()
  assert cli.main([*map(str, command), str(tmp_path / "out"), "--force"]) == 0
  check_folder(tmp_path / "out")


def test_mistakes_end_in_one_line_before_any_work(tmp_path, weights, traced, capsys, monkeypatch):
  path = write(tmp_path / "a.png")
  (tmp_path / "file").touch()
  base = ["--weights", weights, "--out", tmp_path / "out"]
  for options, words in (
    ([tmp_path / "none.jpg", *base], "none.jpg"),
    ([path, "--weights", tmp_path, "--out", "o"], "no weights folder"),
    ([path, "--weights", weights, "--out", tmp_path / "file/x"], "cannot be written: Not a dir"),
    ([path, *base, "--superpixels", tmp_path / "maps"], "holds no superpixels of"),
    ([path, *base, "--regions", "0"], "cut into 0 regions"),
    ([path, *base, "--batch-size", "0"], "A batch cannot have 0 images"),
    ([path, *base, "--size", "33"], "size=33 is not a multiple"),
    ([path, *base, "--num-segments", "3"], "num_segments=3 is too few"),
    ([path, *base, "--num-clusters", "3"], "one entry of num_clusters for each"),
    ([path, *base, "--num-clusters", "3,6"], "regions are (3, 6); give numbers from 1 up, finest"),
    ([path, *base, "--num-clusters", "3,x"], "--num-clusters: 'x' is no whole number"),
  ):
    assert words in refused(capsys, "segment", *options)
  assert not traced and not (tmp_path / "out").exists()

  def fail(*args, **kwargs):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(segment_files.files.tempfile, "TemporaryFile", fail)
  assert "out cannot be written: Permission denied" in refused(capsys, "segment", path, *base)


def test_a_full_disk_ends_in_one_line(tmp_path, weights, traced, capsys, monkeypatch):
  def fail(*args):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(Hierarchy, "save", fail)
  path = write(tmp_path / "a.png")
  said = refused(capsys, "segment", path, "--weights", weights, "--out", tmp_path / "out")
  assert "a.npz cannot be written: No space left on device" in said
  assert list((tmp_path / "out").iterdir()) == []


def test_superpixels_from_elsewhere(tmp_path, weights, traced, capsys, caplog):
  paths = [write(tmp_path / "in" / name, i) for i, name in enumerate(("a.png", "b.png", "c.png"))]
  (tmp_path / "maps").mkdir()
  quarters = np.kron([[3, 70], [-1, 500]], np.ones((20, 30), int))
  np.save(tmp_path / "maps/a.npy", quarters)
  Image.fromarray(np.full((7, 7), 3, np.uint8)).save(tmp_path / "maps/b.png")
  np.savez(tmp_path / "maps/c.npz", labels=quarters)
  command = ["--weights", weights, "--superpixels", tmp_path / "maps", "--out", tmp_path / "out"]
  assert "1 of 3 images failed" in refused(capsys, "segment", *paths, *command)
  assert "b.png: The label map has 7x7 rows" in caplog.records[0].getMessage()
  found = check_folder(tmp_path / "out")
  assert list(found) == ["a", "c"] and found["a"].sizes[0] == 3
  inside = quarters >= 0  # what has none takes the nearest
  assert len(np.unique(np.stack([quarters[inside], found["a"].segments[inside]]), axis=1).T) == 3


def test_features_of_images_and_regions(tmp_path, weights, traced, capsys):
  paths = [write(tmp_path / f"{name}.png", i) for i, name in enumerate("abc")]
  (tmp_path / "b.png").write_text("no image")
  out = tmp_path / "out"
  command = ["features", *paths, "--weights", weights, "--out", out]
  assert "1 of 3 images failed" in refused(capsys, *command)
  with np.load(out / "features.npz") as table:
    assert table["names"].tolist() == ["a", "c"]
    assert table["class_names"].tolist() == list(tiny_segmenter.NAMES)
    for i, path in enumerate((paths[0], paths[2])):
      expected = segment.Segmenter.from_exported(weights)(path)
      np.testing.assert_allclose(table["image_features"][i], expected.image_features, rtol=1e-5)
      np.testing.assert_allclose(table["probabilities"][i], expected.probabilities, atol=1e-5)
      for level, rows in enumerate(expected.features):
        np.testing.assert_allclose(
          table[f"features_{level}"][table[f"image_{level}"] == i], rows, rtol=1e-5
        )
  assert "features.npz exists" in refused(capsys, *command)
  assert [path.name for path in out.iterdir()] == ["features.npz"]
  for path in paths:
    path.write_text("no image")
  assert "3 of 3" in refused(capsys, *command[:-1], tmp_path / "none")
  assert list((tmp_path / "none").iterdir()) == []


@pytest.mark.parametrize("name", CLASSES)
def test_published_models_say_through_the_command_what_the_reference_says(
  name, fullest_golden, tmp_path
):
  arrays = fullest_golden(name)
  case = min(key[:2] for key in arrays if key[1:2] == "/")
  here = {key[2:]: x for key, x in arrays.items() if key.startswith(case)}
  variant, fields = CLASSES[name]
  fields = {**TINY, **fields, "num_segments": here["padding_mask1"].shape[1]}
  model = hseg_jax.create_model(variant, **fields)
  variables = torch_weights.convert(state_dict_of(arrays), model)
  variables.pop("unused", None)
  superpixels = dict(method="seeds", num_segments=fields["num_segments"], bins=5, iterations=15)
  info = {
    "model": {"name": variant, **fields},
    "preprocessing": {"image_size": 64, "superpixels": superpixels},
    "class_names": [],
  }
  exported.save(tmp_path / "weights", variables, info)
  for i, pixels in enumerate(arrays["x_uint8"]):
    (tmp_path / "in").mkdir(exist_ok=True)
    Image.fromarray(pixels).save(tmp_path / f"in/{i}.png")
    np.save(tmp_path / f"in/{i}.npy", here["y"][i])
  command = ["segment", tmp_path / "in", "--superpixels", tmp_path / "in"]
  command += ["--weights", tmp_path / "weights", "--out", tmp_path / "out"]
  assert cli.main(list(map(str, command))) == 0
  for i, hierarchy in check_folder(tmp_path / "out").items():
    own = {key: x[int(i)] for key, x in here.items() if len(x) == len(here["y"])}
    compare(hierarchy, name, own)


def compare(hierarchy, name, here):
  """A hierarchy beside what the reference computed of its image."""
  ids, labels = np.unique(here["y"], return_inverse=True)
  np.testing.assert_array_equal(hierarchy.segments, labels.reshape(here["y"].shape))
  # Superpixels that vanished on the stem's grid have no token of their own.
  seen = ~here["padding_mask1"][ids]
  rows, tokens = np.flatnonzero(seen), ids[seen]
  assert len(rows) > 10
  if name == "cast_seg_deit":
    assert_close(hierarchy.image_features, here["out"][0], "image_features")
    assert_close(hierarchy.embeddings[rows], here["out"][1:][tokens], "embeddings")
  elif here["out"].ndim == 2:
    assert_close(hierarchy.logits[rows], here["out"][tokens], "logits")
  else:
    assert_close(hierarchy.logits, here["out"], "logits")
    wanted = np.asarray(jax.nn.softmax(here["out"]))
    assert_close(hierarchy.probabilities, wanted, "probabilities")
  if not name.startswith("cast_seg"):
    assert_close(hierarchy.image_features, here["out4"], "image_features")
  if "label1_3" in here:
    third = hierarchy.parents[1][hierarchy.parents[0]][rows]
    pairs = np.unique(np.stack([third, here["label1_3"][tokens]]), axis=1)
    assert len(pairs.T) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))
  if "block1" not in here:  # the trimmed arrays
    return
  for level in range(4):
    found, wanted = hierarchy.features[level][rows], here[f"block{level + 1}"][tokens]
    assert_close(found, wanted, f"level {level}")
    rows, tokens = hierarchy.parents[level][rows], here[f"logit{level + 1}"][tokens].argmax(-1)
  assert_close(hierarchy.features[4][rows], here["centroid4"][tokens], "centroids")


def test_a_pool_of_threads_ends_with_the_first_fatal_error(tmp_path, weights, traced):
  paths = [write(tmp_path / f"{i}.png", i) for i in range(6)]

  def finish(job, hierarchy):
    raise UserError("no space")

  with pytest.raises(UserError, match="no space"):
    list(
      segment_files.stream(
        segment.Segmenter.from_exported(weights), segment_files.inputs.find(paths), finish, 2
      )
    )
