"""What pages share: charts that span their frame, names that are no markup."""

import xml.etree.ElementTree

import pytest

from hseg_jax.viz import page


def parse(*arguments, **options):
  return xml.etree.ElementTree.fromstring(page.chart(*arguments, **options))


def places(line):
  return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_a_line_spans_its_frame():
  svg = parse({"": [(0, 1.0), (5, float("nan")), (10, 3.0)]})
  assert len(svg.findall("circle")) == 2
  (x0, y0), (x1, y1) = places(svg.find("polyline"))
  assert 0 < x0 < x1 < 320 and 0 < y1 < y0 < 150
  assert [text.text for text in svg.findall("text")][-2:] == ["8", "10"]
  assert svg.find("circle/title").text == "step 0: 1"
  later = parse({"": [(5, 1.0), (15, 3.0)]})
  assert places(later.find("polyline")) == places(svg.find("polyline"))
  for points in ([(0, 2.0)], [(0, 0.0), (1, 0.0)], [(0, float("inf"))], []):
    parse({"": points})


def test_axes_have_names_and_ends():
  lines = {"a<b": [(0.2, 0.5), (0.4, 0.25)], "c": [(0, 0), (1, 1)]}
  ends = dict(x_range=(0, 1), y_range=(0, 1), height=200)
  svg = parse(lines, x_name="recall", y_name="precision", guides=[[(0, 1), (1, 0)]], **ends)
  guide, first, second = svg.findall("polyline")
  (left, top), (right, bottom) = places(guide)
  assert top == 8 and right == 308  # the frame's own ends
  assert places(second) == [(left, bottom), (right, top)]
  x, y = places(first)[0]
  assert x == pytest.approx(left + 0.2 * (right - left), abs=0.1)
  assert y == pytest.approx((top + bottom) / 2, abs=0.1)
  assert [line.get("class") for line in (first, second)] == ["curve line0", "curve line1"]
  assert svg.find("circle/title").text == "a<b: recall 0.2: 0.5"
  assert [text.text for text in svg.findall("text")][-2:] == ["recall", "precision"]


def test_words_are_no_markup():
  text = page.render("a<b", "c&d", [page.section("T", "", ""), page.facts({"e<": "<f>"})])
  assert "<h1>a&lt;b</h1>" in text and "c&amp;d" in text and "e&lt;" in text
  assert "&lt;f&gt;" in text and "<section>" not in text
  assert "&lt;g" in page.numbers({"<g": 0.5}) and "0.500" in page.numbers({"<g": 0.5})


@pytest.mark.parametrize(
  ("low", "high", "expected"),
  [(0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3.0, 18.0, [0, 5, 10, 15]), (1e-4, 9e-4, None)],
)
def test_ticks_are_round_and_inside(low, high, expected):
  found = page.ticks(low, high)
  assert 3 <= len(found) <= 7 and low <= found[0] and found[-1] <= high
  if expected is not None:
    assert found == pytest.approx(expected)
