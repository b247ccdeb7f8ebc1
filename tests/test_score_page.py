"""The page of scored predictions: complete, self-contained, and clear about what is best."""

import math
import types

import numpy as np

from hseg_jax.benchmarks import Curve
from hseg_jax.viz import score_page
from tests.test_report import Page

SUMMARY = {
  "good_ods": 0.75,
  "mae": 0.5,
  "unknown": math.nan,
  "good_unknown": math.nan,
  "objects/found": 0.5,
  "parts/found": 0.25,
  "best_level/good": 1.0,
  "level_0/num_regions": 64.0,
  "level_0/good": 0.25,
  "level_0/mae": 0.125,
  "level_1/num_regions": 8.0,
  "level_1/good": 0.5,
  "level_1/mae": 0.375,
  "level_0/nowhere": math.nan,
  "level_1/nowhere": math.nan,
}
BENCHMARK = types.SimpleNamespace(
  TITLE="Test <1>",
  SCORES={"good_ods": "how good & so"},
  LOWER=("mae",),
  HEADLINES=("good_*", "objects/*"),
)
FOUND = {
  "num_images": 2,
  "predictions": "p<q>",
  "ground_truth": "truth",
  "options": {"regions": [4, 2], "level": None},
  "version": "1.2",
  "summary": SUMMARY,
  "images": {"a": {"good_ods": 0.25}, "b<": {"good_ods": 0.5}, "c": {"good_ods": math.nan}},
}


def render(**changes):
  maps = {"labels": np.array([[-1, 300], [7, 7]]), "soft": np.eye(2), "mask": np.eye(2) > 0}
  photo = np.zeros((4, 6, 3), np.uint8)
  examples = [
    score_page.Example("Best", "b<", {"good_ods": 0.5}, photo, maps),
    score_page.Example("Worst", "a", {"good_ods": 0.25}, None, maps),
  ]
  curves = {
    "PR": Curve("recall", "precision", np.array([[0.0, 1.0], [0.5, 0.25]])),
    "By <scale>": Curve("regions", "good", np.array([[8.0, 0.5], [64.0, 0.25]])),
  }
  return score_page.render(FOUND | changes, BENCHMARK, curves, examples)


def test_page_is_whole_and_needs_nothing_but_itself():
  text = render()
  page = Page(text)
  assert page.open == [] and len(page.links) == 7
  assert all(link.startswith("data:image/png;") for link in page.links)
  assert "url(" not in text and "<script" not in text and "prefers-color-scheme: dark" in text
  words = " ".join(page.text.split())
  expected = (
    "Test <1>, 2 images",
    "p<q> against truth",
    "how good & so",
    "0.750 good ODS",
    "0.500 objects found",
  )
  expected += "but for MAE", "regions 4, 2", "b< 0.5000", "Worst", "Ranked by good ODS"
  for said in expected:
    assert said in words, said
  assert "None" not in words and "nowhere" not in words and "nan" not in words.lower()


def test_the_best_of_each_column_is_bold():
  text = render()
  row = lambda name: text[text.index(f"<tr><td>{name}</td>") :].split("</tr>")[0]
  assert row("level 1").endswith("<td>8.0</td><td><b>0.5000</b></td><td>0.3750</td>")
  assert row("level 0").endswith("<td>64.0</td><td>0.2500</td><td><b>0.1250</b></td>")
  assert row("best level").endswith("<td>1</td>")
  assert row("objects").endswith("<td>0.5000</td>")  # no scale of the same thing as parts


def test_only_precision_and_recall_have_lines_of_equal_f():
  assert render().count('class="guide"') == 4


def test_images_are_listed_best_first():
  table = render().rpartition("<details")[2]
  assert table.index("b&lt;") < table.index("<td>a<") < table.index("<td>c<")
  assert "<td>–</td>" in table


def test_a_terminal_gets_tables():
  lines = score_page.as_text(SUMMARY).splitlines()
  assert lines[:3] == ["good_ods  0.7500", "mae       0.5000", ""]
  assert lines[-3:] == [
    "         num_regions    good     mae",
    "level_0         64.0  0.2500  0.1250",
    "level_1          8.0  0.5000  0.3750",
  ]
  assert "best_level     1" in lines
