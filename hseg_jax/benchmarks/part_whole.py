"""Parts and wholes: whether objects and their parts are found, and whether the parts nest.

The scores of `scoring.part_whole` and `scoring.nesting`, which state definitions and sources. A
truth has levels of its own, from parts to wholes; each is scored alike. Nesting is that of the
finest in the coarsest. Background id 0 is nothing to be found.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from hseg_jax.benchmarks import Curve, Tally, mean, scales
from hseg_jax.scoring import nesting, part_whole
from hseg_jax.scoring.part_truths import PartTruth
from hseg_jax.scoring.predictions import Prediction

_BINS = 20  # of best IoUs, for the curve of recall

SCORES = {
  "nf_covering": "normalised foreground covering (HSG): best IoU, mean over images of their mean",
  "mean_best_iou": "best IoU, mean over all objects or parts of all images",
  "best_level_iou": "the same with the one best level of each image",
  "best_level": "that level, 0 = finest, mean over images",
  "best_cut_iou": "the same with the one best cut of each image's tree",
  "best_cut_regions": "regions of that cut, mean over images",
  "best_mask_iou": "the same with overlapping masks as they are",
  "num_objects": "objects or parts of an image",
  "num_regions": "regions of an image",
  "nested_share": "share of parts whose best region lies in the best region of their whole",
  "nested_iou": "best IoU of parts inside the best region of their whole",
  "nh_covering": "normalised hierarchical covering (Rossetti and Pirri)",
  "purity_parts": "dendrogram purity of the parts",
  "purity_wholes": "dendrogram purity of the wholes",
  "triplets_parts": "share of pixel triplets that the tree resolves, within wholes",
  "triplets_wholes": "share of pixel triplets that the tree resolves, across wholes",
}
LOWER = ()
TITLE = "Parts and wholes"
HEADLINES = ("*/nf_covering", "nested_share", "nh_covering")
_TREE = tuple(SCORES)[-7:]


def tally(prediction: Prediction, truth: PartTruth, *, regions: Sequence[int] = ()) -> Tally:
  """Counts of one image at k scales, for t levels of the truth.

  Args:
    prediction: levels; scores of cuts and nesting want a tree and are NaN without.
    truth: label maps from parts to wholes.
    regions: as `scales.select` takes them.

  Returns:
    `regions` or `level`, the scales, `[k]`; `num_regions [k]`; `truth_levels [t]`, names;
    `num_objects [t]`; `iou [t, k]`, the sum over objects of the best IoU at a scale, and
    `best_iou [t]` at any; `histogram [t, 20]` of the latter; `level_iou`, `best_level`, `cut_iou`
    and `best_cut`, `[t]`, the sum at the image's best scale and best cut, and which those are;
    `mask_iou [t]` of overlapping masks; scalars of nesting, and `is_tree`.
  """
  levels = scales.select(prediction, regions)
  found = scales.label(len(levels), regions)
  found["num_regions"] = np.array([scales.count_regions(labels) for labels in levels])
  found["truth_levels"] = np.array(truth.level_names)
  rows = [_find(prediction, labels, levels) for labels in truth.levels]
  found |= {name: np.stack([row[name] for row in rows]) for name in rows[0]}
  return found | _judge_tree(prediction, truth)


def summarize(tallies: Mapping[str, np.ndarray]) -> dict[str, float]:
  """The scores of `SCORES`: `NAME/SCORE` of each level of the truth, and then of each scale.

  Args:
    tallies: of `tally`, stacked, `[n, ...]`.
  """
  found = {}
  names = [str(name) for name in tallies["truth_levels"][0]]
  for i, name in enumerate(names):
    count = tallies["num_objects"][:, i]
    shown = count > 0
    best = lambda key, i=i, count=count: _means(tallies[key][:, i], count)
    found[f"{name}/nf_covering"], found[f"{name}/mean_best_iou"] = best("best_iou")
    found[f"{name}/best_level_iou"] = best("level_iou")[1]
    found[f"{name}/best_level"] = mean(tallies["best_level"][shown, i].astype(float))
    found[f"{name}/best_cut_iou"] = best("cut_iou")[1]
    found[f"{name}/best_cut_regions"] = mean(tallies["best_cut"][shown, i])
    found[f"{name}/best_mask_iou"] = best("mask_iou")[1]
    found[f"{name}/num_objects"] = count.mean()
  trees = tallies["is_tree"].all()  # scores of some images only would mislead
  found |= {name: mean(tallies[name]) if trees else np.nan for name in _TREE}
  for k, place in enumerate(scales.named(tallies)):
    found[f"{place}/num_regions"] = tallies["num_regions"][:, k].mean()
    for i, name in enumerate(names):
      means = _means(tallies["iou"][:, i, k], tallies["num_objects"][:, i])
      found[f"{place}/{name}/nf_covering"], found[f"{place}/{name}/mean_best_iou"] = means
  return {name: float(value) for name, value in found.items()}


def curves(tallies: Mapping[str, np.ndarray]) -> dict[str, Curve]:
  """Covering by number of regions, and recall by IoU, of each level of the truth."""
  found = {}
  regions = tallies["num_regions"].mean(axis=0)
  edges = np.arange(_BINS) / _BINS
  for i, name in enumerate(tallies["truth_levels"][0]):
    count = tallies["num_objects"][:, i]
    values = [_means(row, count)[0] for row in tallies["iou"][:, i].T]
    points = np.stack([regions, values], axis=1)
    found[f"NFCovering by scale: {name}"] = Curve("regions", "NFCovering", points)
    above = tallies["histogram"][:, i].sum(axis=0)[::-1].cumsum()[::-1] / max(count.sum(), 1)
    points = np.stack([edges, above], axis=1)
    found[f"Found at an IoU, share: {name}"] = Curve("best IoU at least", "share", points)
  return found


def pictures(
  prediction: Prediction, truth: PartTruth, *, regions: Sequence[int] = ()
) -> dict[str, np.ndarray]:
  """Parts and wholes, and the scales that find either best."""
  levels = scales.select(prediction, regions)
  found = {}
  for labels, name in (
    (truth.levels[0], truth.level_names[0]),
    (truth.levels[-1], truth.level_names[-1]),
  ):
    found[f"truth: {name}"] = np.where(labels == 0, -1, labels)
    ious = np.stack([part_whole.best_ious(labels, level) for level in levels])
    best = levels[part_whole.best_level(ious)]
    found[f"for {name}: {scales.count_regions(best)}"] = best
  return found


def shape(truth: PartTruth) -> tuple[int, int]:
  """Height and width of the image."""
  return truth.levels[0].shape


def _find(prediction: Prediction, truth: np.ndarray, levels: Sequence[np.ndarray]) -> dict:
  """What `tally` says of one level of the truth."""
  ious = np.stack([part_whole.best_ious(truth, labels) for labels in levels])
  best = ious.max(axis=0)
  level = part_whole.best_level(ious)
  found = {
    "num_objects": ious.shape[1],
    "iou": ious.sum(axis=1),
    "best_iou": best.sum(),
    "histogram": np.histogram(best, _BINS, (0, 1))[0],
    "level_iou": ious[level].sum(),
    "best_level": level,
    "cut_iou": np.nan,
    "best_cut": np.nan,
    "mask_iou": np.nan,
  }
  tree = scales.tree(prediction)
  if tree is not None:
    cuts = part_whole.cut_ious(truth, tree)
    cut = part_whole.best_cut(cuts)
    found |= {"cut_iou": cuts[cut - 1].sum(), "best_cut": float(cut)}
  if prediction.masks is not None:
    found["mask_iou"] = part_whole.best_mask_ious(truth, prediction.masks).sum()
  return found


def _judge_tree(prediction: Prediction, truth: PartTruth) -> dict[str, float]:
  """Scores of nesting; NaN without a tree."""
  tree, parts, wholes = scales.tree(prediction), truth.levels[0], truth.levels[-1]
  if tree is None:
    return dict.fromkeys(_TREE, np.nan) | {"is_tree": False}
  matched = nesting.match(wholes, parts, tree)
  resolved = nesting.triplets(wholes, parts, tree)
  return {
    "nested_share": nesting.nested_share(matched),
    "nested_iou": mean(matched.nested_iou),
    "nh_covering": nesting.nh_covering(matched),
    "purity_parts": nesting.dendrogram_purity(parts, tree),
    "purity_wholes": nesting.dendrogram_purity(wholes, tree),
    "triplets_parts": resolved.parts,
    "triplets_wholes": resolved.wholes,
    "is_tree": True,
  }


def _means(sums: Float[np.ndarray, "n"], counts: np.ndarray) -> tuple[float, float]:
  """Mean over images of an image's mean, and mean over all objects; as `part_whole.summarize`."""
  shown = counts > 0
  sums, counts = sums[shown], counts[shown]
  if not len(counts):
    return float("nan"), float("nan")
  return float((sums / counts).mean()), float(sums.sum() / counts.sum())
