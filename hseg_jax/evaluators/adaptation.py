"""What test-time adaptation changes: recognition and segmentation before and after it."""

import collections
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from hseg_jax import inference, model_hierarchies
from hseg_jax.adaptation import Adapter, State
from hseg_jax.data import corruptions, pipeline, sources
from hseg_jax.errors import UserError
from hseg_jax.evaluators import hierarchy
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.preprocessing import add_segments, count_on_device, normalize

MODES = ("episodic", "online")

Batch = Mapping[str, Any]


class Evaluator:
  """Adapts a model to held-out images, or to corrupted ones, and scores it before and after.

  The scores of segmentation are those of the hierarchy evaluator, for models with levels and data
  with masks; a boundary may be off by 1.5 pixels.
  """

  def __init__(
    self,
    model: Any,
    *,
    source: Any,
    batch_size: int,
    image_size: int,
    superpixels: Mapping[str, Any],
    num_workers: int,
    to_global: Callable[[Batch], Mapping[str, jax.Array]],
    num_examples: int,
    mode: str,
    group_size: int,
    parameters: str,
    statistics: str,
    optimizer: str,
    steps: int,
    learning_rate: float,
    corruption: str,
    severity: int,
    seed: int,
  ):
    """Prepares the evaluation.

    Args:
      model: a model that classifies images.
      source: images, perhaps with labels, and perhaps with masks of objects and parts.
      batch_size: of all devices together.
      image_size: side in pixels.
      superpixels: as `data.pipeline.eval_batches` takes them; "device" makes them here.
      num_workers: processes that prepare batches.
      to_global: puts this host's part of a batch on the devices.
      num_examples: how many images to adapt to, evenly spaced over the source.
      mode: "episodic" starts from the given variables for every group of images, so that no group
        depends on another; "online" goes on from one group to the next.
      group_size: how many images are adapted to at a time; divides `batch_size` and the examples.
      parameters: as `adaptation.Adapter` says, and so are the next two.
      statistics: see there.
      optimizer: see there.
      steps: of gradient descent for every group.
      learning_rate: of every step.
      corruption: "none", "noise", "blur" or "contrast".
      severity: of the corruption, 1 to 5.
      seed: of the noise.

    Raises:
      UserError: an option makes no sense, or the model does not classify images.
    """
    self._adapter = Adapter(model, parameters, statistics, optimizer)
    _check(model, mode, num_examples, steps, learning_rate)
    examples = sources.Source(source, num_examples=num_examples, max_bad_images=0)
    _check_group_size(group_size, batch_size, len(examples))
    self._mode, self._group_size, self._to_global = mode, group_size, to_global
    self._steps, self._learning_rate = steps, learning_rate
    corrupted = corruptions.Corrupted(
      examples, name=corruption, severity=severity, image_size=image_size, seed=seed
    )
    masks = hierarchy.masks_of(source)
    self._has_masks = {"object", "parts"} <= set(masks)
    self._has_classes = bool(source.class_names)
    options = {"batch_size": batch_size, "image_size": image_size, "superpixels": superpixels}
    hosts = {"host_index": jax.process_index(), "host_count": jax.process_count()}
    options |= {"num_workers": num_workers, "keep": ("label", *masks), **hosts}
    self._batches = functools.partial(pipeline.eval_batches, corrupted, **options)
    # Always a jitted copy of the batch, so that hosts get back superpixels along with it.
    self._add_segments = jax.jit(lambda batch: add_segments(batch, count_on_device(superpixels)))
    self._predict = inference.jit(functools.partial(model_hierarchies.forward, model))
    self._adapt = jax.jit(functools.partial(_adapt, self._adapter, mode == "online"))

  def run(self, variables: Any) -> Iterator[tuple[str, float]]:
    """Yields `val/adaptation/WHEN/SCORE` for WHEN `before` and `after`.

    SCORE is `top1`, a share in [0, 1], where images have classes; `entropy`, the mean over images
    in nats; and where there are levels and masks what the hierarchy evaluator gives its `level_0`,
    `level_1`, ... and `best`.
    """
    recognition = {when: np.zeros(3) for when in ("before", "after")}
    segmentation = collections.defaultdict(lambda: np.zeros(len(hierarchy.Tally())))
    state = self._adapter.start(variables)
    for host_batch in self._batches():
      batch = self._add_segments(self._to_global(host_batch))
      groups = {
        name: batch[name].reshape(-1, self._group_size, *batch[name].shape[1:])
        for name in ("image", "segments")
        if name in batch
      }
      before = self._predict(variables, batch)
      state, after = self._adapt(state, groups, self._steps, self._learning_rate)
      found = multihost_utils.process_allgather((batch, before, after), tiled=True)
      for i in range(jax.process_index(), len(found[0]["valid"]), jax.process_count()):
        example, *rows = jax.tree.map(lambda values, i=i: values[i], found)
        for when, row in zip(recognition, rows, strict=True):
          recognition[when] += example["valid"] * _recognition(example, row)
          for name, tally in self._segmentation(example, row).items():
            segmentation[f"{when}/{name}"] += example["valid"] * np.array(tally)
    for when, (images, right, entropy) in model_hierarchies.sum_over_hosts(recognition).items():
      if self._has_classes:
        yield f"val/adaptation/{when}/top1", right / images
      yield f"val/adaptation/{when}/entropy", entropy / images
    for name, total in model_hierarchies.sum_over_hosts(segmentation).items():
      for score, value in hierarchy.scores(hierarchy.Tally(*total.tolist())):
        yield f"val/adaptation/{name}/{score}", value

  def _segmentation(self, example: Batch, row: Batch) -> dict[str, hierarchy.Tally]:
    if not self._has_masks or "assignments" not in row:
      return {}
    tree = Hierarchy.from_assignments(example["segments"], row["assignments"])
    maps = {f"level_{level}": tree.labels(level) for level in range(tree.num_levels)}
    return hierarchy.tally_levels(example, maps, tolerance=1.5)


