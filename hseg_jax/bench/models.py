"""How fast models infer and train, in turn on the same batch."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from hseg_jax.bench import peer, programs
from hseg_jax.bench.inputs import draw, load
from hseg_jax.bench.programs import Task
from hseg_jax.bench.records import report
from hseg_jax.bench.timing import in_turn
from hseg_jax.errors import UserError
from hseg_jax.training import sharding

SIZE, BATCH = 224, 8  # of a batch that is drawn


def measure(
  task: Task,
  models: Sequence[str],
  *,
  size: int | None = None,
  batch: int | None = None,
  inputs: str | os.PathLike | None = None,
  peers: Sequence[str] = (),
  repeats: int = 5,
  out: str | os.PathLike | None = None,
) -> list[dict[str, Any]]:
  """Times calls of every model, one after the other, round after round, on all devices.

  For inference every CPU core is one, see `sharding.make_cores_devices`.

  The records are those of `programs.describe`, and `times_as_fast`: for each other model the
  median over pairs of calls of its time over this one's.

  Args:
    task: what to do. "given" superpixels of images that have none, or are drawn, become "seeds".
    models: names, see `hseg_jax.create_model`.
    size: side of the images in pixels, if there are no `inputs`.
    batch: how many images, likewise.
    inputs: a file with a batch, see `inputs.load`; drawn if None.
    peers: other people's models to measure in the same turns, see `peer.build`.
    repeats: how many calls of each are timed.
    out: file for the JSON lines, besides the standard output.

  Returns:
    The records, of peers last.

  Raises:
    UserError: something that was asked for does not exist, or does not fit the rest.
  """
  for name, value in (("size", size), ("batch", batch), ("repeats", repeats)):
    if value is not None and value < 1:
      raise UserError(f"{name} is {value}; it must be 1 or more.")
    if name != "repeats" and value is not None and inputs is not None:
      raise UserError(f"--inputs has its own {name}; leave out --{name}.")
  for name in (names := [*models, *peers]):
    if names.count(name) > 1:
      raise UserError(f"{name} is given twice.")
  images = draw(size or SIZE, batch or BATCH) if inputs is None else load(inputs)
  if task.superpixels == "given" and images.segments is None:
    task = dataclasses.replace(task, superpixels="seeds")
  if task.what == "infer":
    sharding.make_cores_devices(images.batch)
  mesh = sharding.make_mesh()
  theirs = {name: peer.build(name, task, images) for name in peers}  # first, as it compiles nothing
  built = {name: programs.build(name, task, images, mesh) for name in models} | theirs
  clocks = in_turn({name: each.call for name, each in built.items()}, repeats)
  records = []
  for name, program in built.items():
    found = programs.describe(task, name, images, program, clocks[name].timing)
    ratios = {o: clocks[name].times_as_fast(clocks[o]) for o in built if o != name}
    records.append(found | {"times_as_fast": ratios})
  return report(records, out)
