"""At which scales a prediction is scored: its own levels, or cuts into given numbers of regions."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Integer

from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.label_maps import compact
from hseg_jax.scoring.predictions import Prediction

# So far may the regions of a level be from the number asked for, where there is no tree to cut.
FACTOR = 1.25


def select(
  prediction: Prediction, regions: Sequence[int] = ()
) -> tuple[Integer[np.ndarray, "h w"], ...]:
  """The label maps that are scored.

  Args:
    prediction: of one image.
    regions: how many regions each map shall have; nothing for the levels as they are. A tree is
      cut into exactly so many by `Hierarchy.cut` (into its superpixels where it has fewer). Where
      it would be by place alone, below the last level of a tree without features, and where there
      is no tree, it is the level whose number is nearest by ratio.

  Raises:
    UserError: there are no regions, or no level has about so many.
  """
  if not prediction.levels:
    raise UserError("The prediction has no regions; give label maps or hierarchies.")
  if not regions:
    return prediction.levels
  counts = [count_regions(labels) for labels in prediction.levels]
  hierarchy = tree(prediction)
  return tuple(
    hierarchy.cut(number)
    if hierarchy is not None and (hierarchy.features or number >= counts[-1])
    else prediction.levels[_nearest(counts, number)]
    for number in regions
  )


def tree(prediction: Prediction) -> Hierarchy | None:
  """The tree of a prediction; None where levels do not nest, and of a single label map."""
  hierarchy = prediction.hierarchy
  flat = hierarchy is not None and hierarchy.num_levels == 1 and not hierarchy.features
  return None if flat else hierarchy


def count_regions(labels: Integer[np.ndarray, "h w"]) -> int:
  """How many regions a label map has; negative ids are none."""
  return int((compact(labels)[0] >= 0).sum())


def label(count: int, regions: Sequence[int]) -> dict[str, np.ndarray]:
  """What a tally says of its scales: `regions`, the numbers asked for, or `level`."""
  return {"regions": np.array(regions)} if regions else {"level": np.arange(count)}


def axis(tallies: Mapping[str, np.ndarray]) -> tuple[str, Float[np.ndarray, "k"]]:
  """What tells the scales of stacked tallies apart, and its values: "threshold", or as `label`."""
  name = next(name for name in ("threshold", "regions", "level") if name in tallies)
  return name, tallies[name][0].astype(np.float64)


def named(tallies: Mapping[str, np.ndarray]) -> Iterator[str]:
  """What each scale is called in names of scores; nothing for thresholds, which are many."""
  name, values = axis(tallies)
  return iter(()) if name == "threshold" else (f"{name}_{value:.0f}" for value in values)


def _nearest(counts: Sequence[int], number: int) -> int:
  ratios = [max(count, number) / max(min(count, number), 1e-9) for count in counts]
  best = int(np.argmin(ratios))
  if ratios[best] > FACTOR:
    raise UserError(
      f"No level has about {number} regions (there are {', '.join(map(str, counts))}), and no tree "
      "says how to cut them; ask for other numbers of regions."
    )
  return best
