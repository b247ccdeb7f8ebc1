"""How well a model's levels find objects, their parts and their boundaries, beside baselines."""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from hseg_jax import model_hierarchies
from hseg_jax.baselines import methods
from hseg_jax.data.masks import IGNORE
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.model_hierarchies import ModelHierarchies, sum_over_hosts
from hseg_jax.scoring import bsds, part_whole
from hseg_jax.viz import panels
from hseg_jax.viz.report import Example


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
  nested k-means of its tokens, and by their nested normalised cuts where "spectral" is among the
  baselines.

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
      superpixels: as `data.pipeline.eval_batches` takes them; "device" makes them here.
      num_workers: processes that prepare batches.
      to_global: puts this host's part of a batch on the devices.
      num_examples: how many images to score, evenly spaced over the source.
      num_pictures: how many of them to keep as `examples`.
      num_regions: of the baselines, and of the k-means of a model without levels; finest first.
        Those of the model's levels make a fair comparison.
      baselines: names among `methods.METHODS`; for a model without levels also "spectral".
      tolerance: how far apart boundaries may lie and still agree, in pixels.
      seed: of the k-means.

    Raises:
      UserError: the source has no masks, the model neither levels nor a grid of tokens, or a
        baseline is unknown or lacks its superpixels, or the numbers of regions do not fall.
    """
    check(model, source, superpixels, baselines, num_regions)
    self.examples: list[Example] = []
    self._class_names, self._num_pictures = source.class_names, num_pictures
    self._num_regions, self._tolerance = tuple(num_regions), tolerance
    self._baselines = tuple(name for name in baselines if name in methods.METHODS)
    self._clusterings = ("kmeans", *(name for name in baselines if name in methods.TOKEN_METHODS))
    self._baseline_totals = None
    self._hierarchies = ModelHierarchies(
      model,
      source=source,
      batch_size=batch_size,
      image_size=image_size,
      superpixels=superpixels,
      num_workers=num_workers,
      to_global=to_global,
      num_examples=num_examples,
      keep=("label", *masks_of(source)),
      num_regions=num_regions,
      seed=seed,
    )

  def run(self, variables: Any) -> Iterator[tuple[str, float]]:
    """Scores the model, and the first time the baselines too: they depend on no variables.

    Yields:
      `val/hierarchy/METHOD/SCORE`. METHOD is `level_0`, `level_1`, ... and `best`, or `kmeans/N`
      and `kmeans/best` (`spectral` alike); then `NAME/N` and `NAME/best` for each baseline. SCORE
      is `covering`, `object_iou`, `part_iou` and, save for "best", `boundary_precision`,
      `boundary_recall`, `boundary_f`, all in [0, 1], and `regions`, how many there were on average.
    """
    self.examples = []
    totals = collections.defaultdict(lambda: np.zeros(len(Tally())))
    baseline_totals = collections.defaultdict(lambda: np.zeros(len(Tally())))
    for example, row in self._hierarchies.rows(variables):
      trees = {
        name: self._hierarchies.assemble(example, row, clustering=name)
        for name in self._clusterings
      }
      self._keep_picture(example, trees["kmeans"])
      for name, tree in trees.items():
        self._add(totals, example, self._hierarchies.maps(tree, name))
      if self._baseline_totals is None:
        self._add(baseline_totals, example, self._baseline_maps(example))
    if self._baseline_totals is None:
      self._baseline_totals = sum_over_hosts(baseline_totals)
    for name, total in (sum_over_hosts(totals) | self._baseline_totals).items():
      for score, value in scores(Tally(*total.tolist())):
        yield f"val/hierarchy/{name}/{score}", value

  def figures(self) -> dict[str, np.ndarray]:
    """Pictures of the last `run`: each image with all its levels, uint8 `[h, w, 3]`."""
    return {
      f"val/hierarchy/{i}": panels.panel(e.image, e.hierarchy, title=e.label)
      for i, e in enumerate(self.examples)
    }

  def _baseline_maps(self, example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    maps = {}
    for name in self._baselines:
      method = methods.METHODS[name]
      found = method.segment(example["image"], example.get("segments"), self._num_regions)
      maps |= {f"{name}/{n}": labels for n, labels in zip(self._num_regions, found, strict=True)}
    return maps

  def _add(self, totals, example: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray]) -> None:
    """Adds an image's tallies. Padding is tallied with weight zero: every host has every name."""
    for name, tally in tally_levels(example, maps, self._tolerance).items():
      totals[name] += example["valid"] * np.array(tally)

  def _keep_picture(self, example: Mapping[str, np.ndarray], hierarchy: Hierarchy) -> None:
    if example["valid"] and len(self.examples) < self._num_pictures:
      label = prediction = ""
      if self._class_names:
        label = self._class_names[int(example["label"])]
        if hierarchy.probabilities is not None:
          prediction = self._class_names[int(hierarchy.probabilities.argmax())]
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
  model_hierarchies.check(model, num_regions, "hierarchy")
  of_tokens = () if model.num_clusters else ("spectral",)
  for name in baselines:
    if name in of_tokens:
      continue
    if name not in methods.METHODS:
      known = ", ".join((*methods.METHODS, *of_tokens))
      raise UserError(f"There is no baseline {name!r}; choose among {known}.")
    method = methods.METHODS[name]
    if method.fewest > min(num_regions):
      raise UserError(f"The baseline {name!r} makes no fewer than {method.fewest} regions.")
    if method.merges and superpixels["method"] == "none":
      raise UserError(f"The baseline {name!r} merges superpixels, but there are none.")


