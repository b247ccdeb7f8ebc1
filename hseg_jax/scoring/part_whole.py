"""How well single objects and parts are found among the regions of a segmentation."""

import numpy as np
from jaxtyping import Bool, Float, Integer

from hseg_jax.scoring import bsds


def best_ious(
  truth: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  prediction: Integer[np.ndarray, "h w"],
  *,
  background: int = 0,
) -> Float[np.ndarray, "t"]:
  """Largest intersection over union of each object or part with any predicted region.

  Args:
    truth: id of the object or part at every pixel, or the mask of one object. The `background` id
      is nothing to be found, but its pixels count in the unions; negative ids count nowhere.
    prediction: id of the region at every pixel; negative ids are no region.
    background: the id that stands for no object and no part.

  Returns:
    One value in [0, 1] for each id of the truth other than `background`, ascending; empty if the
    image shows none.
  """
  table = bsds.overlap(truth.astype(np.int64), prediction)
  return table.iou[table.ids != background].max(axis=1, initial=0)


def mean_best_iou(
  truth: Integer[np.ndarray, "h w"] | Bool[np.ndarray, "h w"],
  prediction: Integer[np.ndarray, "h w"],
  *,
  background: int = 0,
) -> float:
  """Mean of `best_ious` over the objects or parts of one image; NaN if it shows none."""
  ious = best_ious(truth, prediction, background=background)
  return float(ious.mean()) if len(ious) else float("nan")
