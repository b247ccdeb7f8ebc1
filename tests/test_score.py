"""`hseg score`: what it writes, that processes change nothing, and what it refuses."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from hseg_jax import cli, processes, reports, score
from hseg_jax.data.partworld import PartWorld
from hseg_jax.hierarchy import Hierarchy

NAMES = ("a", "b", "c", "d")


def write(path, values):
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == ".npy":
    np.save(path, values)
  else:
    Image.fromarray(np.asarray(values).astype(np.uint8)).save(path)


def draw(seed, cells=(4, 3), cell=5):
  """A map of rectangles, some of which share an id."""
  coarse = np.random.default_rng(seed).integers(0, 6, cells)
  return np.kron(coarse, np.ones((cell, cell), int))


@pytest.fixture
def data(tmp_path):
  """Annotators, two of each image, and predictions at two levels."""
  for i, name in enumerate(NAMES):
    write(tmp_path / f"truth/{name}_1.png", draw(i))
    write(tmp_path / f"truth/{name}_2.png", draw(i) // 2)
    write(tmp_path / f"levels/fine/{name}.png", draw(i + (i > 1)))
    write(tmp_path / f"levels/coarse/{name}.png", draw(i + (i > 1)) // 3)
    write(tmp_path / f"photos/{name}.jpg", np.repeat(40 * draw(i)[..., None], 3, axis=2))
  return tmp_path


def arguments(folder, *more, benchmark="bsds", predictions="levels"):
  paths = ["--predictions", folder / predictions, "--ground-truth", folder / "truth"]
  return list(map(str, ["score", benchmark, *paths, "--out", folder / "out", *more]))


def run(folder, *more, **options):
  """What `scores.json` says, and the stacked tallies."""
  if "--workers" not in more:
    more += ("--workers", "1")
  assert cli.main(arguments(folder, *more, **options)) == 0
  with np.load(folder / "out/tallies.npz") as archive:
    return json.loads((folder / "out/scores.json").read_text()), dict(archive)


def refused(capsys, *argv):
  """The one line with which the command refuses."""
  assert cli.main(argv) == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1, lines
  return lines[0]


def test_writes_scores_tallies_and_a_page(data, capsys):
  found, tallies = run(data, "--images", str(data / "photos"))
  assert found["benchmark"] == "bsds" and found["num_images"] == 4
  assert found["predictions"] == str(data / "levels") and found["version"]
  assert found["options"]["regions"] == [] and list(found["images"]) == list(NAMES)
  assert tallies["names"].tolist() == list(NAMES) and tallies["covered"].shape == (4, 2)
  del tallies["names"]
  assert score.bsds.summarize(tallies) == found["summary"]
  one = {key: rows[2:3] for key, rows in tallies.items()}
  assert score.bsds.summarize(one) == found["images"]["c"]
  page = (data / "out/report.html").read_text()
  assert "BSDS500, 4 images" in page and page.count("data:image/png") == 9
  said = capsys.readouterr().out
  assert f"{found['summary']['covering_ods']:.4f}" in said and "level_1" in said
  assert sorted(path.name for path in (data / "out").iterdir()) == [
    "report.html", "scores.json", "tallies.npz"]  # fmt: skip


def test_processes_change_nothing(data):
  serial = run(data)
  parallel = run(data, "--workers", "2", "--force")
  assert serial[0] == parallel[0]
  assert serial[1].keys() == parallel[1].keys()
  for key, values in serial[1].items():
    np.testing.assert_array_equal(values, parallel[1][key])


def test_other_ids_change_nothing(data):
  before = run(data)[0]
  for path in (data / "levels").rglob("*.png"):
    write(path, (37 * np.asarray(Image.open(path)).astype(int) + 11) % 256)
  after = run(data, "--force")[0]
  assert before["summary"] == pytest.approx(after["summary"], abs=1e-12)


def test_names_may_be_no_text(tmp_path):
  for folder in ("levels", "truth"):
    write(tmp_path / folder / "a.png", draw(1))
    (tmp_path / folder / "a.png").rename(
      os.fsdecode(f"{tmp_path}/{folder}/".encode() + b"\xff.png")
    )
  found = run(tmp_path, benchmark="superpixels")[0]
  assert list(found["images"]) == ["\udcff"]
  assert reports.read("x", tmp_path / "out").names == ("\udcff",)


def test_superpixels_are_scored_at_a_level(data):
  found = run(data, "--level", "1", "--tolerance", "0.1", benchmark="superpixels")[0]
  assert found["options"] == {"level": 1, "tolerance": 0.1}
  assert found["images"]["a"]["num_segments"] == len(np.unique(draw(0) // 3))


def test_classes_are_scored(data, capsys):
  (data / "truth").rename(data / "annotators")
  for i, name in enumerate(NAMES):
    write(data / f"truth/{name}.png", np.where(draw(i) == 5, 255, draw(i)))
  options = dict(benchmark="semantic", predictions="levels/fine")
  assert "give --num-classes" in refused(capsys, *arguments(data, **options))
  found = run(data, "--num-classes", "6", **options)[0]
  assert found["images"]["a"]["miou"] == found["images"]["a"]["pixel_accuracy"] == 1
  assert found["summary"]["miou"] < 1 and found["summary"]["class_3/iou"] <= 1
  said = refused(
    capsys, *arguments(data, "--num-classes", "3", "--workers", "1", "--force", **options)
  )
  assert "a: The truth has the label" in said


def test_regions_of_trees_are_no_classes(tmp_path, capsys):
  (tmp_path / "trees").mkdir()
  for name in NAMES:
    write(tmp_path / f"truth/{name}.png", np.zeros((20, 15)))
    Hierarchy(np.zeros((20, 15), np.int32)).save(tmp_path / f"trees/{name}.npz")
  words = arguments(tmp_path, "--num-classes", "2", benchmark="semantic", predictions="trees")
  assert "trees holds hierarchies, whose ids are no classes" in refused(capsys, *words)


@pytest.mark.parametrize(
  ("benchmark", "value"), [("semantic", 255), ("superpixels", -1), ("bsds", -1)]
)
def test_a_truth_without_labels_is_refused(data, capsys, benchmark, value):
  for path in (data / "truth").iterdir():
    path.unlink()
  for name in NAMES:
    write(data / f"truth/{name}.npy", np.full((20, 15), value))
  more = ["--num-classes", "6"] if benchmark == "semantic" else []
  words = arguments(data, "--workers", "1", *more, benchmark=benchmark, predictions="levels/fine")
  said = refused(capsys, *words)
  assert "labels no pixel that counts" in said or "No pixel of the truth is labelled" in said
  assert not list((data / "out").iterdir())


def test_figures_are_scored(data):
  (data / "truth").rename(data / "annotators")
  for i, name in enumerate(NAMES):
    write(data / f"truth/{name}.png", 255 * (draw(i) > 2))
    write(data / f"soft/{name}.npy", draw(i) / 7.0 - 2)
  options = ["--soft", "--rescale", "--binary-masks", "--threshold", "fixed", "--value", "0.55"]
  found = run(data, *options, benchmark="figure-ground", predictions="soft")[0]
  assert found["summary"]["jaccard"] == found["summary"]["max_f_beta"] == 1
  assert found["summary"]["mae"] > 0 and found["options"]["binary_masks"] is True
  found = run(data, "--binary-masks", "--force", benchmark="figure-ground")[0]
  assert found["images"]["a"]["best_union_jaccard"] == 1


def test_parts_of_drawn_objects_are_scored(tmp_path):
  for i in range(2):
    truth = PartWorld("val", size=32, num_examples=2)[i]
    write(tmp_path / f"levels/fine/val_{i:05d}.png", truth["parts"])
    write(tmp_path / f"levels/coarse/val_{i:05d}.png", truth["object"])
  words = arguments(tmp_path, "--size", "32", "--workers", "1", benchmark="part-whole")
  words[words.index("--ground-truth") + 1] = "partworld:val[:2]"
  assert cli.main(words) == 0
  found = json.loads((tmp_path / "out/scores.json").read_text())["summary"]
  assert found["parts/nf_covering"] == found["objects/nf_covering"] == found["nested_share"] == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_of_coco_find_their_images_by_id(tmp_path, workers):
  box = {"size": [4, 6], "counts": [4, 8, 12]}
  truth = {
    "images": [{"id": i, "file_name": f"00{i}.jpg", "height": 4, "width": 6} for i in (1, 2)],
    "annotations": [{"image_id": i, "category_id": 3, "segmentation": box} for i in (1, 2)],
    "categories": [{"id": 3, "name": "Head", "supercategory": "Bird"}],
  }
  results = [{"image_id": i, "category_id": 1, "segmentation": box, "score": 0.5} for i in (2, 1)]
  for name, content in (("truth.json", truth), ("results.json", results)):
    (tmp_path / name).write_text(json.dumps(content))
  words = arguments(
    tmp_path, "--workers", workers, benchmark="part-whole", predictions="results.json"
  )
  words[words.index("--ground-truth") + 1] += ".json"
  assert cli.main(words) == 0
  found = json.loads((tmp_path / "out/scores.json").read_text())
  assert list(found["images"]) == ["001", "002"] and found["summary"]["parts/nf_covering"] == 1
  report = reports.read("x", tmp_path / "out")
  assert reports.pictures([report], "001")
  results[0]["image_id"] = 7
  (tmp_path / "results.json").write_text(json.dumps(results))
  assert cli.main([*words, "--force"]) == 2
  assert reports.pictures([report], "002") == {}


@pytest.mark.parametrize(
  ("options", "said"),
  [
    (["--regions", "1"], "a: No level has about 1 regions (there are"),
    (["--regions", "4", "--thresholds", "9"], "a: Scales are thresholds or numbers of regions"),
    (["--thresholds", "0"], "'0' is no whole number from 1 on"),
    (["--scores", "edges"], "'edges' is not among regions, boundaries"),
    (["--images", "nowhere"], "There is no folder nowhere"),
    (["--level", "1"], "Unknown argument '--level'"),
    (["--out", "o" * 300], "cannot be written: File name too long"),
  ],
)
def test_wrong_options_are_refused(data, capsys, options, said):
  assert said in refused(capsys, *arguments(data, "--workers", "1", *options))
  assert not (data / "out").exists() or not list((data / "out").iterdir())


def test_names_must_match(data, capsys):
  (data / "truth/b_1.png").unlink()
  (data / "truth/b_2.png").unlink()
  for level in ("fine", "coarse"):
    (data / f"levels/{level}/c.png").unlink()
  said = refused(capsys, *arguments(data))
  assert "1 image has no prediction (c) and 1 image has no ground truth (b)" in said
  assert "--allow-missing scores the 2" in said
  assert list(run(data, "--allow-missing")[0]["images"]) == ["a", "d"]
  assert "no ground truth (b); the 2 that have both are scored" in capsys.readouterr().out
  for path in (data / "truth").iterdir():
    path.rename(path.with_name("x" + path.name))
  said = refused(capsys, *arguments(data, "--allow-missing", "--force"))
  assert "no name in common: the first are a and xa" in said


def test_results_are_not_overwritten(data, capsys):
  run(data)
  before = (data / "out/report.html").read_bytes()
  for name in ("tallies.npz", "scores.json"):
    (data / "out" / name).unlink()
    assert "exists; give another folder or --force" in refused(capsys, *arguments(data))
  assert (data / "out/report.html").read_bytes() == before


def test_sizes_must_agree(data, capsys):
  for level in ("fine", "coarse"):
    write(data / f"levels/{level}/c.png", draw(0, (4, 4)))
  said = refused(capsys, *arguments(data, "--workers", "1"))
  assert "The prediction of c has 20x20 pixels, its ground truth 15x20" in said


def test_a_damaged_file_is_named_by_its_process(data, capsys):
  (data / "levels/coarse/d.png").write_bytes(b"nothing")
  said = refused(capsys, *arguments(data, "--workers", "2"))
  assert "levels/coarse/d.png" in said and not list((data / "out").iterdir())


def test_numbers_of_levels_must_agree(tmp_path, capsys):
  for i, name in enumerate(NAMES):
    write(tmp_path / f"truth/{name}.png", draw(i))
    labels = np.arange(300).reshape(20, 15)
    maps = [labels, labels // 15, labels // 60][: 3 if name == "b" else 2]
    (tmp_path / "trees").mkdir(exist_ok=True)
    Hierarchy.from_labels([each.astype(np.int32) for each in maps]).save(
      tmp_path / f"trees/{name}.npz"
    )
  said = refused(capsys, *arguments(tmp_path, "--workers", "1", predictions="trees"))
  assert "a and b differ in their number of levels" in said and "regions" in said
  scored = run(tmp_path, "--regions", "20,100", predictions="trees")[0]["summary"]
  assert scored["regions_20/num_regions"] == 20 and scored["regions_100/num_regions"] == 100


def test_an_interrupt_leaves_nothing(data, monkeypatch):
  def interrupt(*arguments, **options):
    raise KeyboardInterrupt

  for owner, name in ((processes, "run"), (score.json, "dumps"), (score.np, "savez_compressed")):
    with monkeypatch.context() as patch:
      patch.setattr(owner, name, interrupt)
      assert cli.main(arguments(data, "--workers", "1")) == 130
    assert not list((data / "out").iterdir())
