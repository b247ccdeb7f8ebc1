"""Reports of `hseg score` read back: names and orders, common images, damage, pictures."""

import numpy as np
import pytest

from hseg_jax import reports, score
from hseg_jax.errors import UserError
from tests import fake_reports

NAMES = ["a", "b", "c", "d"]
HITS = np.array([[2, 1], [4, 5], [6, 6], [8, 7]])


@pytest.fixture(autouse=True)
def benchmark(monkeypatch):
  monkeypatch.setitem(score.BENCHMARKS, "fake", fake_reports.BENCHMARK)


@pytest.fixture
def one(tmp_path):
  return reports.read("one", fake_reports.write(tmp_path / "one", HITS, NAMES))


def written(folder, hits=HITS, names=NAMES, **fields):
  return reports.read(folder.name, fake_reports.write(folder, hits, names, **fields))


def test_reports_are_brought_to_one_order(one, tmp_path):
  other = written(tmp_path / "two", HITS[::-1], NAMES[::-1])
  assert other.names == tuple(NAMES[::-1])
  first, second = reports.match([one, other], allow_missing=False)
  assert first.names == second.names == tuple(NAMES)
  np.testing.assert_array_equal(first.tallies["hits"], HITS)
  np.testing.assert_array_equal(second.tallies["hits"], HITS)


def test_common_images_are_compared_if_allowed(one, tmp_path, capsys):
  more = written(tmp_path / "more", [[9, 9], *HITS.tolist()], ["0", *NAMES])
  with pytest.raises(UserError, match=r"1 of more's 5 images are not in all reports \(0\)"):
    reports.match([one, more], allow_missing=False)
  first, second = reports.match([one, more], allow_missing=True)
  assert first.names == second.names == tuple(NAMES)
  np.testing.assert_array_equal(second.tallies["hits"], HITS)
  assert "The 4 images that are in all reports are compared." in capsys.readouterr().out
  alien = written(tmp_path / "alien", HITS, ["w", "x", "y", "z"])
  with pytest.raises(UserError, match="no image in common"):
    reports.match([one, alien], allow_missing=True)


@pytest.mark.parametrize(
  "fields, words",
  [
    ({"benchmark": "bsds"}, "differ in their benchmark"),
    ({"options": {"size": 5}}, r"option 'size' \(4 and 5\)"),
    ({"options": {}}, "option 'size'"),
    ({"benchmark": "unknown"}, "not known here"),
    ({"images": {}}, "holds no whole report"),
  ],
)
def test_refuses_reports_that_do_not_compare(one, tmp_path, fields, words):
  with pytest.raises(UserError, match=words):
    reports.match([one, written(tmp_path / "other", **fields)], allow_missing=True)


def test_refuses_damaged_reports(one, tmp_path):
  folder = tmp_path / "one"
  good = (folder / score.TALLIES).read_bytes()
  (folder / score.TALLIES).write_bytes(good[: len(good) // 2])
  with pytest.raises(UserError, match="no whole report"):
    reports.read("one", folder)
  (folder / score.TALLIES).unlink()
  with pytest.raises(UserError, match="no whole report"):
    reports.read("one", folder)
  np.savez(folder / score.TALLIES, names=np.array(NAMES), hits=HITS[:2])
  with pytest.raises(UserError, match="tallies are not those of its images"):
    reports.read("one", folder)


def test_warns_of_other_truths(one, tmp_path, caplog):
  other = written(tmp_path / "other", ground_truth="elsewhere")
  reports.match([one, other], allow_missing=False)
  assert "one was scored against truth, other against elsewhere." in caplog.text


def test_scores_that_are_null_are_not_known(tmp_path):
  nothing = {name: {"accuracy": None} for name in NAMES}
  found = written(tmp_path / "nothing", images=nothing).found["images"]
  assert all(np.isnan(scores["accuracy"]) for scores in found.values())


def test_pictures_that_are_gone_are_left_out(one):
  assert reports.pictures([one, one._replace(name="two")], "a") == {}
