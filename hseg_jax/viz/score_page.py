"""The report of scored predictions: scores, curves, the best and the worst images."""

import fnmatch
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from hseg_jax.benchmarks import Curve
from hseg_jax.viz import page, panels

_SHORT = ("ods", "ois", "pri", "vi", "ap", "f", "iou", "miou", "mae", "nf", "nh")
_COUNTS = ("num_regions", "num_segments", "num_objects", "best_level", "best_cut_regions")
_SIDE = 320  # pixels of a picture's longer side

_ISO = (0.2, 0.4, 0.6, 0.8)  # values of F along which lines are drawn


class Example(NamedTuple):
  """An image to show.

  Attributes:
    place: where it stands, such as "Best".
    name: of the image.
    scores: its own.
    photo: the image itself, RGB of any size, or None.
    pictures: by title: maps of ids, where negative ones are left blank, or strengths in [0, 1].
  """

  place: str
  name: str
  scores: Mapping[str, float]
  photo: UInt8[np.ndarray, "h w 3"] | None
  pictures: Mapping[str, np.ndarray]


def render(
  found: Mapping[str, Any],
  benchmark: Any,
  curves: Mapping[str, Curve],
  examples: Sequence[Example],
) -> str:
  """The page.

  Args:
    found: what `scores.json` says.
    benchmark: the module among `benchmarks`.
    curves: by title.
    examples: images to show, those of one place side by side.
  """
  whole, tables = split(found["summary"])
  lower = benchmark.LOWER
  first = next(iter(found["summary"]))
  facts = {
    "predictions": found["predictions"],
    "ground truth": found["ground_truth"],
    **{_words(name): say_option(value) for name, value in found["options"].items() if value},
    "hseg_jax": found["version"],
  }
  sections = [
    page.numbers(_headlines(found["summary"], benchmark.HEADLINES)),
    page.section("Scores", _note(lower, found["summary"]), _whole_table(whole, benchmark.SCORES)),
    page.section("In detail", "", "".join(_table(rows, lower) for rows in tables)),
    page.section("Curves", "Hover a point for its values.", _charts(curves)),
    page.section("Images", f"Ranked by {_words(first)}.", _examples(examples, first)),
    page.section("All images", "", _image_table(found["images"], [first, *whole])),
    page.section("This report", "", f'<div class="card">{page.facts(facts)}</div>'),
  ]
  return page.render(
    f"{benchmark.TITLE}, {found['num_images']} images",
    f"{found['predictions']} against {found['ground_truth']}",
    sections,
  )


def _headlines(summary: Mapping[str, float], patterns: Sequence[str]) -> dict[str, float]:
  fits = lambda name, pattern: (
    name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)
  )
  return {
    _words(name): value
    for name, value in summary.items()
    if not math.isnan(value) and any(fits(name, pattern) for pattern in patterns)
  }


def _words(name: str) -> str:
  """A score's name for people."""
  return " ".join(
    word.upper() if word in _SHORT else word for word in name.replace("/", "_").split("_")
  )


def split(
  summary: Mapping[str, float],
) -> tuple[dict[str, float], list[dict[str, dict[str, float]]]]:
  """Scores without a place, and those with one (`PLACE/SCORE`) as tables of places by scores.

  What is known nowhere, as the nesting of what is no tree, is left out.
  """
  whole, rows = {}, {}
  for name, value in summary.items():
    place, slash, score = name.partition("/")
    if slash:
      rows.setdefault(place, {})[score] = value
    elif not math.isnan(value):
      whole[name] = value
  tables: dict[tuple[str, ...], dict[str, dict[str, float]]] = {}
  for place, scores in rows.items():  # places with the same scores share a table
    tables.setdefault(tuple(scores), {})[place] = scores
  return whole, [_known(rows) for rows in tables.values()]


