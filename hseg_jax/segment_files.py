"""Segments image files, and writes what was found; threads read and write while a model computes.

The work of `hseg segment` and `hseg features`.
"""

import collections
import concurrent.futures
import errno
import itertools
import logging
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from hseg_jax import files, image_results, images, inputs
from hseg_jax.baselines.image_segmenter import ImageSegmenter
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.image_results import Job
from hseg_jax.inputs import Input
from hseg_jax.progress import Progress
from hseg_jax.segment import MAX_BATCH, Segmenter
from hseg_jax.viz import explorer

_MAX_THREADS = 8  # each may hold a huge image
PAGE = "explorer.html"

_COPY = 960  # longest side of the copy that is kept of each image, to draw it, in pixels
_WAITING = 4  # batches' worth of prepared images that may wait for others of their shape

_log = logging.getLogger(__name__)


def segment(
  segmenter: Segmenter | ImageSegmenter,
  arguments: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  superpixels: str | os.PathLike | None = None,
  num_regions: int | None = None,
  page: bool = False,
  batch_size: int = MAX_BATCH,
  force: bool = False,
) -> None:
  """Writes the hierarchy of every image: `NAME.npz`, `NAME.json` and `NAME.png` in a folder.

  The npz is what `Hierarchy.load` reads; the json has the image's path and what `regions.describe`
  says; the png shows the image and all levels. An image that cannot be read or segmented is
  reported in one line, and the others are done. The page, `explorer.html`, holds all images; it
  takes about 55 KB for one of 481x321 pixels.

  Args:
    segmenter: does the work; its levels nest.
    arguments: files, folders and patterns, as `inputs.find` takes them.
    out: the folder, which is made where there is none.
    superpixels: folder of label maps, as `inputs.with_labels` takes it; computed if None.
    num_regions: also describe and draw a cut into so many regions.
    page: also write the page in which a reader walks through all hierarchies.
    batch_size: the most images that the model sees at once.
    force: overwrite results.

  Raises:
    UserError: before any work: an argument or option is wrong, there are results already, or the
      folder cannot be written. After it: some images could not be segmented.
  """
  if num_regions is not None and num_regions < 1:
    raise UserError(f"An image cannot be cut into {num_regions} regions; ask for 1 or more.")
  found = _plan(segmenter, arguments, superpixels, batch_size)
  results = [
    image_results.path_of(out, each, ending) for each in found for ending in image_results.ENDINGS
  ]
  pages = [pathlib.Path(out, PAGE)] if page else []
  _check_results([*results, *pages], found, force)
  files.make_folder(out)

  def finish(job: Job, hierarchy: Hierarchy) -> dict[str, Any] | None:
    names = segmenter.class_names
    said = image_results.write(job, hierarchy, names, pathlib.Path(out), num_regions)
    return image_results.pack(job, hierarchy, names, said) if page else None

  packed, failed = _run(segmenter, found, finish, batch_size)
  if page and packed:
    explorer.write(pathlib.Path(out, PAGE), list(packed.values()))
  _conclude(failed, len(found))


def segment_flat(
  segmenter: ImageSegmenter,
  arguments: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  superpixels: str | os.PathLike | None = None,
  batch_size: int = MAX_BATCH,
  force: bool = False,
) -> None:
  """Writes the label maps of levels that do not nest: `NUMBER/NAME.png`, a folder a level.

  A folder has the number of regions that was asked for as its name. The maps are of the image's
  own size; their values are regions, 8 bits or 16.

  Takes and raises what `segment` does.
  """
  found = _plan(segmenter, arguments, superpixels, batch_size)
  folders = [pathlib.Path(out, str(number)) for number in segmenter.num_regions]
  places = lambda each: [image_results.path_of(folder, each, ".png") for folder in folders]
  _check_results([path for each in found for path in places(each)], found, force)
  files.make_folder(out)
  finish = lambda job, maps: image_results.write_maps(maps, places(job.input))
  _conclude(_run(segmenter, found, finish, batch_size)[1], len(found))


def extract_features(
  segmenter: Segmenter,
  arguments: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  superpixels: str | os.PathLike | None = None,
  batch_size: int = MAX_BATCH,
  force: bool = False,
) -> None:
  """Writes the features of all images and of all their regions into `out/features.npz`.

  Its arrays: `names [n]`; `image_features [n, d]`; where the model classifies images also
  `probabilities [n, c]` and, if they are known, `class_names [c]`; and for each level l, finest
  first, `features_l [r, d]`, the regions of all images one after another, ordered by their ids
  within an image, and `image_l [r]`, the row of `names` that each belongs to. They are held in
  memory until the end: half a megabyte an image for 196 superpixels of a small model.

  Takes and raises what `segment` does. Images that fail are left out.
  """
  found = _plan(segmenter, arguments, superpixels, batch_size)
  path = pathlib.Path(out, "features.npz")
  _check_results([path], found, force)
  files.make_folder(out)

  def finish(job: Job, hierarchy: Hierarchy) -> dict[str, Any]:
    return {
      name: getattr(hierarchy, name) for name in ("image_features", "probabilities", "features")
    }

  rows, failed = _run(segmenter, found, finish, batch_size)
  if rows:
    with files.whole(path) as partial, open(partial, "wb") as file:
      np.savez(file, **image_results.table(rows, segmenter.class_names))
  _conclude(failed, len(found))


