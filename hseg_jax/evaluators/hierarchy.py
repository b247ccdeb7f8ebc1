"""How well a model's levels find objects, their parts and their boundaries, beside baselines."""

import collections
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from hseg_jax.baselines import grid, kmeans, slic, ward
from hseg_jax.data import pipeline, sources
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.preprocessing import normalize
from hseg_jax.scoring import bsds, part_whole
from hseg_jax.viz import panels
from hseg_jax.viz.report import Example

# Each takes an image, its superpixels and the numbers of regions.
BASELINES = {
  "grid": lambda image, segments, counts: grid.segment(image, counts),
  "slic": lambda image, segments, counts: tuple(slic.segment(image, n) for n in counts),
  "ward": ward.segment,
}


class Tally(NamedTuple):
  """Sums over images, from which the scores of a method at one level follow."""

  images: float = 0.0
  regions: float = 0.0
  covering: float = 0.0
  objects: float = 0.0
  object_iou: float = 0.0
  parts: float = 0.0
  part_iou: float = 0.0
  recalled: float = 0.0
  truth: float = 0.0
  confirmed: float = 0.0
  predicted: float = 0.0


class Evaluator:
  """Scores every level of a model's hierarchies against masks of objects and their parts.

  The truth of covering and boundaries is the map of parts, with the background as one more region.
  Object and part IoU are means over all objects and all parts of the data; boundary scores come
  from the pixels of all images together. "best" takes for each image, object or part the best of a
  method's levels (the superpixels, level 0, left out). A model without levels, a ViT, is scored by
  nested k-means of its tokens.

  Attributes:
    examples: pictures of the last `run`, as `viz.report.write` takes them; this host's images.
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
    num_pictures: int,
    num_regions: Sequence[int],
    baselines: Sequence[str],
    tolerance: float,
    seed: int,
  ):
    """Prepares the evaluation.

    Args:
      model: a model with levels, or a plain ViT.
      source: images with masks of objects and parts.
      batch_size: of all devices together.
      image_size: side in pixels.
      superpixels: as `data.pipeline.eval_batches` takes them.
      num_workers: processes that prepare batches.
      to_global: puts this host's part of a batch on the devices.
      num_examples: how many images to score, evenly spaced over the source.
      num_pictures: how many of them to keep as `examples`.
      num_regions: of the baselines, and of the k-means of a model without levels; finest first.
        Those of the model's levels make a fair comparison.
      baselines: names among `BASELINES`.
      tolerance: how far apart boundaries may lie and still agree, in pixels.
      seed: of the k-means.

    Raises:
      UserError: the source has no masks, the model neither levels nor a grid of tokens, or a
        baseline is unknown or lacks its superpixels, or the numbers of regions do not fall.
    """
    check(model, source, superpixels, baselines, num_regions)
    self.examples: list[Example] = []
    self._model, self._image_size, self._to_global = model, image_size, to_global
    self._class_names, self._num_pictures = source.class_names, num_pictures
    self._num_regions, self._tolerance, self._seed = tuple(num_regions), tolerance, seed
    self._baselines = tuple(baselines)
    self._baseline_totals = None
    self._forward = jax.jit(lambda variables, batch: forward(model, variables, batch))
    self._batches = lambda: pipeline.eval_batches(
      sources.Source(source, num_examples=num_examples, max_bad_images=0),
      batch_size=batch_size,
      image_size=image_size,
      superpixels=superpixels,
      num_workers=num_workers,
      host_index=jax.process_index(),
      host_count=jax.process_count(),
      keep=("label", "object", "parts"),
    )

  def run(self, variables: Any) -> Iterator[tuple[str, float]]:
    """Scores the model, and the first time the baselines too: they depend on no variables.

    Yields:
      `val/hierarchy/METHOD/SCORE`. METHOD is `level_0`, `level_1`, ... and `best`, or `kmeans/N`
      and `kmeans/best`; then `NAME/N` and `NAME/best` for each baseline. SCORE is `covering`,
      `object_iou`, `part_iou` and, save for "best", `boundary_precision`, `boundary_recall`,
      `boundary_f`, all in [0, 1], and `regions`, how many there were on average.
    """
    self.examples = []
    totals = collections.defaultdict(lambda: np.zeros(len(Tally())))
    baseline_totals = collections.defaultdict(lambda: np.zeros(len(Tally())))
    for batch in self._batches():
      for example, hierarchy in self._segment(variables, batch):
        self._keep_picture(example, hierarchy)
        self._add(totals, example, self._model_maps(hierarchy))
        if self._baseline_totals is None:
          self._add(baseline_totals, example, self._baseline_maps(example))
    if self._baseline_totals is None:
      self._baseline_totals = _sum_over_hosts(baseline_totals)
    for name, total in (_sum_over_hosts(totals) | self._baseline_totals).items():
      for score, value in scores(Tally(*total.tolist())):
        yield f"val/hierarchy/{name}/{score}", value

  def figures(self) -> dict[str, np.ndarray]:
    """Pictures of the last `run`: each image with all its levels, uint8 `[h, w, 3]`."""
    return {
      f"val/hierarchy/{i}": panels.panel(e.image, e.hierarchy, title=e.label)
      for i, e in enumerate(self.examples)
    }

  def _segment(
    self, variables: Any, batch: Mapping[str, np.ndarray]
  ) -> Iterator[tuple[dict[str, np.ndarray], Hierarchy]]:
    """Yields this host's share of the examples and their hierarchies."""
    batch = self._to_global(batch)
    # Where a host's examples lie in the global batch is the mesh's business: they come back with
    # what the model made of them.
    found = multihost_utils.process_allgather((batch, self._forward(variables, batch)), tiled=True)
    for i in range(jax.process_index(), len(found[0]["valid"]), jax.process_count()):
      example, row = jax.tree.map(lambda values, i=i: values[i], found)
      if "tokens" in row:
        yield example, self._cluster_tokens(row)
      else:
        assignments, probabilities = row["assignments"], row.get("probabilities")
        yield (
          example,
          Hierarchy.from_assignments(example["segments"], assignments, (), probabilities),
        )

  def _cluster_tokens(self, row: Mapping[str, np.ndarray]) -> Hierarchy:
    side = -(-self._image_size // self._model.stride)
    maps = kmeans.segment(
      row["tokens"].reshape(side, side, -1),
      (self._image_size, self._image_size),
      self._num_regions,
      seed=self._seed,
    )
    parents = Hierarchy.from_labels(maps).parents
    return Hierarchy(maps[0], parents, (), row.get("probabilities"))

  def _model_maps(self, hierarchy: Hierarchy) -> dict[str, np.ndarray]:
    maps = [hierarchy.labels(level) for level in range(hierarchy.num_levels)]
    if self._model.num_clusters:
      return {f"level_{level}": labels for level, labels in enumerate(maps)}
    return {f"kmeans/{n}": labels for n, labels in zip(self._num_regions, maps, strict=True)}

  def _baseline_maps(self, example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    maps = {}
    for name in self._baselines:
      found = BASELINES[name](example["image"], example.get("segments"), self._num_regions)
      maps |= {f"{name}/{n}": labels for n, labels in zip(self._num_regions, found, strict=True)}
    return maps

  def _add(self, totals, example: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray]) -> None:
    """Adds an image's tallies. Padding is tallied with weight zero: every host has every name."""
    for name, tally in tally_levels(example, maps, self._tolerance).items():
      totals[name] += example["valid"] * np.array(tally)

  def _keep_picture(self, example: Mapping[str, np.ndarray], hierarchy: Hierarchy) -> None:
    if example["valid"] and len(self.examples) < self._num_pictures:
      prediction = ""
      if hierarchy.probabilities is not None:
        prediction = self._class_names[int(hierarchy.probabilities.argmax())]
      label = self._class_names[int(example["label"])]
      self.examples.append(
        Example(example["image"], hierarchy, label, prediction, self._class_names)
      )


def check(
  model: Any,
  source: Any,
  superpixels: Mapping[str, Any],
  baselines: Sequence[str],
  num_regions: Sequence[int],
) -> None:
  """Raises `UserError` where model, data, baselines or numbers of regions do not suit."""
  missing = {"object", "parts"} - source[0].keys()
  if missing:
    raise UserError(
      f"The hierarchy evaluator needs masks, but the data has no {' and no '.join(sorted(missing))}"
      "; remove evaluators.hierarchy from the config."
    )
  if model.num_segments and not model.num_clusters:
    raise UserError(
      "The hierarchy evaluator needs a model with levels or with a grid of tokens; "
      f"{type(model).__name__} has neither."
    )
  # Nested levels cannot grow again: the numbers in the scores' names would be wrong.
  is_falling = all(fine > coarse for fine, coarse in itertools.pairwise(num_regions))
  if not is_falling or min(num_regions, default=0) < 1:
    raise UserError(
      f"hierarchy.num_regions is {tuple(num_regions)}; give positive numbers, finest first, such "
      "as (32, 16, 8, 4)."
    )
  for name in baselines:
    if name not in BASELINES:
      raise UserError(f"There is no baseline {name!r}; choose among {', '.join(BASELINES)}.")
    if name == "ward" and superpixels["method"] == "none":
      raise UserError("The baseline 'ward' merges superpixels, but superpixels.method is 'none'.")


def forward(model: Any, variables: Any, batch: Mapping[str, jax.Array]) -> dict[str, Any]:
  """What hierarchies are made of: each level's cluster of every token, -1 where it is invalid, or
  the `tokens` of a model without levels; and class `probabilities` if there is a classifier."""
  out = model.apply(variables, normalize(batch["image"]), batch.get("segments"), train=False)
  found: dict[str, Any] = {}
  if out.levels:
    found["assignments"] = tuple(level.groups for level in out.levels)
  else:
    found["tokens"] = out.tokens.astype(jnp.float32)
  if model.num_classes and out.logits.ndim == 2:
    found["probabilities"] = jax.nn.softmax(out.logits)
  return found


def tally_levels(
  example: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray], tolerance: float
) -> dict[str, Tally]:
  """Tallies the label maps of one image, and the best of each method's.

  Args:
    example: `object` bool `[h, w]` and `parts` uint8 `[h, w]`, 0 off the object.
    maps: label maps by name: `METHOD/N`, or `level_N` for the model's own.
    tolerance: between boundaries, in pixels.

  Returns:
    A tally for each name, and for `METHOD/best`, or `best` for the model's own.
  """
  tallies, found = {}, collections.defaultdict(list)
  for name, labels in maps.items():
    objects = part_whole.best_ious(example["object"], labels)
    parts = part_whole.best_ious(example["parts"], labels)
    covering = bsds.covering(example["parts"], labels)
    counts = bsds.boundary_counts(example["parts"], labels, tolerance)
    regions = int(labels.max()) + 1
    tallies[name] = _tally(covering, objects, parts)._replace(regions=regions, **counts._asdict())
    if name != "level_0":
      found[f"{name.rpartition('/')[0]}/best".lstrip("/")].append((covering, objects, parts))
  for name, levels in found.items():
    tallies[name] = _tally(*(np.max(values, axis=0) for values in zip(*levels, strict=True)))
  return tallies


def _tally(covering: float, objects: np.ndarray, parts: np.ndarray) -> Tally:
  return Tally(
    images=1,
    covering=float(covering),
    objects=len(objects),
    object_iou=float(objects.sum()),
    parts=len(parts),
    part_iou=float(parts.sum()),
  )


def scores(total: Tally) -> Iterator[tuple[str, float]]:
  """The scores that follow from summed tallies; without regions there are none of boundaries."""
  yield "covering", total.covering / total.images
  yield "object_iou", total.object_iou / max(total.objects, 1)
  yield "part_iou", total.part_iou / max(total.parts, 1)
  if total.regions:
    counts = bsds.BoundaryCounts(*(round(value) for value in total[-4:]))
    for name, value in zip(
      ("precision", "recall", "f"), bsds.precision_recall_f(counts), strict=True
    ):
      yield f"boundary_{name}", value
    yield "regions", total.regions / total.images


def _sum_over_hosts(totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Adds up what every host has tallied of its own images; the same on all of them."""
  if not totals:
    return {}
  gathered = multihost_utils.process_allgather(np.stack(list(totals.values())))
  return dict(zip(totals, gathered.reshape(-1, len(totals), len(Tally())).sum(axis=0), strict=True))
