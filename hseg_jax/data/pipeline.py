"""Batches of numpy arrays from a source, on grain. Position is a function of the step.

The order of the examples and their augmentations depend on the seed and on the position in the
endless stream, not on the number of hosts or worker processes, and no iterator state is kept: a run
goes on from step k by asking for batches from step k.
"""

import collections
import functools
import gc
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags

from hseg_jax.data import canvases, recipes, stream, transforms
from hseg_jax.data.segmenters import segmenter
from hseg_jax.data.sources import Example, Examples, Padded
from hseg_jax.errors import UserError

Batch = dict[str, np.ndarray]

MASKS = ("object", "parts", "semantic")

_ENDLESS = 2**40  # examples or batches
_IMAGES_AT_ONCE, _BYTES_AT_ONCE = 256, 2**24


def train_batches(
  source: Examples,
  *,
  batch_size: int,
  image_size: int,
  augment: str,
  superpixels: Mapping[str, Any],
  seed: int,
  start_step: int,
  num_workers: int,
  host_index: int = 0,
  host_count: int = 1,
  augment_options: Mapping[str, Any] | None = None,
  canvas_size: int | None = None,
) -> Iterator[Batch]:
  """Endless shuffled and augmented batches, from `start_step` on.

  Host i gets the i-th of `host_count` equal slices of each global batch, so the hosts' batches in
  order are the batch of a single host.

  Args:
    source: examples with images of any size.
    batch_size: of the global batch; this host gets `batch_size / host_count` examples.
    image_size: side in pixels of the images in the batch, or that canvases are augmented to.
    augment: "none" (as in evaluation), "supervised" or "moco" (two views).
    superpixels: `method` ("seeds" or "grid"; "device" or "none" to leave them out),
      `num_segments`, and for SEEDS `bins` and `iterations`.
    seed: of order and augmentations.
    start_step: the step of the first batch.
    num_workers: worker processes; 0 prepares batches in a thread of this process. With a canvas
      they are threads of it: decoding leaves Python to the others, and handing a canvas from one
      process to another took longer than decoding it.
    host_index: which host this is.
    host_count: how many hosts there are.
    augment_options: further keyword arguments of the augmentation, such as `min_scale`.
    canvas_size: side in pixels of canvases that `augmentation` is to augment; None to do it here.

  Returns:
    An iterator of dicts: `image` uint8 `[b, h, w, 3]`, `segments` int32 `[b, h, w]` (with
    methods of the host) and `label` int32 `[b]`; with "moco", `image_1`, `segments_1`, `image_2`
    and `segments_2` instead of the first two. With a canvas, `canvas` uint8 `[b, c, c, 3]`, which
    cannot be written to and holds anything beside crops, `boxes` float32 `[b, v, 4]`, for each view
    top, left, height and width of its crop in pixels of the canvas, and `seed` uint32 `[b, 2]`
    instead. Its `close()` ends the workers.

  Raises:
    UserError: on an unknown augmentation, option or superpixel method, "none" with a canvas, or a
      batch size that the hosts cannot share; while iterating, on too many unreadable images.
  """
  host_batch = _host_batch(batch_size, host_count)
  augmentation = recipes.on_host(augment, image_size, augment_options or {})  # checked in any case
  segment = segmenter(superpixels)
  numbers = grain.MapDataset.range(_ENDLESS).seed(seed)  # of examples, or of batches
  mine = slice(start_step * host_count + host_index, None, host_count)
  if canvas_size is None:
    dataset = (
      numbers.map(functools.partial(_example, source=source, seed=seed))
      .random_map(augmentation)
      .map(functools.partial(_add_segments, segment=segment))
      .batch(host_batch, drop_remainder=True)
    )
    return _Batches(dataset[mine], num_workers)
  options = {"source": source, "seed": seed, "image_size": image_size}
  options |= recipes.crops_for_device(augment, augment_options or {})
  memory = canvases.Memory(host_batch, canvas_size)
  dataset = numbers[mine].batch(at_once(host_batch, canvas_size), batch_fn=list)
  dataset = dataset.map(functools.partial(canvases.decode_batches, memory=memory, **options))
  return _Batches(dataset, num_workers, in_threads=True)


