"""What a model costs as its images, batches, superpixels and devices grow."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from hseg_jax.bench import programs
from hseg_jax.bench.inputs import draw
from hseg_jax.bench.programs import Task
from hseg_jax.bench.records import report
from hseg_jax.bench.timing import in_turn
from hseg_jax.errors import UserError
from hseg_jax.training import sharding


class Point(NamedTuple):
  """Where the cost is measured.

  Attributes:
    size: side of the images in pixels.
    batch: images on each device.
    num_segments: superpixels of an image, at most.
    devices: how many.
  """

  size: int
  batch: int
  num_segments: int
  devices: int


def measure(
  task: Task,
  model: str,
  *,
  sizes: Sequence[int],
  batches: Sequence[int],
  num_segments: Sequence[int],
  devices: Sequence[int] | None = None,
  repeats: int = 5,
  out: str | os.PathLike | None = None,
) -> list[dict[str, Any]]:
  """Measures a model where everything has its first value, then with one thing changed at a time.

  The records are those of `programs.describe`; `batch` counts the images of all devices together.

  Args:
    task: what to do, with superpixels of a method; its own `num_segments` counts nothing.
    model: its name.
    sizes: of the images, their sides in pixels.
    batches: how many images on each device.
    num_segments: the most superpixels of an image, and the model's room for them.
    devices: how many, of those that jax finds; None = 1 and its doubles.
    repeats: how many calls are timed at each point.
    out: file for the JSON lines, besides the standard output.

  Raises:
    UserError: a list is empty, a number not positive, or something does not fit the model.
  """
  found = jax.devices()
  if devices is None:
    devices = [2**i for i in range(len(found).bit_length())]
  lists = Point(sizes, batches, num_segments, devices)
  for name, values in (*lists._asdict().items(), ("repeats", (repeats,))):
    if not values or min(values) < 1:
      raise UserError(f"{name} is {list(values)}; give numbers from 1 on.")
  if max(devices) > len(found):
    raise UserError(f"{max(devices)} devices are more than the {len(found)} that jax finds.")

  def records() -> Iterator[dict[str, Any]]:
    for point in list_points(lists):
      yield _measure(task, model, point, repeats)

  return report(records(), out)


def list_points(lists: Point) -> list[Point]:
  """The first of all lists, then each further value of each list with the first of the others."""
  base = Point(*(values[0] for values in lists))
  changed = [
    base._replace(**{name: value}) for name, values in lists._asdict().items() for value in values
  ]
  return list(dict.fromkeys([base, *changed]))


def _measure(task: Task, model: str, point: Point, repeats: int) -> dict[str, Any]:
  mesh = sharding.make_mesh(jax.devices()[: point.devices])
  task = dataclasses.replace(task, num_segments=point.num_segments)
  inputs = draw(point.size, point.batch * point.devices)
  program = programs.build(model, task, inputs, mesh)
  timing = in_turn({model: program.call}, repeats)[model].timing
  return programs.describe(task, model, inputs, program, timing)
