"""Parameters out: a weights folder that any framework can read.

The folder holds `model.safetensors` ("/"-joined readable names, the collection first) and
`model.json`. Reading it needs numpy and safetensors only.

In half precision parameters are float16, save the two large kernels of the last pooling, which are
int8: X times `X.scale`, a float32 for each column. Statistics stay float32, since float16 has few
digits for small variances. `load_exported` gives float32 in either case.
"""

import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from hseg_jax.errors import UserError

WEIGHTS = "model.safetensors"
INFO = "model.json"
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
  *,
  others: Mapping[str, bytes | None] | None = None,
) -> None:
  """Writes a weights folder.

  Args:
    folder: is created; files of an earlier export in it are replaced.
    variables: {"params": ..., "batch_stats": ...}, nested dicts of arrays, such as what `halve`
      makes of them, unflattened.
    info: what `model.json` says; json values. "model" holds the arguments of `create_model`.
    others: further files by name; None removes one that an earlier export left.
  """
  folder = pathlib.Path(folder)
  flat = {name: np.ascontiguousarray(value) for name, value in flatten(variables).items()}
  others = others or {}
  files = {
    WEIGHTS: safetensors.numpy.save(flat),
    **{name: content for name, content in others.items() if content is not None},
    INFO: (json.dumps(dict(info), indent=2) + "\n").encode(),
  }
  folder.mkdir(parents=True, exist_ok=True)
  # Each file appears under its name only once all are whole.
  for name, content in files.items():
    (folder / f"{name}.partial").write_bytes(content)
  for name in others.keys() - files.keys():
    (folder / name).unlink(missing_ok=True)
  for name in files:
    (folder / f"{name}.partial").replace(folder / name)


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
