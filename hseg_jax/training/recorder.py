"""What a run says while it trains: the metrics of its steps, and a line of progress."""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from hseg_jax.errors import UserError
from hseg_jax.training.workdir import MetricWriter


class Recorder:
  """Reads each step's metrics one step late, so that the devices never wait for the host."""

  def __init__(
    self,
    writer: MetricWriter,
    settings: Mapping[str, Any],
    *,
    num_steps: int,
    schedule: Callable[[Any], jax.Array],
    checkpoints: pathlib.Path,
  ):
    """Starts with nothing recorded.

    Args:
      writer: gets the metrics.
      settings: the config; `batch_size` and `log_every_steps` are used.
      num_steps: length of the run.
      schedule: step -> learning rate.
      checkpoints: the folder that a run which must stop points to.
    """
    self._writer, self._num_steps, self._schedule = writer, num_steps, schedule
    self._batch_size, self._every = settings["batch_size"], settings["log_every_steps"]
    self._checkpoints = checkpoints
    self._pending = None
    self._clock, self._timed_steps = None, 0  # starts behind the first step, which is compiled

  def stop_clock(self) -> None:
    """Leaves out of the speed what is done until the step after the next."""
    self._clock = None

  def push(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
    """Takes the metrics of the step just dispatched and records those of the one before."""
    self.flush()
    self._pending = step, metrics

  def flush(self) -> None:
    """Records what is pending, waiting for it.

    Raises:
      UserError: the loss, the gradient or what it made of the parameters is not finite.
    """
    if self._pending is None:
      return
    step, on_device = self._pending
    self._pending = None
    metrics = {name: float(value) for name, value in jax.device_get(on_device).items()}
    for name in ("loss", "grad_norm", "param_norm"):
      if not np.isfinite(metrics[name]):
        raise UserError(
          f"The {name} became {metrics[name]} at step {step}; the last good checkpoint is in "
          f"{self._checkpoints}. A lower optimizer.learning_rate or an optimizer.clip_norm may "
          "help."
        )
    if self._clock is None:
      self._clock, self._timed_steps = time.monotonic(), 0
    else:
      self._timed_steps += 1
    if step % self._every == 0:
      self._report(step, metrics)

  def _report(self, step: int, metrics: dict[str, float]) -> None:
    values = {f"train/{name}": value for name, value in metrics.items()}
    values["train/learning_rate"] = float(jax.device_get(self._schedule(np.float32(step - 1))))
    line = [f"step {step}/{self._num_steps}"]
    line += [f"{name} {value:.3f}" for name, value in metrics.items() if "norm" not in name]
    if self._timed_steps:
      rate = self._timed_steps / (time.monotonic() - self._clock)
      images = rate * self._batch_size
      values["train/images_per_second"] = images
      minutes, seconds = divmod(round((self._num_steps - step) / rate), 60)
      line += [f"{images:.0f} images/s", f"{minutes} min {seconds} s left"]
      self._clock, self._timed_steps = time.monotonic(), 0
    self._writer.write(step, values)
    print_once("  ".join(line))


def print_once(line: str) -> None:
  """Prints a line from the first process."""
  if jax.process_index() == 0:
    print(line, flush=True)
