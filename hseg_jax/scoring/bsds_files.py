"""The files of the Berkeley benchmark (BSDS500): human segmentations, and results to be scored."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from PIL import Image
from scipy import io

from hseg_jax.errors import UserError
from hseg_jax.scoring import bsds_boundaries


class GroundTruth(NamedTuple):
  """What the annotators of one image drew.

  Attributes:
    segmentations: a label map an annotator, `[h, w]`; a negative id marks an unlabelled pixel.
    boundaries: thin boundaries, a map an annotator, `[h, w]`.
  """

  segmentations: tuple[Integer[np.ndarray, "h w"], ...]
  boundaries: tuple[Bool[np.ndarray, "h w"], ...]

  @classmethod
  def from_labels(cls, maps: Sequence[Integer[np.ndarray, "h w"]]) -> "GroundTruth":
    """The truth of an image whose annotators' label maps are known, and nothing else."""
    return cls(tuple(maps), tuple(bsds_boundaries.thin_boundaries(labels) for labels in maps))


def read_ground_truth(path: str | os.PathLike) -> GroundTruth:
  """Reads `groundTruth/ID.mat`: cells of structures with `Segmentation` and `Boundaries`.

  Raises:
    UserError: the file is missing or damaged, or holds something else.
  """
  cells = read_variable(path, "groundTruth")
  try:
    found = [(cell["Segmentation"][0, 0], cell["Boundaries"][0, 0]) for cell in cells.flat]
  except (TypeError, ValueError, IndexError) as error:
    raise UserError(
      f"Cannot read {path} (its groundTruth is no cell array of Segmentation and Boundaries)."
    ) from error
  if not found:
    raise UserError(f"Cannot read {path} (its groundTruth is empty).")
  labels, boundaries = zip(*found, strict=True)
  maps = tuple(_as_labels(path, segmentation) for segmentation in labels)
  drawn = tuple(np.asarray(pixels) > 0 for pixels in boundaries)
  if len({array.shape for array in (*maps, *drawn)}) > 1:
    raise UserError(f"Cannot read {path} (its annotators differ in size).")
  return GroundTruth(maps, drawn)


def read_contours(path: str | os.PathLike) -> Float[np.ndarray, "H W"]:
  """Reads a contour map at double resolution: `ucm2` of a `.mat` file, or the array of a `.npy`.

  Returns:
    Strengths `[2h+1, 2w+1]`, float64, at least 0.

  Raises:
    UserError: the file is missing or damaged, or holds no such map.
  """
  contours = read_array(path) if str(path).lower().endswith(".npy") else read_variable(path, "ucm2")
  if contours.ndim != 2 or contours.dtype.kind not in "fiub" or min(contours.shape) < 3:
    raise UserError(
      f"Cannot read the contour map {path} ({contours.dtype} {list(contours.shape)} instead of "
      "numbers [2h+1, 2w+1])."
    )
  if not (contours.shape[0] % 2 and contours.shape[1] % 2):
    height, width = contours.shape
    raise UserError(
      f"Cannot read the contour map {path} ({height}x{width} is not at double resolution, 2h+1 x "
      "2w+1)."
    )
  strength = contours.astype(np.float64)
  if not (np.isfinite(strength).all() and strength.min() >= 0):
    raise UserError(f"Cannot read the contour map {path} (strengths below 0, or not finite).")
  if contours.dtype.kind in "iu" and strength.max() > 1:
    raise UserError(f"Cannot read the contour map {path} (integers above 1; divide by the range).")
  return strength


def read_segmentations(path: str | os.PathLike) -> tuple[Integer[np.ndarray, "h w"], ...]:
  """Reads `segs` of a `.mat` file: a cell array of label maps, in the file's order.

  Raises:
    UserError: the file is missing or damaged, or holds something else.
  """
  cells = read_variable(path, "segs")
  if cells.dtype != object or not cells.size:
    raise UserError(f"Cannot read {path} (its segs is no cell array of label maps).")
  maps = tuple(_as_labels(path, cell) for cell in cells.flat)
  if len({labels.shape for labels in maps}) > 1:
    raise UserError(f"Cannot read {path} (its segmentations differ in size).")
  return maps


def read_grey(path: str | os.PathLike) -> Float[np.ndarray, "h w"]:
  """Reads an image of one channel with 8 bits or 1, such as a boundary map; values in [0, 1].

  Raises:
    UserError: the file is missing, damaged, or of another kind.
  """
  try:
    with Image.open(path) as image:
      mode = image.mode
      pixels = np.asarray(image)
  except Exception as error:  # decoders raise whatever they please on a damaged file
    raise UserError(f"Cannot read the map {path} ({_reason(error)}).") from error
  if mode == "1":
    return pixels.astype(np.float64)
  if mode != "L":
    raise UserError(f"Cannot read the map {path} (mode {mode} instead of 8 bits of grey).")
  return pixels / 255


def read_array(path: str | os.PathLike) -> np.ndarray:
  """Reads a `.npy` file; raises `UserError` where it is missing or damaged, or holds no array."""
  try:
    found = np.load(path, allow_pickle=False)
  except Exception as error:
    raise UserError(f"Cannot read {path} ({_reason(error)}).") from error
  if not isinstance(found, np.ndarray):
    raise UserError(f"Cannot read {path} (an archive of several arrays).")
  return found


def list_variables(path: str | os.PathLike) -> set[str]:
  """Names of the variables of a `.mat` file; raises `UserError` where it cannot be read."""
  with _naming(path):
    return {name for name, *_ in io.whosmat(path, appendmat=False)}


def read_variable(path: str | os.PathLike, name: str) -> np.ndarray:
  """Reads a variable of a `.mat` file.

  Raises:
    UserError: the file is missing or damaged, or lacks the variable.
  """
  with _naming(path):
    found = io.loadmat(path, appendmat=False, variable_names=(name,))
  if name not in found:
    raise UserError(f"Cannot read {path} (it has no variable {name}).")
  return found[name]


@contextlib.contextmanager
def _naming(path: str | os.PathLike) -> Iterator[None]:
  """Turns what may befall a reader of a `.mat` file into a sentence that names it."""
  try:
    yield
  except NotImplementedError as error:  # HDF5
    raise UserError(f"Cannot read {path} (MATLAB 7.3; save it with -v7).") from error
  except Exception as error:  # a damaged file raises nearly anything
    raise UserError(f"Cannot read {path} ({_reason(error)}).") from error


def _as_labels(path: str | os.PathLike, labels: np.ndarray) -> Int[np.ndarray, "h w"]:
  """Ids as whole numbers; MATLAB keeps nearly everything in floating point."""
  if labels.ndim != 2 or labels.dtype.kind not in "fiub" or (labels != np.round(labels)).any():
    raise UserError(f"Cannot read {path} (a segmentation is no map of whole numbers).")
  return labels.astype(np.int64)


def _reason(error: Exception) -> str:
  return getattr(error, "strerror", None) or str(error) or type(error).__name__
