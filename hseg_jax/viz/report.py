"""The report of a run: one page with its scores, curves, pictures and settings.

Everything is inside the file, so that it can be mailed, and opened without a network.
"""

import datetime
import html
import json
import os
import pathlib
import platform
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.viz import explorer, panels

Series = dict[str, list[tuple[int, float]]]

_PREFIX = "val/hierarchy/"
_SCORES = {
  "covering": "Covering",
  "object_iou": "Mean best IoU of objects",
  "part_iou": "Mean best IoU of parts",
  "boundary_f": "Boundary F",
}
_METHODS = {"slic": "SLIC", "ward": "SEEDS + Ward"}
# What the hierarchy evaluator calls the model's own segmentations; all other names are baselines.
_OWN = re.compile(r"level_\d+|best|kmeans")
_OWN_BEST = re.compile(rf"{_PREFIX}(kmeans/)?best/.*")
_SPACES = str.maketrans("/_", "  ")
_TILE = 192  # pixels of a picture


class Example(NamedTuple):
  """A held-out image and what the model made of it.

  Attributes:
    image: RGB, of the hierarchy's height and width.
    hierarchy: its segmentation.
    label: name of the true class, or "".
    prediction: name of the predicted class, or "" without a classifier.
    class_names: of the hierarchy's probabilities; may be empty.
  """

  image: UInt8[np.ndarray, "h w 3"]
  hierarchy: Hierarchy
  label: str = ""
  prediction: str = ""
  class_names: Sequence[str] = ()


def write(
  workdir: str | os.PathLike, *, examples: Sequence[Example], facts: Mapping[str, str]
) -> pathlib.Path:
  """Writes `workdir/report.html` from the run's `config.json` and `metrics.jsonl`.

  Args:
    workdir: a run's folder.
    examples: held-out images with their hierarchies, such as the `examples` that
      `evaluators.hierarchy.Evaluator` keeps; may be empty.
    facts: what else is worth telling, by name: the commit, the devices, the time it took. The
      seed, the length of the run, the date and the machine are found out here.

  Returns:
    The path of the page.

  Raises:
    UserError: the folder holds no run.
  """
  folder = pathlib.Path(workdir)
  for name in ("config.json", "metrics.jsonl"):
    if not (folder / name).is_file():
      raise UserError(f"{folder} holds no run: it has no {name}.")
  config = json.loads((folder / "config.json").read_text())
  series = read_metrics(folder / "metrics.jsonl")
  model, data = config["model"]["name"], config["data"]["name"] or config["data"]["source"]
  last_step = max((points[-1][0] for points in series.values()), default=0)
  rows = {
    "seed": config["seed"],
    "steps": last_step,
    **facts,
    "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, {platform.system()}",
    "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
  }
  sections = [
    _headline(series),
    _section("How regions compare", _SCORES_NOTE, _score_tables(series, model)),
    _section("Held-out images", _PICTURES_NOTE, "".join(_picture(e) for e in examples)),
    _section("Explore them", _EXPLORER_NOTE, _explorer(examples)),
    _section("Curves", "Over training steps; hover a point for its value.", _curves(series)),
    _section("This run", "", f'<div class="card">{_facts(rows)}</div>'),
    f"<details class='card'><summary>Config</summary>{_facts(_flatten(config))}</details>",
  ]
  template = string.Template(pathlib.Path(__file__).with_name("report.html").read_text())
  page = template.substitute(
    title=html.escape(f"{model} on {data}"),
    subtitle=f"Report of a run of hseg_jax after {last_step:,} steps.",
    body="\n".join(sections),
  )
  path = folder / "report.html"
  path.write_text(page, encoding="utf-8")
  return path


_SCORES_NOTE = (
  "Each level of the model beside methods that make the same number of regions, on held-out "
  "images with masks. The columns are numbers of regions; “best” takes each image's best level. "
  "A model without levels is scored by nested k-means of its tokens."
)
_PICTURES_NOTE = (
  "The image, its superpixels in their mean colours, and every level of the hierarchy. A region "
  "shares the hue of the larger region it belongs to."
)
_EXPLORER_NOTE = (
  "Slide to any number of regions; point at a region, or tap it, to see what it is part of and "
  "what it is made of."
)


def read_metrics(path: str | os.PathLike) -> Series:
  """The (step, value) pairs of every metric in a `metrics.jsonl`, by name, in order of steps."""
  series: dict[str, dict[int, float]] = {}
  for line in pathlib.Path(path).read_text().splitlines():
    try:
      entry = json.loads(line)
    except ValueError:  # a killed run may leave half a line
      continue
    for name, value in entry.items():
      if name != "step":
        series.setdefault(name, {})[entry["step"]] = value
  return {name: sorted(points.items()) for name, points in series.items()}


def _section(title: str, note: str, content: str) -> str:
  if not content:
    return ""
  return f"<section><h2>{title}</h2><p>{note}</p>{content}</section>"


def _headline(series: Series) -> str:
  """The final value of every validation metric, and the hierarchy's best scores."""
  names = [n for n in series if n.startswith("val/") and not n.startswith(_PREFIX)]
  names += [n for n in series if _OWN_BEST.fullmatch(n)]
  cards = "".join(
    f'<div class="card number"><b>{series[name][-1][1]:.3f}</b>'
    f"<span>{html.escape(name.removeprefix(_PREFIX).removeprefix('val/').translate(_SPACES))}"
    "</span></div>"
    for name in names
  )
  return f'<div class="numbers">{cards}</div>'


