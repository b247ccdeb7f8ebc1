"""How fast a config's input pipeline is, next to reading and decoding the same files."""

import concurrent.futures
import os
from collections.abc import Iterator, Sequence
from typing import Any

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
  full size, and nothing else, by as many threads as the pipeline has workers, an equal share each.
  Sources that draw their images, draw them in both.

  Args:
    settings: a config as nested dicts. Its `data` say what is done on the host.
    num_batches: how many batches of a round are timed, rounded up to a multiple of those that the
      workers finish together.
    repeats: rounds.
    out: file for the JSON lines, besides the standard output.

  Returns:
    Two records, of the models "pipeline" and "decoding"; a call is `num_batches` of `batch` images.
    Besides the fields of all measurements they have `num_batches` and `workers`, and the first
    `augment`, `superpixels` and `times_as_fast`, the median over rounds of decoding's time over the
    pipeline's. `cpu_s` knows of this process alone, not of workers.

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
  clocks = {"pipeline": Clock(), "decoding": Clock()}
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for _ in range(repeats):
      batches = experiments.train_batches(experiment, 0)
      _take(batches, ahead)
      clocks["pipeline"].time(_take, batches, num_batches)
      batches.close()
      wait_for_threads(_LONGEST)  # that finish the batches they had begun
      clocks["decoding"].time(_decode, pool, source, shares)
  records = []
  for name, clock in clocks.items():
    fields = {"size": data["image_size"], "batch": batch_size, "dtype": "uint8", "host": True}
    found = record("input", name, **fields, timing=clock.timing)
    found["images_per_s"] *= num_batches
    records.append({**found, "num_batches": num_batches, "workers": workers})
  records[0] |= {
    "augment": data["augment"],
    "superpixels": settings["superpixels"]["method"],
    "times_as_fast": {"decoding": clocks["pipeline"].times_as_fast(clocks["decoding"])},
  }
  return report(records, out)


def _take(batches: Iterator[Any], count: int) -> None:
  for _ in range(count):
    next(batches)


def _decode(
  pool: concurrent.futures.Executor, source: sources.Source, shares: Sequence[Sequence[int]]
) -> None:
  """Decodes the images of each share in a thread of its own."""

  def decode(share: Sequence[int]) -> None:
    for index in share:
      source[index]  # given up at once, as memory would run out otherwise

  for _ in pool.map(decode, shares):
    pass
