"""From a config's plain values to the objects of an experiment: data, model, objective, evaluators.

Training and evaluation share it, and so does everything that wants a run's model in a notebook.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax

from hseg_jax import augmentation, create_model, macs
from hseg_jax.data import pipeline, sources
from hseg_jax.data.segmenters import HOST_SUPERPIXELS
from hseg_jax.errors import UserError
from hseg_jax.evaluators import make_all
from hseg_jax.models import known_fields
from hseg_jax.objectives import contrastive, supervised
from hseg_jax.preprocessing import count_on_device
from hseg_jax.settings import Settings, check_ranges
from hseg_jax.training import optim, sharding


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What a config describes.

  Attributes:
    settings: the resolved config, nested dicts of plain values.
    train_source: examples to train on.
    val_source: examples to evaluate on.
    model: the model that evaluation uses; a contrastive run's encoder.
    objective: the loss, as `objectives` make it.
    tx: the optimizer.
    schedule: step -> learning rate.
    num_steps: length of the run.
    mesh: the devices.
  """

  settings: Settings
  train_source: sources.Source
  val_source: sources.Source
  model: Any
  objective: Any
  tx: optax.GradientTransformation
  schedule: optim.Schedule
  num_steps: int
  mesh: jax.sharding.Mesh


def load_sources(settings: Settings) -> tuple[sources.Source, sources.Source]:
  """Opens the data to train and to evaluate on.

  Raises:
    UserError: the data is missing or empty, or its two splits have different classes.
  """
  data = settings["data"]
  load = functools.partial(
    sources.load,
    data["source"],
    name=data["name"],
    root=data["root"],
    image_size=data["image_size"],
    seed=settings["seed"],
    max_bad_images=data["max_bad_images"],
  )
  train = load(split=data["train_split"], num_examples=data["num_train"])
  val = load(split=data["val_split"], num_examples=data["num_val"])
  splits = data["train_split"], data["val_split"]
  for split, missing in zip(
    splits,
    (set(val.class_names) - set(train.class_names), set(train.class_names) - set(val.class_names)),
    strict=True,
  ):
    if missing:
      raise UserError(
        f"The splits {splits[0]!r} and {splits[1]!r} have different classes "
        f"({train.num_classes} and {val.num_classes}): {split!r} lacks {min(missing)!r}; give both "
        "the same classes."
      )
  return train, val


def resolve(settings: Settings, train_source: sources.Source) -> Settings:
  """Completes a config with what the data decides: the classes, and the model's head.

  Where the data have no classes, `settings["model"]` may name the head of a trained model, also the
  projector that an encoder has kept; raises `UserError` where a classifier has neither, or a
  single class.
  """
  head = settings["model"].get("num_classes")
  if settings["objective"]["name"] == "supervised":
    head = train_source.num_classes or head
    if not head:
      raise UserError("The data have no classes of images, which a classifier is trained on.")
    if head == 1:
      raise UserError("The data have one class of images; a classifier needs two or more.")
  elif settings["model"].get("head_kind") != "projector":
    head = 0
  model = complete_model(settings["model"], settings["superpixels"]["method"])
  model |= {"num_classes": int(head or 0)}
  class_names = train_source.class_names
  return json.loads(json.dumps({**settings, "model": model, "class_names": class_names}))


def complete_model(fields: Settings, superpixels: str) -> Settings:
  """The fields of a model that a config gives, and what its superpixels decide where it does not.

  The device's follow borders so closely that some lie between the cells of a coarse stem; means by
  area give these a token as well. Others stay with the published means.
  """
  given = {key: value for key, value in fields.items() if value is not None}
  if superpixels == "device" and "segment_mean" in known_fields(fields["name"]):
    return {"segment_mean": "area"} | given
  return given


def make_model(settings: Settings) -> Any:
  """Creates the model and checks that images and superpixels fit it.

  Raises:
    UserError: unknown model or field, or an image size or superpixels that the model cannot take.
  """
  model = create_model(**settings["model"])
  size, superpixels = settings["data"]["image_size"], settings["superpixels"]
  name = settings["model"]["name"]
  if size % model.stride:
    raise UserError(
      f"data.image_size={size} is not divisible by the stem's stride of {model.stride} "
      f"({name}); choose a multiple of {model.stride}."
    )
  # A plain ViT reads no superpixels; computing them would only cost time.
  if model.num_segments == 0 and superpixels["method"] != "none":
    raise UserError(f"{name} takes no superpixels; set superpixels.method='none'.")
  if model.num_segments and superpixels["method"] == "none":
    raise UserError(f"{name} needs superpixels; set superpixels.method='seeds'.")
  if superpixels["method"] != "none" and superpixels["num_segments"] > model.num_segments:
    raise UserError(
      f"superpixels.num_segments={superpixels['num_segments']} is more than the model's "
      f"num_segments={model.num_segments}; give model.num_segments the same number."
    )
  return model


def make_objective(settings: Settings, model: Any, num_steps: int) -> Any:
  """Creates the loss that the config names.

  Raises:
    UserError: an augmentation, a model or a batch that does not give the objective what it needs.
  """
  options = settings["objective"]
  on_device = count_on_device(settings["superpixels"])
  two_views = settings["data"]["augment"] == "moco"
  if two_views != (options["name"] == "contrastive"):
    raise UserError(
      f"objective.name={options['name']!r} does not go with data.augment="
      f"{settings['data']['augment']!r}: contrastive learning, and only it, needs 'moco'."
    )
  if options["name"] == "supervised":
    if getattr(model, "output", "image") != "image":
      raise UserError(
        f"model.output={model.output!r} classifies segments, but the labels are of images; set "
        "model.output='image'."
      )
    return supervised.make_loss(
      model, label_smoothing=options["label_smoothing"], segments_on_device=on_device
    )
  if settings["batch_size"] < 2:
    raise UserError(
      "batch_size is 1, but contrastive learning compares the images of a batch; raise it."
    )
  return contrastive.make_loss(
    model.clone(num_classes=0),  # it brings a projector of its own
    temperature=options["temperature"],
    momentum=optim.momentum_cosine(options["momentum"], num_steps=num_steps),
    projection_dim=options["projection_dim"],
    hidden_dim=options["hidden_dim"],
    segments_on_device=on_device,
  )