def _check(model: Any, mode: str, num_examples: int, steps: int, learning_rate: float) -> None:
  if getattr(model, "output", "image") != "image":
    raise UserError("The adaptation evaluator needs a model that classifies whole images.")
  if mode not in MODES:
    raise UserError(f"adaptation.mode is {mode!r}; choose among {', '.join(MODES)}.")
  if num_examples < 1 or steps < 0 or not learning_rate >= 0:
    raise UserError(
      f"adaptation.num_examples is {num_examples}, steps {steps} and learning_rate "
      f"{learning_rate}; the first must be positive, the others not negative."
    )


def _check_group_size(group_size: int, batch_size: int, num_examples: int) -> None:
  if group_size < 1 or batch_size % group_size or num_examples % group_size:
    raise UserError(
      f"adaptation.group_size is {group_size}; it must divide batch_size, {batch_size}, and the "
      f"number of examples, {num_examples}."
    )


def _adapt(
  adapter: Adapter, online: bool, state: State, groups: Batch, steps: Any, learning_rate: Any
) -> tuple[State, dict[str, Any]]:
  """What a model that has adapted to each group `[g, n, ...]` says of it, one row an image.

  Returns:
    The state after the last group, or as it was if every group starts from it; and the rows.
  """

  def visit(state, group):
    adapted = adapter.update(
      state,
      normalize(group["image"]),
      group.get("segments"),
      steps=steps,
      learning_rate=learning_rate,
    )
    return adapted, model_hierarchies.forward(adapter.model, adapted.variables, group)

  if online:
    state, rows = jax.lax.scan(visit, state, groups)
  else:
    # Copies of a few parameters for every group are nothing beside the activations; those of all
    # would be too much, so then one group comes after the other.
    over = jax.vmap if adapter.parameters == "norm" else lambda f: functools.partial(jax.lax.map, f)
    rows = over(lambda group: visit(state, group)[1])(groups)
  return state, jax.tree.map(lambda values: values.reshape(-1, *values.shape[2:]), rows)


def _recognition(example: Batch, row: Batch) -> np.ndarray:
  """Of an image: 1, whether its class is found, and the prediction's entropy."""
  probabilities = row["probabilities"].astype(np.float64)
  known = probabilities[probabilities > 0]
  right = probabilities.argmax() == example["label"]
  return np.array([1.0, right, -(known * np.log(known)).sum()])