def _known(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
  """The columns of a table in which there is something."""
  columns = [
    name
    for name in next(iter(rows.values()))
    if not all(math.isnan(row[name]) for row in rows.values())
  ]
  return {place: {name: row[name] for name in columns} for place, row in rows.items()}


def as_text(summary: Mapping[str, float]) -> str:
  """The scores as tables for a terminal."""
  whole, tables = split(summary)
  grids = [[(name, say(name, value)) for name, value in whole.items()]] if whole else []
  for rows in tables:
    columns = next(iter(rows.values()))
    lines = [
      (place, *(say(f"{place}/{name}", value) for name, value in scores.items()))
      for place, scores in rows.items()
    ]
    grids.append([("", *columns), *lines])
  return "\n\n".join(map(_align, grids))


def say(name: str, value: float) -> str:
  """A score in few digits, and fewer of numbers of things."""
  if math.isnan(value):
    return "–"
  if name.startswith("best_") and "/" in name:  # a threshold, a level, a number of regions
    return f"{value:.4g}"
  counted = name.rpartition("/")[2] in _COUNTS
  return f"{value:.1f}" if counted or abs(value) >= 10 else f"{value:.4f}"


def _align(grid: Sequence[Sequence[str]]) -> str:
  widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
  return "\n".join(
    "  ".join(
      cell.rjust(width) if i else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in grid
  )


def say_option(value: Any) -> str:
  """An option's value for people."""
  return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _note(lower: Sequence[str], summary: Mapping[str, float]) -> str:
  less = [name for name in summary if name in lower]
  if not less:
    return "Larger is better."
  return f"Larger is better, but for {', '.join(map(_words, less))}."


def _whole_table(scores: Mapping[str, float], descriptions: Mapping[str, str]) -> str:
  """A line for each score: its name, its value, what it is."""
  if not scores:
    return ""
  lines = "".join(
    f"<tr><td>{html.escape(name)}</td><td><b>{say(name, value)}</b></td>"
    f"<td>{html.escape(descriptions.get(name, ''))}</td></tr>"
    for name, value in scores.items()
  )
  return f'<div class="card"><table class="scores">{lines}</table></div>'


def _table(rows: Mapping[str, Mapping[str, float]], lower: Sequence[str]) -> str:
  """Places down, scores across, the best of a column bold where the places are scales."""
  columns = list(next(iter(rows.values())))
  best = {}
  scales = all(place.startswith(("level_", "regions_")) for place in rows)
  for name in columns:
    values = [row[name] for row in rows.values() if not math.isnan(row[name])]
    if scales and len(values) > 1 and name.rpartition("/")[2] not in _COUNTS:
      best[name] = (min if name in lower else max)(values)
  lines = [
    f"<tr><td>{html.escape(_words(place))}</td>"
    + "".join(
      _cell(say(f"{place}/{name}", row[name]), row[name] == best.get(name)) for name in columns
    )
    + "</tr>"
    for place, row in rows.items()
  ]
  heads = "".join(f"<th>{html.escape(_words(name))}</th>" for name in ("", *columns))
  return f'<div class="card table"><table><tr>{heads}</tr>{"".join(lines)}</table></div>'


def _cell(text: str, best: bool = False) -> str:
  return f"<td><b>{text}</b></td>" if best else f"<td>{text}</td>"


def _charts(curves: Mapping[str, Curve]) -> str:
  cards = []
  for title, curve in curves.items():
    unit = {}
    if (curve.x_name, curve.y_name) == ("recall", "precision"):
      unit = dict(x_range=(0, 1), y_range=(0, 1), guides=[_iso_line(f) for f in _ISO])
    drawing = page.chart(
      {"": curve.points.tolist()},
      x_name=curve.x_name,
      y_name=curve.y_name,
      width=270,
      height=220,
      **unit,
    )
    cards.append(f'<div class="card"><h3>{html.escape(title)}</h3>{drawing}</div>')
  return f'<div class="curves small">{"".join(cards)}</div>' if cards else ""


def _iso_line(f: float) -> list[tuple[float, float]]:
  """Recall and precision with that F."""
  recall = np.linspace(f / (2 - f), 1, 40)
  return list(zip(recall.tolist(), (f * recall / (2 * recall - f)).tolist(), strict=True))


def _examples(examples: Sequence[Example], score: str) -> str:
  places = dict.fromkeys(example.place for example in examples)
  parts = []
  for place in places:
    cards = [_example(each, score) for each in examples if each.place == place]
    parts.append(f'<h3 class="place">{place}</h3><div class="examples">{"".join(cards)}</div>')
  return "".join(parts)


def _example(example: Example, score: str) -> str:
  pictures = {} if example.photo is None else {"image": panels.thumbnail(example.photo, _SIDE)}
  for title, values in example.pictures.items():
    pictures[title] = panels.paint(values, _SIDE)
  figures = "".join(
    f'<figure><img alt="{html.escape(title)}" src="{panels.data_url(picture)}">'
    f"<figcaption>{html.escape(title)}</figcaption></figure>"
    for title, picture in pictures.items()
  )
  head = f"{html.escape(example.name)} <span>{say(score, example.scores[score])}</span>"
  columns = f"across{2 if len(pictures) == 4 else len(pictures)}"
  return (
    f'<div class="card"><h3 class="score">{head}</h3><div class="{columns}">{figures}</div></div>'
  )


def _image_table(scores: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
  """Every image with these scores, the first of which ranks them; folded away."""
  first, columns = columns[0], list(dict.fromkeys(columns))
  order = sorted(scores, key=lambda name: -np.nan_to_num(scores[name][first], nan=-1))
  lines = "".join(
    f"<tr><td>{html.escape(name)}</td>"
    + "".join(_cell(say(column, scores[name].get(column, math.nan))) for column in columns)
    + "</tr>"
    for name in order
  )
  heads = "".join(f"<th>{html.escape(_words(name))}</th>" for name in ("", *columns))
  return (
    f'<details class="card"><summary>{len(scores)} images, best first</summary>'
    f"<table><tr>{heads}</tr>{lines}</table></details>"
  )
