"""Published PyTorch checkpoints as weights folders."""

import ast
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hseg_jax.errors import UserError
from hseg_jax.interop import (
  containers,
  detection,
  exported,
  model_card,
  torch_files,
  torch_weights,
)
from hseg_jax.interop.containers import Container
from hseg_jax.models import create_model, fields_of
from hseg_jax.models.segments import resize_bicubic
from hseg_jax.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from hseg_jax.training import workdir as workdirs

_MIN_SIZE, _MAX_SIZE = 64, 4096  # pixels


def import_torch(
  checkpoint: str | pathlib.Path,
  out: str | pathlib.Path,
  *,
  name: str | None = None,
  overrides: Mapping[str, Any] | None = None,
  encoder: str = "online",
  ema: bool = False,
  image_size: int | None = None,
  head: str = "keep",
  class_names: str | pathlib.Path | None = None,
) -> dict[str, Any]:
  """Writes a published checkpoint as a weights folder and says what was found.

  Tensors that the published class has but never applies go to `unused.safetensors` in the folder,
  under their published names.

  Args:
    checkpoint: any container of the reference, or a bare state dict.
    out: the folder.
    name: the model variant; found by the weights if None.
    overrides: fields of the model that the weights do not tell, or tell wrongly.
    encoder: "online" or "target", which encoder of a MoCo checkpoint.
    ema: take the averaged weights of a DeiT checkpoint.
    image_size: side in pixels of the images the model is for; the positions are resized to it.
    head: "keep" or "drop".
    class_names: a text file with a class a line.

  Returns:
    What `model.json` says.

  Raises:
    UserError: the file cannot be read, holds other weights, or the options do not fit them.
  """
  if image_size is not None and not _MIN_SIZE <= image_size <= _MAX_SIZE:
    raise UserError(f"--image-size {image_size} is not between {_MIN_SIZE} and {_MAX_SIZE}.")
  path, overrides = pathlib.Path(checkpoint), dict(overrides or {})
  container = containers.open_container(torch_files.read(path), path, encoder=encoder, ema=ema)
  size = image_size or container.crop_size
  name, fields = detection.detect(container.state, name=name, image_size=size, head=head)
  model = create_model(name, **fields | overrides)
  variables = torch_weights.convert(container.tensors, model, encoder=encoder, head=head)
  if image_size is not None:
    model, variables = _resize_positions(model, variables, image_size)
  unused = variables.pop("unused", {})
  info = {
    "name": name,
    "model": {"name": name, **fields_of(model)},
    "regions": list(model.num_clusters),
    "preprocessing": {
      "image_size": size or model.image_size[0],
      "mean": IMAGENET_MEAN,
      "std": IMAGENET_STD,
      "superpixels": _superpixels(model),
    },
    "class_names": _read_class_names(class_names, model.num_classes),
    "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
    "step": None,
    "metrics": {},
    "commit": workdirs.commit(),
    "config": None,
    "source": {"file": path.name, "kind": container.kind, "epoch": container.epoch},
  }
  extras = {exported.CARD: model_card.render(info).encode()}
  if unused:
    extras[exported.UNUSED] = exported.dump(unused)
  exported.save(out, variables, info, extras)
  _report(container, info, unused, [f for f in detection.UNSEEN if f not in overrides])
  return info


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
  """`field=value`, values written as in Python, strings without quotes -> field -> value.

  Raises:
    UserError: there is no value, or it is the variant's name.
  """
  overrides = {}
  for text in texts:
    field, equals, value = text.partition("=")
    if not equals or not value:
      raise UserError(f"--set {text} needs a value: --set {field}=VALUE.")
    if field == "name":
      raise UserError(f"The variant is no field of the model: --model {value}.")
    try:
      overrides[field] = ast.literal_eval(value)
    except (ValueError, SyntaxError):
      overrides[field] = value
  return overrides


def _resize_positions(
  model: Any, variables: dict[str, Any], image_size: int
) -> tuple[Any, dict[str, Any]]:
  """The model for images of another size, with its table of positions resized bicubically."""
  if image_size % model.stride:
    raise UserError(f"--image-size {image_size} is not a multiple of the stride, {model.stride}.")
  side = image_size // model.stride
  position = variables["params"]["position"]
  if position["table"].shape[:2] != (side, side):
    position["table"] = np.asarray(resize_bicubic(jnp.asarray(position["table"]), side, side))
  return model.clone(position_grid=(side, side)), variables


def _superpixels(model: Any) -> dict[str, Any]:
  """The superpixels that the reference makes for such a model."""
  if not model.num_segments:
    return {"method": "none"}
  # Contrastive training on images is the one place with fine histograms.
  pretrained = model.position == "sincos" and getattr(model, "output", "image") == "image"
  bins, iterations = (15, 20) if pretrained else (5, 15)
  options = {"num_segments": model.num_segments, "bins": bins, "iterations": iterations}
  return {"method": "seeds", **options}


def _read_class_names(path: str | pathlib.Path | None, num_classes: int) -> list[str]:
  if path is None:
    return []
  try:
    names = pathlib.Path(path).read_text().split("\n")
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"The class names in {path} cannot be read: {error}.") from error
  names = [name.strip() for name in names if name.strip()]
  if len(names) != num_classes:
    raise UserError(f"{path} names {len(names)} classes, the model has {num_classes}.")
  return names


def _report(
  container: Container, info: Mapping[str, Any], unused: Mapping[str, Any], unseen: Sequence[str]
) -> None:
  model = info["model"]
  head = (
    f"{model['head_kind']} head of {model['num_classes']}" if model["num_classes"] else "no head"
  )
  epoch = "" if container.epoch is None else f", epoch {container.epoch}"
  print(
    f"{info['source']['file']}: {container.kind}{epoch}: {info['name']}, "
    f"{info['num_parameters']:,} parameters, {head}, "
    f"images of {info['preprocessing']['image_size']} pixels"
  )
  chosen = ", ".join(f"{field}={model[field]}" for field in unseen if field in model)
  print(f"assumed, since weights do not tell; --set FIELD=VALUE changes it: {chosen}")
  for part, count in container.left_out.items():
    print(f"left out: {count} tensors of {part}")
  if unused:
    names = ", ".join(unused)
    print(f"kept in {exported.UNUSED}, since no forward pass of theirs applies them: {names}")
