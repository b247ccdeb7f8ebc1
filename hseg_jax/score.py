"""Scores predictions of any origin against ground truth, without a model: `hseg score`.

Writes `scores.json`, the scores of the data set and of every image; `tallies.npz`, what each image
adds, stacked, from which `hseg compare` draws; and `report.html`.
"""

import contextlib
import functools
import json
import math
import os
import pathlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import hseg_jax
from hseg_jax import files as files_
from hseg_jax import images, processes
from hseg_jax.benchmarks import Tally, bsds, figure_ground, part_whole, semantic, superpixels
from hseg_jax.errors import UserError
from hseg_jax.progress import Progress
from hseg_jax.scoring import image_names
from hseg_jax.scoring import predictions as predictions_
from hseg_jax.scoring import truths as truths_
from hseg_jax.viz import score_page

BENCHMARKS = {
  "bsds": bsds,
  "superpixels": superpixels,
  "part-whole": part_whole,
  "semantic": semantic,
  "figure-ground": figure_ground,
}
SCORES, TALLIES, PAGE = "scores.json", "tallies.npz", "report.html"

_LISTED = 5  # names in an error
_EXAMPLES = 3  # best, median and worst images, so many of each


def score(
  benchmark: str,
  predictions: str | os.PathLike,
  ground_truth: str | os.PathLike,
  out: str | os.PathLike,
  *,
  options: Mapping[str, Any] | None = None,
  soft: bool = False,
  truth_options: Mapping[str, Any] | None = None,
  photographs: str | os.PathLike | None = None,
  allow_missing: bool = False,
  workers: int | None = 1,
  force: bool = False,
) -> dict[str, float]:
  """Scores all images, prints the scores of the data set and writes the report.

  Args:
    benchmark: a name among `BENCHMARKS`.
    predictions: as `predictions.find` takes them.
    ground_truth: as `truths.find` takes it.
    out: folder of the results.
    options: of the benchmark's `tally`. Those of "semantic" may have `num_classes` for
      `class_names`, and need neither where the truth knows its classes.
    soft: as `predictions.find` takes it.
    truth_options: as `truths.find` takes them.
    photographs: folder of the images themselves, to be shown beside their best and worst results.
    allow_missing: score the images that both sides have, and ignore all others.
    workers: processes, None = one a core; more than one want a main module that can be imported.
    force: overwrite results.

  Returns:
    The scores of the data set.

  Raises:
    UserError: names that do not match, sizes that differ, results already there, or whatever a
      reader or benchmark refuses; nothing is written then.
  """
  module, out = _find_benchmark(benchmark), pathlib.Path(out)
  _check_results(out, force)
  predicted = predictions_.find(predictions, soft=soft)
  if module is semantic and predicted.kind == "hierarchies":
    raise UserError(f"{predictions} holds hierarchies, whose ids are no classes; give label maps.")
  truths = truths_.find(benchmark.replace("-", "_"), ground_truth, **(truth_options or {}))
  predicted = name_by_ids(predicted, truths)
  names = _match_names(predicted.names, truths.names, allow_missing)
  photos = _find_photographs(photographs, names)
  options = dict(options or {})
  if module is semantic:
    options = _name_classes(options, truths.class_names)
  files_.make_folder(out)
  function = functools.partial(_tally, benchmark, predicted.read, truths.read, options)
  tallies = _tally_all(function, names, workers)
  found = {
    "benchmark": benchmark,
    "options": options | ({"soft": True} if soft else {}) | dict(truth_options or {}),
    "predictions": str(predictions),
    "ground_truth": str(ground_truth),
    "num_images": len(names),
    "version": hseg_jax.__version__,
    **_summarize(module, names, tallies),
  }
  if _is_nothing(found["images"]):
    raise UserError(f"{ground_truth} labels no pixel that counts, so there is nothing to score.")
  show = functools.partial(_show, module, predicted, truths, options, photos)
  examples = [show(*each) for each in _pick(found["images"])]
  page = score_page.render(found, module, module.curves(tallies), examples)
  _write(out, found, tallies, page)
  print(score_page.as_text(found["summary"]), out / PAGE, sep="\n")
  return found["summary"]


def name_by_ids(
  predicted: predictions_.Predictions, truths: truths_.Truths
) -> predictions_.Predictions:
  """Gives masks that know their images by their ids alone, as COCO's results do, their names.

  Others are returned as they are, and so are ids that the truth does not list.
  """
  given = set(predicted.names)
  if predicted.kind != "masks" or given & set(truths.names) or not given <= truths.ids.keys():
    return predicted
  ids = {truths.ids[each]: each for each in predicted.names}
  read = functools.partial(_read_by_id, predicted.read, ids)
  return predicted._replace(names=tuple(sorted(ids)), read=read)


def _read_by_id(
  read: Callable[[str], predictions_.Prediction], ids: Mapping[str, str], name: str
) -> predictions_.Prediction:
  return read(ids[name])


