"""`hseg score bsds` beside what the benchmark's own code says of its examples."""

import zipfile

import numpy as np
import pytest
from test_score import run

from hseg_jax import score
from hseg_jax.scoring import contour_maps

OFFICIAL = ("2018", "3063", "5096", "6046", "8068")


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
