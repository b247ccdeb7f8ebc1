"""Evaluates a run or exported weights once."""

import json
import pathlib
import signal
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hseg_jax import experiment as experiments
from hseg_jax import files
from hseg_jax.errors import UserError
from hseg_jax.experiment import Experiment
from hseg_jax.interop import exported
from hseg_jax.models import may_lack
from hseg_jax.settings import Settings
from hseg_jax.training import checkpoint, sharding
from hseg_jax.training import workdir as workdirs

Variables = dict[str, Any]


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
  # Data that the model was not trained on may have masks and no classes: the head stays its own.
  head = {"num_classes": trained.get("model", {}).get("num_classes")}
  experiment = experiments.setup({**settings, "model": {**settings["model"], **head}})
  evaluators = experiments.make_evaluators(experiment)
  _check_variables(variables, experiment)
  files.make_folder(out)  # what cannot be written is better known before the evaluation
  variables = jax.device_put(variables, sharding.replicated(experiment.mesh))
  metrics, figures = experiments.run_evaluators(evaluators, variables)
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


def _check_variables(variables: Variables, experiment: Experiment) -> None:
  key = jax.ShapeDtypeStruct((2,), np.uint32)
  batch = experiments.example_batch({**experiment.settings, "batch_size": 1})
  first = jax.eval_shape(experiment.objective.init, key, batch)
  wanted = experiment.objective.model_variables(first["params"], first["batch_stats"])
  shapes = lambda tree: {
    jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  found, wanted = shapes(variables), shapes(wanted)
  for name in sorted(found.keys() | wanted.keys()):
    if may_lack(name) and not (name in found and name in wanted):
      continue
    if found.get(name) != wanted.get(name):
      raise UserError(
        f"The weights do not fit the config's model: {name} has shape "
        f"{found.get(name, 'absent')}, the model's is {wanted.get(name, 'absent')}."
      )


def _write(out: pathlib.Path, metrics: Mapping[str, Any], figures: Mapping[str, np.ndarray]):
  from PIL import Image  # only evaluators with pictures need it

  (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
  for name, picture in figures.items():
    path = out / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
  for name, value in metrics.items():
    print(f"{name}  {value}")
