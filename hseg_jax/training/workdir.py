"""What a run leaves behind besides checkpoints: its config and its metrics.

This is the only file that imports clu, which brings tensorflow for TensorBoard's files.
"""

import json
import pathlib
import subprocess
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hseg_jax import files
from hseg_jax.errors import UserError

# What may differ between a run and its continuation without being a change of the experiment.
_IGNORED = ("allow_config_change", "resume")


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      flat |= _flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def _brief(value: Any) -> str:
  """A value within a sentence: a thousand class names are only counted."""
  text = str(value)
  if len(text) <= 80:
    return text
  return f"{len(value)} entries" if isinstance(value, list) else f"{text[:77]}..."


def check_config(
  workdir: str | pathlib.Path, config: Mapping[str, Any], *, allow_change: bool
) -> None:
  """Refuses to go on with another experiment's run.

  Args:
    workdir: a run's folder; one without `config.json` is fine.
    config: the resolved config, nested dicts of plain values.
    allow_change: do not refuse.

  Raises:
    UserError: `workdir/config.json` differs; the sentence names the fields.
  """
  path = pathlib.Path(workdir) / "config.json"
  if allow_change or not path.exists():
    return
  saved = _flatten(read_config(workdir))
  # Through JSON, so that tuples compare equal to the lists they became.
  wanted = _flatten(json.loads(json.dumps(config)))
  missing = object()
  changed = [
    f"{name} ({_brief(saved.get(name, 'absent'))} -> {_brief(wanted.get(name, 'absent'))})"
    for name in sorted(saved.keys() | wanted.keys())
    if name not in _IGNORED and saved.get(name, missing) != wanted.get(name, missing)
  ]
  if changed:
    raise UserError(
      f"{workdir} holds a run with another config: {', '.join(changed)}; choose a new workdir or "
      "set allow_config_change=true."
    )


def write_config(workdir: str | pathlib.Path, config: Mapping[str, Any]) -> None:
  """Writes `workdir/config.json` from the first process, whole or not at all."""
  if jax.process_index() == 0:
    with files.whole(pathlib.Path(workdir) / "config.json") as partial:
      partial.write_text(json.dumps(config, indent=2) + "\n")


def read_config(workdir: str | pathlib.Path) -> dict[str, Any]:
  """Reads the resolved config of a run.

  Raises:
    UserError: the folder holds no run, or its config is damaged.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.exists():
    raise UserError(f"{workdir} holds no run: it has no config.json.")
  try:
    config = json.loads(path.read_text())
    if not isinstance(config, dict):
      raise ValueError("no fields")
    return config
  except ValueError as error:
    raise UserError(f"{path} is damaged ({error}); choose a new workdir.") from error


class MetricWriter:
  """Writes metrics to `metrics.jsonl` and TensorBoard's `summaries/`, from the first process."""

  def __init__(self, workdir: str | pathlib.Path, *, start_step: int):
    """Opens both, forgetting what an interrupted run wrote after `start_step`."""
    self._active = jax.process_index() == 0
    if not self._active:
      return
    folder = pathlib.Path(workdir)
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if _is_until(line, start_step)]
    with files.whole(path) as partial:
      partial.write_text("".join(line + "\n" for line in kept))
    self._file = path.open("a", buffering=1)
    self._summaries = _summary_writer(folder / "summaries")

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes one line `{"step": step, name: value, ...}`."""
    if self._active:
      self._file.write(json.dumps({"step": step, **values}) + "\n")
      self._summaries.write_scalars(step, values)

  def write_figures(self, step: int, figures: Mapping[str, np.ndarray]) -> None:
    """Writes pictures, uint8 `[h, w, 3]`, to TensorBoard."""
    if self._active and figures:
      self._summaries.write_images(step, figures)

  def close(self) -> None:
    """Waits until everything is on disk."""
    if self._active:
      self._file.close()
      self._summaries.close()


def _is_until(line: str, step: int) -> bool:
  """Whether a line of metrics is whole and of `step` or before."""
  try:
    return json.loads(line)["step"] <= step
  except (ValueError, KeyError, TypeError):  # the run was killed while it wrote this line
    return False


def _summary_writer(folder: pathlib.Path) -> Any:
  # Imported here: tensorflow takes seconds, and only the first process of a run needs it.
  import tensorflow as tf
  from clu import metric_writers

  for kind in ("GPU", "TPU"):  # tensorflow would otherwise take the accelerators' memory
    tf.config.set_visible_devices([], kind)
  return metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))


def last_metrics(workdir: str | pathlib.Path, step: int) -> dict[str, float]:
  """The newest value, at `step` or before, of every metric of evaluation that a run has written."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  values: dict[str, float] = {}
  for line in path.read_text().splitlines() if path.exists() else []:
    if _is_until(line, step):
      values |= {name: v for name, v in json.loads(line).items() if not name.startswith("train/")}
  values.pop("step", None)
  return values


def commit() -> str | None:
  """The commit of the code that runs, None outside a git checkout."""
  command = ["git", "-C", str(pathlib.Path(__file__).parent), "rev-parse", "HEAD"]
  try:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None
