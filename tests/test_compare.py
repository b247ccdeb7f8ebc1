"""Comparisons: values and intervals, names and orders, what is scored first, refusals."""

import json

import numpy as np
import pytest
from PIL import Image

from hseg_jax import cli, compare, evaluate, experiment, processes, score, segment
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from tests import fake_reports, tiny_segmenter

NAMES = ["a", "b", "c", "d"]
HITS = np.array([[2, 1], [4, 5], [6, 6], [8, 7]])


@pytest.fixture(autouse=True)
def benchmark(monkeypatch):
  monkeypatch.setitem(score.BENCHMARKS, "fake", fake_reports.BENCHMARK)
  monkeypatch.setattr(processes, "count_cores", lambda: 1)  # others take seconds to start


@pytest.fixture
def reports(tmp_path):
  """Two methods; the second has a hit more on every image, which it lists backwards."""
  fake_reports.write(tmp_path / "one", HITS, NAMES)
  fake_reports.write(tmp_path / "two", (HITS + [1, 0])[::-1], NAMES[::-1])
  return [str(tmp_path / name) for name in ("one", "two")]


def run(*arguments, out, **options):
  return compare.compare(arguments, out, num_resamples=options.pop("num_resamples", 40), **options)


def test_differences_are_paired_by_name(reports, tmp_path, capsys):
  found = run(*reports, out=tmp_path / "out")
  one, two = found["scores"]["accuracy"]["one"], found["scores"]["accuracy"]["two"]
  assert one["value"] == pytest.approx(0.5) and two["value"] == pytest.approx(0.6)
  assert one["low"] < 0.5 < one["high"] and "difference" not in one
  expected = {"value": 0.1, "low": 0.1, "high": 0.1, "agreement": 1.0}
  assert two["difference"] == pytest.approx(expected)
  assert found["scores"]["errors"]["two"]["difference"]["value"] == pytest.approx(-4)
  level = found["scores"]["level_1/accuracy"]["two"]["difference"]
  assert level == {"value": 0, "low": 0, "high": 0, "agreement": 0}
  assert not any(name.startswith("best_level") for name in found["scores"])
  assert found["num_images"] == 4 and list(found["methods"]) == ["one", "two"]
  saved = json.loads((tmp_path / "out" / "compare.json").read_text())
  assert saved == json.loads(json.dumps(found))
  said = capsys.readouterr().out
  assert "+0.1000" in said and "100 %" in said and "level_1" not in said
  assert not list((tmp_path / "out").glob("*.partial"))


def test_names_are_given_or_the_folders(reports, tmp_path):
  odd = fake_reports.write(tmp_path / "a=b", HITS, NAMES)
  found = run(f"x={reports[0]}", str(odd), out=tmp_path / "out")
  assert list(found["methods"]) == ["x", "a=b"]
  with pytest.raises(UserError, match="Two methods are called 'one'"):
    run(reports[0], f"one={reports[1]}", out=tmp_path / "other")
  for argument in (f"={reports[0]}", f"x/y={reports[0]}", f"..={reports[0]}"):
    with pytest.raises(UserError, match="write NAME=FOLDER"):
      run(argument, reports[1], out=tmp_path / "other")
  with pytest.raises(UserError, match="two methods at least"):
    run(reports[0], out=tmp_path / "other")


def test_the_seed_decides(reports, tmp_path):
  first, again, other = (
    run(*reports, out=tmp_path / str(i), seed=seed) for i, seed in enumerate((1, 1, 2))
  )
  assert first == again and first["scores"] != other["scores"]


def test_nothing_is_overwritten_unasked(reports, tmp_path):
  run(*reports, out=tmp_path / "out")
  with pytest.raises(UserError, match="compare.json exists"):
    run(*reports, out=tmp_path / "out")
  run(*reports, out=tmp_path / "out", force=True)


def test_a_failed_write_leaves_nothing(reports, tmp_path):
  page = tmp_path / "out" / "compare.html"
  page.mkdir(parents=True)  # where no file can be put
  with pytest.raises(UserError, match="compare.html cannot be written"):
    run(*reports, out=tmp_path / "out", force=True)
  assert list((tmp_path / "out").iterdir()) == [page]


def test_scores_that_are_not_known_are_null(reports, tmp_path):
  for name in ("one", "two"):
    path = tmp_path / name / score.SCORES
    found = json.loads(path.read_text())
    found["images"]["a"]["accuracy"] = None
    path.write_text(json.dumps(found))
  run(*reports, out=tmp_path / "out")
  assert "NaN" not in (tmp_path / "out" / "compare.json").read_text()


def make_predictions(folder, shift):
  """Halves of an image of 12 by 16 pixels, parted at a column."""
  folder.mkdir()
  for i in range(2):
    labels = np.zeros((12, 16), np.int32)
    labels[:, 8 + shift + i :] = 1
    Hierarchy(labels).save(folder / f"{i}.npz")
  return folder


