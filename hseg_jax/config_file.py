"""Configs as the command line names them: `FILE.py[:ARGUMENT]` and overrides of single fields."""

import ast
import difflib
import importlib.util
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from hseg_jax.errors import UserError


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """Reads a config file and applies overrides.

  Args:
    spec: `FILE.py` or `FILE.py:ARGUMENT`.
    overrides: `field.subfield=value`; values are written as in Python, strings without quotes, and
      `None` only where the config has none either.

  Raises:
    UserError: the file is missing or broken, or an override names no field or has a wrong type.
  """
  name, _, argument = spec.rpartition(":") if not spec.endswith(".py") else (spec, "", "")
  path = pathlib.Path(name or argument)
  if not path.is_file():
    raise UserError(f"There is no config file {path}.")
  module_spec = importlib.util.spec_from_file_location("hseg_config", path)
  if module_spec is None:
    raise UserError(f"The config {path} is no Python file.")
  module = importlib.util.module_from_spec(module_spec)
  # Behind everything else: configs import each other by their place in the checkout.
  checkout = str(path.resolve().parent.parent)
  if checkout not in sys.path:
    sys.path.append(checkout)
  try:
    module_spec.loader.exec_module(module)
    config = module.get_config(argument if name else "")
    if not isinstance(config, ConfigDict):
      raise TypeError("get_config returns no ConfigDict")
  except ValueError as error:  # what a config says of its argument
    raise UserError(f"The config {spec} cannot be made: {error}") from error
  except Exception as error:  # whatever a file that is run may raise
    raise UserError(f"The config {spec} is broken: {type(error).__name__}: {error}") from error
  for override in overrides:
    field, equals, text = override.partition("=")
    if not equals:
      raise UserError(f"--config.{field} needs a value: --config.{field}=VALUE.")
    _override(config, field, text)
  return config


def _fields(config: ConfigDict, prefix: str = "") -> list[str]:
  names = []
  for key in config:
    is_group = isinstance(config[key], ConfigDict)
    names += _fields(config[key], f"{prefix}{key}.") if is_group else [prefix + key]
  return names


def _override(config: ConfigDict, field: str, text: str) -> None:
  known = _fields(config)
  if field not in known:
    nearest = difflib.get_close_matches(field, known, n=1, cutoff=0.0)[0]
    raise UserError(f"The config has no field {field!r}; the nearest is {nearest!r}.")
  *groups, key = field.split(".")
  node = config
  for group in groups:
    node = node[group]
  kind, default = node.get_type(key), node[key]
  if text == "None":
    if default is not None:
      raise UserError(f"--config.{field}=None: only a field that the config leaves open has none.")
    return
  try:
    node[key] = _parse(text, kind)
  except (ValueError, SyntaxError, TypeError) as error:
    raise UserError(f"--config.{field}={text} is not of type {kind.__name__}.") from error
  _check_elements(field, node[key], default)


def _parse(text: str, kind: type) -> Any:
  if kind is str:
    return text
  if kind is bool:
    return bool(("false", "true").index(text.lower()))
  if kind in (int, float):
    return kind(text)
  value = ast.literal_eval(text)
  if kind is tuple and isinstance(value, list):
    value = tuple(value)
  if not isinstance(value, kind):
    raise TypeError(text)
  return value


def _check_elements(field: str, value: Any, default: Any) -> None:
  """Raises `UserError` where a tuple holds other things than the one it takes the place of."""
  if not isinstance(default, tuple) or not default:
    return
  kind = type(default[0])
  fits = (int, float) if kind is float else kind
  for element in value:
    if not isinstance(element, fits) or isinstance(element, bool):
      raise UserError(f"--config.{field}={value} holds {element!r}, not of type {kind.__name__}.")
