"""The check that the benchmark ships: five images, and what its own code prints for them."""

import zipfile

import numpy as np
import pytest

from hseg_jax.scoring import bsds_boundaries, bsds_files, bsds_regions, contour_maps

IMAGES = ("2018", "3063", "5096", "6046", "8068")
THRESHOLDS = contour_maps.spread_thresholds(5)
LEVELS = np.arange(1.0, 6)
REGIONS, BOUNDARIES = 1e-4, 0.003  # matchings of equal cost differ in the pixels they take


@pytest.fixture(scope="module")
def official(shared, tmp_path_factory):
  folder = tmp_path_factory.mktemp("official")
  with zipfile.ZipFile(shared / "data" / "bsds_bench_check.zip") as archive:
    archive.extractall(folder)
  return folder


@pytest.fixture(scope="module")
def truths(official):
  return [bsds_files.read_ground_truth(official / f"groundTruth/{name}.mat") for name in IMAGES]


def paths(official, folder, suffix="mat"):
  return [official / f"{folder}/{name}.{suffix}" for name in IMAGES]


def check_regions(folder, counts, thresholds):
  scores = bsds_regions.summarize(counts)
  near = lambda values: pytest.approx(np.array(values), abs=REGIONS)
  levels = np.loadtxt(folder / "eval_RI_VOI_thr.txt")
  assert near(levels) == np.stack([thresholds, scores.rand_index, scores.variation], axis=1)
  levels = np.loadtxt(folder / "eval_cover_th.txt")
  assert near(levels) == np.stack([thresholds, scores.covering], axis=1)
  # Its last column is the covering the other way round, which no published table has.
  images = [
    (thresholds[image.covered.argmax()], image.covered.max() / image.labelled) for image in counts
  ]
  assert near(np.loadtxt(folder / "eval_cover_img.txt")[:, 1:3]) == np.array(images)
  best = thresholds[scores.covering.argmax()]
  found = [best, scores.covering_ods, scores.covering_ois, scores.covering_best]
  assert near(np.loadtxt(folder / "eval_cover.txt")) == found
  rand_index = thresholds[scores.rand_index.argmax()]
  variation = thresholds[scores.variation.argmin()]
  assert near(np.loadtxt(folder / "eval_RI_VOI.txt")) == [
    *(rand_index, scores.rand_index_ods, scores.rand_index_ois),
    *(variation, scores.variation_ods, scores.variation_ois),
  ]


def check_boundaries(folder, curves, thresholds):
  scores = bsds_boundaries.summarize(curves, thresholds)
  near = lambda values: pytest.approx(values, abs=BOUNDARIES)
  points = np.loadtxt(folder / "eval_bdry_thr.txt")[:, :3]
  assert near(points) == np.stack([thresholds, scores.recall, scores.precision], axis=1)
  images = [bsds_boundaries.best_point(curve, thresholds) for curve in curves]
  assert near(np.loadtxt(folder / "eval_bdry_img.txt")[:, 1:]) == np.array(images)
  found = [*scores.ods, *scores.ois[1:], scores.average_precision]
  assert near(np.loadtxt(folder / "eval_bdry.txt")) == found


def test_regions_of_contour_maps(official, truths):
  counts = [
    bsds_regions.count_contours(truth.segmentations, bsds_files.read_contours(path), THRESHOLDS)
    for truth, path in zip(truths, paths(official, "ucm2"), strict=True)
  ]
  check_regions(official / "test_1", counts, THRESHOLDS)


def test_regions_of_segmentations(official, truths):
  counts = [
    bsds_regions.count_levels(truth.segmentations, bsds_files.read_segmentations(path))
    for truth, path in zip(truths, paths(official, "segs"), strict=True)
  ]
  check_regions(official / "test_4", counts, LEVELS)
  check_regions(official / "test_5", counts, LEVELS)


def test_boundaries_of_contour_maps(official, truths):
  curves = []
  for truth, path in zip(truths, paths(official, "ucm2"), strict=True):
    strength = contour_maps.pixel_strength(bsds_files.read_contours(path))
    curves.append(bsds_boundaries.count_strength(truth.boundaries, strength, THRESHOLDS))
  check_boundaries(official / "test_1", curves, THRESHOLDS)


def test_boundaries_of_boundary_maps(official, truths):
  curves = [
    bsds_boundaries.count_strength(truth.boundaries, bsds_files.read_grey(path), THRESHOLDS)
    for truth, path in zip(truths, paths(official, "png", "png"), strict=True)
  ]
  check_boundaries(official / "test_2", curves, THRESHOLDS)


def test_boundaries_of_segmentations(official, truths):
  curves = [
    bsds_boundaries.count_levels(truth.boundaries, bsds_files.read_segmentations(path))
    for truth, path in zip(truths, paths(official, "segs"), strict=True)
  ]
  check_boundaries(official / "test_3", curves, LEVELS)
  check_boundaries(official / "test_4", curves, LEVELS)


def test_annotators_drew_what_their_segmentations_bound(truths):
  for truth in truths:
    known = bsds_files.GroundTruth.from_labels(truth.segmentations)
    np.testing.assert_array_equal(known.boundaries, truth.boundaries)