def masks_of(source: Any) -> list[str]:
  """The masks of a source that `tally_levels` looks at."""
  return [name for name in ("object", "parts", "semantic") if name in source[0]]


def tally_levels(
  example: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray], tolerance: float
) -> dict[str, Tally]:
  """Tallies the label maps of one image, and the best of each method's.

  Args:
    example: `object` bool `[h, w]` and `parts` uint8 `[h, w]`, 0 off the object; and `semantic`,
      uint8 `[h, w]`, if there is one: where it is 255, pixels count nowhere.
    maps: label maps by name: `METHOD/N`, or `level_N` for the model's own.
    tolerance: between boundaries, in pixels.

  Returns:
    A tally for each name, and for `METHOD/best`, or `best` for the model's own; all of them zero if
    no pixel counts.
  """
  tallies, found = {}, collections.defaultdict(list)
  unknown = example["semantic"] == IGNORE if "semantic" in example else False
  wholes, kinds = (
    np.where(unknown, -1, example[name].astype(np.int32)) for name in ("object", "parts")
  )
  for name, labels in maps.items():
    objects, parts = (part_whole.best_ious(truth, labels) for truth in (wholes, kinds))
    covering = bsds.covering(kinds, labels)
    counts = bsds.boundary_counts(kinds, labels, tolerance)
    regions = int(labels.max()) + 1
    tallies[name] = _tally(covering, objects, parts)._replace(regions=regions, **counts._asdict())
    if name != "level_0":
      found[f"{name.rpartition('/')[0]}/best".lstrip("/")].append((covering, objects, parts))
  for name, levels in found.items():
    tallies[name] = _tally(*(np.max(values, axis=0) for values in zip(*levels, strict=True)))
  return tallies if wholes.max() >= 0 else dict.fromkeys(tallies, Tally())


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
  images = total.images or float("nan")
  yield "covering", total.covering / images
  yield "object_iou", total.object_iou / max(total.objects, 1)
  yield "part_iou", total.part_iou / max(total.parts, 1)
  if total.regions:
    counts = bsds.BoundaryCounts(*(round(value) for value in total[-4:]))
    for name, value in zip(
      ("precision", "recall", "f"), bsds.precision_recall_f(counts), strict=True
    ):
      yield f"boundary_{name}", value
    yield "regions", total.regions / images
