"""Objects and parts by name: the PartImageNet protocol of the paper, and an oracle's labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from hseg_jax import model_hierarchies
from hseg_jax.errors import UserError
from hseg_jax.interop.image_text import ImageTextModel, OpenClip
from hseg_jax.model_hierarchies import ModelHierarchies
from hseg_jax.scoring import labelling, semantic

LABELLINGS = ("oracle", "clip")

Example = Mapping[str, np.ndarray]
Maps = tuple[Int[np.ndarray, "h w"], Int[np.ndarray, "h w"]]  # of objects and of parts


class Evaluator:
  """Names the regions of one level among the objects, those of a finer one among their parts.

  A name comes from an image-text model, which sees each region alone and reads "a photo of a
  NAME", or from an oracle: the class with which the region shares most pixels. Both give every
  region of a predicted object one of that object's parts; see `scoring.labelling`. Classes are
  scored as those of a semantic segmentation, the background among them.
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
    num_regions: Sequence[int],
    object_level: int,
    part_level: int,
    labellings: Sequence[str],
    clip_model: str,
    clip_weights: str,
    tolerance: float,
    seed: int,
    image_text: ImageTextModel | None = None,
  ):
    """Prepares the evaluation.

    Args:
      model: a model with levels, or a plain ViT.
      source: images with masks of objects and parts, and a vocabulary of both.
      batch_size: of all devices together.
      image_size: side in pixels.
      superpixels: as `data.pipeline.eval_batches` takes them.
      num_workers: processes that prepare batches.
      to_global: puts this host's part of a batch on the devices.
      num_examples: how many images to score, evenly spaced over the source.
      num_regions: of the k-means of a model without levels; finest first.
      object_level: whose regions are objects; negative levels count from the coarsest.
      part_level: whose regions are parts.
      labellings: who names the regions, among `LABELLINGS`.
      clip_model: of open_clip; the reference's is "ViT-B-16".
      clip_weights: tag or file; the reference's is "openai".
      tolerance: how far apart boundaries may lie and still agree, in pixels.
      seed: of the k-means.
      image_text: a model that names the regions instead of open_clip's.

    Raises:
      UserError: the source lacks masks or names, an option does not suit, or there is no such
        image-text model.
    """
    model_hierarchies.check(model, num_regions, "part_whole")
    _check(model, source, num_regions, (object_level, part_level), labellings)
    self._vocabulary, self._labellings = source.vocabulary, tuple(labellings)
    self._levels, self._tolerance = (object_level, part_level), tolerance
    self._clip = None
    if "clip" in labellings:
      self._clip = image_text or OpenClip(clip_model, clip_weights)
      names = [*self._vocabulary.objects, "Background"], self._vocabulary.part_names
      self._texts = [_embed_names(self._clip, group) for group in names]
    self._hierarchies = ModelHierarchies(
      model,
      source=source,
      batch_size=batch_size,
      image_size=image_size,
      superpixels=superpixels,
      num_workers=num_workers,
      to_global=to_global,
      num_examples=num_examples,
      keep=("label", "object", "parts"),
      num_regions=num_regions,
      seed=seed,
    )

  def run(self, variables: Any) -> Iterator[tuple[str, float]]:
    """Names and scores the regions of all images.

    Yields:
      `val/part_whole/LABELLING/KIND_SCORE` with KIND `object` or `part`, in [0, 1]. SCORE is
      `miou_per_image`, the mean over images of each image's mIoU, which the paper reports;
      `miou_dataset`, of the pixels of all images together; and the F of the classes' boundaries in
      both ways, `boundary_f_per_image` and `boundary_f_dataset`.
    """
    sums: dict[str, Any] = {}
    for example, row in self._hierarchies.rows(variables):
      hierarchy = self._hierarchies.assemble(example, row)
      segments = tuple(hierarchy.labels(level) for level in self._levels)
      truths = self._truths(example)
      for name in self._labellings:
        maps = self._label(name, example, segments, truths)
        for kind, truth, found in zip(("object", "part"), truths, maps, strict=True):
          for score, value in self._tally(kind, truth, found).items():
            key = f"{name}/{kind}/{score}"
            # Every host names the same scores, whichever images fall to it.
            sums[key] = sums.get(key, 0) + example["valid"] * value
    sums = model_hierarchies.sum_over_hosts(sums)
    for name in self._labellings:
      for kind in ("object", "part"):
        scores = _scores({score: sums[f"{name}/{kind}/{score}"] for score in _TALLIES})
        for score, value in scores.items():
          yield f"val/part_whole/{name}/{kind}_{score}", value

  def _truths(self, example: Example) -> Maps:
    objects = self._vocabulary.object_classes(example["object"], int(example["label"]))
    return objects, self._vocabulary.part_classes(objects, example["parts"])

  def _label(self, name: str, example: Example, segments: Maps, truths: Maps) -> Maps:
    """Class maps of objects and parts."""
    vocabulary = self._vocabulary
    if name == "oracle":
      numbers = len(vocabulary.objects) + 1, len(vocabulary.pairs)
      scores = [labelling.overlaps(*each) for each in zip(segments, truths, numbers, strict=True)]
    else:
      image = self._clip.prepare(example["image"])
      scores = [
        self._clip.embed_images(labelling.mask_images(image, labels)) @ texts.T
        for labels, texts in zip(segments, self._texts, strict=True)
      ]
    objects = labelling.label_objects(segments[0], scores[0])
    return objects, labelling.label_parts(segments[1], objects, scores[1], vocabulary)

  def _tally(
    self, kind: str, truth: Int[np.ndarray, "h w"], found: Int[np.ndarray, "h w"]
  ) -> dict[str, np.ndarray]:
    """What one image adds to the sums; `_TALLIES` names them."""
    vocabulary = self._vocabulary
    number = 1 + len(vocabulary.objects if kind == "object" else vocabulary.pairs)
    confusion = semantic.confusion_matrix(truth, found, number, ignore=-1)
    counts = semantic.boundary_counts(truth, found, number, self._tolerance, ignore=-1)
    boundary_f = semantic.mean_boundary_f(counts)
    values = semantic.mean_iou(confusion), 1.0, np.nan_to_num(boundary_f), boundary_f == boundary_f
    return dict(zip(_TALLIES, (confusion, counts, *map(np.float64, values)), strict=True))


