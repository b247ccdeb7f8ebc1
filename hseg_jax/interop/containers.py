"""The files in which the reference's training codes keep weights: what each is, and its tensors."""

import collections
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hseg_jax.errors import UserError
from hseg_jax.interop.torch_weights import encoder_state, head_state

VARIANT_FILE = "variant.yml"  # lies beside a Segmenter checkpoint

# Parts of a model by the first word of their keys: backbones and heads.
_ENCODERS = ("vit_backbone", "encoder")
_HEADS = ("semantic_classifier", "decoder")


class Container(NamedTuple):
  """What a checkpoint file turned out to be.

  Attributes:
    kind: in words, "MoCo v3 checkpoint" say.
    tensors: published name -> array, all parts of the model with their prefixes.
    state: the wanted encoder's tensors under bare names, and those of a head beside it.
    left_out: part of the model -> number of its tensors that are not in `state`.
    epoch: counted from zero as the reference does; None where the file does not tell.
    crop_size: side in pixels of the crops that a Segmenter was trained on; None of other kinds.
  """

  kind: str
  tensors: dict[str, np.ndarray]
  state: dict[str, np.ndarray]
  left_out: dict[str, int]
  epoch: int | None
  crop_size: int | None


def open_container(
  content: Mapping[str, Any], path: pathlib.Path, *, encoder: str = "online", ema: bool = False
) -> Container:
  """Finds the weights in a checkpoint.

  Args:
    content: of the file, from `torch_files.read`.
    path: of the file; Segmenter's settings are looked for beside it.
    encoder: "online" or "target", which encoder of a MoCo checkpoint.
    ema: take the averaged weights of a DeiT checkpoint.

  Raises:
    UserError: it holds no weights, not those that are asked for, or Segmenter's settings are
      missing.
  """
  kind, found = _find_tensors(content, path, ema)
  tensors = {key: x for key, x in found.items() if isinstance(x, np.ndarray)}
  state = encoder_state(tensors, encoder) | head_state(tensors)
  parts = collections.Counter(key.removeprefix("module.").split(".")[0] for key in tensors)
  crop_size = None
  if "base_encoder" in parts:
    kind = "MoCo v3 checkpoint"
  elif "vit_backbone" in parts:
    kind = "SPML checkpoint"
  elif "decoder" in parts:
    kind, crop_size = "Segmenter checkpoint", _read_crop_size(path)
  encoders = ("base_encoder" if encoder == "online" else "momentum_encoder", *_ENCODERS)
  root = next((part for part in encoders if part in parts), None)
  left_out = {part: n for part, n in parts.items() if root and part not in (root, *_HEADS)}
  epoch = content.get("epoch")
  epoch = epoch if isinstance(epoch, int) else None
  return Container(kind, tensors, state, left_out, epoch, crop_size)


def _find_tensors(
  content: Mapping[str, Any], path: pathlib.Path, ema: bool
) -> tuple[str, Mapping[str, Any]]:
  """What kind of file this is by its outermost keys, and its state dict."""
  if ema:
    if not isinstance(content.get("model_ema"), Mapping):
      raise UserError(f"{path} holds no averaged weights: leave out --ema.")
    return "DeiT checkpoint (averaged weights)", content["model_ema"]
  for key, kind in (("state_dict", "linear probe"), ("model", "DeiT checkpoint")):
    if isinstance(content.get(key), Mapping):
      return kind, content[key]
  if isinstance(content.get("embedding_model"), Mapping):
    return "SPML checkpoint", {**content["embedding_model"], **content.get("prediction_model", {})}
  if any(isinstance(value, np.ndarray) for value in content.values()):
    return "state dict", content
  held = ", ".join(map(str, list(content)[:5])) or "nothing"
  raise UserError(f"{path} holds no weights that are known here; it holds {held}.")


def _read_crop_size(path: pathlib.Path) -> int:
  """Side of the training crops by the settings beside a Segmenter checkpoint."""
  import yaml  # only Segmenter writes yaml

  class Loader(yaml.SafeLoader):
    """Reads tuples, which Segmenter's settings have, besides plain values; runs nothing."""

  tuples = lambda loader, node: tuple(loader.construct_sequence(node))
  Loader.add_constructor("tag:yaml.org,2002:python/tuple", tuples)
  settings = path.parent / VARIANT_FILE
  if not settings.is_file():
    raise UserError(
      f"{path} is a Segmenter checkpoint and needs its {VARIANT_FILE}: put it into {path.parent}."
    )
  try:
    size = yaml.load(settings.read_text(), Loader)["dataset_kwargs"]["crop_size"]
  except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
    raise UserError(f"{settings} is damaged or not Segmenter's: it names no crop size.") from error
  if not isinstance(size, int) or size < 1:
    raise UserError(f"{settings} names no crop size that can be: {size!r}.")
  return size
