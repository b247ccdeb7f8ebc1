"""Metrics come one step late, the line of progress when due, and a run that explodes stops."""

import pathlib

import jax.numpy as jnp
import pytest

from hseg_jax.errors import UserError
from hseg_jax.training import recorder, workdir


class Writer(workdir.MetricWriter):
  """Keeps what it is given."""

  def __init__(self):
    self.lines = []

  def write(self, step, values):
    self.lines.append((step, values))


@pytest.fixture
def clock(monkeypatch):
  """A clock that goes on by two seconds whenever it is read."""
  times = iter(range(0, 1000, 2))
  monkeypatch.setattr(recorder.time, "monotonic", lambda: next(times))


def make(writer, every=1):
  settings = {"batch_size": 8, "log_every_steps": every}
  schedule = lambda step: jnp.asarray(step) / 10
  checkpoints = pathlib.Path("run/checkpoints")
  return recorder.Recorder(
    writer, settings, num_steps=100, schedule=schedule, checkpoints=checkpoints
  )


def metrics(**changes):
  values = {"loss": 2.0, "grad_norm": 3.0, "param_norm": 4.0, "top1": 0.5} | changes
  return {name: jnp.asarray(value) for name, value in values.items()}


def test_a_step_is_recorded_when_the_next_is_dispatched(clock):
  writer = Writer()
  r = make(writer)
  r.push(1, metrics())
  assert writer.lines == []
  r.push(2, metrics(loss=1.0))
  r.flush()
  r.flush()
  assert [step for step, _ in writer.lines] == [1, 2]
  first, second = (values for _, values in writer.lines)
  assert first["train/loss"] == 2.0 and second["train/loss"] == 1.0
  assert first["train/learning_rate"] == 0.0 and second["train/learning_rate"] == pytest.approx(0.1)


def test_the_line_tells_speed_and_time_left(clock, capsys):
  writer = Writer()
  r = make(writer, every=2)
  for step in range(1, 5):
    r.push(step, metrics())
  r.flush()
  assert [step for step, _ in writer.lines] == [2, 4]
  # One step since the clock was started at the first, then two since it was last read.
  assert writer.lines[0][1]["train/images_per_second"] == pytest.approx(8 / 2)
  assert writer.lines[1][1]["train/images_per_second"] == pytest.approx(8 * 2 / 2)
  first, second = capsys.readouterr().out.splitlines()
  assert first == "step 2/100  loss 2.000  top1 0.500  4 images/s  3 min 16 s left"
  assert second == "step 4/100  loss 2.000  top1 0.500  8 images/s  1 min 36 s left"


def test_what_stops_the_clock_is_left_out_of_the_speed(clock):
  writer = Writer()
  r = make(writer)
  r.push(1, metrics())
  r.push(2, metrics())
  r.flush()
  r.stop_clock()
  r.push(3, metrics())
  r.flush()
  assert ["train/images_per_second" in values for _, values in writer.lines] == [False, True, False]


@pytest.mark.parametrize("name", ["loss", "grad_norm", "param_norm"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_run_that_is_not_finite_stops(name, value):
  writer = Writer()
  r = make(writer)
  r.push(7, metrics(**{name: float(value)}))
  with pytest.raises(
    UserError, match=f"The {name} became {value} at step 7; .* in run/checkpoints"
  ):
    r.flush()
  assert writer.lines == []
