"""The hierarchies that a model makes of the images of a data set, for evaluators of regions."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float

from hseg_jax import inference
from hseg_jax.baselines import methods
from hseg_jax.data import pipeline, sources
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.models.attention import apply_with_attention
from hseg_jax.preprocessing import add_segments, count_on_device, normalize

Row = dict[str, Any]


class ModelHierarchies:
  """Runs a model over images, each host its share, and builds hierarchies from what it says.

  A model without levels, a ViT, gets those of nested k-means of its tokens.
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
    to_global: Callable[[Mapping[str, Any]], Mapping[str, jax.Array]],
    num_examples: int,
    keep: Sequence[str],
    num_regions: Sequence[int],
    seed: int,
    attention: bool = False,
  ):
    """Prepares it.

    Args:
      model: a model with levels, or a plain ViT; see `check`.
      source: examples with what `keep` names.
      batch_size: of all devices together.
      image_size: side in pixels.
      superpixels: as `data.pipeline.eval_batches` takes them; "device" makes them here.
      num_workers: processes that prepare batches.
      to_global: puts this host's part of a batch on the devices.
      num_examples: how many images to take, evenly spaced over the source.
      keep: what examples hold besides image, superpixels and `valid`.
      num_regions: of the k-means; finest first.
      seed: of the k-means.
      attention: whether rows hold the attention of the class token too.
    """
    self._model, self._image_size, self._to_global = model, image_size, to_global
    self._num_regions, self._seed = tuple(num_regions), seed
    self._forward = inference.jit(
      lambda variables, batch: forward(model, variables, batch, attention)
    )
    # Always a jitted copy of the batch, so that hosts get back superpixels along with it.
    self._add_segments = jax.jit(lambda batch: add_segments(batch, count_on_device(superpixels)))
    self._batches = lambda: pipeline.eval_batches(
      sources.Source(source, num_examples=num_examples, max_bad_images=0),
      batch_size=batch_size,
      image_size=image_size,
      superpixels=superpixels,
      num_workers=num_workers,
      host_index=jax.process_index(),
      host_count=jax.process_count(),
      keep=keep,
    )

  def rows(self, variables: Any) -> Iterator[tuple[dict[str, np.ndarray], Row]]:
    """Yields this host's share of the examples, and what `forward` says of each.

    Padding, whose `valid` is False, is among them.
    """
    for host_batch in self._batches():
      batch = self._add_segments(self._to_global(host_batch))
      # Where a host's examples lie in the global batch is the mesh's business: they come back with
      # what the model made of them.
      found = (batch, self._forward(variables, batch))
      found = multihost_utils.process_allgather(found, tiled=True)
      for i in range(jax.process_index(), len(found[0]["valid"]), jax.process_count()):
        yield jax.tree.map(lambda values, i=i: values[i], found)

  def assemble(
    self,
    example: Mapping[str, np.ndarray],
    row: Mapping[str, Any],
    features: Sequence[Float[np.ndarray, "_ _"]] = (),
    clustering: str = "kmeans",
  ) -> Hierarchy:
    """The hierarchy of an image.

    Args:
      example: the image's, as `rows` gave it.
      row: likewise.
      features: as `Hierarchy.from_assignments` takes them; not for a model without levels.
      clustering: a key of `methods.TOKEN_METHODS`, for a model without levels.
    """
    probabilities = row.get("probabilities")
    if "tokens" not in row:
      return Hierarchy.from_assignments(
        example["segments"], row["assignments"], features, probabilities
      )
    side = -(-self._image_size // self._model.stride)
    maps = methods.TOKEN_METHODS[clustering](
      row["tokens"].reshape(side, side, -1),
      (self._image_size, self._image_size),
      self._num_regions,
      seed=self._seed,
    )
    return dataclasses.replace(Hierarchy.from_labels(maps), probabilities=probabilities)

  def maps(self, hierarchy: Hierarchy, clustering: str = "kmeans") -> dict[str, np.ndarray]:
    """The label maps of a hierarchy by name: `level_0`, `level_1`, ... or `CLUSTERING/N`."""
    maps = [hierarchy.labels(level) for level in range(hierarchy.num_levels)]
    if self._model.num_clusters:
      return {f"level_{level}": labels for level, labels in enumerate(maps)}
    return {f"{clustering}/{n}": labels for n, labels in zip(self._num_regions, maps, strict=True)}


def check(model: Any, num_regions: Sequence[int], evaluator: str) -> None:
  """Raises `UserError` where no hierarchy, or none with so many regions, can be made."""
  if model.num_segments and not model.num_clusters:
    raise UserError(
      f"The {evaluator} evaluator needs a model with levels or with a grid of tokens; "
      f"{type(model).__name__} has neither."
    )
  # Nested levels cannot grow again: the numbers in the scores' names would be wrong.
  methods.check_numbers(num_regions)


def forward(
  model: Any, variables: Any, batch: Mapping[str, jax.Array], attention: bool = False
) -> Row:
  """What hierarchies are made of, for the images of a batch.

  Returns:
    `assignments`, each level's cluster of every token, -1 where it is invalid, or the `tokens` of a
    model without levels; class `probabilities` if there is a classifier; and where it was asked for
    `attention`, as in `CastOutput`.
  """
  image, segments = normalize(batch["image"]), batch.get("segments")
  if attention:
    out = apply_with_attention(model, variables, image, segments)
  else:
    out = model.apply(variables, image, segments, train=False)
  found: Row = {"attention": out.attention} if attention else {}
  if out.levels:
    found["assignments"] = tuple(level.clusters for level in out.levels)
  else:
    found["tokens"] = out.tokens.astype(jnp.float32)
  is_classifier = model.num_classes and getattr(model, "head_kind", "linear") != "projector"
  if is_classifier and out.logits.ndim == 2:
    found["probabilities"] = jax.nn.softmax(out.logits)
  return found


def sum_over_hosts(totals: Mapping[str, Any]) -> dict[str, Any]:
  """Adds up what every host has tallied of its own images; the same on all of them."""
  return {
    name: multihost_utils.process_allgather(total).reshape(-1, *np.shape(total)).sum(axis=0)
    for name, total in totals.items()
  }
