"""What a trained model is worth: each module has an `Evaluator`, of metrics and maybe pictures."""

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from hseg_jax.errors import UserError


def make_all(
  options: Mapping[str, Mapping[str, Any]], model: Any, offered: Mapping[str, Any]
) -> dict[str, Any]:
  """Creates evaluators, `hseg_jax.evaluators.NAME.Evaluator` each.

  Args:
    options: of each by its name.
    model: to evaluate.
    offered: further arguments, of which each is handed those that its constructor asks for.

  Raises:
    UserError: an unknown evaluator or option.
  """
  evaluators = {}
  for name, own in options.items():
    if not importlib.util.find_spec(f"{__name__}.{name}"):
      raise UserError(f"There is no evaluator {name!r}.")
    cls = importlib.import_module(f"{__name__}.{name}").Evaluator
    accepted = inspect.signature(cls).parameters
    for option in own:
      if option not in accepted:
        raise UserError(f"Evaluator {name!r} has no option {option!r}.")
    wanted = {key: value for key, value in offered.items() if key in accepted}
    evaluators[name] = cls(model, **wanted, **own)
  return evaluators


def run_all(
  evaluators: Mapping[str, Any], variables: Any
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
  """Runs them all; returns the metrics and the pictures, uint8 `[h, w, 3]`, by name."""
  metrics, figures = {}, {}
  for evaluator in evaluators.values():
    metrics |= {name: float(value) for name, value in evaluator.run(variables)}
    if hasattr(evaluator, "figures"):
      figures |= evaluator.figures()
  return metrics, figures
