"""Class labels of pixels against a truth: IoU, accuracy and boundary F, in two ways of averaging.

"Dataset" scores add up the pixels of all images and then take the mean over classes: the mIoU of
VOC, ADE20K and Pascal Context. "Per-image" scores take the mean over the classes of one image and
then over images: that of the reference's PartImageNet notebook (torchmetrics' macro Jaccard). The
two can differ by a factor, so names always say which is meant.

In a truth the label `ignore` (255 by custom) and negative ids are left out of every count. In a
prediction every id outside `[0, num_classes)` is no class: the pixel is missed, but not wrongly
claimed for any class.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Num
from scipy import ndimage

from hseg_jax.errors import UserError
from hseg_jax.scoring import bsds


def confusion_matrix(
  truth: Integer[np.ndarray, "h w"],
  prediction: Integer[np.ndarray, "h w"],
  num_classes: int,
  *,
  ignore: int = 255,
) -> Int[np.ndarray, "c p"]:
  """Counts the pixels of one image by class, `[num_classes, num_classes + 1]`.

  Rows are the truth's classes, columns the predicted ones; the last column is no class. Matrices
  of images may be added.

  Raises:
    UserError: the truth has a label that is neither a class nor ignored, or `ignore` is a class.
  """
  valid = _find_valid(truth, num_classes, ignore)
  rows, columns = truth[valid].astype(np.int64), prediction[valid].astype(np.int64)
  columns = np.where((columns < 0) | (columns >= num_classes), num_classes, columns)
  shape = num_classes, num_classes + 1
  index = rows * shape[1] + columns
  return np.bincount(index, minlength=shape[0] * shape[1]).reshape(shape)


def class_ious(confusion: Num[np.ndarray, "c p"]) -> Float[np.ndarray, "c"]:
  """Intersection over union of each class; NaN for one in neither truth nor prediction."""
  hits = np.diagonal(confusion)
  union = confusion.sum(axis=1) + confusion.sum(axis=0)[:-1] - hits
  return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(confusion: Num[np.ndarray, "c p"]) -> float:
  """Mean of `class_ious` over the classes in truth or prediction; NaN if there are none.

  Of the sum of all matrices it is the dataset's mIoU, of one image's matrix its per-image mIoU.
  """
  return _mean(class_ious(confusion))


def dataset_mean_iou(confusions: Iterable[Num[np.ndarray, "c p"]]) -> float:
  """mIoU of a data set, in [0, 1]: pixels of all images first, then the mean over classes.

  A class in no truth and no prediction is left out. NaN without images.
  """
  confusions = list(confusions)
  return mean_iou(sum(confusions)) if confusions else float("nan")


def per_image_mean_iou(confusions: Iterable[Num[np.ndarray, "c p"]]) -> float:
  """Mean over images of each image's own mIoU, in [0, 1]: the score of the PartImageNet notebook.

  An image's mean runs over the classes in its truth or prediction, the background included where
  it is a class. Images without a valid pixel are left out.
  """
  return _mean(np.array([mean_iou(each) for each in confusions]))


def pixel_accuracy(confusion: Num[np.ndarray, "c p"]) -> float:
  """Share of valid pixels with the right class, in [0, 1]; NaN without valid pixels."""
  total = confusion.sum()
  return float(np.diagonal(confusion).sum() / total) if total else float("nan")


def boundary_counts(
  truth: Integer[np.ndarray, "h w"],
  prediction: Integer[np.ndarray, "h w"],
  num_classes: int,
  tolerance: float | int,
  *,
  ignore: int = 255,
) -> Int[np.ndarray, "c 4"]:
  """Counts the boundary pixels of each class, the fields of `bsds.BoundaryCounts`.

  A class's boundary is that of its mask. Pixels agree within `tolerance` (Euclidean, in pixels),
  one with any number of others, after Csurka, Larlus and Perronnin, "What is a good evaluation
  measure for semantic segmentation?", BMVC 2013, who take 0.75 % of the image's diagonal.
  Ignored pixels take the class of the nearest valid one, so that a rim of them between two
  classes, as VOC draws it, is a boundary in its middle; a predicted boundary on an ignored pixel
  counts only where it agrees. Counts of images may be added.

  Raises:
    UserError: as `confusion_matrix`.
  """
  valid = _find_valid(truth, num_classes, ignore)
  counts = np.zeros((num_classes, 4), np.int64)
  if not valid.any():
    return counts
  if not valid.all():
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    truth = truth[tuple(nearest)]
  for label in np.unique(np.concatenate([truth.ravel(), prediction.ravel()])):
    if 0 <= label < num_classes:
      real = bsds.boundary_pixels((truth == label).astype(np.int64))
      found = bsds.boundary_pixels((prediction == label).astype(np.int64))
      confirmed = found & _within(real, tolerance)
      counts[label] = (
        (real & _within(found, tolerance)).sum(),
        real.sum(),
        confirmed.sum(),
        (confirmed | (found & valid)).sum(),
      )
  return counts


def class_boundary_fs(counts: Num[np.ndarray, "c 4"]) -> Float[np.ndarray, "c"]:
  """F = 2 P R / (P + R) of each class's boundary; NaN for a class without any on either side."""
  scores = [bsds.precision_recall_f(bsds.BoundaryCounts(*row))[2] for row in counts.tolist()]
  return np.where(counts[:, [1, 3]].any(axis=1), scores, np.nan)


def mean_boundary_f(counts: Num[np.ndarray, "c 4"]) -> float:
  """Mean of `class_boundary_fs` over the classes that have one; NaN if there are none."""
  return _mean(class_boundary_fs(counts))


def dataset_boundary_f(counts: Iterable[Num[np.ndarray, "c 4"]]) -> float:
  """Boundary F of a data set, in [0, 1]: pixels of all images first, then the mean over classes.

  A class without any boundary is left out. NaN without images.
  """
  counts = list(counts)
  return mean_boundary_f(sum(counts)) if counts else float("nan")


def per_image_boundary_f(counts: Iterable[Num[np.ndarray, "c 4"]]) -> float:
  """Mean over images of each image's own mean boundary F, as Csurka et al. advise.

  Images without any boundary in truth and prediction are left out.
  """
  return _mean(np.array([mean_boundary_f(each) for each in counts]))


def _find_valid(
  truth: Integer[np.ndarray, "h w"], num_classes: int, ignore: int
) -> Bool[np.ndarray, "h w"]:
  if 0 <= ignore < num_classes:
    raise UserError(
      f"The label {ignore} is to be ignored, but with {num_classes} classes it is one of them; "
      "ignore a label beyond them, or -1."
    )
  valid = (truth >= 0) & (truth != ignore)
  largest = int(truth[valid].max()) if valid.any() else -1
  if largest >= num_classes:
    raise UserError(
      f"The truth has the label {largest}, but there are {num_classes} classes; say how many there "
      f"are, or mark what to ignore as {ignore}."
    )
  return valid


def _within(pixels: Bool[np.ndarray, "h w"], tolerance: float | int) -> Bool[np.ndarray, "h w"]:
  """Where the nearest of `pixels` is at most `tolerance` away."""
  if not pixels.any():
    return pixels
  return ndimage.distance_transform_edt(~pixels) <= tolerance


def _mean(values: Float[np.ndarray, "_"]) -> float:
  """Mean of the values that are not NaN; NaN if there are none."""
  values = values[~np.isnan(values)]
  return float(values.mean()) if len(values) else float("nan")
