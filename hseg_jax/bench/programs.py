"""The compiled programs that are measured: a model's inference, and its training step."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hseg_jax import create_model, inference, macs
from hseg_jax import experiment as experiments
from hseg_jax.bench import peaks
from hseg_jax.bench.inputs import NUM_CLASSES, SEEDS, Inputs, cut
from hseg_jax.bench.records import record
from hseg_jax.bench.timing import Timing
from hseg_jax.errors import UserError
from hseg_jax.objectives import supervised
from hseg_jax.preprocessing import add_segments, count_on_device, normalize
from hseg_jax.settings import Settings
from hseg_jax.train import make_train_step
from hseg_jax.training import sharding
from hseg_jax.training import state as states

# Training as most configs have it; what a step costs does not depend on the numbers.
_NUM_STEPS = 1000
_OBJECTIVE = {
  "label_smoothing": 0.1,
  "temperature": 0.2,
  "momentum": 0.99,
  "projection_dim": 256,
  "hidden_dim": 4096,
}
_OPTIMIZER = {
  "name": "adamw",
  "learning_rate": 1e-3,
  "final_fraction": 0.0,
  "warmup_steps": 0,
  "weight_decay": 0.05,
  "decay": "no_1d",
  "clip_norm": 0.0,
  "b1": 0.9,
  "b2": 0.999,
  "ema": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Task:
  """What is to be measured, whatever the model.

  Attributes:
    what: "infer" or "train".
    objective: what "train" trains for, "supervised" or "contrastive".
    dtype: of the computation.
    superpixels: "given" with the images; "seeds" or "grid", made beforehand; or "device", made by
      what is measured.
    num_segments: the most superpixels of an image, and the model's room for them.
    fields: of the model, besides.
  """

  what: str
  objective: str = "supervised"
  dtype: str = "float32"
  superpixels: str = "given"
  num_segments: int = 196
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Program:
  """Something to measure, with its arguments on the devices. What is not known is None.

  Attributes:
    call: runs it once; returns arrays to wait for.
    devices: how many it runs on.
    compile_s: seconds that tracing and compiling took; few where the compilation was kept.
    flops: of a call, twice the multiply-adds of its convolutions and matrix products.
    peak_flops: floating-point operations per second that the devices can do at most.
    peak_memory: bytes of each device that arguments, results and temporaries take, as the compiler
      plans them.
    num_segments: room for superpixels; 0 for what sees none.
  """

  call: Callable[[], Any]
  devices: int = 1
  compile_s: float | None = None
  flops: int | None = None
  peak_flops: float | None = None
  peak_memory: int | None = None
  num_segments: int = 0


def describe(
  task: Task, name: str, inputs: Inputs, program: Program, timing: Timing
) -> dict[str, Any]:
  """The record of a measurement: the fields of all, and those of `Program`, task and superpixels.

  `share_of_peak` is `flops` in a second over what the devices can do at most.
  """
  found = record(
    task.what, name, size=inputs.size, batch=inputs.batch, dtype=task.dtype, timing=timing
  )
  peak, share = program.peak_flops, None
  if program.flops is not None and peak is not None:
    share = program.flops / timing.median_s / peak
  facts = {key: getattr(program, key) for key in ("devices", "compile_s", "flops", "peak_memory")}
  found |= facts | {"share_of_peak": share}
  if program.num_segments:
    found |= {"superpixels": task.superpixels, "num_segments": program.num_segments}
  return found | ({"objective": task.objective} if task.what == "train" else {})


def build(name: str, task: Task, inputs: Inputs, mesh: jax.sharding.Mesh) -> Program:
  """Compiles a model's program for a batch.

  Args:
    name: of the model, see `hseg_jax.create_model`.
    task: what it is to do.
    inputs: the batch, cut along the mesh's axis.
    mesh: the devices.

  Raises:
    UserError: the model, its fields, the images, their superpixels or the devices do not fit.
  """
  sharding.check_batch_size(inputs.batch, mesh)
  settings = _settings(name, task, inputs)
  model = experiments.make_model(settings)
  if not model.num_segments:
    inputs = inputs._replace(segments=None)
  elif task.superpixels != "given":
    inputs = cut(inputs, settings["superpixels"])
  elif inputs.segments is None:
    raise UserError("The inputs hold no superpixels; say how to make them: --superpixels.")
  elif inputs.segments.max() >= model.num_segments:
    most = inputs.segments.max() + 1
    raise UserError(f"The inputs have ids of {most} superpixels; give --num-segments {most}.")
  make = _inference if task.what == "infer" else _training
  return make(settings, model, inputs, mesh)


def _settings(name: str, task: Task, inputs: Inputs) -> Settings:
  """As much of a config as training's own parts read."""
  room = {"num_segments": task.num_segments} if create_model(name).num_segments else {}
  superpixels = task.superpixels if room else "none"
  is_contrastive = task.objective == "contrastive"
  classes = {"num_classes": 0 if is_contrastive else NUM_CLASSES}
  fields = {"name": name, "dtype": task.dtype, **room, **classes, **task.fields}
  return {
    "batch_size": inputs.batch,
    "model": experiments.complete_model(fields, superpixels),
    "data": {"image_size": inputs.size, "augment": "moco" if is_contrastive else "supervised"},
    "superpixels": {
      "method": superpixels,
      "num_segments": task.num_segments,
      **SEEDS,
    },
    "objective": {"name": task.objective, **_OBJECTIVE},
    "optimizer": _OPTIMIZER,
  }


