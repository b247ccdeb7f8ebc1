"""Takes a run's model out of its folder, to be used, shared and read by other programs."""

import csv
import os
from collections.abc import Mapping
from typing import Any

import jax

from hseg_jax import create_model, files
from hseg_jax.errors import UserError
from hseg_jax.evaluate import load_run
from hseg_jax.interop import exported, hub, model_card, stablehlo, torch_weights
from hseg_jax.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from hseg_jax.settings import Settings
from hseg_jax.training import workdir as workdirs


def export(
  workdir: str | os.PathLike,
  out: str | os.PathLike,
  *,
  half: bool = False,
  program: bool = False,
  dataset: str = "",
  terms: str = "",
  license: str = "",
  class_names: str | os.PathLike | None = None,
  push: str | None = None,
  torch: bool = False,
) -> None:
  """Writes the model of a run's newest checkpoint as a weights folder with its model card.

  Args:
    workdir: folder of the run.
    out: gets the files; those of an earlier export in it are replaced or removed.
    half: stores the parameters in half precision.
    program: adds the model as a program that runs without this package.
    dataset: public name of the training data; a run knows only those that it did not read from
      a plain folder.
    terms: under which data and weights may be used, a sentence for the card.
    license: of the weights, an identifier of the hub.
    class_names: a CSV file that gives classes readable names: class, name.
    push: OWNER/NAME of a repository of the Hugging Face hub to upload the files to.
    torch: adds the weights under the reference's names, for its PyTorch classes.

  Raises:
    UserError: `workdir` holds no run or no checkpoint, `out` cannot be written, a class has no
      readable name, a parameter is beyond half precision, or the hub refuses.
  """
  if push is not None:
    hub.check_push(push)
  variables, step, settings = load_run(workdir)
  if torch:
    _check_torch(workdir, settings["model"])
  info = describe(settings, variables) | {
    "step": step,
    "metrics": workdirs.last_metrics(workdir, step),
    "commit": workdirs.commit(),
    "half": half,
    "terms": terms,
    "license": license,
  }
  if dataset:
    info["dataset"] = dataset
  if class_names is not None:
    info["class_names"] = rename_classes(info["class_names"], class_names)
  files.make_folder(out)  # what cannot be written is better known before the work
  stored = exported.flatten(variables)
  if half:
    stored = exported.halve(stored)
  model, extras = create_model(**settings["model"]), {}
  variables = exported.unflatten(exported.widen(stored))
  if program:
    size = settings["data"]["image_size"]
    extras[exported.PROGRAM], info["program"] = stablehlo.serialize(model, variables, size)
  if torch:
    tensors = torch_weights.export_torch(variables, model)
    extras[exported.TORCH_WEIGHTS] = exported.dump(tensors)
    info["torch"] = True
  extras[exported.CARD] = model_card.render(info).encode()
  exported.save(out, exported.unflatten(stored), info, extras)
  if push is not None:
    print(f"pushed to {hub.push(out, push, [exported.WEIGHTS, exported.INFO, *extras])}")


def _check_torch(workdir: str | os.PathLike, model: Settings) -> None:
  """Refuses what the published PyTorch class of such a model does not compute."""
  means = ("nearest", "bilinear") if model["name"].endswith("_seg") else ("nearest",)
  for field, values in (("assignment", ("cosine",)), ("segment_mean", means)):
    if model.get(field, values[0]) not in values:
      raise UserError(
        f"The run in {workdir} has model.{field}={model[field]!r}, which the PyTorch class does "
        "not know; export without --torch."
      )


def describe(settings: Settings, variables: Mapping[str, Any]) -> dict[str, Any]:
  """What `model.json` says of a run's model and data, whatever its checkpoint."""
  model = create_model(**settings["model"])
  source = settings["data"]["source"]
  known = {"partworld": "PartWorld, drawn by hseg_jax", "tfds": settings["data"]["name"]}
  return {
    "name": settings["model"]["name"],
    "model": settings["model"],
    "regions": list(model.num_clusters),
    "preprocessing": {
      "image_size": settings["data"]["image_size"],
      "mean": IMAGENET_MEAN,
      "std": IMAGENET_STD,
      "superpixels": settings["superpixels"],
    },
    "class_names": settings["class_names"] if settings["model"]["num_classes"] else [],
    "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
    "dataset": known.get(source, ""),
    "config": _without_places(settings),
  }


def _without_places(settings: Settings) -> Settings:
  """A config whose absolute paths keep their last part: where things lie concerns no reader."""
  clean = {}
  for name, value in settings.items():
    if isinstance(value, dict):
      value = _without_places(value)
    elif isinstance(value, str) and os.path.isabs(value):
      value = os.path.basename(os.path.normpath(value))
    clean[name] = value
  return clean


def rename_classes(names: list[str], table: str | os.PathLike) -> list[str]:
  """The readable names of classes.

  Args:
    names: of the classes, in order.
    table: a CSV file whose first two columns are the class and its readable name; lines of other
      classes do not matter.

  Raises:
    UserError: the table cannot be read, or lacks a class.
  """
  try:
    with open(table, newline="", encoding="utf-8") as file:
      readable = {row[0]: row[1] for row in csv.reader(file) if len(row) > 1}
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise UserError(f"The class names {table} cannot be read ({error}).") from error
  if missing := [name for name in names if name not in readable]:
    raise UserError(f"{table} has no readable name for {', '.join(missing[:5])}; add a line each.")
  return [readable[name] for name in names]
