"""Methods side by side on the same images, with paired confidence intervals.

The work of `hseg compare`. What is compared are reports of `hseg score`; predictions are scored
first, and runs and weights segment images before that. Writes `compare.json` and `compare.html`.
"""

import json
import os
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import hseg_jax
from hseg_jax import files, images, inputs, reports, score, score_arguments
from hseg_jax.errors import UserError
from hseg_jax.progress import Progress
from hseg_jax.reports import Report
from hseg_jax.scoring import bootstrap, truths
from hseg_jax.viz import compare_page

RESULTS, PAGE = "compare.json", "compare.html"
CONFIDENCE = 0.95

_EXTREMES = 3  # images that speak most for either of two methods


def compare(
  arguments: Sequence[str],
  out: str | os.PathLike,
  *,
  num_resamples: int = 1000,
  seed: int = 0,
  benchmark: str | None = None,
  ground_truth: str | os.PathLike | None = None,
  photographs: str | os.PathLike | None = None,
  allow_missing: bool = False,
  force: bool = False,
) -> dict[str, Any]:
  """Compares methods with the first of them, prints a table and writes json and page.

  Args:
    arguments: for each method NAME=FOLDER, or FOLDER, whose own name it then has. The folder is a
      report; or predictions, a run or exported weights, which are scored first with the
      benchmark's usual options, into `out/NAME`.
    out: folder of the results.
    num_resamples: how often the images are drawn.
    seed: of the draws.
    benchmark: by which to score predictions, a name among `score.BENCHMARKS`.
    ground_truth: against which, as `truths.find` takes it.
    photographs: folder of the images: runs and weights segment them, and the page shows them.
    allow_missing: compare the images that all methods have.
    force: overwrite results.

  Returns:
    What `compare.json` says.

  Raises:
    UserError: the reports are of different benchmarks, options or images, or something is missing
      or already there; nothing is compared then.
  """
  out = pathlib.Path(out)
  methods = _parse(arguments)
  if num_resamples < 1 or seed < 0:
    raise UserError(
      f"The images cannot be drawn {num_resamples} times with seed {seed}; ask for 1,000 times and "
      "seed 0, say."
    )
  kinds = {name: _kind(folder) for name, folder in methods.items()}
  _check_needs(kinds, methods, benchmark, ground_truth, photographs)
  _check_results(kinds, out, force)
  for name, kind in kinds.items():
    if kind != "report":
      predictions = methods[name]
      if kind != "predictions":
        predictions = out / name / "segmented"
        _segment(kind, methods[name], photographs, predictions, force)
      methods[name] = out / name
      _score(benchmark, predictions, ground_truth, out / name, allow_missing, force)
  compared = [reports.read(name, folder) for name, folder in methods.items()]
  compared = reports.match(compared, allow_missing)
  found, module = _summarize(compared, num_resamples, seed)
  rows = {each.name: {name: each.found["images"][name] for name in each.names} for each in compared}
  extremes = compare_page.extremes(rows, _EXTREMES)
  shown = {name for sides in extremes.values() for side in sides for name in side}
  photos = _find_photographs(photographs, shown)
  pictures = {name: photos.get(name, {}) | reports.pictures(compared, name) for name in shown}
  _write(out, found, compare_page.render(found, module, rows, extremes, pictures))
  print(compare_page.as_text(found))
  print(f"{out / PAGE}")
  return found


def _parse(arguments: Sequence[str]) -> dict[str, pathlib.Path]:
  """The folder of each method by its name."""
  found = {}
  for argument in map(str, arguments):
    name, equals, folder = argument.partition("=")
    if not equals or pathlib.Path(argument).exists():
      name, folder = pathlib.Path(argument).resolve().name, argument
    if not name or name in (".", "..") or set(name) & {"/", "\\"}:
      raise UserError(f"{argument!r} gives no name to use; write NAME=FOLDER.")
    if name in found:
      raise UserError(f"Two methods are called {name!r}; write NAME=FOLDER to tell them apart.")
    found[name] = pathlib.Path(folder)
  if len(found) < 2:
    raise UserError("A comparison needs two methods at least.")
  return found


def _kind(folder: pathlib.Path) -> str:
  """What lies in a folder: a "report", a "run", "weights" or else "predictions"."""
  if not folder.exists():
    raise UserError(f"There is no {folder}; name a report, predictions, a run or weights.")
  marks = {score.SCORES: "report", "checkpoints": "run", "model.safetensors": "weights"}
  return next((kind for mark, kind in marks.items() if (folder / mark).exists()), "predictions")


