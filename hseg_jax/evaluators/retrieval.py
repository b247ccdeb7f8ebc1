"""Segment retrieval: a segment is what the most similar segments of training images are."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float, Int, Integer, Shaped

from hseg_jax import inference
from hseg_jax.baselines import kmeans, methods
from hseg_jax.data.masks import IGNORE
from hseg_jax.errors import UserError
from hseg_jax.evaluators import knn
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.model_input import Preparation, resize_labels
from hseg_jax.preprocessing import count_on_device, normalize
from hseg_jax.scoring import semantic
from hseg_jax.superpixels import device

# A model without superpixels sees the image alone, but something must be prepared.
_ONE_SEGMENT = {"method": "grid", "num_segments": 1}

Labelled = tuple[np.ndarray, np.ndarray]


class Described(NamedTuple):
  """Segments of an image, and the embeddings that describe them.

  Attributes:
    labels: of each level that was asked for, the segment of every pixel, contiguous ids.
    prototypes: of each level, a unit vector for each segment.
  """

  labels: list[Int[np.ndarray, "h w"]]
  prototypes: list[Float[np.ndarray, "_ e"]]


class Evaluator:
  """Names the segments of images by their nearest neighbours among segments of training images.

  The protocol of the reference on Pascal VOC (SPML's `prototype_suppix.py`, `inference_suppix.py`),
  for any images with masks. A segment's prototype is the sum over its pixels of their unit
  embeddings, scaled to length one. The memory holds the prototypes of the training images, each
  with the most frequent label of its pixels; 255 counts as a label there, and what has it is
  dropped. A segment gets the label that most of its nearest prototypes by cosine have, of equals
  the lowest, and so do its pixels.

  A pixel's embedding is that of its superpixel: what a segmentation model with a projector, or
  without a head, says of it; of any other CAST the tokens of some stages that hold it, each scaled
  to length one, side by side; of a ViT, which has no segments either, the token of its cell, and
  nested k-means of the tokens gives the segments.

  Images keep their aspect ratio, with the short side at `image_size`. NOTE(reference): there the
  long side has 512 pixels, to which labels are resized too; superpixels are computed, and pixels
  counted, at the image's own resolution.
  """

  def __init__(
    self,
    model: Any,
    *,
    source: Any,
    train_source: Any,
    image_size: int,
    superpixels: Mapping[str, Any],
    levels: Sequence[int],
    num_regions: Sequence[int],
    stages: Sequence[int],
    num_neighbors: int,
    classes: Sequence[str],
    tolerance: float,
    seed: int,
  ):
    """Prepares the evaluation.

    Args:
      model: a model with levels, or a plain ViT.
      source: images with masks `semantic`, to name segments in.
      train_source: images with masks, of which the memory is made.
      image_size: short side of what the model sees, in pixels.
      superpixels: as `Preparation` takes them; a ViT ignores them.
      levels: whose segments are named, as `Hierarchy.labels` counts them: -1 is the coarsest.
      num_regions: of the nested k-means of a ViT, finest first; those of CAST's levels make a fair
        comparison. Level -1 has the last of them.
      stages: whose tokens make the embedding; -1 is the centroids of the last pooling.
      num_neighbors: k.
      classes: levels of labels.csv that are voted on and scored: "label", "group", "whole".
      tolerance: how far apart boundaries may lie and still agree, in diagonals of the image; 0
        leaves boundary scores out, which take most of the time.
      seed: of the k-means.

    Raises:
      UserError: the data has no masks or no such classes, or the model neither levels nor a grid
        of tokens, or a number makes no sense.
    """
    _check(model, source, classes, num_neighbors, levels, num_regions, stages)
    if min(len(train_source), len(source)) < jax.process_count():
      raise UserError("Segment retrieval has fewer images than there are processes to share them.")
    self._table = source.mask_labels
    self._sources, self._model = (train_source, source), model
    self._classes = tuple(classes)
    self._levels, self._num_regions, self._stages = tuple(levels), tuple(num_regions), tuple(stages)
    self._num_neighbors, self._tolerance, self._seed = num_neighbors, tolerance, seed
    options = superpixels if model.num_segments else _ONE_SEGMENT
    room = max(model.num_segments, 1)
    self._prepare = Preparation(image_size, model.stride, options, room)
    self._cut = jax.jit(lambda image: device.segment(image, count_on_device(options)))
    self._forward = inference.jit(
      lambda variables, image, segments: forward(model, variables, image, segments)
    )

  def run(self, variables: Any) -> Iterator[tuple[str, float]]:
    """Fills the memory and scores every image.

    Yields:
      `val/retrieval/SEGMENTS/CLASSES/SCORE`. SEGMENTS is `level_L`, or `kmeans/N`; CLASSES one of
      `classes`. SCORE is `miou` of the data set, `pixel_accuracy` and, with a tolerance,
      `boundary_f`; and `oracle_miou`, with which each segment has its own most frequent class:
      about the most that naming these segments can reach. All lie in [0, 1].
    """
    # Each host sees images of its own, of many sizes, on its own devices.
    variables = jax.device_put(jax.device_get(variables))
    memory = self._remember(variables)
    tallies: dict[str, np.ndarray] = {}
    for example in self._examples(self._sources[1]):
      described = self._describe(variables, example["image"])
      for i, classes in itertools.product(range(len(self._levels)), self._classes):
        segments, truth = described.labels[i], self._table.ids[classes][example["semantic"]]
        found = vote(*memory[i, classes], described.prototypes[i], self._num_neighbors)
        own = count_classes(segments, truth)[:, :IGNORE].argmax(axis=1)
        for kind, value in self._tally(truth, classes, found[segments], own[segments]).items():
          key = f"{self._name(i)}/{classes}/{kind}"
          tallies[key] = tallies.get(key, 0) + value
    yield from self._scores(tallies)

  def _name(self, index: int) -> str:
    level = self._levels[index]
    if not self._model.num_segments:
      return f"kmeans/{self._num_regions[level]}"
    return f"level_{level % (len(self._model.num_clusters) + 1)}"

  def _examples(self, source: Any) -> Iterator[dict[str, Any]]:
    for i in range(jax.process_index(), len(source), jax.process_count()):
      yield source[i]

  def _remember(self, variables: Any) -> dict[tuple[int, str], Labelled]:
    """Prototypes `[m, e]` and classes `[m]`, those of all hosts, of every level by its place in
    `levels`, and each of `classes`."""
    kinds = list(itertools.product(range(len(self._levels)), self._classes))
    memory: dict[tuple[int, str], list[Labelled]] = {kind: [] for kind in kinds}
    for example in self._examples(self._sources[0]):
      described = self._describe(variables, example["image"])
      for i, classes in kinds:
        truth = self._table.ids[classes][example["semantic"]]
        most = count_classes(described.labels[i], truth).argmax(axis=1)
        kept = most != IGNORE
        memory[i, classes].append((described.prototypes[i][kept], most[kept]))
    found = {}
    for kind, parts in memory.items():
      rows, classes = (np.concatenate(each) for each in zip(*parts, strict=True))
      found[kind] = _gather_rows(rows), _gather_rows(classes)
      if not len(found[kind][0]):
        raise UserError("No segment of a training image has a label; all are 255.")
    return found

  def _describe(self, variables: Any, image: np.ndarray) -> Described:
    prepared = self._prepare(image)
    segments, size = prepared.segments, prepared.image.shape[:2]
    if segments is None:
      segments = jax.device_get(self._cut(jax.device_put(prepared.image[None])))[0]
    inputs = prepared.image[None], resize_labels(segments, *size)[None]
    found = jax.device_get(self._forward(variables, *jax.device_put(inputs)))
    found = jax.tree.map(lambda values: values[0], found)
    if "tokens" in found:
      cells, vectors, maps = self._cluster(found["tokens"], *size)
    else:
      # Never larger than the image, or superpixels could vanish when they get its size.
      shown = map(min, segments.shape, (prepared.height, prepared.width))
      hierarchy = Hierarchy.from_assignments(resize_labels(segments, *shown), **found)
      cells, vectors = hierarchy.segments, embeddings(hierarchy, self._stages)
      maps = [hierarchy.labels(level) for level in self._levels]
    shape = prepared.height, prepared.width
    cells = resize_labels(cells.astype(np.int32), *shape)
    maps = [resize_labels(each.astype(np.int32), *shape) for each in maps]
    return Described(maps, [prototypes(each, cells, vectors) for each in maps])

  def _cluster(self, tokens: np.ndarray, height: int, width: int) -> tuple:
    """Cell of every pixel, the cells' tokens, and the segments of each level."""
    rows, columns = height // self._model.stride, width // self._model.stride
    cells = resize_labels(
      np.arange(rows * columns, dtype=np.int32).reshape(rows, columns), height, width
    )
    grid = tokens.reshape(rows, columns, -1)
    maps = kmeans.segment(grid, (height, width), self._num_regions, seed=self._seed)
    return cells, _unit(tokens), [maps[level] for level in self._levels]

  def _tally(self, truth: np.ndarray, classes: str, found: np.ndarray, own: np.ndarray) -> dict:
    """Counts of pixels by class; `found` as they were named, `own` as the oracle names them."""
    number = len(self._table.names[classes])
    tally = {
      "confusion": semantic.confusion_matrix(truth, found, number),
      "oracle": semantic.confusion_matrix(truth, own, number),
    }
    if self._tolerance:
      reach = self._tolerance * math.hypot(*truth.shape)
      tally["boundary"] = semantic.boundary_counts(truth, found, number, reach)
    return tally

  def _scores(self, tallies: Mapping[str, np.ndarray]) -> Iterator[tuple[str, float]]:
    for key, value in tallies.items():
      total = multihost_utils.process_allgather(value).reshape(-1, *value.shape).sum(axis=0)
      name, kind = f"val/retrieval/{key}".rsplit("/", 1)
      if kind == "confusion":
        yield f"{name}/miou", semantic.mean_iou(total)
        yield f"{name}/pixel_accuracy", semantic.pixel_accuracy(total)
      elif kind == "oracle":
        yield f"{name}/oracle_miou", semantic.mean_iou(total)
      else:
        yield f"{name}/boundary_f", semantic.mean_boundary_f(total)


def forward(model: Any, variables: Any, image: Any, segments: Any) -> dict[str, Any]:
  """Arguments of `Hierarchy.from_assignments`, or the `tokens` of a model without levels."""
  out = model.apply(variables, normalize(image), segments, train=False)
  if not out.levels:
    return {"tokens": out.tokens.astype(jnp.float32)}
  tokens = (*(level.tokens for level in out.levels), out.levels[-1].centroids)
  found: dict[str, Any] = {
    "assignments": tuple(level.clusters for level in out.levels),
    "features": tuple(each.astype(jnp.float32) for each in tokens),
  }
  if out.logits.ndim == 3 and (not model.num_classes or model.head_kind == "projector"):
    found["embeddings"] = out.logits.astype(jnp.float32)
  return found


def embeddings(hierarchy: Hierarchy, stages: Sequence[int]) -> Float[np.ndarray, "n e"]:
  """A unit vector for each superpixel: its embedding, or the tokens of `stages` that hold it."""
  if hierarchy.embeddings is not None:
    return _unit(hierarchy.embeddings)
  ancestors = [np.arange(hierarchy.sizes[0])]
  for parents in hierarchy.parents:
    ancestors.append(parents[ancestors[-1]])
  parts = [_unit(hierarchy.features[stage])[ancestors[stage]] for stage in stages]
  return _unit(np.concatenate(parts, axis=1))


def prototypes(
  labels: Int[np.ndarray, "h w"],
  cells: Int[np.ndarray, "h w"],
  vectors: Float[np.ndarray, "n e"],
) -> Float[np.ndarray, "r e"]:
  """The sum of the vectors of each segment's pixels, scaled to length one.

  Args:
    labels: segment of every pixel, contiguous ids.
    cells: which vector each pixel has.
    vectors: of length one.
  """
  shape = int(labels.max()) + 1, len(vectors)
  counts = np.bincount(labels.ravel() * shape[1] + cells.ravel(), minlength=shape[0] * shape[1])
  return _unit(counts.reshape(shape).astype(np.float32) @ vectors)


def count_classes(
  labels: Int[np.ndarray, "h w"], truth: Integer[np.ndarray, "h w"]
) -> Int[np.ndarray, "r 256"]:
  """How many pixels of each segment have each class; 255 is one of them."""
  size = int(labels.max()) + 1
  index = labels.ravel().astype(np.int64) * (IGNORE + 1) + truth.ravel()
  return np.bincount(index, minlength=size * (IGNORE + 1)).reshape(size, IGNORE + 1)


def vote(
  memory: Float[np.ndarray, "m e"],
  classes: Int[np.ndarray, " m"],
  queries: Float[np.ndarray, "q e"],
  num_neighbors: int,
) -> Int[np.ndarray, " q"]:
  """The most frequent class of the prototypes nearest by cosine, of equals the lowest."""
  # At this temperature every neighbour weighs the same.
  return knn.classify(memory, classes, queries, num_neighbors=num_neighbors, temperature=math.inf)


def _check(model, source, classes, num_neighbors, levels, num_regions, stages) -> None:
  """Raises `UserError` where data, model or options do not suit."""
  if source.mask_labels is None:
    raise UserError(
      "Segment retrieval needs masks of labels, which the data has not; set data.source='masks'."
    )
  known = source.mask_labels.names
  if not classes or not set(classes) <= set(known):
    raise UserError(f"retrieval.classes is {tuple(classes)}; choose among {', '.join(known)}.")
  if num_neighbors < 1:
    raise UserError(f"retrieval.num_neighbors is {num_neighbors}; it must be positive.")
  if model.num_segments and not model.num_clusters:
    raise UserError(
      f"A {type(model).__name__} has neither levels nor a grid of tokens to retrieve."
    )
  if not model.num_segments:
    methods.check_numbers(num_regions)
  most = len(model.num_clusters) + 1 if model.num_segments else len(num_regions)
  depth = len(model.num_clusters) + 1
  for name, values, size in (("levels", levels, most), ("stages", stages, depth)):
    if name == "stages" and not model.num_segments:
      continue
    if not values or not all(-size <= value < size for value in values):
      raise UserError(f"retrieval.{name} is {tuple(values)}; the model has {size} of them.")


def _unit(vectors: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "n e"]:
  return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _gather_rows(rows: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "m ..."]:
  """The rows of all hosts, of which each may have another number."""
  counts = multihost_utils.process_allgather(np.array([len(rows)]), tiled=True)
  padded = np.zeros((counts.max(), *rows.shape[1:]), rows.dtype)
  padded[: len(rows)] = rows
  gathered = multihost_utils.process_allgather(padded, tiled=True)
  each = gathered.reshape(len(counts), counts.max(), *rows.shape[1:])
  return np.concatenate([part[:count] for part, count in zip(each, counts, strict=True)])
