"""Superpixels, parts, classes and figures: scores of many images from tallies of each."""

import numpy as np
import pytest

from hseg_jax.benchmarks import figure_ground, part_whole, semantic, superpixels
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.score import stack
from hseg_jax.scoring import figure_ground as figures
from hseg_jax.scoring import part_whole as objects
from hseg_jax.scoring import semantic as classes
from hseg_jax.scoring import superpixels as segments
from hseg_jax.scoring.bsds_files import GroundTruth
from hseg_jax.scoring.part_truths import PartTruth
from hseg_jax.scoring.predictions import Prediction
from hseg_jax.scoring.truths import Figure


def draw(seed, ids=5, low=0):
  cells = np.random.default_rng(seed).integers(low, ids, (4, 3))
  return np.kron(cells, np.ones((4, 4), int))


def levels(seed):
  """Two levels that do not nest."""
  return Prediction((draw(seed), draw(seed + 50, 3)))


def trees(seed):
  fine = np.unique(draw(seed), return_inverse=True)[1].astype(np.int32)
  maps = fine, np.minimum(fine, 1)
  return Prediction(maps, Hierarchy.from_labels(maps))


def test_superpixels_are_scored_against_every_annotator():
  labels = draw(0)
  truth = GroundTruth.from_labels([draw(1), draw(2), np.full((16, 12), -1)])
  found = superpixels.tally(Prediction((labels,)), truth, tolerance=0.1)
  each = [segments.score(draw(seed), labels, 2.0) for seed in (1, 2)]
  for name in ("achievable_accuracy", "boundary_recall", "under_segmentation_error"):
    assert found[name] == pytest.approx(np.mean([getattr(one, name) for one in each]))
  tallies = stack("ab", [found, found | {"boundary_recall": np.nan}])
  assert superpixels.summarize(tallies)["boundary_recall"] == found["boundary_recall"]
  coarse = superpixels.tally(Prediction((labels, labels // 3)), truth, level=-1)
  assert coarse["num_segments"] == 2
  with pytest.raises(UserError, match="no level 1; the prediction has 1"):
    superpixels.tally(Prediction((labels,)), truth, level=1)


def part_truth(seed):
  parts = draw(seed)
  if seed == 2:
    parts = np.zeros_like(parts)  # an image without objects
  return PartTruth((parts, np.minimum(parts, 2)), ("parts", "objects"), ((), ()))


def test_parts_and_wholes_are_averaged_over_images_and_over_objects():
  truths = [part_truth(seed) for seed in range(4)]
  found = part_whole.summarize(
    stack("abcd", [part_whole.tally(levels(i), truth) for i, truth in enumerate(truths)])
  )
  for i, name in enumerate(("parts", "objects")):
    ious = [
      np.stack([objects.best_ious(truth.levels[i], level) for level in levels(seed).levels])
      for seed, truth in enumerate(truths)
    ]
    best = objects.summarize([table.max(axis=0) for table in ious])
    assert found[f"{name}/nf_covering"] == pytest.approx(best.nf_covering)
    assert found[f"{name}/mean_best_iou"] == pytest.approx(best.mean_best_iou)
    coarse = objects.summarize([table[1] for table in ious])
    assert found[f"level_1/{name}/nf_covering"] == pytest.approx(coarse.nf_covering)
    picked = objects.summarize([table[objects.best_level(table)] for table in ious])
    assert found[f"{name}/best_level_iou"] == pytest.approx(picked.mean_best_iou)
    assert np.isnan(found[f"{name}/best_cut_iou"])
  assert np.isnan(found["nested_share"]) and np.isnan(found["nh_covering"])


def test_trees_are_cut_and_judged():
  truths = [part_truth(seed) for seed in range(4)]
  tallies = stack("abcd", [part_whole.tally(trees(i + 7), each) for i, each in enumerate(truths)])
  found = part_whole.summarize(tallies)
  cuts = [objects.cut_ious(t.levels[0], trees(i + 7).hierarchy) for i, t in enumerate(truths)]
  best = objects.summarize([table[objects.best_cut(table) - 1] for table in cuts])
  assert found["parts/best_cut_iou"] == pytest.approx(best.mean_best_iou)
  regions = [objects.best_cut(table) for i, table in enumerate(cuts) if i != 2]
  assert found["parts/best_cut_regions"] == pytest.approx(np.mean(regions))
  assert 0 <= found["nested_share"] <= 1 and found["nested_iou"] <= found["parts/nf_covering"]
  mixed = part_whole.summarize(tallies | {"is_tree": np.array([True, True, False, True])})
  assert np.isnan(mixed["nested_share"])
  curve = part_whole.curves(tallies)["Found at an IoU, share: parts"].points
  assert curve[0].tolist() == [0, 1] and (np.diff(curve[:, 1]) <= 0).all()


def test_masks_may_overlap():
  truth = part_truth(0)
  masks = np.stack([truth.levels[1] == 1, truth.levels[0] == 4])
  found = part_whole.summarize(
    stack("a", [part_whole.tally(levels(3)._replace(masks=masks), truth)])
  )
  ious = objects.best_mask_ious(truth.levels[1], masks)
  assert found["objects/best_mask_iou"] == pytest.approx(ious.mean())


def test_classes_are_scored_in_both_ways():
  names = [f"class_{i}" for i in range(5)]
  pairs = [(draw(seed), draw(seed + 9)) for seed in range(3)]
  pairs[0][0][:4] = 255
  pairs[1][1][:4] = -1
  rows = [semantic.tally(Prediction((p,)), t, class_names=names, tolerance=0.1) for t, p in pairs]
  found = semantic.summarize(stack("abc", rows))
  matrices = [classes.confusion_matrix(t, p, 5) for t, p in pairs]
  borders = [classes.boundary_counts(t, p, 5, 2.0) for t, p in pairs]
  assert found["miou"] == pytest.approx(classes.dataset_mean_iou(matrices))
  assert found["per_image_miou"] == pytest.approx(classes.per_image_mean_iou(matrices))
  assert found["pixel_accuracy"] == pytest.approx(classes.pixel_accuracy(sum(matrices)))
  assert found["boundary_f"] == pytest.approx(classes.dataset_boundary_f(borders))
  assert found["per_image_boundary_f"] == pytest.approx(classes.per_image_boundary_f(borders))
  assert found["class_2/iou"] == pytest.approx(classes.class_ious(sum(matrices))[2])
  one = semantic.summarize(stack("a", rows[:1]))
  assert one["miou"] == one["per_image_miou"]
  with pytest.raises(UserError, match="is one label map; this one has 2 levels"):
    semantic.tally(levels(0), pairs[0][0], class_names=names)
  with pytest.raises(UserError, match="there are 3 classes"):
    semantic.tally(Prediction((pairs[0][1],)), pairs[0][0], class_names=names[:3])


def figure(seed):
  return Figure(draw(seed) > 2, draw(seed + 20) > 0)


def test_soft_maps_are_made_masks():
  soft = [np.random.default_rng(seed).random((16, 12)) for seed in range(3)]
  for options, make in (
    ({}, lambda values: figures.keep_mass(values, 0.6)),
    ({"value": 0.3}, lambda values: figures.keep_mass(values, 0.3)),
    ({"threshold": "adaptive"}, figures.adaptive_threshold),
    ({"threshold": "fixed"}, lambda values: values >= 0.5),
  ):
    rows = [
      figure_ground.tally(Prediction(soft=s), figure(i), **options) for i, s in enumerate(soft)
    ]
    found = figure_ground.summarize(stack("abc", rows))
    expected = [
      figures.jaccard(figure(i).mask, make(s), figure(i).valid) for i, s in enumerate(soft)
    ]
    assert found["jaccard"] == pytest.approx(np.mean(expected))
  curves = [figures.threshold_curve(figure(i).mask, s, figure(i).valid) for i, s in enumerate(soft)]
  assert (found["max_f_beta"], found["max_f_beta_threshold"]) == figures.max_f_beta(curves)
  assert found["mae"] == pytest.approx(
    np.mean(
      [figures.mean_absolute_error(figure(i).mask, s, figure(i).valid) for i, s in enumerate(soft)]
    )
  )


def test_soft_maps_of_any_range_are_rescaled_on_request():
  wide = Prediction(soft=7.0 * draw(0) - 3)
  with pytest.raises(UserError, match="rescale it"):
    figure_ground.tally(wide, figure(0), threshold="fixed")
  found = figure_ground.tally(wide, figure(0), rescale=True)
  other = figure_ground.tally(Prediction(soft=draw(0) / 4), figure(0))
  assert found["mae"] == pytest.approx(other["mae"]) and found["jaccard"] == other["jaccard"]
  for options, said in (
    ({"threshold": "otsu"}, "choose one of mass, adaptive, fixed"),
    ({"threshold": "adaptive", "value": 0.5}, "takes no value"),
    ({"regions": (4,)}, "has no regions"),
  ):
    with pytest.raises(UserError, match=said):
      figure_ground.tally(Prediction(soft=draw(0) / 4), figure(0), **options)


def test_regions_are_scored_by_the_best_figure_they_allow():
  rows = [figure_ground.tally(levels(seed + 5), figure(seed)) for seed in range(3)]
  found = figure_ground.summarize(stack("abc", rows))
  for k in range(2):
    maps = [levels(seed + 5).levels[k] for seed in range(3)]
    unions = [
      figures.jaccard(f.mask, figures.best_union(f.mask, labels, f.valid), f.valid)
      for f, labels in zip(map(figure, range(3)), maps, strict=True)
    ]
    assert found[f"level_{k}/best_union_jaccard"] == pytest.approx(np.mean(unions))
    single = [
      max(figures.jaccard(f.mask, labels == i, f.valid) for i in range(5))
      for f, labels in zip(map(figure, range(3)), maps, strict=True)
    ]
    assert found[f"level_{k}/best_region_jaccard"] == pytest.approx(np.mean(single))
  assert found["best_union_jaccard"] >= found["level_1/best_union_jaccard"]