def _check_needs(
  kinds: Mapping[str, str],
  methods: Mapping[str, pathlib.Path],
  benchmark: str | None,
  ground_truth: str | os.PathLike | None,
  photographs: str | os.PathLike | None,
) -> None:
  """Refuses what would fail after minutes of work."""
  for name, kind in kinds.items():
    if kind != "report" and (benchmark is None or ground_truth is None):
      raise UserError(
        f"{methods[name]} holds no report; give --benchmark and --ground-truth to score it."
      )
    if kind in ("run", "weights") and photographs is None:
      raise UserError(f"{methods[name]} holds a model; give --images for it to segment.")
  if benchmark is not None and benchmark not in score.BENCHMARKS:
    known = ", ".join(score.BENCHMARKS)
    raise UserError(f"There is no benchmark {benchmark!r}; choose one of {known}.")
  if benchmark is not None and ground_truth is not None:
    truths.find(benchmark.replace("-", "_"), ground_truth)
  if photographs is not None:
    inputs.find([photographs])


def _check_results(kinds: Mapping[str, str], out: pathlib.Path, force: bool) -> None:
  results = [out / RESULTS, out / PAGE]
  results += [out / name / score.SCORES for name, kind in kinds.items() if kind != "report"]
  for path in results:
    if path.exists() and not force:
      raise UserError(f"{path} exists; give another folder or --force.")


def _segment(
  kind: str,
  folder: pathlib.Path,
  photographs: str | os.PathLike,
  out: pathlib.Path,
  force: bool,
) -> None:
  """Segments images by a run's newest checkpoint or by exported weights."""
  from hseg_jax import evaluate, experiment, segment_files
  from hseg_jax.segment import Segmenter

  if kind == "weights":
    segmenter = Segmenter.from_exported(folder)
  else:
    variables, _, settings = evaluate.load_run(folder)
    segmenter = Segmenter(
      experiment.make_model(settings),
      variables,
      superpixels=settings["superpixels"],
      size=settings["data"]["image_size"],
    )
  segment_files.segment(segmenter, [photographs], out, force=force)


def _score(
  benchmark: str,
  predictions: str | os.PathLike,
  ground_truth: str | os.PathLike,
  out: pathlib.Path,
  allow_missing: bool,
  force: bool,
) -> None:
  """Scores predictions as `hseg score` does if it is told no options."""
  words = [benchmark, f"--predictions={predictions}", f"--ground-truth={ground_truth}"]
  words += [f"--out={out}", *(["--allow-missing"] * allow_missing), *(["--force"] * force)]
  score.score(**score_arguments.parse(words))


def _summarize(
  compared: Sequence[Report], num_resamples: int, seed: int
) -> tuple[dict[str, Any], Any]:
  """What `compare.json` says, and the benchmark's module."""
  first = compared[0].found
  module = score.BENCHMARKS[first["benchmark"]]

  def summarize(tallies):
    # Where an optimum lies, `best_level/covering`, is no score.
    scores = module.summarize(tallies)
    return {name: scores[name] for name in scores if not re.match("best_[^/]*/", name)}

  with Progress(num_resamples, "resamples") as progress:
    intervals, differences = bootstrap.compare(
      [report.tallies for report in compared],
      summarize,
      num_resamples=num_resamples,
      confidence=CONFIDENCE,
      seed=seed,
      advance=progress.advance,
    )
  origins = {
    report.name: {key: report.found[key] for key in ("predictions", "ground_truth")}
    for report in compared
  }
  return {
    "benchmark": first["benchmark"],
    "options": first["options"],
    "num_images": len(compared[0].names),
    "num_resamples": num_resamples,
    "confidence": CONFIDENCE,
    "seed": seed,
    "version": hseg_jax.__version__,
    "methods": origins,
    "scores": _table(compared, intervals, differences),
  }, module


def _table(
  compared: Sequence[Report],
  intervals: Sequence[Mapping[str, bootstrap.Interval]],
  differences: Sequence[Mapping[str, bootstrap.Difference]],
) -> dict[str, dict[str, dict[str, Any]]]:
  """Of every score and method its value, its interval, and how it differs from the first's."""
  table: dict[str, dict[str, dict[str, Any]]] = {}
  for i, (report, scores) in enumerate(zip(compared, intervals, strict=True)):
    for score_name, interval in scores.items():
      cell = interval._asdict()
      if i and score_name in differences[i - 1]:
        cell["difference"] = differences[i - 1][score_name]._asdict()
      table.setdefault(score_name, {})[report.name] = cell
  return table


def _find_photographs(
  folder: str | os.PathLike | None, names: Collection[str]
) -> dict[str, dict[str, Any]]:
  """The images of those names that are there, `{name: {"image": RGB}}`."""
  if folder is None:
    return {}
  return {
    each.name: {"image": images.decode(each.path, str(each.path))}
    for each in inputs.find([folder])
    if each.name in names
  }


def _write(out: pathlib.Path, found: Mapping[str, Any], page: str) -> None:
  files.make_folder(out)
  with files.whole(out / RESULTS) as text, files.whole(out / PAGE) as html:
    text.write_text(json.dumps(score.plain(found), indent=1) + "\n", encoding="utf-8")
    html.write_text(page, encoding="utf-8")
