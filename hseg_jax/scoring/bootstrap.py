"""How far scores would move on other images: confidence intervals, for methods side by side.

Images are drawn anew with replacement, as many as there are, and all scores are computed again
(Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals). What an
image adds to the scores is its tallies; those of the drawn images are summarized as those of the
data set are. Methods that are compared are scored on the same drawn images: how hard those are then
cancels out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

Tallies = Mapping[str, Shaped[np.ndarray, "b ..."]]
Summarize = Callable[[Tallies], Mapping[str, float]]


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


class Difference(NamedTuple):
  """What a method scores above the first one on the same images.

  Attributes:
    value: on the images as they are.
    low: lower end of its interval.
    high: upper end.
    agreement: share of resamples in which the difference has the sign that it has on the images as
      they are; 0 where that is no difference.
  """

  value: float
  low: float
  high: float
  agreement: float


def compare(
  methods: Sequence[Tallies],
  summarize: Summarize,
  *,
  num_resamples: int,
  confidence: float = 0.95,
  seed: int = 0,
  advance: Callable[[], None] = lambda: None,
) -> tuple[list[dict[str, Interval]], list[dict[str, Difference]]]:
  """Scores of methods on the same images, in the same order, and their differences to the first.

  Args:
    methods: tallies of every method, by name, stacked over images.
    summarize: from stacked tallies to scores by name, NaN where there is none.
    num_resamples: how often the images are drawn; 1,000 or more for stable ends.
    confidence: share of resamples within the intervals, in (0, 1).
    seed: of the draws; the same one and the same number of images draw the same images.
    advance: called after each resample.

  Returns:
    For each method its scores, and for each method after the first the differences of those scores
    that both have.

  Raises:
    ValueError: there are no images, no resamples, the confidence is not in (0, 1), or the methods
      have different numbers of images.
  """
  counts = {len(rows) for tallies in methods for rows in tallies.values()}
  if len(counts) > 1:
    raise ValueError(f"the methods have different numbers of images: {sorted(counts)}")
  num_images = counts.pop() if counts else 0
  if not num_images or num_resamples < 1 or not 0 < confidence < 1:
    raise ValueError(
      f"cannot draw {num_resamples} resamples of {num_images} images at confidence {confidence}"
    )
  actual = [summarize(tallies) for tallies in methods]
  drawn = [{name: np.full(num_resamples, np.nan) for name in scores} for scores in actual]
  for i, rows in enumerate(_draw(num_images, num_resamples, seed)):
    for scores, tallies in zip(drawn, methods, strict=True):
      found = summarize({name: values[rows] for name, values in tallies.items()})
      for name in scores.keys() & found.keys():  # a class may be in none of the drawn images
        scores[name][i] = found[name]
    advance()
  intervals = [
    {name: Interval(value, *_ends(drawn[m][name], confidence)) for name, value in scores.items()}
    for m, scores in enumerate(actual)
  ]
  differences = [
    {
      name: _difference(scores[name] - first, drawn[m][name] - drawn[0][name], confidence)
      for name, first in actual[0].items()
      if name in scores
    }
    for m, scores in enumerate(actual[1:], start=1)
  ]
  return intervals, differences


def _draw(num_images: int, num_resamples: int, seed: int) -> Int[np.ndarray, "r b"]:
  """Indices of the images of each resample."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, num_images, (num_resamples, num_images))


def _difference(value: float, values: Float[np.ndarray, "r"], confidence: float) -> Difference:
  known = values[~np.isnan(values)]
  agrees = np.sign(known) == np.sign(value) if value else np.zeros(len(known), bool)
  agreement = float(agrees.mean()) if len(known) else float("nan")
  return Difference(value, *_ends(values, confidence), agreement)


def _ends(values: Float[np.ndarray, "r"], confidence: float) -> tuple[float, float]:
  known = values[~np.isnan(values)]
  if not len(known):
    return float("nan"), float("nan")
  low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
  return float(low), float(high)