def stream(
  segmenter: Segmenter | ImageSegmenter,
  found: Sequence[Input],
  finish: Callable[[Job, Hierarchy], Any],
  batch_size: int,
) -> Iterator[tuple[Input, Any]]:
  """Segments images in batches of one shape, reading ahead and finishing behind in threads.

  However many images there are, only a few batches are held at a time.

  Args:
    segmenter: does the work.
    found: the images.
    finish: is called in a thread with every image and its hierarchy.
    batch_size: the most images that the model sees at once.

  Yields:
    Each input, roughly in order, with what `finish` returned, or with the `UserError` for which the
    image could not be segmented.
  """
  threads = min(os.cpu_count() or 1, _MAX_THREADS)
  pool = concurrent.futures.ThreadPoolExecutor(threads)
  todo, reading, finishing = iter(found), collections.deque(), collections.deque()
  groups: dict[tuple[int, ...], list[Job]] = collections.defaultdict(list)

  def read_ahead():
    for each in itertools.islice(todo, batch_size + threads - len(reading)):
      reading.append((each, pool.submit(_prepare, segmenter, each)))

  def predict(jobs: list[Job]):
    rows = segmenter.predict([job.prepared for job in jobs])
    for job, row in zip(jobs, rows, strict=True):
      finishing.append((job.input, pool.submit(_assemble, segmenter, job, row, finish)))

  try:
    read_ahead()
    while reading or groups:
      if reading:
        each, future = reading.popleft()
        read_ahead()
        try:
          job = future.result()
          groups[job.prepared.image.shape].append(job)
        except UserError as error:
          yield each, error
      crowded = sum(map(len, groups.values())) >= _WAITING * batch_size
      largest = max(groups, key=lambda shape: len(groups[shape]), default=None)
      if largest and (not reading or crowded or len(groups[largest]) == batch_size):
        predict(groups.pop(largest))
      while len(finishing) > 2 * batch_size:
        yield _finished(*finishing.popleft())
    for each, future in finishing:
      yield _finished(each, future)
  finally:
    pool.shutdown(cancel_futures=True)


def _finished(each: Input, future: concurrent.futures.Future) -> tuple[Input, Any]:
  """An input and what became of it; raises what would befall the others as well, a full disk."""
  try:
    return each, future.result()
  except UserError as error:
    if getattr(error.__cause__, "errno", None) != errno.ENAMETOOLONG:
      raise
    return each, UserError("Its name is too long for those of its results; shorten it.")


def _prepare(segmenter: Segmenter | ImageSegmenter, each: Input) -> Job:
  image = images.decode(each.path, str(each.path))
  labels = None if each.labels is None else images.read_labels(each.labels)
  return Job(each, image_results.shrink(image, _COPY), segmenter.prepare(image, labels))


def _assemble(
  segmenter: Segmenter | ImageSegmenter,
  job: Job,
  row: dict[str, Any],
  finish: Callable[[Job, Hierarchy], Any],
) -> Any:
  return finish(job, segmenter.assemble(job.prepared, row))


def _run(
  segmenter: Segmenter | ImageSegmenter,
  found: Sequence[Input],
  finish: Callable[[Job, Hierarchy], Any],
  batch_size: int,
) -> tuple[dict[str, Any], int]:
  """What `finish` made of each image, by name in the order given, and how many failed."""
  results, failed = {}, 0
  with Progress(len(found), "images") as progress, warnings.catch_warnings():
    # Images too large are refused in a line of their own, to which Pillow need add nothing.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    for each, result in stream(segmenter, found, finish, batch_size):
      if isinstance(result, UserError):
        failed += 1
        said = (
          str(result) if isinstance(result, images.UnreadableImage) else f"{each.path}: {result}"
        )
        progress.clear()
        _log.warning("%s", " ".join(said.split()))
      else:
        results[each.name] = result
      progress.advance()
  return {each.name: results[each.name] for each in found if each.name in results}, failed


def _conclude(failed: int, total: int) -> None:
  if failed:
    raise UserError(f"{failed} of {total} images failed, as said above; the others are done.")


def _plan(
  segmenter: Segmenter | ImageSegmenter,
  arguments: Sequence[str | os.PathLike],
  superpixels: str | os.PathLike | None,
  batch_size: int,
) -> list[Input]:
  """Finds the inputs of a command."""
  if batch_size < 1:
    raise UserError(f"A batch cannot have {batch_size} images; ask for 1 or more.")
  if superpixels is not None and not segmenter.takes_superpixels:
    raise UserError(
      "Superpixels of your own are for models with levels, and for the method ward on images of "
      "their own size; leave out --superpixels, or else --size."
    )
  found = inputs.find(arguments)
  return found if superpixels is None else inputs.with_labels(found, superpixels)


def _check_results(results: Sequence[pathlib.Path], found: Sequence[Input], force: bool) -> None:
  """Raises `UserError` where there are results, or where they would take an input's place."""
  given = {path.resolve() for each in found for path in (each.path, each.labels) if path}
  for path in results:
    if path.resolve() in given:
      raise UserError(f"A result would take the place of {path}; give another folder.")
    if os.path.exists(path) and not force:  # a name may be too long to ask pathlib
      raise UserError(f"{path} exists; give another folder or --force.")
