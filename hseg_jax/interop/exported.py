"""Parameters out: a weights folder that any framework can read.

The folder holds `model.safetensors` ("/"-joined readable names, the collection first) and
`model.json`. Reading it needs numpy and safetensors only.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from hseg_jax.errors import UserError

WEIGHTS = "model.safetensors"
INFO = "model.json"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
  """A nested dict of arrays -> "/"-joined names."""
  flat = {}
  for key, value in tree.items():
    name = f"{prefix}{key}"
    flat |= flatten(value, f"{name}/") if isinstance(value, Mapping) else {name: np.asarray(value)}
  return flat


def unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """The inverse of `flatten`."""
  tree: dict[str, Any] = {}
  for name, value in flat.items():
    *parents, leaf = name.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return tree


def save(folder: str | os.PathLike, variables: Mapping[str, Any], info: Mapping[str, Any]) -> None:
  """Writes a weights folder.

  Args:
    folder: is created; files of an earlier export in it are replaced.
    variables: {"params": ..., "batch_stats": ...}, nested dicts of arrays.
    info: what `model.json` says; json values. "model" holds the arguments of `create_model`.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  flat = {name: np.ascontiguousarray(value) for name, value in flatten(variables).items()}
  # Each file appears under its name only once it is whole.
  safetensors.numpy.save_file(flat, folder / f"{WEIGHTS}.partial")
  (folder / f"{INFO}.partial").write_text(json.dumps(dict(info), indent=2) + "\n")
  for name in (WEIGHTS, INFO):
    (folder / f"{name}.partial").replace(folder / name)


def save_tensors(path: str | os.PathLike, tensors: Mapping[str, Any]) -> None:
  """Writes a safetensors file; it appears under its name once it is whole."""
  path = pathlib.Path(path)
  partial = path.with_name(f"{path.name}.partial")
  flat = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
  safetensors.numpy.save_file(flat, partial)
  partial.replace(path)


def load_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads a safetensors file.

  Raises:
    UserError: it is damaged.
  """
  import ml_dtypes  # noqa: F401 -- teaches numpy bfloat16

  try:
    return safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise UserError(
      f"{path} is damaged or no safetensors file ({error}): fetch it again."
    ) from error


def load_exported(folder: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Reads a weights folder.

  Args:
    folder: as `save` wrote it.

  Returns:
    "/"-joined name -> numpy array, and what `model.json` says.

  Raises:
    UserError: where a file is missing or damaged.
  """
  folder = pathlib.Path(folder)
  for name in (WEIGHTS, INFO):
    if not (folder / name).is_file():
      raise UserError(f"{folder} is no weights folder: it has no {name}.")
  try:
    flat = safetensors.numpy.load_file(folder / WEIGHTS)
    info = json.loads((folder / INFO).read_text())
  except (safetensors.SafetensorError, UnicodeDecodeError, json.JSONDecodeError) as error:
    raise UserError(
      f"The weights folder {folder} is damaged ({error}): export it again."
    ) from error
  return flat, info
