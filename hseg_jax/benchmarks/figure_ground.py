"""Figure and ground: soft maps, masks or regions against masks of figures.

The scores of `scoring.figure_ground`. A soft map, attention or saliency, is made a mask; regions
are scored by the best figure that they allow, which is an upper bound for any choice among them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from hseg_jax.benchmarks import Curve, Tally, mean, scales
from hseg_jax.errors import UserError
from hseg_jax.scoring import figure_ground, part_whole
from hseg_jax.scoring.predictions import Prediction
from hseg_jax.scoring.truths import Figure

# How a soft map becomes a mask, and the value that goes with it.
THRESHOLDS = {"mass": 0.6, "adaptive": None, "fixed": 0.5}

SCORES = {
  "jaccard": "IoU of the figure, mean over images",
  "f_beta": "F of the figure with beta squared 0.3, mean over images",
  "max_f_beta": "largest F of mean precision and recall over 256 thresholds",
  "max_f_beta_threshold": "where that is",
  "mae": "mean absolute error of the soft map",
  "best_union_jaccard": "IoU of the figure with the best union of regions, mean over images",
  "best_region_jaccard": "IoU of the figure with the best single region, mean over images",
  "num_regions": "regions of an image",
}
LOWER = ("mae",)
TITLE = "Figure and ground"
HEADLINES = ("jaccard", "f_beta", "max_f_beta", "mae", "best_*_jaccard")


def tally(
  prediction: Prediction,
  truth: Figure,
  *,
  threshold: str = "mass",
  value: float | None = None,
  rescale: bool = False,
  regions: Sequence[int] = (),
) -> Tally:
  """Scores of one image.

  Args:
    prediction: a soft map, or levels.
    truth: the figure.
    threshold: how a soft map becomes a mask: "mass" keeps the strongest pixels that hold the share
      `value` of the sum, "adaptive" those at twice the mean or above, "fixed" those at `value` or
      above.
    value: as `threshold` says; that of `THRESHOLDS` if None.
    rescale: bring each soft map to [0, 1] first, its smallest value to 0, its largest to 1.
    regions: as `scales.select` takes them; of levels only.

  Returns:
    Of a soft map `jaccard`, `f_beta`, `mae`, and `precision [256]` and `recall [256]`; of k levels
    their scales, `num_regions [k]`, `best_union_jaccard [k]` and `best_region_jaccard [k]`.
  """
  figure, valid = truth.mask, truth.valid
  if prediction.soft is not None:
    if regions:
      raise UserError("A soft map has no regions; leave out the numbers of regions.")
    soft = figure_ground.rescale(prediction.soft) if rescale else prediction.soft
    mask = binarize(soft, threshold, value)
    curve = figure_ground.threshold_curve(figure, soft, valid)
    return {
      "jaccard": figure_ground.jaccard(figure, mask, valid),
      "f_beta": figure_ground.f_beta(figure, mask, valid),
      "mae": figure_ground.mean_absolute_error(figure, soft, valid),
      **curve._asdict(),
    }
  levels = scales.select(prediction, regions)
  unions = [figure_ground.best_union(figure, labels, valid) for labels in levels]
  return scales.label(len(levels), regions) | {
    "num_regions": np.array([scales.count_regions(labels) for labels in levels]),
    "best_union_jaccard": np.array(
      [figure_ground.jaccard(figure, union, valid) for union in unions]
    ),
    "best_region_jaccard": np.array([_best_region(truth, labels) for labels in levels]),
  }


def binarize(
  soft: np.ndarray, threshold: str, value: float | None = None
) -> Bool[np.ndarray, "h w"]:
  """Makes a soft map a mask, as `tally` says.

  Raises:
    UserError: there is no such way, or no such value.
  """
  if threshold not in THRESHOLDS:
    raise UserError(f"There is no threshold {threshold!r}; choose one of {', '.join(THRESHOLDS)}.")
  if threshold == "adaptive":
    if value is not None:
      raise UserError("The adaptive threshold follows from the map; it takes no value.")
    return figure_ground.adaptive_threshold(soft)
  value = THRESHOLDS[threshold] if value is None else value
  return figure_ground.keep_mass(soft, value) if threshold == "mass" else soft >= value


def summarize(tallies: Mapping[str, np.ndarray]) -> dict[str, float]:
  """The scores of `SCORES`; of levels each scale's, and with the best scale of each image.

  Args:
    tallies: of `tally`, stacked, `[n, ...]`.
  """
  if "mae" in tallies:
    best, at = figure_ground.max_f_beta(_curves(tallies))
    found = {name: mean(tallies[name]) for name in ("jaccard", "f_beta", "mae")}
    return found | {"max_f_beta": best, "max_f_beta_threshold": at}
  names = ("best_union_jaccard", "best_region_jaccard")
  found = {name: mean(tallies[name].max(axis=1)) for name in names}
  for i, place in enumerate(scales.named(tallies)):
    for name in ("num_regions", *names):
      found[f"{place}/{name}"] = mean(tallies[name][:, i].astype(float))
  return found


def curves(tallies: Mapping[str, np.ndarray]) -> dict[str, Curve]:
  """Precision by recall of soft maps; the best that regions allow, by their number."""
  if "mae" in tallies:
    points = np.stack(
      [tallies[name].mean(axis=0)[::-1] for name in ("recall", "precision")], axis=1
    )
    return {"Precision and recall of the figure": Curve("recall", "precision", points)}
  regions = tallies["num_regions"].mean(axis=0)
  line = lambda name: np.stack([regions, [mean(row) for row in tallies[name].T]], axis=1)
  return {
    "Best union of regions": Curve("regions", "Jaccard", line("best_union_jaccard")),
    "Best single region": Curve("regions", "Jaccard", line("best_region_jaccard")),
  }


def pictures(
  prediction: Prediction,
  truth: Figure,
  *,
  threshold: str = "mass",
  value: float | None = None,
  rescale: bool = False,
  regions: Sequence[int] = (),
) -> dict[str, np.ndarray]:
  """The figure, and the soft map with its mask, or the coarsest scale with its best union."""
  found = {"figure": np.where(truth.valid, truth.mask, 0.5)}
  if prediction.soft is not None:
    soft = figure_ground.rescale(prediction.soft) if rescale else prediction.soft
    mask = binarize(soft, threshold, value)
    return found | {"prediction": soft, "as a mask": mask.astype(float)}
  labels = scales.select(prediction, regions)[-1]
  union = figure_ground.best_union(truth.mask, labels, truth.valid)
  return found | {"coarsest regions": labels, "their best union": union.astype(float)}


def shape(truth: Figure) -> tuple[int, int]:
  """Height and width of the image."""
  return truth.mask.shape


def _best_region(truth: Figure, labels: np.ndarray) -> float:
  """IoU of the figure with its best region; NaN without a figure."""
  ious = part_whole.best_ious(np.where(truth.valid, truth.mask, -1), labels)
  return float(ious[0]) if len(ious) else float("nan")


def _curves(tallies: Mapping[str, np.ndarray]) -> list[figure_ground.Curve]:
  pairs = zip(tallies["precision"], tallies["recall"], strict=True)
  return [figure_ground.Curve(*pair) for pair in pairs]