# Of one image: its matrices, its own mIoU and F, and whether it has them.
_TALLIES = ("confusion", "boundaries", "miou", "images", "boundary_f", "with_boundary")


def _scores(sums: Mapping[str, np.ndarray]) -> dict[str, float]:
  """Scores of a set of images, from the sums of their tallies."""
  return {
    "miou_per_image": float(sums["miou"] / sums["images"]),
    "miou_dataset": semantic.mean_iou(sums["confusion"]),
    "boundary_f_per_image": float(sums["boundary_f"] / max(sums["with_boundary"], 1)),
    "boundary_f_dataset": semantic.mean_boundary_f(sums["boundaries"]),
  }


def _embed_names(clip: ImageTextModel, names: Sequence[str]) -> Float[np.ndarray, "c d"]:
  return clip.embed_texts([labelling.TEMPLATE.format(name) for name in names])


def _check(
  model: Any,
  source: Any,
  num_regions: Sequence[int],
  levels: tuple[int, int],
  labellings: Sequence[str],
) -> None:
  """Raises `UserError` where data, levels or labellings do not suit."""
  missing = [name for name in ("object", "parts") if name not in source[0]]
  if missing or getattr(source, "vocabulary", None) is None:
    raise UserError(
      f"The part_whole evaluator needs masks and names of objects and parts, but the data has no "
      f"{' and no '.join(missing or ['names of parts'])}; remove evaluators.part_whole from the "
      "config."
    )
  number = len(model.num_clusters) + 1 if model.num_clusters else len(num_regions)
  for name, level in zip(("object_level", "part_level"), levels, strict=True):
    if not -number <= level < number:
      raise UserError(
        f"part_whole.{name} is {level}, but there are {number} levels: 0 to {number - 1}, or -1 "
        f"for the coarsest to {-number}."
      )
  unknown = [name for name in labellings if name not in LABELLINGS]
  if unknown or not labellings:
    raise UserError(
      f"part_whole.labellings is {tuple(labellings)}; it may hold {' and '.join(LABELLINGS)}."
    )
