"""Figure against ground: what the class token attends to, and what regions would allow.

The paper scores its attention against the masks of Pascal VOC but does not publish how it makes a
mask of it. Taken here is the way of DINO (Caron et al., ICCV 2021): the strongest tokens that hold
60 % of the attention, each head by itself. That it is also the paper's is an assumption. Scores
that need no threshold stand beside it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from hseg_jax import model_hierarchies
from hseg_jax.errors import UserError
from hseg_jax.model_hierarchies import ModelHierarchies
from hseg_jax.scoring import figure_ground, part_whole

IGNORED = 255  # in a map of classes, where 0 is the ground

Sums = dict[str, Any]


class Evaluator:
  """Scores a model's attention and regions against masks of the figure.

  In a CAST the last block of each stage has attention over its stage's regions; in a ViT the last
  block has it over square patches. Heads are averaged, or taken one by one.
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
    share: float,
    seed: int,
  ):
    """Prepares the evaluation.

    Args:
      model: a model with levels, or a plain ViT.
      source: images with a mask `object`, or else with a map of classes `semantic`, of which every
        class but 0 is figure. Where there is such a map, its pixels of 255 do not count.
      batch_size: of all devices together.
      image_size: side in pixels.
      superpixels: as `data.pipeline.eval_batches` takes them.
      num_workers: processes that prepare batches.
      to_global: puts this host's part of a batch on the devices.
      num_examples: how many images to score, evenly spaced over the source.
      num_regions: of the k-means of a model without levels; finest first.
      share: of the attention that a mask keeps, in (0, 1]; DINO's is 0.6.
      seed: of the k-means.

    Raises:
      UserError: the source has no masks, or an option does not suit.
    """
    truths = [name for name in ("object", "semantic") if name in source[0]]
    if not truths:
      raise UserError(
        "The figure_ground evaluator needs masks, but the data has no object and no semantic; "
        "remove evaluators.figure_ground from the config."
      )
    model_hierarchies.check(model, num_regions, "figure_ground")
    if not 0 < share <= 1:
      raise UserError(f"figure_ground.share is {share}; give one in (0, 1], such as 0.6.")
    self._share = share
    # The last block of every stage.
    self._blocks = np.cumsum(model.depths) - 1
    self._hierarchies = ModelHierarchies(
      model,
      source=source,
      batch_size=batch_size,
      image_size=image_size,
      superpixels=superpixels,
      num_workers=num_workers,
      to_global=to_global,
      num_examples=num_examples,
      keep=truths,
      num_regions=num_regions,
      seed=seed,
      attention=True,
    )

  def run(self, variables: Any) -> Iterator[tuple[str, float]]:
    """Scores the images that show a figure.

    Yields:
      `val/figure_ground/MAP/SCORE`, all in [0, 1]. Attention has the MAPs `level_0`, `level_1`, ...
      of a CAST, or `patches` of a ViT, and these scores: `jaccard` of the mask that keeps `share`
      of the attention averaged over heads; `jaccard_best_head`, the same of the head that is best
      on all images together; `jaccard_best_head_of_image`, where every image may choose its head
      by the truth; `jaccard_adaptive` and `f_adaptive` of the threshold at twice the mean;
      `max_f`, of the mean precision and recall at the best threshold; `mae`, of the map itself. F
      has b^2 = 0.3. Regions have `level_0`, ... or `kmeans/N`: `best_region` and `best_union`, the
      Jaccard index of the best region and of the best set of regions, which know the truth.
      `everything/jaccard` takes the whole image for the figure.
    """
    totals: Sums = {}
    for example, row in self._hierarchies.rows(variables):
      truth, valid = _figure(example)
      counts = example["valid"] and (truth & valid).any()
      for name, value in self._score(example, row, truth, valid).items():
        # Every host names the same scores, whichever images fall to it.
        value = np.asarray(value, np.float64)
        totals[name] = totals.get(name, 0) + (value if counts else np.zeros_like(value))
    totals = model_hierarchies.sum_over_hosts(totals)
    images = totals.pop("images")
    if not images:
      raise UserError("None of the images shows a figure, so there is nothing to score.")
    for name, total in totals.items():
      for score, value in _scores(name, total / images):
        yield f"val/figure_ground/{score}", value

  def _score(
    self,
    example: Mapping[str, np.ndarray],
    row: Mapping[str, Any],
    truth: Bool[np.ndarray, "h w"],
    valid: Bool[np.ndarray, "h w"],
  ) -> dict[str, Any]:
    """What one image adds to the sums."""
    found = {"images": 1, "everything/jaccard": truth[valid].mean() if valid.any() else 0}
    tables = [_with_masks(row["attention"][block], self._share) for block in self._blocks]
    if "tokens" in row:
      hierarchy = self._hierarchies.assemble(example, row)
      maps = {"patches": _spread(tables[-1], truth.shape)}
    else:
      # Tables of attention travel as features do, so that regions get that of their tokens.
      last = np.zeros((max(row["assignments"][-1].max(), 0) + 1, 1), np.float32)
      hierarchy = self._hierarchies.assemble(example, row, (*tables, last))
      maps = {
        f"level_{level}": hierarchy.features[level][hierarchy.labels(level)]
        for level in range(len(tables))
      }
    for name, pixels in maps.items():
      soft, masks = np.split(np.moveaxis(pixels, -1, 0), 2)
      for score, value in _score_attention(soft, masks > 0, truth, valid).items():
        found[f"{name}/{score}"] = value
    for name, labels in self._hierarchies.maps(hierarchy).items():
      best = part_whole.best_ious(np.where(valid, truth, -1), labels)
      found[f"{name}/best_region"] = best.max(initial=0)
      union = figure_ground.best_union(truth, labels, valid)
      found[f"{name}/best_union"] = figure_ground.jaccard(truth, union, valid)
    return found


