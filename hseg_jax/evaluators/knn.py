"""Weighted k-nearest-neighbour classification on frozen features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float, Int, Shaped, UInt8

from hseg_jax import inference
from hseg_jax.data import pipeline, sources
from hseg_jax.errors import UserError
from hseg_jax.preprocessing import add_segments, count_on_device, normalize

Labelled = tuple[np.ndarray, np.ndarray]


def raw_pixels(image: UInt8[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b d"]:
  """The pixels themselves, less their mean over the image."""
  flat = image.reshape(len(image), -1).astype(np.float32)
  return flat - flat.mean(axis=1, keepdims=True)


def color_histogram(image: UInt8[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b 512"]:
  """Square roots of the shares of pixels in 8 x 8 x 8 bins of RGB, whose cosine compares them."""
  bins = (image // 32).astype(np.int64) @ np.array([64, 8, 1])
  counts = [np.bincount(picture.ravel(), minlength=512) for picture in bins]
  return np.sqrt(np.stack(counts) / bins[0].size).astype(np.float32)


# What needs no network; computed once.
BASELINES = {"pixels": raw_pixels, "histograms": color_histogram}


def classify(
  bank: Float[np.ndarray, "n d"],
  bank_labels: Int[np.ndarray, " n"],
  queries: Float[np.ndarray, "m d"],
  *,
  num_neighbors: int,
  temperature: float,
) -> Int[np.ndarray, " m"]:
  """The class with the largest sum of exp(cosine / temperature) over the nearest neighbours.

  Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination"
  (arXiv 1805.01978), section 3.4.
  """
  unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
  bank, queries = unit(bank), unit(queries)
  num_neighbors = min(num_neighbors, len(bank))
  predictions = []
  for start in range(0, len(queries), 256):  # in parts, for the sake of memory
    cosine = queries[start : start + 256] @ bank.T
    nearest = np.argpartition(-cosine, num_neighbors - 1, axis=1)[:, :num_neighbors]
    found = np.take_along_axis(cosine, nearest, axis=1)
    # Relative to the nearest, or at low temperatures far neighbours would all weigh nothing.
    weights = np.exp((found - found.max(axis=1, keepdims=True)) / temperature)
    votes = np.zeros((len(cosine), int(bank_labels.max()) + 1))
    np.add.at(votes, (np.arange(len(cosine))[:, None], bank_labels[nearest]), weights)
    predictions.append(votes.argmax(axis=1))
  return np.concatenate(predictions)


class Evaluator:
  """Compares held-out images with a bank of training images, both unaugmented."""

  def __init__(
    self,
    model: Any,
    *,
    source: Any,
    train_source: Any,
    batch_size: int,
    image_size: int,
    superpixels: Mapping[str, Any],
    num_workers: int,
    to_global: Callable[[Mapping[str, Any]], Mapping[str, jax.Array]],
    num_neighbors: int,
    temperature: float,
    bank_size: int,
    inputs: Sequence[str],
  ):
    """Prepares the evaluation.

    Args:
      model: any model; its `features` are compared.
      source: held-out images with labels.
      train_source: images with labels, of which the bank is made.
      batch_size: of all devices together.
      image_size: side in pixels.
      superpixels: as `data.pipeline.eval_batches` takes them; "device" makes them here.
      num_workers: processes that prepare batches.
      to_global: puts this host's part of a batch on the devices.
      num_neighbors: k.
      temperature: of the votes.
      bank_size: how many training images to take, evenly spaced.
      inputs: what to compare: "features", and for comparison "pixels" and "histograms".

    Raises:
      UserError: the data has no classes, an unknown input, or a number that makes no sense.
    """
    if num_neighbors < 1 or not temperature > 0:
      raise UserError(
        f"knn.num_neighbors is {num_neighbors} and knn.temperature {temperature}; "
        "both must be positive."
      )
    known = ("features", *BASELINES)
    if not inputs or not set(inputs) <= set(known):
      raise UserError(f"knn.inputs is {tuple(inputs)}; choose among {', '.join(known)}.")
    if not source.num_classes:
      raise UserError("The k-NN evaluator needs images with classes, and the data has none.")
    bank_source = sources.Source(train_source, num_examples=bank_size, max_bad_images=0)
    self._to_global, self._inputs = to_global, inputs
    self._options = {"num_neighbors": num_neighbors, "temperature": temperature}
    self._batches = lambda examples: pipeline.eval_batches(
      examples,
      batch_size=batch_size,
      image_size=image_size,
      superpixels=superpixels,
      num_workers=num_workers,
      host_index=jax.process_index(),
      host_count=jax.process_count(),
    )
    self._sources = bank_source, source
    self._baselines: dict[str, float] = {}

    @inference.jit
    def features(variables, batch):
      batch = add_segments(batch, count_on_device(superpixels))
      image = normalize(batch["image"])
      return model.apply(variables, image, batch.get("segments"), train=False).features

    self._features = features

  def run(self, variables: Any) -> Iterator[tuple[str, float]]:
    """Yields `val/knn_INPUT` for every input: top-1, a share in [0, 1]."""
    for name in self._inputs:
      if name == "features":
        yield "val/knn_features", self._top1(lambda b: self._features(variables, b))
      else:
        if name not in self._baselines:
          self._baselines[name] = self._top1(self._on_host(BASELINES[name]))
        yield f"val/knn_{name}", self._baselines[name]

  def _on_host(self, function: Callable) -> Callable:
    # Through the devices and back: so hosts exchange what each of them computed.
    return lambda batch: function(_gather(batch["image"]))

  def _top1(self, embed: Callable) -> float:
    bank, queries = (self._collect(examples, embed) for examples in self._sources)
    predictions = classify(*bank, queries[0], **self._options)
    return float(np.mean(predictions == queries[1]))

  def _collect(self, examples: Any, embed: Callable) -> Labelled:
    """Embeddings `[n, d]` and labels `[n]` of all examples, on every host."""
    embeddings, labels = [], []
    for host_batch in self._batches(examples):
      batch = self._to_global(host_batch)
      valid = _gather(batch["valid"])
      embeddings.append(_gather(embed(batch))[valid])
      labels.append(_gather(batch["label"])[valid])
    return np.concatenate(embeddings), np.concatenate(labels)


def _gather(x: Any) -> Shaped[np.ndarray, "..."]:
  """A global array as numpy, whole on every host."""
  return x if isinstance(x, np.ndarray) else multihost_utils.process_allgather(x, tiled=True)
