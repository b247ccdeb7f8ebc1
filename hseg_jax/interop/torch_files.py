"""Files that hold PyTorch weights, as numpy arrays.

This is the only file that imports torch, and only for files that nothing else can read. Nothing in
a file is ever run: pickles are read by torch's restricted reader.
"""

import argparse
import os
import pathlib
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hseg_jax.errors import UserError
from hseg_jax.interop import exported

_REMEDY = "open it where it comes from and save its tensors alone, as safetensors"


def read(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a checkpoint.

  Args:
    path: `.safetensors` and `.npz` are read without torch, everything else by it.

  Returns:
    What the file holds, dicts in dicts as they are there, with numpy arrays for tensors; those of
    16 bits become float32, in which they are exact.

  Raises:
    UserError: there is no such file, it is damaged or no checkpoint, it wants to run code, or torch
      is needed and absent.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise UserError(f"There is no checkpoint {path}.")
  if path.stat().st_size == 0:
    raise UserError(f"{path} is empty: fetch it again.")
  readers = {".safetensors": exported.load_tensors, ".npz": _read_npz}
  content = readers.get(path.suffix, _read_torch)(path)
  if not isinstance(content, Mapping):
    raise UserError(f"{path} is no checkpoint: it holds a {type(content).__name__}, no state dict.")
  try:
    return _widen(content)
  except (RuntimeError, TypeError) as error:  # torch's, of sparse or quantised tensors, say
    raise UserError(
      f"{path} holds tensors that are no plain arrays ({error}): {_REMEDY}, dense and on the CPU."
    ) from error


def _widen(value: Any) -> Any:
  """Tensors -> numpy arrays, floats in 32 bits or more, in dicts of any depth.

  Only entries with a name are kept: no weights go by a number, though an optimizer's state does.
  """
  if isinstance(value, Mapping):
    return {key: _widen(inner) for key, inner in value.items() if isinstance(key, str)}
  if not isinstance(value, np.ndarray) and hasattr(value, "detach"):
    value = value.detach()
    # Numpy has no bfloat16.
    value = (value.float() if value.is_floating_point() else value).numpy()
  if isinstance(value, np.ndarray) and (value.dtype.kind == "V" or value.dtype == np.float16):
    return value.astype(np.float32)
  return value


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    if not zipfile.is_zipfile(path):  # numpy would take it for a pickle
      raise zipfile.BadZipFile
    with np.load(path, allow_pickle=False) as arrays:
      return dict(arrays)
  except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    if "allow_pickle" in str(error):
      raise UserError(f"{path} holds pickled objects, which could run code: {_REMEDY}.") from error
    raise UserError(f"{path} is damaged or no npz archive: fetch it again.") from error


def _read_torch(path: pathlib.Path) -> Any:
  try:
    import torch
  except ImportError as error:
    raise UserError(
      f"Reading {path} takes PyTorch: pip install 'hseg_jax[torch]', or convert the file to "
      "safetensors."
    ) from error
  # DeiT keeps its command line in the checkpoint; a Namespace is a bag of plain values.
  with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about bytes that are refused below
    try:
      return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
      wanted = re.search(r"GLOBAL (\S+)|(?:type|class|function) (\S+\.\S+)", str(error))
      if wanted:
        raise UserError(
          f"{path} wants to run code ({wanted[1] or wanted[2]}) when it is opened, so it was not. "
          f"If you trust it, {_REMEDY}."
        ) from error
      raise UserError(
        f"{path} is no PyTorch checkpoint of tensors and plain values: it is damaged, or wants to "
        "run code. It was not opened."
      ) from error
    # What else torch's readers raise is a matter of the bytes they meet.
    except Exception as error:
      raise UserError(f"{path} is damaged or no PyTorch checkpoint: fetch it again.") from error