def _figure(
  example: Mapping[str, np.ndarray],
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
  """The figure, and the pixels that count."""
  mask = example["object" if "object" in example else "semantic"] > 0
  if "semantic" not in example:
    return mask, np.ones(mask.shape, bool)
  return mask, example["semantic"] != IGNORED


def _with_masks(
  attention: Float[np.ndarray, "heads n"], share: float
) -> Float[np.ndarray, "n columns"]:
  """Each head's attention and that of their mean, then 1 for each token that their masks keep.

  The mass of a mask is counted in tokens, as in DINO: a region has its attention once, however
  many pixels it has.
  """
  rows = np.concatenate([attention, attention.mean(axis=0, keepdims=True)])
  kept = np.concatenate([figure_ground.keep_mass(row[None], share) for row in rows])
  return np.concatenate([rows, kept.astype(rows.dtype)]).T


def _spread(
  table: Float[np.ndarray, "n columns"], shape: tuple[int, int]
) -> Float[np.ndarray, "h w columns"]:
  """Gives every pixel the row of its patch, of a square grid of them."""
  side = round(len(table) ** 0.5)
  rows, columns = (np.arange(size) * side // size for size in shape)
  return table.reshape(side, side, -1)[rows[:, None], columns]


def _score_attention(
  soft: Float[np.ndarray, "rows h w"],
  masks: Bool[np.ndarray, "rows h w"],
  truth: Bool[np.ndarray, "h w"],
  valid: Bool[np.ndarray, "h w"],
) -> dict[str, Any]:
  """Scores of the maps and masks of one image, the last of them the mean over heads."""
  jaccards = np.array([figure_ground.jaccard(truth, mask, valid) for mask in masks])
  mean = figure_ground.rescale(soft[-1].astype(np.float64))
  adaptive = figure_ground.adaptive_threshold(mean)
  curve = figure_ground.threshold_curve(truth, mean, valid)
  return {
    "jaccards": jaccards,
    "jaccard_best_head_of_image": jaccards[:-1].max(),
    "jaccard_adaptive": figure_ground.jaccard(truth, adaptive, valid),
    "f_adaptive": figure_ground.f_beta(truth, adaptive, valid),
    "curve": np.stack(curve),
    "mae": figure_ground.mean_absolute_error(truth, mean, valid),
  }


def _scores(name: str, mean: np.ndarray | np.float64) -> Iterator[tuple[str, float]]:
  """The scores that follow from the mean of a sum over images."""
  prefix, _, score = name.rpartition("/")
  if score == "jaccards":
    yield f"{prefix}/jaccard", float(mean[-1])
    yield f"{prefix}/jaccard_best_head", float(mean[:-1].max())
  elif score == "curve":
    yield f"{prefix}/max_f", figure_ground.max_f_beta([figure_ground.Curve(*mean)])[0]
  else:
    yield name, float(mean)
