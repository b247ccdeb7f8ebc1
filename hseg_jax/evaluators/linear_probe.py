"""A linear classifier on frozen features, trained at many learning rates at once."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Int

from hseg_jax import inference, linear_heads
from hseg_jax.data import pipeline, sources
from hseg_jax.errors import UserError
from hseg_jax.evaluators import knn
from hseg_jax.preprocessing import add_segments, count_on_device, normalize

# The reference's augmentation, crop and flip; the share that a crop covers is an option.
_NO_JITTER = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}

Labelled = tuple[np.ndarray, np.ndarray]


class Evaluator:
  """Trains linear classifiers on the frozen features of training images, once a learning rate.

  The rate is chosen on training images that are held out from the heads' training; the validation
  images have no say. A model that was itself trained on them with labels makes that choice unfair,
  not the scores. What the head sees is the model's `features`, its batch statistics and everything
  else being those of evaluation.
  """

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
    inputs: Sequence[str],
    learning_rates: Sequence[float],
    num_epochs: int,
    head_batch_size: int,
    num_images: int | None,
    held_out: float,
    num_views: int,
    min_scale: float,
    standardize: bool,
    seed: int,
  ):
    """Prepares the evaluation.

    Args:
      model: any model; its `features` are classified.
      source: validation images with labels.
      train_source: images with labels, to train heads on and to choose the rate by.
      batch_size: of the images that the model sees at once, on all devices together.
      image_size: side in pixels.
      superpixels: as `data.pipeline.eval_batches` takes them; "device" makes them here.
      num_workers: processes that prepare batches.
      to_global: puts this host's part of a batch on the devices.
      inputs: "features", and to compare with "pixels" and "histograms", always standardised.
      learning_rates: of a batch of 256 images; what is used is this times `head_batch_size` / 256.
      num_epochs: passes over the training images.
      head_batch_size: images of a step of the heads.
      num_images: how many training images to take, evenly spaced; None takes all.
      held_out: share of them by which the rate is chosen.
      num_views: how many random crops of each image the heads are trained on, flipped half the
        time; computed once. 0: the one unaugmented image. NOTE(reference): there each epoch has new
        ones, at the cost of running the model for every epoch.
      min_scale: smallest share of an image that a random crop covers.
      standardize: whether to take out mean and standard deviation of every feature, which are those
        of the images that heads are trained on. The reference does not.
      seed: of heads, orders and views.

    Raises:
      UserError: the data has no classes, an unknown input, or a number that makes no sense.
    """
    _check(source, inputs, learning_rates, num_epochs, head_batch_size, held_out, num_views)
    self._num_classes, self._to_global = source.num_classes, to_global
    self._inputs, self._standardize, self._rates = tuple(inputs), standardize, learning_rates
    rates = [rate * head_batch_size / 256 for rate in learning_rates]
    self._options = {"learning_rates": rates, "num_epochs": num_epochs, "seed": seed}
    self._options |= {"batch_size": head_batch_size, "num_classes": source.num_classes}
    fit, held = _split(train_source, num_images, held_out)
    self._num_views, self._num_fit = num_views, len(fit)
    options = {"image_size": image_size, "superpixels": superpixels, "num_workers": num_workers}
    options |= {"host_index": jax.process_index(), "host_count": jax.process_count()}
    options |= {"batch_size": batch_size}
    once = lambda examples: functools.partial(pipeline.eval_batches, examples, **options)
    self._batches = {"fit": once(fit), "held": once(held), "val": once(source)}
    if num_views:
      self._batches["fit"] = functools.partial(_views, fit, min_scale, seed=seed, **options)
    self._baselines: dict[str, dict[str, float]] = {}
    features = functools.partial(_features, model, count_on_device(superpixels))
    self._features = inference.jit(features)

  def run(self, variables: Any) -> Iterator[tuple[str, float]]:
    """Trains and scores the heads; those of the baselines the first time only.

    Yields:
      `val/linear_probe/INPUT/SCORE`. SCORE is `top1` and `top5` of the rate that was chosen,
      `learning_rate`, that rate, and `held_out_top1`, by which it was; `best_top1`, the best of all
      rates on the validation images, which flatters; and for each rate `lr_RATE/top1`, `.../top5`
      and `.../held_out_top1`. Accuracies are shares in [0, 1].
    """
    for name in self._inputs:
      if name == "features":
        found = self._probe(lambda b: _gather(self._features(variables, b)), self._standardize)
      else:
        if name not in self._baselines:
          embed = knn.BASELINES[name]
          # Through the devices and back: so hosts exchange what each of them read.
          self._baselines[name] = self._probe(lambda b, f=embed: f(_gather(b["image"])), True)
        found = self._baselines[name]
      for score, value in found.items():
        yield f"val/linear_probe/{name}/{score}", value

  def _probe(self, embed: Callable, standardize: bool) -> dict[str, float]:
    sets = {name: self._collect(name, embed) for name in ("fit", "held", "val")}
    features, labels = sets["fit"]
    shift, scale = np.float32(0), np.float32(1)
    if standardize:
      shift, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    prepare = lambda x: (x - shift) / scale
    views = max(self._num_views, 1)
    heads = linear_heads.train(
      prepare(features).reshape(views, self._num_fit, -1),
      labels.reshape(views, self._num_fit),
      **self._options,
    )
    held = linear_heads.accuracies(heads, prepare(sets["held"][0]), sets["held"][1])[0]
    top1, top5 = linear_heads.accuracies(heads, prepare(sets["val"][0]), sets["val"][1])
    best = int(held.argmax())
    found = {
      "top1": top1[best],
      "top5": top5[best],
      "learning_rate": self._rates[best],
      "held_out_top1": held[best],
      "best_top1": top1.max(),
    }
    for i, rate in enumerate(self._rates):
      found |= {f"lr_{rate:g}/top1": top1[i], f"lr_{rate:g}/top5": top5[i]}
      found[f"lr_{rate:g}/held_out_top1"] = held[i]
    return {score: float(value) for score, value in found.items()}

  def _collect(self, name: str, embed: Callable) -> Labelled:
    """Embeddings `[n, d]` and labels `[n]` of a set of examples, on every host; of the augmented
    ones view after view."""
    embeddings, labels, count = [], [], 0
    endless = name == "fit" and self._num_views > 0
    wanted = self._num_fit * self._num_views
    batches = self._batches[name]()
    for host_batch in batches:
      batch = self._to_global(host_batch)
      valid = slice(wanted - count) if endless else _gather(batch["valid"])
      embeddings.append(np.asarray(embed(batch), np.float32)[valid])
      labels.append(_gather(batch["label"])[valid])
      count += len(labels[-1])
      if endless and count == wanted:
        batches.close()
    return np.concatenate(embeddings), np.concatenate(labels)


def _features(model: Any, on_device: int, variables: Any, batch: Mapping[str, Any]) -> jax.Array:
  batch = add_segments(batch, on_device)
  image = normalize(batch["image"])
  return model.apply(variables, image, batch.get("segments"), train=False).features


def evenly_spaced(count: int, share: float) -> Int[np.ndarray, " m"]:
  """Positions of a share of `count` examples, at least one and not all.

  Raises:
    UserError: there are fewer than two examples.
  """
  if count < 2:
    raise UserError(
      f"The linear probe needs training images and others to choose the rate by, not {count}."
    )
  number = min(max(round(count * share), 1), count - 1)
  return np.arange(number) * count // number


def _split(
  source: Any, num_images: int | None, held_out: float
) -> tuple[sources.Subset, sources.Subset]:
  """Training images for the heads, and those by which the rate is chosen."""
  images = sources.Source(source, num_examples=num_images, max_bad_images=0)
  held = evenly_spaced(len(images), held_out)
  rest = np.setdiff1d(np.arange(len(images)), held)
  return sources.Subset(images, rest), sources.Subset(images, held)


def _views(examples: sources.Subset, min_scale: float, **options: Any) -> Iterator[pipeline.Batch]:
  """Batches of random crops without end."""
  augment_options = {"min_scale": min_scale, **_NO_JITTER}
  return pipeline.train_batches(
    examples, augment="supervised", augment_options=augment_options, start_step=0, **options
  )


def _check(
  source, inputs, learning_rates, num_epochs, head_batch_size, held_out, num_views
) -> None:
  if not source.num_classes:
    raise UserError("The linear probe needs images with classes, and the data has none.")
  known = ("features", *knn.BASELINES)
  if not inputs or not set(inputs) <= set(known):
    raise UserError(f"linear_probe.inputs is {tuple(inputs)}; choose among {', '.join(known)}.")
  if not learning_rates or not all(0 < rate < np.inf for rate in learning_rates):
    raise UserError(
      f"linear_probe.learning_rates is {tuple(learning_rates)}; give positive numbers."
    )
  for name, value, least in (
    ("num_epochs", num_epochs, 1),
    ("head_batch_size", head_batch_size, 1),
    ("num_views", num_views, 0),
  ):
    if value < least:
      raise UserError(f"linear_probe.{name} is {value}; it must be at least {least}.")
  if not 0 < held_out < 1:
    raise UserError(f"linear_probe.held_out is {held_out}; it must lie between 0 and 1.")


def _gather(x: jax.Array) -> np.ndarray:
  """A global array as numpy, whole on every host."""
  return multihost_utils.process_allgather(x, tiled=True)