def at_once(host_batch: int, canvas_size: int | None) -> int:
  """How many batches of so many images are made and handed over together.

  As many as have no more than 256 images and 16 MiB of canvases, or one: what is done once for
  all of them, some hundred microseconds, is hardly anything next to decoding so many small images.
  Batches are whole from the start, as grain takes half as long as that for each. An error in any of
  them comes instead of the first.
  """
  if canvas_size is None:
    return 1
  images = min(_IMAGES_AT_ONCE, _BYTES_AT_ONCE // (3 * canvas_size**2))
  return max(images // host_batch, 1)


def eval_batches(
  source: Examples,
  *,
  batch_size: int,
  image_size: int,
  superpixels: Mapping[str, Any],
  num_workers: int,
  host_index: int = 0,
  host_count: int = 1,
  keep: Sequence[str] = ("label",),
) -> Iterator[Batch]:
  """Batches of every example once, in order; all of one shape, and as many on every host.

  Args:
    source: examples with images of any size.
    batch_size: as in `train_batches`, and so are the next three, and the hosts.
    image_size: side in pixels of the images in the batch.
    superpixels: how to segment them.
    num_workers: worker processes.
    host_index: which host this is.
    host_count: how many hosts there are.
    keep: what to yield beside the image: "label", and where the source has them the masks "object",
      "parts" and "semantic".

  Returns:
    An iterator of dicts: `image` and `segments` as in `train_batches`, `valid` bool `[b]`, False
    for the padding of the last batch, and what `keep` names: `label` int32 `[b]`, `object` bool
    `[b, h, w]`, `parts` and `semantic` uint8 `[b, h, w]`.

  Raises:
    UserError: as `train_batches` does, or if the source has no such mask.
  """
  host_batch = _host_batch(batch_size, host_count)
  dataset = (
    grain.MapDataset.source(Padded(source, multiple=batch_size))
    .map(functools.partial(_evaluation_example, image_size=image_size, keep=tuple(keep)))
    .map(functools.partial(_add_segments, segment=segmenter(superpixels)))
    .batch(host_batch, drop_remainder=True)
  )
  return _Batches(dataset[host_index::host_count], num_workers)


def _example(position: int, *, source: Examples, seed: int) -> Example:
  (index,) = stream.order(len(source), seed, (position,))
  return source[index]


def _host_batch(batch_size: int, host_count: int) -> int:
  if batch_size < 1 or batch_size % host_count:
    raise UserError(
      f"The batch size {batch_size} cannot be shared equally by {host_count} hosts; choose a "
      f"positive multiple of {host_count}."
    )
  return batch_size // host_count


class _Batches(Iterator[Batch]):
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


def check_options(
  *,
  image_size: int,
  augment: str,
  augment_options: Mapping[str, Any],
  superpixels: Mapping[str, Any],
  canvas_size: int | None = None,
) -> None:
  """Refuses, before any image is read, what `train_batches` and `eval_batches` would refuse later.

  Takes the arguments of `train_batches` that go by the same names.

  Raises:
    UserError: as `train_batches` does, or if the superpixels do not suit the image size.
  """
  recipes.on_host(augment, image_size, augment_options)
  if canvas_size is not None:
    recipes.crops_for_device(augment, augment_options)
  segment = segmenter(superpixels)
  if segment is not None:
    segment(np.zeros((image_size, image_size, 3), np.uint8))


def _evaluation_example(example: Example, *, image_size: int, keep: Sequence[str]) -> Example:
  result = {
    "image": transforms.evaluation(example["image"], image_size=image_size),
    "valid": example["valid"],
  }
  for key in keep:
    if key not in example:
      raise UserError(
        f'The data set has no "{key}" to evaluate against; it has {", ".join(sorted(example))}.'
      )
    if key in MASKS:
      result[key] = transforms.evaluation_mask(example[key], image_size=image_size)
    else:
      result[key] = np.int32(example[key])
  return result


def _add_segments(example: Example, *, segment) -> Example:
  """Adds `segments` beside `image`, `segments_1` beside `image_1` and so on."""
  if segment is None:
    return example
  segments = {
    key.replace("image", "segments"): segment(example[key])
    for key in example
    if key.startswith("image")
  }
  return {**example, **segments}