def stack(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
  """The tallies of all images, stacked, `[n, ...]`.

  Raises:
    UserError: they differ in shape, as images with other numbers of levels do.
  """
  arrays = [{key: np.asarray(value) for key, value in row.items()} for row in rows]
  kinds = [{key: value.shape for key, value in row.items()} for row in arrays]
  for name, kind in zip(names, kinds, strict=True):
    if kind != kinds[0]:
      raise UserError(
        f"{names[0]} and {name} differ in their number of levels, or in what is known of them; all "
        "images need the same. Numbers of regions make them so."
      )
  return {key: np.stack([row[key] for row in arrays]) for key in kinds[0]}


def _tally_all(
  tally: Callable[[str], Tally], names: Sequence[str], workers: int | None
) -> dict[str, np.ndarray]:
  with Progress(len(names), "images") as progress:
    rows = processes.run(tally, names, workers or processes.count_cores(), progress.advance)
  return stack(names, rows)


def _tally(
  benchmark: str,
  read_prediction: Callable[[str], Any],
  read_truth: Callable[[str], Any],
  options: Mapping[str, Any],
  name: str,
) -> Tally:
  module = BENCHMARKS[benchmark]
  prediction, truth = read_prediction(name), read_truth(name)
  truths_.check_size(name, prediction.shape, module.shape(truth))
  try:
    return module.tally(prediction, truth, **options)
  except UserError as error:
    raise UserError(f"{name}: {error}") from error


def _summarize(
  module: Any, names: Sequence[str], tallies: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """The scores of the data set and of each image."""
  single = lambda i: {key: rows[i : i + 1] for key, rows in tallies.items()}
  return {
    "summary": module.summarize(tallies),
    "images": {name: module.summarize(single(i)) for i, name in enumerate(names)},
  }


def _is_nothing(images: Mapping[str, Mapping[str, float]]) -> bool:
  return all(math.isnan(value) for scores in images.values() for value in scores.values())


def _find_benchmark(name: str) -> types.ModuleType:
  if name not in BENCHMARKS:
    raise UserError(f"There is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}.")
  return BENCHMARKS[name]


def _check_results(out: pathlib.Path, force: bool) -> None:
  for name in (SCORES, TALLIES, PAGE):
    if os.path.exists(out / name) and not force:
      raise UserError(f"{out / name} exists; give another folder or --force.")


def _match_names(
  predicted: Sequence[str], known: Sequence[str], allow_missing: bool
) -> tuple[str, ...]:
  """The images that both sides have, sorted."""
  common = sorted(set(predicted) & set(known))
  if not common:
    raise UserError(
      "Predictions and ground truth have no name in common: the first are "
      f"{predicted[0]} and {known[0]}."
    )
  sides = (
    (sorted(set(known) - set(predicted)), "prediction"),
    (sorted(set(predicted) - set(known)), "ground truth"),
  )
  said = " and ".join(_lack(names, what) for names, what in sides if names)
  if said and not allow_missing:
    raise UserError(f"{said}; --allow-missing scores the {len(common)} that have both.")
  if said:
    print(f"{said}; the {len(common)} that have both are scored.")
  return tuple(common)


def _lack(names: Sequence[str], what: str) -> str:
  """A sentence of how many images have none of something, and the first few of them."""
  shown = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
  who = "1 image has" if len(names) == 1 else f"{len(names)} images have"
  return f"{who} no {what} ({shown})"


def _find_photographs(
  folder: str | os.PathLike | None, names: Sequence[str]
) -> dict[str, pathlib.Path]:
  """The image file of each name."""
  if folder is None:
    return {}
  files = image_names.listing(folder, images.EXTENSIONS)
  found = {name: pathlib.Path(folder, file) for file, name in image_names.name(files).items()}
  missing = [name for name in names if name not in found]
  if missing:
    raise UserError(f"{_lack(missing, 'photograph')} in {folder}; leave out --images.")
  return found


def _name_classes(options: dict[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
  """Options with `class_names`, those of the truth if need be."""
  number = options.pop("num_classes", None)
  if number is not None:
    options["class_names"] = [f"class_{i}" for i in range(number)]
  names = list(options.setdefault("class_names", list(class_names)))
  if not names:
    raise UserError("The ground truth does not say how many classes there are; give --num-classes.")
  return options


def _pick(scores: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str, dict[str, float]]]:
  """The best, median and worst images by the first score: what each is, its name, its scores."""
  key = next(iter(next(iter(scores.values()))))
  ranked = sorted(
    (name for name in scores if not math.isnan(scores[name][key])),
    key=lambda name: -scores[name][key],
  )
  number = min(_EXAMPLES, max(len(ranked) // 3, 1))
  middle = (len(ranked) - number + 1) // 2
  places = {
    "Best": ranked[:number],
    "Median": ranked[middle : middle + number] if len(ranked) > 2 else [],
    "Worst": ranked[-number:] if len(ranked) > 1 else [],
  }
  return [(place, name, dict(scores[name])) for place, names in places.items() for name in names]


def _show(
  module: Any,
  predicted: predictions_.Predictions,
  truths: truths_.Truths,
  options: Mapping[str, Any],
  photos: Mapping[str, pathlib.Path],
  place: str,
  name: str,
  scores: Mapping[str, float],
) -> score_page.Example:
  photo = images.decode(photos[name], str(photos[name])) if photos else None
  pictures = module.pictures(predicted.read(name), truths.read(name), **options)
  return score_page.Example(place, name, scores, photo, pictures)


def _write(
  out: pathlib.Path, found: dict[str, Any], tallies: dict[str, np.ndarray], page: str
) -> None:
  """Writes all three files, or none."""
  with contextlib.ExitStack() as stack:
    text, archive, html = (
      stack.enter_context(files_.whole(out / name)) for name in (SCORES, TALLIES, PAGE)
    )
    text.write_text(json.dumps(plain(found), indent=1) + "\n", encoding="utf-8")
    with archive.open("wb") as file:
      np.savez_compressed(file, names=np.array(list(found["images"])), **tallies)
    # Names of files may hold bytes that are no text.
    html.write_text(page, encoding="utf-8", errors="replace")


def plain(value: Any) -> Any:
  """The same for json: null where a score is not known."""
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  return None if isinstance(value, float) and math.isnan(value) else value
