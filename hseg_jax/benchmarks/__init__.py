"""What is counted of one image, and which scores follow from the counts of many.

Each benchmark is a module with

* `tally(prediction, truth, **options)`: what one image adds, arrays of fixed shapes by name;
* `summarize(tallies)`: the scores of a set of images from their stacked tallies, by name; those of
  one image are those of a stack of one. `NAME/SCORE` is the score at a scale: a level, or a cut;
* `curves(tallies)`: what a page draws, by title;
* `pictures(prediction, truth, **options)`: what a page shows of one image, by title: maps of
  ids, or strengths in [0, 1];
* `shape(truth)`: height and width of the image;
* `SCORES`: what each score is, by the last part of its name. Larger is better, save for those in
  `LOWER` and for numbers of things. The first score of a summary ranks images;
* `TITLE` and `HEADLINES`, what a page says first: patterns of names.

So the scores of an image, of a data set and of any resample of it come from the same lines.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Tally = dict[str, np.ndarray | float | int]


class Curve(NamedTuple):
  """A line on a page.

  Attributes:
    x_name, y_name: what the axes are.
    points: `[n, 2]`.
  """

  x_name: str
  y_name: str
  points: Float[np.ndarray, "n 2"]


def mean(values: Float[np.ndarray, "*n"]) -> float:
  """Mean of the values that are not NaN, the images that have a score; NaN if none has."""
  known = values[~np.isnan(values)]
  return float(known.mean()) if known.size else float("nan")