def _score_tables(series: Series, model: str) -> str:
  """One table a score: methods down, numbers of regions across, the best of a column bold."""
  final = {n.removeprefix(_PREFIX): p[-1][1] for n, p in series.items() if n.startswith(_PREFIX)}
  methods: dict[str, list[str]] = {}
  for name in final:
    place = name.rpartition("/")[0]
    method = place.split("/")[0]
    if place != "level_0":
      places = methods.setdefault(model if _OWN.fullmatch(method) else method, [])
      if place not in places:
        places.append(place)
  if not methods:
    return ""
  tables = [_score_table(title, name, final, methods, model) for name, title in _SCORES.items()]
  return f'<div class="tables">{"".join(tables)}</div>'


def _score_table(
  title: str, score: str, final: Mapping[str, float], methods: Mapping[str, list[str]], own: str
) -> str:
  table = {
    method: [final[f"{place}/{score}"] for place in places if f"{place}/{score}" in final]
    for method, places in methods.items()
  }
  # The baselines name their columns by numbers of regions, the model by its levels.
  columns = max(methods.values(), key=lambda places: "/" in places[0])
  heads = [place.split("/")[-1].replace("level_", "level ") for place in columns]
  heads = heads[: max(map(len, table.values()))]
  best = [max(values) for values in zip(*table.values(), strict=False)]
  lines = []
  for method, values in table.items():
    cells = "".join(
      f"<td>{f'<b>{value:.3f}</b>' if value >= top else f'{value:.3f}'}</td>"
      for value, top in zip(values, best, strict=False)
    )
    mark = ' class="own"' if method == own else ""
    name = html.escape(_METHODS.get(method, method))
    lines.append(f"<tr{mark}><td>{name}</td>{cells}</tr>")
  head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *heads))
  return f'<div class="card"><h3>{title}</h3><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _picture(example: Example) -> str:
  """A card with all tiles of one image."""
  words = f"<b>{html.escape(example.label)}</b>"
  if example.prediction:
    kind = "right" if example.prediction == example.label else "wrong"
    words += f' <span class="{kind}">predicted {html.escape(example.prediction)}</span>'
  figures = "".join(
    f'<figure><img alt="{tile.title}" src="{panels.data_url(tile.picture)}">'
    f"<figcaption>{tile.title}</figcaption></figure>"
    for tile in panels.tiles(example.image, example.hierarchy, _TILE)
  )
  return f'<div class="card picture"><h3>{words}</h3><div class="row">{figures}</div></div>'


def _explorer(examples: Sequence[Example]) -> str:
  """A frame with a page of its own, so that neither's keys and styles are the other's."""
  if not examples:
    return ""
  packed = [
    explorer.pack(explorer.Entry(e.label or f"image {i}", e.image, e.hierarchy, e.class_names))
    for i, e in enumerate(examples, start=1)
  ]
  page = explorer.render(packed, title="")
  return f'<iframe class="card" title="Explorer" srcdoc="{html.escape(page)}"></iframe>'


def _curves(series: Series) -> str:
  """A small chart of every metric that was recorded more than once."""
  charts = "".join(
    f'<div class="card"><h3>{html.escape(name)}</h3>{curve(points)}</div>'
    for name, points in series.items()
    if len(points) > 1 and (not name.startswith(_PREFIX) or _OWN_BEST.fullmatch(name))
  )
  return f'<div class="curves">{charts}</div>' if charts else ""


def curve(points: Sequence[tuple[int, float]], width: int = 320, height: int = 150) -> str:
  """A line through (step, value) points as inline SVG, coloured by the page's style."""
  left, right, top, bottom = 44, 12, 8, 20
  finite = [(step, value) for step, value in points if np.isfinite(value)]
  steps, values = zip(*finite, strict=True) if finite else ((0,), (0.0,))
  low, high = min(values), max(values)
  pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
  low, high = low - pad, high + pad
  first, span = steps[0], max(steps[-1] - steps[0], 1)
  x = lambda step: left + (step - first) / span * (width - left - right)
  y = lambda value: top + (high - value) / (high - low) * (height - top - bottom)
  parts = []
  for tick in ticks(low, high):
    parts.append(f'<path class="grid" d="M{left} {y(tick):.1f}H{width - right}"/>')
    parts.append(f'<text x="{left - 6}" y="{y(tick) + 3:.1f}" text-anchor="end">{tick:g}</text>')
  for step, anchor in ((first, "start"), (steps[-1], "end")):
    parts.append(f'<text x="{x(step):.1f}" y="{height - 5}" text-anchor="{anchor}">{step:,}</text>')
  line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in finite)
  parts.append(f'<polyline class="curve" points="{line}"/>')
  radius = 2.4 if len(finite) <= 60 else 1.2
  parts += [
    f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="{radius}">'
    f"<title>step {step:,}: {value:.4g}</title></circle>"
    for step, value in finite
  ]
  return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def ticks(low: float, high: float) -> list[float]:
  """About four round numbers between `low` and `high`."""
  rough = (high - low) / 4
  unit = 10.0 ** np.floor(np.log10(rough))
  step = unit * min((1, 2, 5, 10), key=lambda factor: abs(factor * unit - rough))
  first = np.ceil(low / step)
  return [
    float(f"{(first + i) * step:.12g}") for i in range(int(np.floor(high / step) - first) + 1)
  ]


def _facts(rows: Mapping[str, Any]) -> str:
  lines = "".join(
    f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
    for name, value in rows.items()
  )
  return f'<table class="facts">{lines}</table>'


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
  return flat
