"""Quality and time of every method of superpixels."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, UInt8

from hseg_jax import images, model_input
from hseg_jax.bench.inputs import SEEDS
from hseg_jax.bench.records import record, report
from hseg_jax.bench.timing import Clock
from hseg_jax.benchmarks import mean
from hseg_jax.errors import UserError
from hseg_jax.progress import Progress
from hseg_jax.scoring import image_names, truths
from hseg_jax.scoring import superpixels as scoring
from hseg_jax.superpixels import device, device_slic, grid, seeds

TRUTHS = ("groundTruth", "masks")  # folders beside "images", as BSDS500 calls them and as masks
TOLERANCE = 2.0  # pixels between boundaries that still agree


def measure(
  data: str | os.PathLike,
  *,
  split: str = "val",
  size: int = 224,
  num_segments: int = 196,
  num_images: int = 100,
  batch_size: int = 8,
  out: str | os.PathLike | None = None,
) -> list[dict[str, Any]]:
  """Scores and times every method of superpixels on images that people segmented.

  Images are resized to squares bilinearly with antialiasing, the truths by their nearest pixel.
  Each score (see `scoring.superpixels`) is the mean over an image's annotators, then over images;
  boundaries may be two pixels apart. Times are of calls with one image, of all methods in turn on
  each image, and for jitted methods also of calls with `batch_size` images.

  Args:
    data: folder with photographs in `images/SPLIT`, or `images`, and truths of the same names in
      `groundTruth/SPLIT` or `masks/SPLIT`, as `truths.find` takes them.
    split: subfolder of both; "" if there is none.
    size: side of the squares in pixels.
    num_segments: the most superpixels of an image.
    num_images: how many of the images to take, the first by name.
    batch_size: of the second measurement of jitted methods.
    out: file for the JSON lines, besides the standard output.

  Returns:
    The records.

  Raises:
    UserError: there is no such data, a number is not positive, or images of this size are too
      small for so many superpixels.
  """
  for name, value in (("size", size), ("num_images", num_images), ("batch_size", batch_size)):
    if value < 1:
      raise UserError(f"{name} is {value}; it must be 1 or more.")
  pictures, annotators = _load(pathlib.Path(data), split, size, num_images)
  methods = _methods(num_segments)
  clocks, scores = _run(methods, pictures, annotators, batch_size)
  records = []
  for (name, batch), clock in clocks.items():
    # Colours and positions of "device" are integers; what OpenCV computes with is its own affair.
    dtype, host = "int32" if name == "device" else "float32", not methods[name][1]
    fields = {"size": size, "batch": batch, "dtype": dtype, "timing": clock.timing, "host": host}
    records.append(record("superpixels", name, **fields))
    if batch == 1:
      quality = (mean(column) for column in np.array(scores[name]).T)
      records[-1] |= {"num_images": len(pictures), **dict(zip(_SCORES, quality, strict=True))}
  report(records, out)
  print(_table(records))
  return records


_SCORES = tuple(scoring.SuperpixelScores._fields) + ("connected",)


def _methods(num_segments: int) -> dict[str, tuple[Callable[[np.ndarray], Any], bool]]:
  """Each method as a function of images `[b, s, s, 3]`, and whether it is jitted."""
  alone = lambda function: lambda batch: [function(batch[0])]
  jitted = lambda function: jax.jit(lambda batch: function(batch, num_segments))
  return {
    "seeds": (alone(lambda image: seeds.segment(image, num_segments, **SEEDS)), False),
    "grid": (alone(lambda image: grid.segment(image, num_segments)), False),
    "device": (jitted(device.segment), True),
    "slic": (jitted(device_slic.segment), True),
  }


def _run(
  methods: Mapping[str, tuple[Callable[[np.ndarray], Any], bool]],
  pictures: UInt8[np.ndarray, "n s s 3"],
  annotators: Sequence[Sequence[Int[np.ndarray, "s s"]]],
  batch_size: int,
) -> tuple[dict[tuple[str, int], Clock], dict[str, list[np.ndarray]]]:
  """Clocks by method and size of batch, and each method's scores, an array an image."""
  batches = {1, batch_size}
  several = pictures[np.arange(batch_size) % len(pictures)]
  clocks = {(name, n): Clock() for name in methods for n in sorted(batches)}
  for name, (function, is_jitted) in methods.items():
    function(pictures[:1])  # compiles, and refuses what must be refused
    if is_jitted:
      jax.block_until_ready(function(several))
    elif batch_size > 1:
      del clocks[name, batch_size]
  scores: dict[str, list[np.ndarray]] = {name: [] for name in methods}
  with Progress(len(pictures), "images") as progress:
    for i, truth in enumerate(annotators):
      for name, (function, is_jitted) in methods.items():
        labels = np.asarray(clocks[name, 1].time(function, pictures[i : i + 1]))[0]
        scores[name].append(_score(truth, labels))
        if is_jitted and batch_size > 1 and i % batch_size == 0:
          clocks[name, batch_size].time(function, several)
      progress.advance()
  return clocks, scores


def _load(
  data: pathlib.Path, split: str, size: int, num_images: int
) -> tuple[UInt8[np.ndarray, "n s s 3"], list[list[Int[np.ndarray, "s s"]]]]:
  """The images, and what the annotators of each drew."""
  folders = [data / name / split for name in TRUTHS]
  truth = next((folder for folder in folders if folder.is_dir()), None)
  if truth is None:
    raise UserError(f"There is neither {folders[0]} nor {folders[1]}; see --split.")
  known = truths.find("superpixels", truth)
  photographs = image_names.table(data / "images" / split, images.EXTENSIONS)
  names = [name for name in known.names if name in photographs][:num_images]
  if not names:
    raise UserError(f"No image in {data / 'images' / split} has the name of a truth in {truth}.")
  pictures, found = [], []
  for name in names:
    path = str(photographs[name])
    pictures.append(model_input.resize(images.decode(path, path), size, size))
    maps = [each.astype(np.int32) for each in known.read(name).segmentations]
    found.append([model_input.resize_labels(each, size, size) for each in maps if each.max() >= 0])
    if not found[-1]:
      raise UserError(f"Nobody labels a pixel of {name} in {truth}; take it out.")
  return np.stack(pictures), found


def _score(
  annotators: Sequence[Int[np.ndarray, "s s"]], labels: Int[np.ndarray, "s s"]
) -> np.ndarray:
  """Every score, the mean over annotators, and whether all segments are connected."""
  scores = np.array([scoring.score(each, labels, TOLERANCE) for each in annotators], float)
  means = [mean(column) for column in scores.T]
  return np.array([*means, scoring.count_pieces(labels).max() == 1])


def _table(records: Sequence[Mapping[str, Any]]) -> str:
  columns = (
    ("boundary_recall", "BR", ".4f"),
    ("boundary_precision", "BP", ".4f"),
    ("under_segmentation_error", "UE", ".4f"),
    ("achievable_accuracy", "ASA", ".4f"),
    ("compactness", "compact", ".3f"),
    ("connected", "connected", ".0%"),
    ("num_segments", "segments", ".1f"),
  )
  lines = [f"{'method':8}" + "".join(f"{title:>10}" for _, title, _ in columns) + "  ms/image"]
  for each in records:
    if "boundary_recall" not in each:
      continue
    times = [r for r in records if r["model"] == each["model"]]
    said = "  ".join(f"{1e3 / r['images_per_s']:.2f} (batch {r['batch']})" for r in times)
    cells = "".join(f"{format(each[key], form):>10}" for key, _, form in columns)
    lines.append(f"{each['model']:8}{cells}  {said}")
  return "\n".join(lines)
