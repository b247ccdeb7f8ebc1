"""What the plain values of a config may be."""

import math
from collections.abc import Mapping
from typing import Any

from hseg_jax.errors import UserError

Settings = dict[str, Any]

# The least and the most of every number that has such limits, both allowed; all are finite.
_RANGES = {
  "seed": (0, 2**31 - 1),
  "batch_size": (1, math.inf),
  "num_steps": (0, math.inf),
  "num_epochs": (0, math.inf),
  "log_every_steps": (1, math.inf),
  "eval_every_steps": (1, math.inf),
  "data.num_train": (1, math.inf),
  "data.num_val": (1, math.inf),
  "data.image_size": (1, math.inf),
  "data.canvas_size": (1, 8192),  # images and their weights are squares of it
  "data.min_scale": (1e-3, 1),
  "data.num_workers": (0, math.inf),
  "data.max_bad_images": (0, math.inf),
  "superpixels.num_segments": (1, math.inf),
  "superpixels.bins": (1, 64),  # histograms have their cube, for every superpixel
  "superpixels.iterations": (0, math.inf),
  "objective.label_smoothing": (0, 1),
  "objective.temperature": (1e-6, math.inf),
  "objective.momentum": (0, 1),
  "objective.projection_dim": (1, math.inf),
  "objective.hidden_dim": (1, math.inf),
  "optimizer.learning_rate": (0, math.inf),
  "optimizer.final_fraction": (0, 1),
  "optimizer.warmup_steps": (0, math.inf),
  "optimizer.weight_decay": (0, math.inf),
  "optimizer.clip_norm": (0, math.inf),
  # At 1, or what float32 takes for it, the averages' correction divides zero by zero.
  "optimizer.b1": (0, 0.999999),
  "optimizer.b2": (0, 0.999999),
  "optimizer.ema": (0, 0.999999),  # at 1 the untrained parameters would be evaluated for ever
  "checkpoint.every_steps": (1, math.inf),
  "checkpoint.keep": (1, math.inf),
}

# The same of what several evaluators call alike; what only one has it checks itself.
_OPTION_RANGES = {
  "seed": (0, 2**31 - 1),
  "num_examples": (1, math.inf),
  "num_pictures": (0, math.inf),
  "learning_rate": (0, math.inf),
  "min_scale": (1e-3, 1),
  "tolerance": (0, math.inf),
}


def check_ranges(settings: Mapping[str, Any]) -> None:
  """Refuses numbers that no experiment can have, before anything is made of them.

  Args:
    settings: a config as nested dicts; None is left to what the field means by it.

  Raises:
    UserError: a number is out of its range; the sentence names the field and the range.
  """
  for name, limits in _RANGES.items():
    value = settings
    for key in name.split("."):
      value = value[key]
    _check(name, value, *limits)
  for evaluator, options in settings["evaluators"].items():
    for option in options.keys() & _OPTION_RANGES.keys():
      _check(f"evaluators.{evaluator}.{option}", options[option], *_OPTION_RANGES[option])


def _check(name: str, value: Any, low: float | int, high: float | int) -> None:
  # Not the other way round: NaN compares false with everything.
  if value is not None and not (low <= value <= high and math.isfinite(value)):
    limits = f"finite and at least {low}" if high == math.inf else f"between {low} and {high}"
    raise UserError(f"{name} is {value}; it must be {limits}.")
