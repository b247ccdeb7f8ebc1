"""Parameters out: a weights folder that any framework can read.

The folder holds `model.safetensors` ("/"-joined readable names, the collection first) and
`model.json`, and may hold the files of `EXTRAS`. Reading it needs numpy and safetensors only.

In half precision parameters are float16, save the two large kernels of the last pooling, which are
int8: X times `X.scale`, a float32 for each column. Statistics stay float32, since float16 has few
digits for small variances. `load_exported` gives float32 in either case.
"""

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from hseg_jax import files
from hseg_jax.errors import UserError

WEIGHTS = "model.safetensors"
INFO = "model.json"
CARD = "README.md"  # see model_card.py
PROGRAM = "model.stablehlo"  # see stablehlo.py
TORCH_WEIGHTS = "pytorch_model.safetensors"  # under the names that PyTorch users know
UNUSED = "unused.safetensors"  # tensors of an import that no forward pass applies
EXTRAS = (CARD, PROGRAM, TORCH_WEIGHTS, UNUSED)
_SCALE = ".scale"


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


def halve(flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Parameters in half precision, as the head of this file tells.

  Args:
    flat: "/"-joined name -> array.

  Raises:
    UserError: a parameter is beyond float16.
  """
  poolings = [int(match[1]) for name in flat if (match := re.match(r"params/pool_(\d+)/", name))]
  # Of all kernels these stand 8 bits best: no assignment of a token to a region depends on them.
  last = f"params/pool_{max(poolings, default=-1)}/"
  coarse = (f"{last}expand/fc/kernel", f"{last}reduce/fc/kernel")
  half = {}
  for name, value in flat.items():
    if not name.startswith("params/") or value.dtype != np.float32:
      half[name] = value
      continue
    if not np.all(np.abs(value) <= np.finfo(np.float16).max):
      raise UserError(f"{name} has values beyond half precision; export in full precision.")
    if name in coarse:
      scale = np.maximum(np.abs(value).max(axis=0), np.float32(1e-30)) / np.float32(127)
      half[name], half[f"{name}{_SCALE}"] = np.round(value / scale).astype(np.int8), scale
    else:
      half[name] = value.astype(np.float16)
  return half


def widen(flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The inverse of `halve`, up to rounding: every parameter in float32."""
  wide = {}
  for name, value in flat.items():
    if f"{name}{_SCALE}" in flat:
      value = value * flat[f"{name}{_SCALE}"]
    if not name.endswith(_SCALE):
      wide[name] = value.astype(np.float32) if value.dtype == np.float16 else value
  return wide


def save(
  folder: str | os.PathLike,
  variables: Mapping[str, Any],
  info: Mapping[str, Any],
  extras: Mapping[str, bytes] | None = None,
) -> None:
  """Writes a weights folder.

  Args:
    folder: is created; files of an earlier export in it are replaced.
    variables: {"params": ..., "batch_stats": ...}, nested dicts of arrays, such as what `halve`
      makes of them, unflattened.
    info: what `model.json` says; json values. "model" holds the arguments of `create_model`.
    extras: contents of files of `EXTRAS`. Those not given are removed: beside the new parameters
      an earlier program would be another model's.

  Raises:
    UserError: the folder cannot be written.
  """
  folder = pathlib.Path(folder)
  contents = {
    INFO: (json.dumps(dict(info), indent=2) + "\n").encode(),
    **(extras or {}),
    WEIGHTS: dump(flatten(variables)),
  }
  files.make_folder(folder)
  # Each file appears under its name only once all are whole, the first as the last.
  with contextlib.ExitStack() as stack:
    partial = {name: stack.enter_context(files.whole(folder / name)) for name in contents}
    for name, content in contents.items():
      partial[name].write_bytes(content)
  for name in set(EXTRAS) - contents.keys():
    (folder / name).unlink(missing_ok=True)


def dump(tensors: Mapping[str, Any]) -> bytes:
  """Arrays by name as the content of a safetensors file."""
  return safetensors.numpy.save(
    {name: np.asarray(value, order="C") for name, value in tensors.items()}
  )


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
    "/"-joined name -> numpy array, float32 also where half precision is stored, and what
    `model.json` says.

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
  return widen(flat), info
