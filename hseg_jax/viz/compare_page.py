"""The page of a comparison: intervals as bars, images one by one, those that differ most."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hseg_jax.viz import page, panels
from hseg_jax.viz.score_page import say, say_option

_SIDE = 240  # pixels of a picture's longer side
_FEW = 4  # places (classes, kinds of truth) of which every score is worth a line

Images = Mapping[str, Mapping[str, Mapping[str, float]]]  # method -> image -> score -> value
Sides = tuple[Sequence[str], Sequence[str]]


def extremes(images: Images, count: int) -> dict[str, Sides]:
  """For each method but the first: the images on which it is farthest above the first one, and
  those on which it is farthest below it, by the first score that images have."""
  first, *others = images
  score = _ranking_score(images)
  found = {}
  for method in others:
    differences = _differences(images, first, method, score)
    order = sorted(differences, key=differences.get)
    above = [name for name in reversed(order) if differences[name] > 0]
    below = [name for name in order if differences[name] < 0]
    found[method] = (above[:count], below[:count])
  return found


def as_text(found: Mapping[str, Any]) -> str:
  """The scores as a table for a terminal; those of single levels and of many classes are left to
  the page."""
  lines = [("score", "method", "value", "95 % interval", "difference", "95 % interval", "agree")]
  for score in _chief(found["scores"]):
    for i, (method, cell) in enumerate(found["scores"][score].items()):
      line = ("" if i else score, method, say(score, cell["value"]), _range(score, cell))
      other = cell.get("difference")
      lines.append(
        (*line, _signed(score, other["value"]), _range(score, other), _percent(other["agreement"]))
        if other
        else (*line, "", "", "")
      )
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(
      cell.ljust(width) if i < 2 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )


def render(
  found: Mapping[str, Any],
  benchmark: Any,
  images: Images,
  extreme: Mapping[str, Sides],
  pictures: Mapping[str, Mapping[str, np.ndarray]],
) -> str:
  """The page.

  Args:
    found: what `compare.json` says.
    benchmark: its module among `benchmarks`.
    images: scores of every image.
    extreme: as `extremes` gives it.
    pictures: of each of those images, by title: RGB, or what a benchmark's `pictures` gives.
  """
  methods, scores = list(found["methods"]), found["scores"]
  chief = _chief(scores)
  rest = [name for name in scores if name not in chief]
  card = lambda name: _card(name, scores[name], methods, benchmark)
  score = _ranking_score(images)
  details = f"<details><summary>{len(rest)} scores</summary>{_stack(map(card, rest))}</details>"
  facts = {
    **{name: origin["predictions"] for name, origin in found["methods"].items()},
    "ground truth": found["methods"][methods[0]]["ground_truth"],
    **{name.replace("_", " "): say_option(v) for name, v in found["options"].items() if v},
    "resamples": found["num_resamples"],
    "seed": found["seed"],
    "hseg_jax": found["version"],
  }
  sections = [
    page.section("Scores", _SCORES_NOTE.format(methods[0]), _stack(map(card, chief))),
    page.section("In detail", "", details if rest else ""),
    page.section(
      "Image by image", _CURVES_NOTE.format(methods[0]), _curves(images, chief, methods)
    ),
    page.section(
      "Images that differ most", f"By {score}.", _extreme_images(images, score, extreme, pictures)
    ),
    page.section("This comparison", "", f'<div class="card">{page.facts(facts)}</div>'),
  ]
  title = " and ".join(methods) if len(methods) == 2 else f"{len(methods)} methods"
  return page.render(
    f"{title}: {benchmark.TITLE}",
    f"{found['num_images']} images, the same for all methods.",
    sections,
  )


_SCORES_NOTE = (
  "Dots are values, bars 95 % intervals of what they would be on other images of the kind. Next "
  "comes what each method scores above {}, with both on the same drawn images; a bar clear of the "
  "line speaks for a difference. The share is of draws in which the difference has this sign."
)
_CURVES_NOTE = (
  "What each method scores above {} on each image, sorted: how many images gain, and how much. "
  "Colours are those above; hover a point for its value."
)


def _ranking_score(images: Images) -> str:
  """The first score that every method has of some image; "" if there is none."""
  known = [
    dict.fromkeys(
      name for scores in rows.values() for name in scores if not math.isnan(scores[name])
    )
    for rows in images.values()
  ]
  return next((name for name in known[0] if all(name in each for each in known)), "")


def _differences(images: Images, first: str, method: str, score: str) -> dict[str, float]:
  """What a method scores above another, of the images that both have a score of."""
  values = {
    name: scores.get(score, math.nan) - images[first][name].get(score, math.nan)
    for name, scores in images[method].items()
  }
  return {name: value for name, value in values.items() if not math.isnan(value)}


def _chief(scores: Mapping[str, Any]) -> list[str]:
  """The scores of the whole, and those of places that are no scales unless they are many."""
  places = {name.partition("/")[0] for name in scores if "/" in name}
  places = {place for place in places if not place.startswith(("level_", "regions_"))}
  kept = places if len(places) <= _FEW else set()
  return [name for name in scores if "/" not in name or name.partition("/")[0] in kept]


def _stack(cards: Iterable[str]) -> str:
  return f'<div class="bars">{"".join(cards)}</div>'


def _range(score: str, cell: Mapping[str, float]) -> str:
  return f"{say(score, cell['low'])} to {say(score, cell['high'])}"


def _signed(score: str, value: float | int) -> str:
  return ("+" if value > 0 else "") + say(score, value)


def _percent(share: float | int) -> str:
  return "–" if math.isnan(share) else f"{math.floor(1000 * share) / 10:g} %"


def _card(
  name: str, row: Mapping[str, Mapping[str, Any]], methods: Sequence[str], benchmark: Any
) -> str:
  """A score: a line a method, with its value and its difference from the first."""
  last = name.rpartition("/")[2]
  lower = last in benchmark.LOWER
  meaning = benchmark.SCORES.get(last, "") + ("; smaller is better" if lower else "")
  values = _Scale([row[method] for method in methods if method in row])
  others = [row[method]["difference"] for method in methods if "difference" in row.get(method, {})]
  differences = _Scale(others, zero=True)
  lines = []
  for i, method in enumerate(methods):
    if method not in row:
      continue
    other = row[method].get("difference")
    gap = "<span></span>" * 3
    if other:
      gap = (
        f"<span>{_signed(name, other['value'])}<small>{_range(name, other)}</small></span>"
        f"{differences.bar(other, i)}"
        f"<span>{_percent(other['agreement'])}</span>"
      )
    lines.append(
      f"<b>{html.escape(method)}</b>"
      f"<span>{say(name, row[method]['value'])}<small>{_range(name, row[method])}</small></span>"
      f"{values.bar(row[method], i)}{gap}"
    )
  foot = (
    f"<i></i><i></i>{values.ticks()}<i></i>{differences.ticks() if others else '<i></i>'}<i></i>"
  )
  head = f"<h3>{html.escape(name)}</h3><p>{html.escape(meaning)}</p>"
  return f'<div class="card">{head}<div class="versus">{"".join(lines)}{foot}</div></div>'


class _Scale:
  """An axis that bars share."""

  def __init__(self, cells: Sequence[Mapping[str, float]], *, zero: bool = False):
    """Spans all intervals, and with `zero` also no difference."""
    ends = [cell[key] for cell in cells for key in ("low", "high", "value")]
    ends = [value for value in ends if not math.isnan(value)] + [0.0] * zero or [0.0]
    pad = 0.08 * (max(ends) - min(ends)) or abs(max(ends)) * 0.1 or 1.0
    self._low, self._high, self._zero = min(ends) - pad, max(ends) + pad, zero

  def bar(self, cell: Mapping[str, float], number: int) -> str:
    """An interval with its value."""
    zero = f'<path class="zero" d="M{self._at(0)} 0V20"/>' if self._zero else ""
    mark = ""
    if not math.isnan(cell["low"]):
      mark = f'<path class="interval" d="M{self._at(cell["low"])} 10H{self._at(cell["high"])}"/>'
    if not math.isnan(cell["value"]):
      mark += f'<path class="value" d="M{self._at(cell["value"])} 10h0"/>'
    return (
      f'<svg class="bar line{number % page.COLORS}" viewBox="0 0 100 20" '
      f'preserveAspectRatio="none" role="img">{zero}{mark}</svg>'
    )

  def ticks(self) -> str:
    """Numbers below the bars."""
    numbers = "".join(
      f'<span style="left:{self._at(tick)}%">{tick:g}</span>'
      for tick in page.ticks(self._low, self._high)
      if 6 < self._at(tick) < 94
    )
    return f'<i class="ticks">{numbers}</i>'

  def _at(self, value: float | int) -> float:
    """Where a value lies, in percent of the width."""
    return round(100 * (value - self._low) / (self._high - self._low), 2)


def _curves(images: Images, scores: Sequence[str], methods: Sequence[str]) -> str:
  """A chart for every score that images have: the sorted differences of each method."""
  first, *others = methods
  charts: dict[str, list[str]] = {}
  for score in scores:
    lines = {first: []}  # so that each other method has the colour that it has in the bars
    for method in others:
      values = np.sort(list(_differences(images, first, method, score).values()))
      share = (np.arange(len(values)) + 0.5) / max(len(values), 1)
      lines[method] = np.stack([share, values], axis=1).tolist()
    ends = [0.0, *(value for line in lines.values() for _, value in line)]
    if any(ends):
      pad = 0.06 * (max(ends) - min(ends))
      drawing = page.chart(
        lines,
        x_name="share of images",
        x_range=(0, 1),
        y_range=(min(ends) - pad, max(ends) + pad),
        guides=[[(0, 0), (1, 0)]],
        height=170,
      )
      # What differs in how images are put together may be the same for one image.
      charts.setdefault(drawing, []).append(score)
  cards = "".join(
    f'<div class="card"><h3>{html.escape(", ".join(names))}</h3>{drawing}</div>'
    for drawing, names in charts.items()
  )
  return f'<div class="curves">{cards}</div>' if cards else ""


def _extreme_images(
  images: Images,
  score: str,
  extreme: Mapping[str, Sides],
  pictures: Mapping[str, Mapping[str, np.ndarray]],
) -> str:
  first = next(iter(images))
  parts = []
  for method, sides in extreme.items():
    for names, (better, worse) in zip(sides, ((method, first), (first, method)), strict=True):
      cards = [
        _image(images, score, (first, method), name, pictures.get(name, {})) for name in names
      ]
      if cards:
        title = html.escape(f"{better} above {worse}")
        parts.append(f'<h3 class="place">{title}</h3>{"".join(cards)}')
  return "".join(parts)


def _image(
  images: Images,
  score: str,
  methods: tuple[str, str],
  name: str,
  pictures: Mapping[str, np.ndarray],
) -> str:
  values = [images[method][name][score] for method in methods]
  words = ", ".join(
    f"{method} {say(score, value)}" for method, value in zip(methods, values, strict=True)
  )
  figures = "".join(
    f'<figure><img alt="{html.escape(title)}" src="{panels.data_url(_draw(picture))}">'
    f"<figcaption>{html.escape(title)}</figcaption></figure>"
    for title, picture in pictures.items()
  )
  return (
    f'<div class="card picture"><h3 class="score">{html.escape(name)} '
    f'<span>{html.escape(words)}</span></h3><div class="row">{figures}</div></div>'
  )


def _draw(picture: np.ndarray) -> np.ndarray:
  return panels.thumbnail(picture, _SIDE) if picture.ndim == 3 else panels.paint(picture, _SIDE)
