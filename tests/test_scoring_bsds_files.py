"""The benchmark's files: what was written comes back, and anything else is refused in one line."""

import numpy as np
import pytest
from PIL import Image
from scipy import io

from hseg_jax.errors import UserError
from hseg_jax.scoring import bsds_boundaries, bsds_files

LABELS = np.kron(np.arange(1, 7).reshape(2, 3), np.ones((4, 3), np.uint16)).astype(np.uint16)


def cells(*values):
  found = np.empty((1, len(values)), object)
  found[0, :] = values
  return found


def annotator(labels, boundaries):
  return {"Segmentation": labels, "Boundaries": boundaries}


def test_ground_truth_comes_back(tmp_path):
  drawn = bsds_boundaries.thin_boundaries(LABELS)
  other = annotator(LABELS // 2, np.zeros_like(drawn))
  truth = cells(annotator(LABELS, drawn.astype(np.uint8)), other)
  io.savemat(tmp_path / "1.mat", {"groundTruth": truth})
  found = bsds_files.read_ground_truth(tmp_path / "1.mat")
  np.testing.assert_array_equal(found.segmentations, [LABELS, LABELS // 2])
  np.testing.assert_array_equal(found.boundaries, [drawn, np.zeros_like(drawn)])
  assert found.boundaries[0].dtype == bool
  known = bsds_files.GroundTruth.from_labels([LABELS])
  np.testing.assert_array_equal(known.boundaries, [drawn])


def test_predictions_come_back(tmp_path):
  contours = np.linspace(0, 1, 7 * 9).reshape(7, 9)
  io.savemat(tmp_path / "1.mat", {"ucm2": contours, "segs": cells(LABELS, LABELS * 1.0)})
  np.save(tmp_path / "1.npy", contours.astype(np.float32))
  np.testing.assert_array_equal(bsds_files.read_contours(tmp_path / "1.mat"), contours)
  found = bsds_files.read_contours(tmp_path / "1.npy")
  np.testing.assert_array_equal(found, contours.astype(np.float32))
  assert found.dtype == np.float64
  maps = bsds_files.read_segmentations(tmp_path / "1.mat")
  np.testing.assert_array_equal(maps, [LABELS, LABELS])
  Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(tmp_path / "1.png")
  np.testing.assert_array_equal(bsds_files.read_grey(tmp_path / "1.png"), [[0, 0.2, 1]])
  Image.fromarray(np.array([[False, True]])).save(tmp_path / "2.png")
  np.testing.assert_array_equal(bsds_files.read_grey(tmp_path / "2.png"), [[0, 1]])


@pytest.mark.parametrize(
  "contours, reason",
  [
    (np.zeros((4, 5)), "double resolution"),
    (np.zeros((3, 3, 3)), "instead of numbers"),
    (np.full((3, 3), np.nan), "not finite"),
    (np.full((3, 3), -0.1), "below 0"),
    (np.full((3, 3), 200, np.uint8), "integers"),
  ],
)
def test_other_contour_maps_are_refused(tmp_path, contours, reason):
  io.savemat(tmp_path / "1.mat", {"ucm2": contours})
  np.save(tmp_path / "1.npy", contours)
  for name in ("1.mat", "1.npy"):
    with pytest.raises(UserError, match=reason) as caught:
      bsds_files.read_contours(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
  readers = (
    bsds_files.read_ground_truth,
    bsds_files.read_contours,
    bsds_files.read_segmentations,
    bsds_files.read_grey,
  )
  (tmp_path / "damaged.mat").write_bytes(b"nothing of the kind" * 20)
  (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + b" " * 200)
  for read in readers:
    for name in ("damaged.mat", "missing.mat", "missing.npy", "new.mat"):
      with pytest.raises(UserError, match=name):
        read(tmp_path / name)
  io.savemat(tmp_path / "other.mat", {"x": np.zeros((3, 3))})
  with pytest.raises(UserError, match="no variable ucm2"):
    bsds_files.read_contours(tmp_path / "other.mat")
  with pytest.raises(UserError, match="save it with -v7"):
    bsds_files.read_contours(tmp_path / "new.mat")
  half, tall = LABELS + 0.5, LABELS.T
  wrong = {
    "empty": {"x": np.zeros(2)},
    "plain": {"groundTruth": LABELS, "segs": LABELS},
    "none": {"groundTruth": cells(), "segs": cells()},
    "half": {"groundTruth": cells(annotator(half, LABELS)), "segs": cells(half)},
    "tall": {"groundTruth": cells(annotator(LABELS, tall)), "segs": cells(LABELS, tall)},
    "complex": {"groundTruth": cells(annotator(LABELS * 1j, LABELS)), "segs": cells(LABELS * 1j)},
    "text": {"groundTruth": cells("a", "b"), "segs": cells("a", "b")},
  }
  for name, content in wrong.items():
    io.savemat(tmp_path / f"{name}.mat", content)
    for read in readers[0], readers[2]:
      with pytest.raises(UserError, match=name):
        read(tmp_path / f"{name}.mat")
  for read in readers[0], readers[2]:
    with pytest.raises(UserError, match="no cell array"):
      read(tmp_path / "plain.mat")
  np.savez(tmp_path / "1.npz", a=LABELS)
  (tmp_path / "1.npz").rename(tmp_path / "1.npy")
  with pytest.raises(UserError, match="archive"):
    bsds_files.read_contours(tmp_path / "1.npy")
  Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "colours.png")
  with pytest.raises(UserError, match="RGB"):
    bsds_files.read_grey(tmp_path / "colours.png")
