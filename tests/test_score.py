"""`hseg score`: what it writes, that processes change nothing, and what it refuses."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from hseg_jax import cli, processes, score
from hseg_jax.data.partworld import PartWorld
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.scoring import contour_maps

NAMES = ("a", "b", "c", "d")
OFFICIAL = ("2018", "3063", "5096", "6046", "8068")


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


@pytest.mark.parametrize(
  ("options", "said"),
  [
    (["--regions", "1"], "a: No level has about 1 regions (there are"),
    (["--regions", "4", "--thresholds", "9"], "a: Scales are thresholds or numbers of regions"),
    (["--thresholds", "0"], "'0' is no whole number from 1 on"),
    (["--scores", "edges"], "'edges' is not among regions, boundaries"),
    (["--images", "nowhere"], "There is no folder nowhere"),
    (["--level", "1"], "Unknown argument '--level'"),
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


@pytest.fixture(scope="module")
def official(shared, tmp_path_factory):
  folder = tmp_path_factory.mktemp("official")
  with zipfile.ZipFile(shared / "data" / "bsds_bench_check.zip") as archive:
    archive.extractall(folder)
  (folder / "groundTruth").rename(folder / "truth")
  return folder


@pytest.mark.parametrize(
  ("predictions", "options", "test"),
  [("ucm2", ["--thresholds", "5"], "test_1"), ("segs", [], "test_4")],
)
def test_official_region_scores(official, predictions, options, test):
  options = [*options, "--scores", "regions", "--force"]
  found, tallies = run(official, *options, predictions=predictions)
  scores = found["summary"]
  near = lambda expected: pytest.approx(expected, abs=1e-4)
  cover = np.loadtxt(official / test / "eval_cover.txt")[1:]
  assert [scores[f"covering_{name}"] for name in ("ods", "ois", "best")] == near(cover)
  others = np.loadtxt(official / test / "eval_RI_VOI.txt")
  assert [scores[f"{name}_ods"] for name in ("pri", "vi")] == near(others[[1, 4]])
  assert [scores[f"{name}_ois"] for name in ("pri", "vi")] == near(others[[2, 5]])
  images = np.loadtxt(official / test / "eval_cover_img.txt")[:, 2]
  assert [found["images"][name]["covering_ods"] for name in OFFICIAL] == near(images)
  levels = np.loadtxt(official / test / "eval_cover_th.txt")
  curve = score.bsds.curves(tallies)["Covering by scale"].points
  assert curve[:, 1] == near(levels[:, 1])
  if predictions == "ucm2":
    assert curve[:, 0] == near(contour_maps.spread_thresholds(5)) and levels[0, 0] == near(1 / 6)


def test_official_boundary_scores(official):
  options = ["--soft", "--scores", "boundaries", "--thresholds", "5", "--force"]
  found = run(official, *options, predictions="png")[0]
  names = [
    f"boundary_{what}_{which}" for which in ("ods", "ois") for what in ("recall", "precision", "f")
  ]
  expected = np.loadtxt(official / "test_2/eval_bdry.txt")
  scores = [found["summary"][name] for name in ("best_threshold/boundary_f", *names, "boundary_ap")]
  assert scores == pytest.approx(expected, abs=0.003)
  images = np.loadtxt(official / "test_2/eval_bdry_img.txt")[:, 1:]
  for name, row in zip(OFFICIAL, images, strict=True):
    one = found["images"][name]
    keys = ("best_threshold/boundary_f", *names[:3])
    assert [one[key] for key in keys] == pytest.approx(row, abs=0.003)
