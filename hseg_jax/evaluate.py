"""Evaluates a run or exported weights once."""

import json
import logging
import pathlib
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hseg_jax import experiment as experiments
from hseg_jax import files
from hseg_jax.errors import UserError
from hseg_jax.evaluators import run_all
from hseg_jax.interop import exported, torch_weights
from hseg_jax.models import known_fields
from hseg_jax.settings import Settings
from hseg_jax.training import checkpoint, sharding
from hseg_jax.training import workdir as workdirs

Variables = dict[str, Any]

_log = logging.getLogger(__name__)

# Of a model's fields those that its weights decide, whatever the config says.
_HEAD_FIELDS = ("num_classes", "head_kind", "head_hidden_dim")


def main(
  config: Any,
  *,
  workdir: str | pathlib.Path | None,
  weights: str | pathlib.Path | None,
  out: str | pathlib.Path,
) -> None:
  """Joins the processes, then evaluates."""
  sharding.initialize_distributed()
  # There is nothing to save: SIGTERM, which jax has just learnt to catch, is to end the process.
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  evaluate(config, workdir=workdir, weights=weights, out=out)


def evaluate(
  config: Any,
  *,
  workdir: str | pathlib.Path | None = None,
  weights: str | pathlib.Path | None = None,
  out: str | pathlib.Path,
) -> dict[str, float]:
  """Runs a config's evaluators on a run's newest checkpoint or on exported weights.

  Args:
    config: a ConfigDict, or the same as nested dicts; its data, model and evaluators are used.
    workdir: a run's folder; give this or `weights`.
    weights: a folder of exported weights.
    out: gets `metrics.json` and the evaluators' pictures.

  Returns:
    The metrics by name.

  Raises:
    UserError: a mistake in the config, missing data, or weights of another model.
  """
  if (workdir is None) == (weights is None):
    raise UserError("Evaluation needs either a workdir or a folder of weights.")
  if workdir is not None:
    variables, step, trained = load_run(workdir)
  else:
    flat, trained = exported.load_exported(weights)
    variables, step = exported.unflatten(flat), None
  settings = config if isinstance(config, dict) else config.to_dict()
  model, known = settings["model"], trained.get("model", {})
  # Data that the model was not trained on may have masks and no classes: the head stays its own.
  kept = {field: known.get(field) for field in _HEAD_FIELDS}
  if model.get("segment_mean") is None and "segment_mean" in known_fields(model["name"]):
    # So do the means that the weights were trained with, whatever the superpixels are now.
    kept["segment_mean"] = known.get("segment_mean", "nearest")
  experiment = experiments.setup({**settings, "model": {**model, **kept}})
  evaluators = experiments.make_evaluators(experiment)
  _check_variables(variables, experiment.model)
  _compare_classes(trained.get("class_names") or (), experiment)
  files.make_folder(out)  # what cannot be written is better known before the evaluation
  variables = jax.device_put(variables, sharding.replicated(experiment.mesh))
  metrics, figures = run_all(evaluators, variables)
  if jax.process_index() == 0:
    _write(pathlib.Path(out), {"step": step, **metrics}, figures)
  return metrics


def load_run(workdir: str | pathlib.Path) -> tuple[Variables, int, Settings]:
  """The model's variables in a run's newest checkpoint, their step, and the run's config.

  The parameters are the averaged ones where there are such.

  Raises:
    UserError: `workdir` holds no run or no checkpoint, or its config is damaged.
  """
  settings = workdirs.read_config(workdir)
  try:
    objective = experiments.make_objective(settings, experiments.make_model(settings), num_steps=1)
  except KeyError as error:
    raise UserError(f"{workdir}/config.json is damaged: it has no field {error}.") from error
  state = checkpoint.load(workdir)
  params = state["params"] if state.get("ema") is None else state["ema"]
  variables = objective.model_variables(params, state["batch_stats"] or {})
  return variables, int(state["step"]), settings


def _check_variables(variables: Variables, model: Any) -> None:
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
  misfit = torch_weights.find_misfit({name(path): leaf.shape for path, leaf in leaves}, model)
  if misfit:
    raise UserError(f"The weights do not fit the config's model: {misfit}.")


def _compare_classes(trained: Sequence[str], experiment: experiments.Experiment) -> None:
  """Warns where a classifier was trained on classes of other names, or in another order."""
  names = experiment.settings["class_names"]
  model = experiment.model
  is_classifier = model.num_classes and getattr(model, "head_kind", "linear") != "projector"
  if not is_classifier or len(trained) != len(names):
    return  # an encoder, data without classes, or weights without names
  for i, (theirs, ours) in enumerate(zip(trained, names, strict=True)):
    if theirs != ours:
      _log.warning(
        "Class %d of the model is %r, of the data %r: unless these are names of the same class, "
        "the scores of its predictions mean nothing.",
        i,
        theirs,
        ours,
      )
      return


def _write(out: pathlib.Path, metrics: Mapping[str, Any], figures: Mapping[str, np.ndarray]):
  from PIL import Image  # only evaluators with pictures need it

  for name, picture in figures.items():
    with files.whole(out / f"{name}.png") as path:
      Image.fromarray(picture).save(path, "png")
  # Last: where it is, everything is.
  with files.whole(out / "metrics.json") as path:
    path.write_text(json.dumps(metrics, indent=2) + "\n")
  for name, value in metrics.items():
    print(f"{name}  {value}")
