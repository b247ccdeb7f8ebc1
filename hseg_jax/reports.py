"""Reports of `hseg score`: reading them back, and bringing several to the same images."""

import contextlib
import inspect
import json
import logging
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hseg_jax import score
from hseg_jax.errors import UserError
from hseg_jax.scoring import predictions as predictions_
from hseg_jax.scoring import truths as truths_

_LISTED = 5  # names in an error

_log = logging.getLogger(__name__)


class Report(NamedTuple):
  """What `hseg score` wrote of a method.

  Attributes:
    name: of the method.
    found: what `scores.json` says; NaN where it says null.
    tallies: stacked over the images.
    names: of the images, in that order.
  """

  name: str
  found: dict[str, Any]
  tallies: dict[str, np.ndarray]
  names: tuple[str, ...]


def read(name: str, folder: str | os.PathLike) -> Report:
  """Reads a report of `hseg score`.

  Raises:
    UserError: it is missing, incomplete or damaged.
  """
  folder = pathlib.Path(folder)
  try:
    found = json.loads((folder / score.SCORES).read_text(encoding="utf-8"))
    with np.load(folder / score.TALLIES, allow_pickle=False) as archive:
      tallies = dict(archive)
    names = tuple(map(str, tallies.pop("names")))
    found["images"] = {
      image: {key: math.nan if value is None else value for key, value in scores.items()}
      for image, scores in found["images"].items()
    }
    missing = {"benchmark", "options", "predictions", "ground_truth"} - found.keys()
    if missing or set(names) != set(found["images"]):
      raise ValueError(f"without {min(missing)}" if missing else "its files differ in their images")
    if {len(rows) for rows in tallies.values()} != {len(names)}:
      raise ValueError("its tallies are not those of its images")
  except Exception as error:  # damaged archives and texts raise nearly anything
    raise UserError(f"{folder} holds no whole report ({error}); score it anew.") from error
  if found["benchmark"] not in score.BENCHMARKS:
    raise UserError(
      f"{folder} is of the benchmark {found['benchmark']!r}, which is not known here."
    )
  return Report(name, found, tallies, names)


def match(reports: Sequence[Report], allow_missing: bool) -> list[Report]:
  """The reports on the images that all have, in one order; refuses what does not compare."""
  first = reports[0]
  for other in reports[1:]:
    for key in ("benchmark", "options"):
      one, two = (report.found[key] for report in (first, other))
      if one != two:
        names = (
          sorted(k for k in {*one, *two} if one.get(k) != two.get(k)) if key == "options" else []
        )
        what = f"option {names[0]!r}" if names else "benchmark"
        values = [value[names[0]] if names and names[0] in value else value for value in (one, two)]
        raise UserError(
          f"{first.name} and {other.name} differ in their {what} ({values[0]} and {values[1]}); "
          "score them alike."
        )
    if first.found["ground_truth"] != other.found["ground_truth"]:
      _log.warning(
        "%s was scored against %s, %s against %s.",
        first.name,
        first.found["ground_truth"],
        other.name,
        other.found["ground_truth"],
      )
  common = set(first.names).intersection(*(report.names for report in reports[1:]))
  for report in reports:
    alone = sorted(set(report.names) - common)
    if alone and not allow_missing:
      raise UserError(
        f"{len(alone)} of {report.name}'s {len(report.names)} images are not in all reports "
        f"({', '.join(alone[:5])}{', ...' if len(alone) > 5 else ''}); --allow-missing compares "
        f"the {len(common)} that are."
      )
  if not common:
    raise UserError("The reports have no image in common.")
  if any(len(report.names) > len(common) for report in reports):
    print(f"The {len(common)} images that are in all reports are compared.")
  return [_take(report, sorted(common)) for report in reports]


def _take(report: Report, names: Sequence[str]) -> Report:
  place = {name: i for i, name in enumerate(report.names)}
  rows = [place[name] for name in names]
  tallies = {key: values[rows] for key, values in report.tallies.items()}
  return report._replace(tallies=tallies, names=tuple(names))


def pictures(reports: Sequence[Report], name: str) -> dict[str, np.ndarray]:
  """The truth of an image and what each method made of it, as a benchmark's `pictures`, by title.

  What cannot be found any more is left out.
  """
  drawn: dict[str, dict[str, np.ndarray]] = {}
  for report in reports:
    with contextlib.suppress(UserError, OSError):
      drawn[report.name] = _draw(report, name)
  shared, own = {}, {}
  for method, found in drawn.items():
    for title, picture in found.items():
      others = [other.get(title) for other in drawn.values()]
      # What all have alike is the truth.
      if len(others) > 1 and all(np.array_equal(picture, other) for other in others):
        shared[title] = picture
      else:
        own[f"{method}: {title}"] = picture
  return shared | own


def _draw(report: Report, name: str) -> dict[str, np.ndarray]:
  benchmark, options = report.found["benchmark"], dict(report.found["options"])
  module, soft = score.BENCHMARKS[benchmark], options.pop("soft", False)
  known = inspect.signature(module.pictures).parameters
  truth_options = {key: options.pop(key) for key in list(options) if key not in known}
  truths = truths_.find(benchmark.replace("-", "_"), report.found["ground_truth"], **truth_options)
  predicted = predictions_.find(report.found["predictions"], soft=soft)
  return module.pictures(predicted.read(name), truths.read(name), **options)