def make_truth(folder):
  folder.mkdir()
  for i in range(2):
    labels = np.zeros((12, 16), np.uint8)
    labels[:, 8 + i :] = 1
    Image.fromarray(labels).save(folder / f"{i}.png")
  return folder


def test_predictions_are_scored_first(tmp_path):
  good, bad = (
    make_predictions(tmp_path / name, shift) for name, shift in (("good", 0), ("bad", 4))
  )
  truth = make_truth(tmp_path / "truth")
  out = tmp_path / "out"
  with pytest.raises(UserError, match="give --benchmark and --ground-truth"):
    run(str(good), str(bad), out=out)
  for options, words in (
    ({"benchmark": "bsd", "ground_truth": truth}, "no benchmark 'bsd'"),
    ({"benchmark": "bsds", "ground_truth": tmp_path / "none"}, "none"),
  ):
    with pytest.raises(UserError, match=words):
      run(str(good), str(bad), out=out, **options)
  assert not out.exists()
  words = [f"--predictions={good}", f"--ground-truth={truth}", f"--out={tmp_path / 'report'}"]
  assert cli.main(["score", "superpixels", *words]) == 0
  found = run(
    f"good={tmp_path / 'report'}", str(bad), out=out, benchmark="superpixels", ground_truth=truth
  )
  accuracy = found["scores"]["achievable_accuracy"]
  assert accuracy["good"]["value"] == 1 and accuracy["bad"]["value"] < 0.9
  assert (out / "bad" / score.SCORES).is_file() and not (out / "good").exists()
  (out / compare.RESULTS).unlink()
  (out / compare.PAGE).rename(tmp_path / "page.html")
  with pytest.raises(UserError, match=r"bad/scores.json exists"):
    run(str(good), str(bad), out=out, benchmark="superpixels", ground_truth=truth)
  page = (tmp_path / "page.html").read_text()
  assert "bad: segments" in page and page.count("<figcaption>annotator") == 2


def test_predictions_are_scored_as_the_reports_were(tmp_path):
  good, bad = (
    make_predictions(tmp_path / name, shift) for name, shift in (("good", 0), ("bad", 4))
  )
  truth, report = make_truth(tmp_path / "truth"), tmp_path / "report"
  words = [f"--predictions={good}", f"--ground-truth={truth}", f"--out={report}"]
  assert cli.main(["score", "superpixels", *words, "--tolerance=0.5"]) == 0
  methods = f"good={report}", str(bad)
  with pytest.raises(UserError, match="report of superpixels, which does not compare with bsds"):
    run(*methods, out=tmp_path / "out", benchmark="bsds")
  assert not (tmp_path / "out").exists()
  found = run(*methods, out=tmp_path / "out")
  # So wide a tolerance forgives a shift of four pixels.
  assert found["scores"]["boundary_recall"]["bad"]["value"] == 1


def test_models_segment_first(tmp_path, monkeypatch):
  monkeypatch.setattr(segment, "read", tiny_segmenter.quick_forward([]))
  truth = make_truth(tmp_path / "truth")
  photos = tmp_path / "photos"
  photos.mkdir()
  for i in range(2):
    Image.fromarray(tiny_segmenter.photograph(i, 12, 16)).resize((16, 12)).save(photos / f"{i}.jpg")
  (tmp_path / "weights").mkdir()
  tiny_segmenter.save(tmp_path / "weights")
  (tmp_path / "run" / "checkpoints").mkdir(parents=True)
  model, variables = tiny_segmenter.built()
  settings = {"superpixels": {**tiny_segmenter.SEEDS, "method": "grid"}, "data": {"image_size": 32}}
  monkeypatch.setattr(evaluate, "load_run", lambda folder: (variables, 1, settings))
  monkeypatch.setattr(experiment, "make_model", lambda settings: model)
  methods = [str(tmp_path / name) for name in ("weights", "run")]
  options = dict(benchmark="superpixels", ground_truth=truth)
  with pytest.raises(UserError, match="holds a model; give --images"):
    run(*methods, out=tmp_path / "out", **options)
  found = run(*methods, out=tmp_path / "out", photographs=photos, **options)
  assert list(found["methods"]) == ["weights", "run"]
  assert (tmp_path / "out" / "run" / "segmented" / "1.npz").is_file()
  assert "<figcaption>image" in (tmp_path / "out" / compare.PAGE).read_text()


def test_the_command(reports, tmp_path, capsys):
  out = str(tmp_path / "out")
  assert cli.main(["compare", *reports, "--out", out, "--resamples", "9", "--seed", "3"]) == 0
  saved = json.loads((tmp_path / "out" / "compare.json").read_text())
  assert saved["num_resamples"] == 9 and saved["seed"] == 3
  capsys.readouterr()
  for words, said in (
    ([*reports, "--out", out], "exists; give another folder or --force."),
    ([*reports, "--out", out, "--resamples", "0"], "cannot be drawn 0 times"),
    ([*reports, "--out", out, "--seed", "-1"], "with seed -1"),
    ([reports[0], str(tmp_path / "nowhere"), "--out", out, "--force"], "There is no"),
  ):
    assert cli.main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
