"""How fast a config's input pipeline is, next to reading and decoding the same files."""

import concurrent.futures
import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hseg_jax import augmentation
from hseg_jax import experiment as experiments
from hseg_jax.bench.records import record, report
from hseg_jax.bench.timing import Clock, wait_for_threads
from hseg_jax.data import pipeline, sources, stream
from hseg_jax.errors import UserError
from hseg_jax.settings import Settings

_LONGEST = 60.0  # seconds that threads may take to finish a batch


def measure(
  settings: Settings,
  *,
  num_batches: int = 10,
  repeats: int = 5,
  out: str | os.PathLike | None = None,
) -> list[dict[str, Any]]:
  """Times batches of training as a config prepares them, and decoding alone, in turn.

  Each round starts the pipeline anew, takes as many batches as it prepares ahead, and times the
  next `num_batches`; then, when its threads have come to rest, their files are read and decoded, at
  full size, and nothing else, by as many threads as the pipeline has workers, an equal share each:
  with the pipeline's decoder, and, if the source is a folder or from TFDS, with OpenCV's and
  Pillow's. Sources that draw their images, draw them in the first two.

  Args:
    settings: a config as nested dicts. Its `data` say what is done on the host.
    num_batches: how many batches of a round are timed, rounded up to a multiple of those that the
      workers finish together.
    repeats: rounds.
    out: file for the JSON lines, besides the standard output.

  Returns:
    Records of the models "pipeline", "decoding" and maybe "opencv" and "pillow"; a call is
    `num_batches` of `batch` images. Besides the fields of all measurements they have `num_batches`
    and `workers`, and the first `augment`, `superpixels` and `times_as_fast`, by the name of each
    other one the median over rounds of its time over the pipeline's. `cpu_s` knows of this process
    alone, not of workers.

  Raises:
    UserError: a mistake in the config, or a number that is not positive.
  """
  for name, value in (("num_batches", num_batches), ("repeats", repeats)):
    if value < 1:
      raise UserError(f"{name} is {value}; it must be 1 or more.")
  experiment = experiments.setup(settings)
  source, data = experiment.train_source, settings["data"]
  batch_size, workers = settings["batch_size"], data["num_workers"]
  threads = max(workers, 1)
  canvas_size = augmentation.options(settings)["canvas_size"]
  together = threads * pipeline.at_once(batch_size, canvas_size)
  num_batches = -(-num_batches // together) * together
  ahead = 4 * together  # batches; more than the workers hold ready
  wanted = range(ahead * batch_size, (ahead + num_batches) * batch_size)
  order = stream.order(len(source), settings["seed"], wanted)
  shares = [order[i::threads] for i in range(threads)]
  decoders = _decoders(source)
  clocks = {name: Clock() for name in ("pipeline", *decoders)}
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for _ in range(repeats):
      batches = experiments.train_batches(experiment, 0)
      _take(batches, ahead)
      clocks["pipeline"].time(_take, batches, num_batches)
      batches.close()
      wait_for_threads(_LONGEST)  # that finish the batches they had begun
      for name, decode in decoders.items():
        clocks[name].time(_decode, pool, decode, shares)
  records = []
  for name, clock in clocks.items():
    fields = {"size": data["image_size"], "batch": batch_size, "dtype": "uint8", "host": True}
    found = record("input", name, **fields, timing=clock.timing)
    found["images_per_s"] *= num_batches
    records.append({**found, "num_batches": num_batches, "workers": workers})
  records[0] |= {
    "augment": data["augment"],
    "superpixels": settings["superpixels"]["method"],
    "times_as_fast": {name: clocks["pipeline"].times_as_fast(clocks[name]) for name in decoders},
  }
  return report(records, out)


def _take(batches: Iterator[Any], count: int) -> None:
  for _ in range(count):
    next(batches)


def _decode(
  pool: concurrent.futures.Executor,
  decode: Callable[[int], Any],
  shares: Sequence[Sequence[int]],
) -> None:
  """Decodes the images of each share in a thread of its own."""

  def decode_all(share: Sequence[int]) -> None:
    for index in share:
      decode(index)  # given up at once, as memory would run out otherwise

  for _ in pool.map(decode_all, shares):
    pass


def _decoders(source: sources.Source) -> dict[str, Callable[[int], Any]]:
  """By the names of their records what reads and decodes an example's image."""
  decoders = {"decoding": source.__getitem__}
  if source.file(0) is not None:
    decoders["opencv"] = lambda index: _by_opencv(source.file(index))
    decoders["pillow"] = lambda index: _by_pillow(source.file(index))
  return decoders


def _by_opencv(file: str | io.BytesIO) -> np.ndarray | None:
  """None for what it cannot read, of which it may raise anything; so may Pillow."""
  with contextlib.suppress(Exception):
    if isinstance(file, str):
      with open(file, "rb", buffering=0) as stream:
        data = stream.read()
    else:
      data = file.getbuffer()
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def _by_pillow(file: str | io.BytesIO) -> np.ndarray | None:
  with contextlib.suppress(Exception), Image.open(file) as image:
    return np.asarray(image.convert("RGB"))