def make_optimizer(
  settings: Settings, objective: Any, num_steps: int
) -> tuple[optax.GradientTransformation, optim.Schedule]:
  """Creates the optimizer that the config names, and its learning rate by step.

  Raises:
    UserError: unknown optimizer or kind of decay.
  """
  options = dict(settings["optimizer"])
  options.pop("ema")  # the step's business
  schedule = optim.warmup_cosine(
    options.pop("learning_rate"),
    num_steps=num_steps,
    warmup_steps=options.pop("warmup_steps"),
    final_fraction=options.pop("final_fraction"),
  )
  return optim.make_optimizer(schedule, frozen=objective.frozen, **options), schedule


def setup(settings: Settings) -> Experiment:
  """Builds everything a config describes, without touching its parameters.

  Raises `UserError` on any mistake in the config that shows before the first step.
  """
  check_ranges(settings)
  if settings["objective"]["name"] not in ("supervised", "contrastive"):
    raise UserError(
      f"objective.name is {settings['objective']['name']!r}; known objectives: supervised, "
      "contrastive."
    )
  mesh = sharding.make_mesh()
  sharding.check_batch_size(settings["batch_size"], mesh)
  pipeline.check_options(**augmentation.options(settings))
  train_source, val_source = load_sources(settings)
  settings = resolve(settings, train_source)
  model = make_model(settings)
  num_steps = count_steps(settings, len(train_source))
  objective = make_objective(settings, model, num_steps)
  tx, schedule = make_optimizer(settings, objective, num_steps)
  return Experiment(
    settings, train_source, val_source, model, objective, tx, schedule, num_steps, mesh
  )


def count_steps(settings: Settings, num_examples: int) -> int:
  """Length of a run: `num_steps`, or `num_epochs` of whole batches.

  Raises:
    UserError: neither or both are given.
  """
  num_steps, num_epochs = settings["num_steps"], settings["num_epochs"]
  if (num_steps > 0) == (num_epochs > 0):
    raise UserError(
      f"num_steps={num_steps} and num_epochs={num_epochs}: exactly one must be positive."
    )
  per_epoch = max(num_examples // settings["batch_size"], 1)
  count = num_steps or round(num_epochs * per_epoch)
  if count < 1:
    raise UserError(f"num_epochs={num_epochs} is not even one batch; a pass has {per_epoch}.")
  return count


def example_batch(settings: Settings) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes and dtypes of a global training batch as the objective sees it."""
  b, size = settings["batch_size"], settings["data"]["image_size"]
  views = ("_1", "_2") if settings["data"]["augment"] == "moco" else ("",)
  batch = {"label": jax.ShapeDtypeStruct((b,), np.int32)}
  for view in views:
    batch[f"image{view}"] = jax.ShapeDtypeStruct((b, size, size, 3), np.uint8)
    if settings["superpixels"]["method"] in HOST_SUPERPIXELS:
      batch[f"segments{view}"] = jax.ShapeDtypeStruct((b, size, size), np.int32)
  return batch


def describe_model(experiment: Experiment, variables: Any) -> dict[str, str]:
  """Size and cost of the model, for people.

  Args:
    experiment: what the model belongs to.
    variables: of the model, arrays or their shapes.
  """
  size, model = experiment.settings["data"]["image_size"], experiment.model
  image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
  segments = jax.ShapeDtypeStruct((1, size, size), np.int32) if model.num_segments else None
  apply = functools.partial(model.apply, train=False)
  num_params = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  return {
    "parameters": f"{num_params / 1e6:.2f} M",
    "multiply-adds per image": f"{macs.count(apply, variables, image, segments) / 1e6:.0f} M",
  }


def train_batches(experiment: Experiment, start_step: int) -> Iterator[dict[str, np.ndarray]]:
  """This host's batches from `start_step` on; a pure function of the step."""
  settings = experiment.settings
  return pipeline.train_batches(
    experiment.train_source,
    batch_size=settings["batch_size"],
    **augmentation.options(settings),
    seed=settings["seed"],
    start_step=start_step,
    num_workers=settings["data"]["num_workers"],
    host_index=jax.process_index(),
    host_count=jax.process_count(),
  )


def make_evaluators(experiment: Experiment) -> dict[str, Any]:
  """Creates the evaluators that the config lists, `{name: options}`.

  Besides their options these are handed what they ask for of `source` and `train_source`,
  `batch_size`, `image_size`, `superpixels`, `num_workers`, and `to_global`, which puts a host's
  batch on the devices.

  Raises:
    UserError: an unknown evaluator or option.
  """
  settings = experiment.settings
  offered = {
    "source": experiment.val_source,
    "train_source": experiment.train_source,
    "batch_size": settings["batch_size"],
    "image_size": settings["data"]["image_size"],
    "superpixels": settings["superpixels"],
    "num_workers": settings["data"]["num_workers"],
    "to_global": functools.partial(sharding.to_global, mesh=experiment.mesh),
  }
  return make_all(settings["evaluators"], experiment.model, offered)
