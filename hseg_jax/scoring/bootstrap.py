"""How far scores would move on other images: confidence intervals, for one method and for two.

Images are drawn anew with replacement, as many as there are, and the score is computed again
(Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals). Every score
of `scoring` follows from sums over images: of values and their number for a mean over images, of
confusion matrices for a data set's mIoU, of boundary counts for its F. So what enters is one such
array an image, its tally, and a function from the sum of tallies to the score. Methods that are
compared are scored on the same drawn images: how hard those are then cancels out.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

Statistic = Callable[[Num[np.ndarray, "..."]], float]

# So many resamples are weighted at once: bounds the memory that large tallies take.
_BLOCK = 64


class Interval(NamedTuple):
  """A score with its confidence interval; NaN where too few images have a score.

  Attributes:
    value: on the images as they are.
    low: lower end of the interval.
    high: upper end.
  """

  value: float
  low: float
  high: float


class Comparison(NamedTuple):
  """What the second method scores above the first on the same images.

  Attributes:
    first: score of the first with its interval.
    second: score of the second with its interval.
    difference: second minus first with its interval, from paired resamples.
    p_value: two-sided: twice the share of resamples in which the sign of the difference is lost,
      counted with the images as they are as one more resample; at most 1.
  """

  first: Interval
  second: Interval
  difference: Interval
  p_value: float


def mean_tallies(scores: Float[np.ndarray, "b"]) -> Float[np.ndarray, "b 2"]:
  """Tallies of a mean over images: (score, 1), or (0, 0) for an image without one (NaN).

  Methods that are compared should lack a score on the same images, those that show nothing.
  """
  known = ~np.isnan(scores)
  return np.stack([np.where(known, scores, 0), known], axis=1).astype(np.float64)


def mean(total: Num[np.ndarray, "2"]) -> float:
  """The statistic of `mean_tallies`, or of any other pair (sum, number); NaN of nothing."""
  return float(total[0] / total[1]) if total[1] else float("nan")


def estimate(
  tallies: Num[np.ndarray, "b ..."],
  statistic: Statistic = mean,
  *,
  num_resamples: int,
  confidence: float = 0.95,
  seed: int = 0,
) -> Interval:
  """The score of one method with its confidence interval.

  Args:
    tallies: one array an image, all of one shape, that may be added up.
    statistic: the score that follows from a sum of tallies; NaN where there is none.
    num_resamples: how often the images are drawn; 1,000 or more for stable ends.
    confidence: share of resamples within the interval, in (0, 1).
    seed: of the draws; the same one and the same number of images draw the same images.

  Raises:
    ValueError: there are no images, no resamples, or the confidence is not in (0, 1).
  """
  values = _resample([tallies], statistic, num_resamples, confidence, seed)[:, 0]
  return _interval(statistic(tallies.sum(axis=0)), values, confidence)


def compare(
  first: Num[np.ndarray, "b ..."],
  second: Num[np.ndarray, "n ..."],
  statistic: Statistic = mean,
  *,
  num_resamples: int,
  confidence: float = 0.95,
  seed: int = 0,
) -> Comparison:
  """Two methods on the same images, in the same order; arguments as those of `estimate`.

  Raises:
    ValueError: as `estimate`, or the methods have different numbers of images.
  """
  if len(first) != len(second):
    raise ValueError(f"the first method has {len(first)} images and the second {len(second)}")
  values = _resample([first, second], statistic, num_resamples, confidence, seed)
  scores = [statistic(tallies.sum(axis=0)) for tallies in (first, second)]
  differences = values[:, 1] - values[:, 0]
  known = differences[~np.isnan(differences)]
  lost = min((known <= 0).sum(), (known >= 0).sum())
  return Comparison(
    first=_interval(scores[0], values[:, 0], confidence),
    second=_interval(scores[1], values[:, 1], confidence),
    difference=_interval(scores[1] - scores[0], differences, confidence),
    p_value=float(min(1.0, 2 * (lost + 1) / (len(known) + 1))) if len(known) else float("nan"),
  )


def _resample(
  methods: list[np.ndarray],
  statistic: Statistic,
  num_resamples: int,
  confidence: float,
  seed: int,
) -> Float[np.ndarray, "n m"]:
  """Scores of every method, columns, on the same drawn images, rows."""
  num_images = len(methods[0])
  # Products of floats are quick, and exact for any count of pixels that can be met.
  methods = [tallies.astype(np.float64) for tallies in methods]
  if not num_images or num_resamples < 1 or not 0 < confidence < 1:
    raise ValueError(
      f"cannot draw {num_resamples} resamples of {num_images} images at confidence {confidence}"
    )
  rows = []
  for counts in _draw(num_images, num_resamples, seed):
    sums = [np.tensordot(counts.astype(np.float64), tallies, axes=1) for tallies in methods]
    rows += [[statistic(total) for total in totals] for totals in zip(*sums, strict=True)]
  return np.array(rows, np.float64)


def _draw(num_images: int, num_resamples: int, seed: int) -> Iterator[Int[np.ndarray, "_ b"]]:
  """How often each image is drawn in each resample, in blocks."""
  rng = np.random.default_rng(seed)
  for start in range(0, num_resamples, _BLOCK):
    size = min(_BLOCK, num_resamples - start)
    yield rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=size)


def _interval(value: float, values: Float[np.ndarray, "n"], confidence: float) -> Interval:
  values = values[~np.isnan(values)]
  if not len(values):
    return Interval(float(value), float("nan"), float("nan"))
  low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
  return Interval(float(value), float(low), float(high))