def _inference(settings: Settings, model: Any, inputs: Inputs, mesh: jax.sharding.Mesh) -> Program:
  @inference.jit
  def infer(variables, batch):
    batch = add_segments(batch, count_on_device(settings["superpixels"]))
    image = normalize(batch["image"])
    return model.apply(variables, image, batch.get("segments"), train=False).logits

  batch = _views(inputs, ("",))
  loss = supervised.make_loss(
    model,
    label_smoothing=0.0,
    segments_on_device=count_on_device(settings["superpixels"]),
  )
  first = {key: jnp.asarray(value[:1]) for key, value in batch.items()}
  variables = jax.jit(
    lambda: loss.init(jax.random.key(0), first), out_shardings=sharding.replicated(mesh)
  )()
  variables = {name: variables[name] for name in ("params", "batch_stats")}
  arguments = variables, sharding.to_global(batch, mesh)
  compiled, facts = _compile(infer, arguments, mesh, model)
  return Program(lambda: compiled(*arguments), **facts)


def _training(settings: Settings, model: Any, inputs: Inputs, mesh: jax.sharding.Mesh) -> Program:
  objective = experiments.make_objective(settings, model, _NUM_STEPS)
  tx, _ = experiments.make_optimizer(settings, objective, _NUM_STEPS)
  ema, placement = settings["optimizer"]["ema"], sharding.replicated(mesh)
  batch = _views(inputs, ("_1", "_2") if settings["data"]["augment"] == "moco" else ("",))
  first = {key: value[:1] for key, value in batch.items()}
  init = states.make_init(objective, tx, first, ema=ema > 0)
  state = states.create(init, 0, placement)
  batch = sharding.to_global(batch, mesh)
  step = make_train_step(objective, tx, ema=ema, placement=placement)
  compiled, facts = _compile(step, (state, batch), mesh, model)

  def call() -> Any:
    nonlocal state  # a step gives the old one's buffers away
    state, metrics = compiled(state, batch)
    return metrics

  return Program(call, **facts)


def _views(inputs: Inputs, suffixes: Sequence[str]) -> dict[str, np.ndarray]:
  """A training batch; of two views the second is mirrored."""
  batch = {"label": inputs.label}
  for i, suffix in enumerate(suffixes):
    mirror = (slice(None), slice(None), slice(None, None, -1 if i else 1))
    batch[f"image{suffix}"] = np.ascontiguousarray(inputs.image[mirror])
    if inputs.segments is not None:
      batch[f"segments{suffix}"] = np.ascontiguousarray(inputs.segments[mirror])
  return batch


def _compile(
  function: Any, arguments: tuple, mesh: jax.sharding.Mesh, model: Any
) -> tuple[Callable, dict[str, Any]]:
  """A jitted function compiled for its arguments, and what a `Program` tells of it."""
  start = time.perf_counter()
  traced = function.trace(*arguments)
  compiled = traced.lower().compile()
  seconds = time.perf_counter() - start
  memory = compiled.memory_analysis()
  if memory is not None:
    # Arguments that are given away have their place among the results.
    memory = (
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      - memory.alias_size_in_bytes
      + memory.temp_size_in_bytes
    )
  peak = peaks.find(mesh.devices.flat[0].device_kind, model.dtype)
  return compiled, {
    "compile_s": seconds,
    "flops": 2 * macs.count_program(traced.jaxpr.jaxpr),
    "peak_memory": memory,
    "peak_flops": None if peak is None else peak * mesh.size,
    "devices": mesh.size,
    "num_segments": model.num_segments,
  }
