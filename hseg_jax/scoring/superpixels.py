"""How well a fine segmentation keeps to the borders of a truth, and how regular it is.

The scores of Stutz, Hermans and Leibe, "Superpixels: An Evaluation of the State-of-the-Art", CVIU
2018, on label maps. A negative id in the truth marks an unlabelled pixel, which is left out of
every count; a negative id in a segmentation marks a pixel of no segment.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer
from scipy import sparse
from scipy.sparse import csgraph

from hseg_jax.label_maps import compact
from hseg_jax.scoring import bsds, contingency


class SuperpixelScores(NamedTuple):
  """Every score of one segmentation against one truth.

  Attributes:
    num_segments: how many segments there are.
    achievable_accuracy: see `achievable_accuracy`.
    under_segmentation_error: see `under_segmentation_error`; lower is better.
    boundary_recall: share of the truth's boundary pixels with one of the segmentation's within
      the tolerance, in [0, 1]; 1 if the truth has none.
    boundary_precision: the same with the two exchanged.
    compactness: see `compactness`.
    pieces_per_segment: connected pieces of a segment in the mean, at least 1.
  """

  num_segments: int
  achievable_accuracy: float
  under_segmentation_error: float
  boundary_recall: float
  boundary_precision: float
  compactness: float
  pieces_per_segment: float


def score(
  truth: Integer[np.ndarray, "h w"], labels: Integer[np.ndarray, "h w"], tolerance: float | int
) -> SuperpixelScores:
  """All scores of a segmentation; NaN where no pixel is labelled or none is in a segment.

  Boundaries agree within `tolerance` pixels (Euclidean), one with any number of others:
  `bsds.boundary_counts`.
  """
  counts = bsds.boundary_counts(truth, labels, tolerance)
  precision, recall, _ = bsds.precision_recall_f(counts)
  pieces = count_pieces(labels)
  table = contingency.tabulate(truth, labels)
  return SuperpixelScores(
    num_segments=len(pieces),
    achievable_accuracy=_accuracy(table),
    under_segmentation_error=_leakage(table),
    boundary_recall=recall,
    boundary_precision=precision,
    compactness=compactness(labels),
    pieces_per_segment=float(pieces.mean()) if len(pieces) else float("nan"),
  )


def achievable_accuracy(
  truth: Integer[np.ndarray, "h w"], labels: Integer[np.ndarray, "h w"]
) -> float:
  """Share of pixels that are right when every segment takes its commonest true region, in [0, 1].

  Liu, Tuzel, Ramalingam and Chellappa, "Entropy Rate Superpixel Segmentation", CVPR 2011:
  sum_S max_G |S & G| / N. A pixel of no segment is wrong. NaN if no pixel of the truth is labelled.
  """
  return _accuracy(contingency.tabulate(truth, labels))


def under_segmentation_error(
  truth: Integer[np.ndarray, "h w"], labels: Integer[np.ndarray, "h w"]
) -> float:
  """How much of the segments leaks over the borders of true regions, in [0, 1]; 0 is best.

  The definition of Neubert and Protzel, "Superpixel Benchmark and Comparison", Forum
  Bildverarbeitung 2012: sum_G sum_S min(|S & G|, |S - G|) / N, which does not punish large
  segments as that of Levinshtein et al. (2009) does. (That of van den Bergh et al. and of Achanta
  et al., sum_S |S - G_S| / N with G_S the commonest region, is one minus `achievable_accuracy`.)
  A pixel of no segment counts as leaked. NaN if no pixel of the truth is labelled.
  """
  return _leakage(contingency.tabulate(truth, labels))


def compactness(labels: Integer[np.ndarray, "h w"]) -> float:
  """Mean over pixels of 4 pi A / L^2 of their segment, in (0, pi / 4]; NaN without segments.

  Schick, Fischer and Stiefelhagen, "Measuring and Evaluating the Compactness of Superpixels",
  ICPR 2012. A is the segment's area in pixels, L the number of pixel edges around it, those on
  the image's frame included; so a square reaches pi / 4 and no segment more.
  """
  inside = labels >= 0
  segments, index = compact(labels[inside])
  if not len(segments):
    return float("nan")
  padded = np.pad(labels.astype(np.int64), 1, constant_values=-1)
  centre = padded[1:-1, 1:-1]
  neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
  edges = np.sum([centre != each for each in neighbours], axis=0)
  area = np.bincount(index)
  length = np.bincount(index, weights=edges[inside])
  return float(4 * np.pi * (area**2 / length**2).sum() / area.sum())


def count_pieces(labels: Integer[np.ndarray, "h w"]) -> Int[np.ndarray, "p"]:
  """Number of connected pieces (4-neighbours) of each segment, ids ascending."""
  index = np.arange(labels.size).reshape(labels.shape)
  beside, below = labels[:, :-1] == labels[:, 1:], labels[:-1] == labels[1:]
  first = np.concatenate([index[:, :-1][beside], index[:-1][below]])
  second = np.concatenate([index[:, 1:][beside], index[1:][below]])
  links = sparse.coo_array((np.ones(len(first), bool), (first, second)), shape=(labels.size,) * 2)
  pieces = csgraph.connected_components(links, directed=False)[1]
  members = labels.ravel()[np.unique(pieces, return_index=True)[1]]
  return np.unique(members[members >= 0], return_counts=True)[1]


def _accuracy(table: contingency.Contingency) -> float:
  if not len(table.ids):
    return float("nan")
  return float(table.shared.max(axis=0).sum() / table.areas.sum())


def _leakage(table: contingency.Contingency) -> float:
  if not len(table.ids):
    return float("nan")
  leaked = np.minimum(table.shared, table.sizes - table.shared).sum()
  outside = table.areas.sum() - table.sizes.sum()
  return float((leaked + outside) / table.areas.sum())
