"""Threads and processes that prepare batches ahead."""

import collections
import gc
import weakref
from collections.abc import Iterator

import cv2
import grain
import numpy as np
from absl import flags

Batch = dict[str, np.ndarray]


class Batches(Iterator[Batch]):
  """Batches in order, prepared ahead by threads of this process or one of each worker process.

  Ends the workers when it is exhausted, closed or forgotten, and at exit before the interpreter
  comes apart under them.
  """

  def __init__(self, dataset: grain.MapDataset, num_workers: int, *, in_threads: bool = False):
    """Starts nothing yet.

    Args:
      dataset: of batches, or for threads of lists of them.
      num_workers: processes, or threads.
      in_threads: whether they are threads.
    """
    self._in_threads = in_threads
    threads = max(num_workers, 1) if in_threads else 1
    # grain's own default would keep 500 batches in memory.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    batches = dataset.to_iter_dataset(options)
    self._has_workers = num_workers > 0 and not in_threads
    if self._has_workers:
      # Workers are sent the values of grain's flags, which exist before a notebook parses any.
      if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
      # Worker i of n takes batches i, i + n, ...: whole batches, so their content stays the same.
      options = grain.MultiprocessingOptions(num_workers=num_workers)
      batches = batches.mp_prefetch(options, worker_init_fn=_start_worker)
    self._iterators = [iter(batches)]
    self._ready: collections.deque[Batch] = collections.deque()
    self._finalize = weakref.finalize(self, _close, self._iterators)

  def __next__(self) -> Batch:
    if not self._ready:
      self._ready.extend(self._prepared())
    return self._ready.popleft()

  def _prepared(self) -> list[Batch]:
    if not self._iterators:
      raise StopIteration
    try:
      found = next(self._iterators[0])
    except BaseException:
      self.close()
      raise
    if self._in_threads:
      return found
    if self._has_workers:
      # Workers hand over shared memory; a copy frees it at once, whoever keeps the batch.
      found = {key: np.array(value) for key, value in found.items()}
    return [found]

  def close(self) -> None:
    """Ends the workers; no batches come after it."""
    self._finalize()
    self._ready.clear()


def _close(iterators: list[grain.DatasetIterator]) -> None:
  while iterators:
    iterators.pop().close()
  # A cycle inside grain keeps the last batch, whose shared memory would outlive the interpreter.
  gc.collect()


def _start_worker(worker_index: int, worker_count: int) -> None:
  """Keeps OpenCV from starting a thread per core in every worker."""
  del worker_index, worker_count
  cv2.setNumThreads(1)
