"""The page of a comparison: which scores it shows, bars, curves, the images that differ most."""

import math
import re

import numpy as np

from hseg_jax.viz import compare_page
from tests import fake_reports

IMAGES = {
  "one": {str(i): {"accuracy": 0.5, "errors": float(i)} for i in range(5)},
  "t<o": {str(i): {"accuracy": 0.1 * i * i, "errors": float(i)} for i in range(5)},
}


def cell(value, low, high, difference=None):
  found = {"value": value, "low": low, "high": high}
  if difference is not None:
    found["difference"] = difference
  return found


def found(**scores):
  change = {"value": 0.1, "low": -0.1, "high": 0.3, "agreement": 0.9876}
  return {
    "num_images": 5,
    "num_resamples": 7,
    "seed": 0,
    "version": "1",
    "options": {"size": (4, 2)},
    "methods": {name: {"predictions": f"{name}/p", "ground_truth": "t"} for name in IMAGES},
    "scores": {
      "accuracy": {"one": cell(0.4, 0.2, 0.6), "t<o": cell(0.5, 0.3, 0.7, change)},
      "errors": {"one": cell(math.nan, math.nan, math.nan), "t<o": cell(2.0, 2.0, 2.0)},
      "level_0/accuracy": {"one": cell(0.1, 0.1, 0.1)},
      **scores,
    },
  }


def render(**scores):
  extreme = compare_page.extremes(IMAGES, 2)
  picture = np.arange(12).reshape(3, 4)
  return compare_page.render(
    found(**scores), fake_reports.BENCHMARK, IMAGES, extreme, {"4": {"truth": picture}}
  )


def test_images_that_differ_most_lie_on_either_side():
  # accuracy 0, .1, .4, .9, 1.6 against .5
  assert compare_page.extremes(IMAGES, 2) == {"t<o": (["4", "3"], ["0", "1"])}
  assert compare_page.extremes(IMAGES, 9)["t<o"] == (["4", "3"], ["0", "1", "2"])
  same = {"a": IMAGES["one"], "b": IMAGES["one"]}
  assert compare_page.extremes(same, 2) == {"b": ([], [])}


def test_images_without_a_score_are_ranked_by_another():
  images = {
    method: {name: {**scores, "accuracy": math.nan} for name, scores in rows.items()}
    for method, rows in IMAGES.items()
  }
  images["one"]["2"]["errors"] = 7.0
  del images["t<o"]["0"]["accuracy"]  # what is not known may be left out
  assert compare_page.extremes(images, 1) == {"t<o": ([], ["2"])}
  nothing = {method: dict.fromkeys(rows, {}) for method, rows in IMAGES.items()}
  assert compare_page.extremes(nothing, 1) == {"t<o": ([], [])}


def test_the_table_shows_wholes_and_few_places():
  few = {f"{place}/accuracy": {"one": cell(0.1, 0.1, 0.1)} for place in ("part", "whole")}
  said = compare_page.as_text(found(**few))
  assert "part/accuracy" in said and "level_0" not in said
  lines = said.splitlines()
  assert lines[2].split() == "t<o 0.5000 0.3000 to 0.7000 +0.1000 -0.1000 to 0.3000 98.7 %".split()
  assert "–" in lines[3]
  many = {f"class_{i}/accuracy": {"one": cell(0.1, 0.1, 0.1)} for i in range(5)}
  assert "class_0" not in compare_page.as_text(found(**many))


def test_the_page_holds_everything():
  page = render()
  assert "t&lt;o" in page and "t<o" not in page
  assert page.count('class="bar ') == 6  # two methods, one difference of three scores, one alone
  assert "smaller is better" in page and "98.7 %" in page and "1 scores" in page
  assert "http" not in re.sub("http://www.w3.org", "", page)
  assert page.count("<figure>") == 1 and "data:image/png" in page
  assert "NaN" not in page and "nan" not in page.lower().replace("finance", "")
  # The sorted differences of accuracy: one chart, with the colour of the second method.
  assert page.count('<polyline class="curve line1"') == 1 and "share of images 0.9: 1.1" in page


def test_bars_lie_where_their_values_do():
  page = render()
  paths = re.findall(r'class="(interval|value|zero)" d="M([\d.]+) \d+(?:H([\d.]+))?', page)
  (_, low, high), (_, value, _) = paths[:2]
  assert float(low) < float(value) < float(high)
  # .2 to .6 and .3 to .7 span the axis with 8 % to spare: .04 on either side of .5.
  assert float(low) == round(100 * 0.04 / 0.58, 2) and float(high) == round(100 * 0.44 / 0.58, 2)
  zero = next(float(at) for kind, at, _ in paths if kind == "zero")
  assert zero == round(100 * (0.1 + 0.08 * 0.4) / (0.4 * 1.16), 2)
