"""Class maps against class maps: IoU, accuracy and boundary F, in two ways of averaging.

The scores of `scoring.semantic`. Plain names are those of the data set, as VOC and ADE20K have
them: pixels of all images first, then the mean over classes. `per_image_` is the mean over images
of each image's own score, as in the PartImageNet notebook of CAST's authors.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Integer

from hseg_jax.benchmarks import Curve, Tally, mean
from hseg_jax.errors import UserError
from hseg_jax.scoring import semantic
from hseg_jax.scoring.predictions import Prediction

TOLERANCE = 0.0075  # share of the diagonal, that of Csurka et al., BMVC 2013

SCORES = {
  "miou": "mean IoU of the classes, from the pixels of all images",
  "per_image_miou": "mean over images of the mean IoU of their classes",
  "pixel_accuracy": "share of pixels with the right class",
  "boundary_f": "mean F of the classes' boundaries, from the pixels of all images",
  "per_image_boundary_f": "mean over images of the mean F of their classes' boundaries",
  "iou": "IoU of the class",
}
LOWER = ()
TITLE = "Semantic segmentation"
HEADLINES = ("*miou", "pixel_accuracy", "*boundary_f")


def tally(
  prediction: Prediction,
  truth: Integer[np.ndarray, "h w"],
  *,
  class_names: Sequence[str],
  ignore: int = 255,
  tolerance: float = TOLERANCE,
) -> Tally:
  """Counts of one image by class.

  Args:
    prediction: one label map, of classes.
    truth: class of every pixel.
    class_names: of all classes; as many as there are.
    ignore: the label of the truth that counts nowhere.
    tolerance: how far apart boundaries may lie and still agree, as a share of the diagonal.

  Returns:
    `classes [c]`, names; `pixels [c, 3]`: right, true and predicted ones; `boundaries [c, 4]`.

  Raises:
    UserError: the prediction has several levels, or the truth a label beyond the classes.
  """
  labels = _classes(prediction)
  number = len(class_names)
  matrix = semantic.confusion_matrix(truth, labels, number, ignore=ignore)
  pixels = tolerance * float(np.hypot(*truth.shape))
  return {
    "classes": np.array(class_names),
    "pixels": np.stack([matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)[:-1]], axis=1),
    "boundaries": semantic.boundary_counts(truth, labels, number, pixels, ignore=ignore),
  }


def summarize(tallies: Mapping[str, np.ndarray]) -> dict[str, float]:
  """The scores of `SCORES`, and `CLASS/iou` and `CLASS/boundary_f` of the classes that occur.

  Args:
    tallies: of `tally`, stacked, `[n, ...]`.
  """
  pixels, boundaries = tallies["pixels"], tallies["boundaries"]
  total = pixels.sum(axis=0)
  ious, borders = _ious(total), semantic.class_boundary_fs(boundaries.sum(axis=0))
  right, true, _ = total.sum(axis=0)
  found = {
    "miou": mean(ious),
    "per_image_miou": mean(np.array([mean(row) for row in _ious(pixels)])),
    "pixel_accuracy": right / true if true else np.nan,
    "boundary_f": mean(borders),
    "per_image_boundary_f": semantic.per_image_boundary_f(boundaries),
  }
  for name, iou, border in zip(tallies["classes"][0], ious, borders, strict=True):
    if not np.isnan(iou):
      found |= {f"{name}/iou": iou, f"{name}/boundary_f": border}
  return {name: float(value) for name, value in found.items()}


def curves(tallies: Mapping[str, np.ndarray]) -> dict[str, Curve]:
  """How images and classes spread, from the worst to the best."""
  images = np.array([mean(row) for row in _ious(tallies["pixels"])])
  classes = _ious(tallies["pixels"].sum(axis=0))
  found = {}
  for name, values in (("images", images), ("classes", classes)):
    values = np.sort(values[~np.isnan(values)])
    share = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    title = f"{'Mean IoU' if name == 'images' else 'IoU'} of the {name}"
    found[title] = Curve(f"share of {name}", "IoU", np.stack([share, values], axis=1))
  return found


def pictures(
  prediction: Prediction,
  truth: Integer[np.ndarray, "h w"],
  *,
  class_names: Sequence[str],
  ignore: int = 255,
  tolerance: float = TOLERANCE,
) -> dict[str, np.ndarray]:
  """Both class maps; pixels that count nowhere are left blank."""
  del class_names, tolerance
  return {
    "truth": np.where(truth == ignore, -1, truth.astype(np.int64)),
    "prediction": _classes(prediction),
  }


def shape(truth: Integer[np.ndarray, "h w"]) -> tuple[int, int]:
  """Height and width of the image."""
  return truth.shape


def _classes(prediction: Prediction) -> Integer[np.ndarray, "h w"]:
  if len(prediction.levels) != 1:
    raise UserError(
      f"A prediction of classes is one label map; this one has {len(prediction.levels)} levels."
    )
  return prediction.levels[0]


def _ious(pixels: Int[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
  """As `semantic.class_ious`, from counts instead of confusion matrices."""
  right, true, predicted = np.moveaxis(pixels, -1, 0)
  union = true + predicted - right
  return np.where(union > 0, right / np.maximum(union, 1), np.nan)
