"""The report of a run: one page with its scores, curves, pictures and settings."""

import datetime
import html
import json
import os
import pathlib
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.viz import explorer, page, panels

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
    page.section("How regions compare", _SCORES_NOTE, _score_tables(series, model)),
    page.section("Held-out images", _PICTURES_NOTE, "".join(_picture(e) for e in examples)),
    page.section("Explore them", _EXPLORER_NOTE, _explorer(examples)),
    page.section("Curves", "Over training steps; hover a point for its value.", _curves(series)),
    page.section("This run", "", f'<div class="card">{page.facts(rows)}</div>'),
    f"<details class='card'><summary>Config</summary>{page.facts(_flatten(config))}</details>",
  ]
  subtitle = f"Report of a run of hseg_jax after {last_step:,} steps."
  path = folder / "report.html"
  path.write_text(page.render(f"{model} on {data}", subtitle, sections), encoding="utf-8")
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


def _headline(series: Series) -> str:
  """The final value of every validation metric, and the hierarchy's best scores."""
  names = [n for n in series if n.startswith("val/") and not n.startswith(_PREFIX)]
  names += [n for n in series if _OWN_BEST.fullmatch(n)]
  return page.numbers({
    name.removeprefix(_PREFIX).removeprefix("val/").translate(_SPACES): series[name][-1][1]
    for name in names
  })  # fmt: skip


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
  text = explorer.render(packed, title="")
  return f'<iframe class="card" title="Explorer" srcdoc="{html.escape(text)}"></iframe>'


def _curves(series: Series) -> str:
  """A small chart of every metric that was recorded more than once."""
  charts = "".join(
    f'<div class="card"><h3>{html.escape(name)}</h3>{page.chart({"": points})}</div>'
    for name, points in series.items()
    if len(points) > 1 and (not name.startswith(_PREFIX) or _OWN_BEST.fullmatch(name))
  )
  return f'<div class="curves">{charts}</div>' if charts else ""


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
  return flat
