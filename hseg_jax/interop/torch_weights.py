"""Published PyTorch weights in and out: every key of the reference beside ours.

Everything here is read from the table in `key_table.py`. A state dict is a mapping from the
published names to numpy arrays; nothing in this file needs torch.
"""

import functools
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hseg_jax.errors import UserError
from hseg_jax.interop.exported import flatten, unflatten
from hseg_jax.interop.key_table import (
  LAYOUTS,
  SEPARATE_HEADS,
  Entry,
  Model,
  has_pe_token,
  key_table,
  projector_table,
)
from hseg_jax.models import may_lack
from hseg_jax.models.cast import CastSeg

StateDict = Mapping[str, np.ndarray]


def _position_in(model: Model, state_dict: dict) -> dict[str, np.ndarray]:
  """Splits what `state_dict` (from which it is taken) holds of positions into table and CLS."""
  table, cls = state_dict.pop("pos_embed"), None
  if "pe_token" in state_dict:
    cls = state_dict.pop("pe_token")[0, 0]
  else:
    table, cls = table[:, 1:], table[0, 0]
  shape = (*model.position_grid, model.dim)
  return {"params/position/table": table.reshape(shape), "params/position/cls": cls}


def _position_out(model: Model, flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The inverse of `_position_in`."""
  table = flat["params/position/table"].reshape(1, -1, model.dim)
  cls = flat["params/position/cls"].reshape(1, 1, model.dim)
  if has_pe_token(model):
    return {"pos_embed": table, "pe_token": cls}
  return {"pos_embed": np.concatenate([cls, table], axis=1)}


def _expected_shapes(model: Model, table: list[Entry]) -> dict[str, tuple[int, ...]]:
  """Published shape of every key that the model reads."""
  shapes = shapes_of_model(model)
  expected = {}
  for entry in table:
    zeros = np.broadcast_to(np.float32(0), shapes[entry.path])
    for key in entry.keys:
      expected[key] = LAYOUTS[entry.layout][1](zeros).shape
  cells = model.position_grid[0] * model.position_grid[1]
  expected["pos_embed"] = (1, cells + (not has_pe_token(model)), model.dim)
  if has_pe_token(model):
    expected["pe_token"] = (1, 1, model.dim)
  return expected


@functools.lru_cache(maxsize=32)  # tracing a large model takes seconds
def shapes_of_model(model: Model) -> Mapping[str, tuple[int, ...]]:
  """'/'-joined path -> shape of every variable of the model; computes nothing."""
  height, width = model.image_size
  image = jax.ShapeDtypeStruct((1, height, width, 3), np.float32)
  segments = jax.ShapeDtypeStruct((1, height, width), np.int32)
  init = lambda key, image, segments: model.init(key, image, segments, train=False)
  key = jax.eval_shape(lambda: jax.random.key(0))
  variables = jax.eval_shape(init, key, image, segments)
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
  return types.MappingProxyType({name(path): leaf.shape for path, leaf in leaves})


def find_misfit(shapes: Mapping[str, tuple[int, ...]], model: Model) -> str | None:
  """Says of the first variable whose shape is not the model's what both are; None if all fit."""
  wanted = shapes_of_model(model)
  for name in sorted(wanted.keys() | shapes.keys()):
    if may_lack(name) and not (name in wanted and name in shapes):
      continue
    found, expected = (list(each[name]) if name in each else "absent" for each in (shapes, wanted))
    if found != expected:
      return f"{name} has shape {found}, in the model {expected}"
  return None


def encoder_state(state_dict: StateDict, encoder: str = "online") -> dict[str, np.ndarray]:
  """The backbone's tensors under their bare names, out of any published state dict.

  Understands MoCo checkpoints ("module.base_encoder." and "module.momentum_encoder."), linear
  probes ("module."), SPML ("vit_backbone."), Segmenter ("encoder.") and bare state dicts. What
  belongs to other parts of a container (predictor, classifier, decoder) is left out.

  Args:
    state_dict: published name -> array.
    encoder: "online" or "target" (momentum); only MoCo checkpoints have both.

  Raises:
    UserError: where the target is asked for and there is none.
  """
  stripped = _without_module(state_dict)
  wanted = "momentum_encoder." if encoder == "target" else "base_encoder."
  if encoder == "target" and not any(key.startswith(wanted) for key in stripped):
    raise UserError("This state dict holds no momentum encoder: ask for encoder='online'.")
  for prefix in (wanted, "vit_backbone.", "encoder."):
    if any(key.startswith(prefix) for key in stripped):
      inside = (item for item in stripped.items() if item[0].startswith(prefix))
      return {key.removeprefix(prefix): value for key, value in inside}
  return stripped


def head_state(state_dict: StateDict) -> dict[str, np.ndarray]:
  """The tensors of a head beside the backbone: SPML's classifier, Segmenter's decoder."""
  prefixes = tuple(prefix for prefix, _ in SEPARATE_HEADS.values())
  stripped = _without_module(state_dict)
  return {key: value for key, value in stripped.items() if key.startswith(prefixes)}


def _without_module(state_dict: StateDict) -> dict[str, np.ndarray]:
  return {key.removeprefix("module."): np.asarray(value) for key, value in state_dict.items()}


def convert(
  state_dict: StateDict, model: Model, *, encoder: str = "online", head: str = "keep"
) -> dict[str, Any]:
  """Published weights -> the variables of `model`.

  Args:
    state_dict: published name -> array, of any container that `encoder_state` understands.
    model: from `create_model`, with the fields the weights were trained with.
    encoder: "online" or "target", which encoder of a MoCo checkpoint.
    head: "keep" reads the head, "drop" ignores it; the variables then have none.

  Returns:
    {"params": ..., "batch_stats": ...} of float32 numpy arrays; with "unused" (published name ->
    array) where the published class has tensors that its forward pass does not use.

  Raises:
    UserError: naming every missing, unexpected or misshapen key.
  """
  if encoder not in ("online", "target") or head not in ("keep", "drop"):
    raise UserError("encoder is 'online' or 'target', head is 'keep' or 'drop'.")
  state = encoder_state(state_dict, encoder)
  head_is_separate = bool(model.num_classes) and model.head_kind in SEPARATE_HEADS
  if head_is_separate:
    state |= head_state(state_dict)
  state = {key: x for key, x in state.items() if not key.endswith("num_batches_tracked")}
  unused = {}
  if isinstance(model, CastSeg) and model.position == "learned":
    has_head = model.num_classes and not head_is_separate
    names = ("norm.weight", "norm.bias", *(() if has_head else ("head.weight", "head.bias")))
    unused = {key: state.pop(key) for key in names if key in state}
  table = key_table(model)
  if head == "drop":
    table = [entry for entry in table if entry.path.split("/")[1] != "head"]
    heads = tuple(prefix for prefix, _ in SEPARATE_HEADS.values())
    state = {key: x for key, x in state.items() if not key.startswith(("head.", *heads))}
  _check(state, _expected_shapes(model, table), [entry.keys for entry in table])
  flat = _position_in(model, state)
  flat |= _read(state, table)
  variables = unflatten({path: np.asarray(x, np.float32) for path, x in flat.items()})
  variables.setdefault("batch_stats", {})
  return {**variables, "unused": unused} if unused else variables


def _read(state: StateDict, table: list[Entry]) -> dict[str, np.ndarray]:
  """Path -> array in our layout."""
  found = {entry: next(key for key in entry.keys if key in state) for entry in table}
  return {entry.path: LAYOUTS[entry.layout][0](state[key]) for entry, key in found.items()}


def _check(
  state: StateDict, expected: Mapping[str, tuple[int, ...]], copies: list[tuple[str, ...]]
) -> None:
  """Raises UserError naming what is missing, unexpected or of another shape.

  Of a tensor that the reference stores twice, one copy is enough: safetensors keeps only one.
  """
  spared = {key for keys in copies for key in keys if any(other in state for other in keys)}
  missing = sorted(set(expected) - set(state) - spared)
  unexpected = sorted(set(state) - set(expected))
  misshapen = sorted(
    f"{key} {state[key].shape} instead of {expected[key]}"
    for key in set(expected) & set(state)
    if state[key].shape != expected[key]
  )
  faults = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
  if any(faults.values()):
    found = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in faults.items() if keys)
    raise UserError(f"The state dict does not fit the model ({found}).")


def convert_moco(state_dict: StateDict, model: Model) -> dict[str, Any]:
  """A MoCo v3 checkpoint -> the trees of the contrastive objective.

  Args:
    state_dict: with the keys of base encoder, momentum encoder (each with its projector as "head")
      and predictor, with or without "module." in front.
    model: the encoder, with num_classes=0.

  Returns:
    "params" and "batch_stats" of {encoder, projector, predictor}, and "target", which has the two
    for {encoder, projector}.

  Raises:
    UserError: naming every missing, unexpected or misshapen key.
  """
  online = _moco_encoder(state_dict, model, "online")
  target = _moco_encoder(state_dict, model, "target")
  stripped = _without_module(state_dict)
  projection_dim = online["params"]["projector"]["fc_2"]["kernel"].shape[1]
  predictor = _read_mlp(stripped, "predictor", "predictor", 2, projection_dim)
  return {
    "params": {**online["params"], **predictor["params"]},
    "batch_stats": {**online["batch_stats"], **predictor["batch_stats"]},
    "target": target,
  }


def _moco_encoder(state_dict: StateDict, model: Model, encoder: str) -> dict[str, Any]:
  """{"params", "batch_stats"} of {encoder, projector} of one of the two encoders."""
  backbone = convert(state_dict, model, encoder=encoder, head="drop")
  projector = _read_mlp(encoder_state(state_dict, encoder), "projector", "head", 3, model.dim)
  return {name: {"encoder": backbone[name], **projector[name]} for name in projector}


def _read_mlp(
  state: StateDict, path: str, key: str, num_layers: int, in_features: int
) -> dict[str, Any]:
  """{"params", "batch_stats"} of MoCo's projector or predictor, whose layers may have any width."""
  table = projector_table(path, key, num_layers)
  state = {
    name: np.asarray(x, np.float32)
    for name, x in state.items()
    if name.startswith(f"{key}.") and not name.endswith("num_batches_tracked")
  }
  widths = [len(state.get(f"{key}.{3 * i}.weight", ())) for i in range(num_layers)]
  inputs = [in_features, *widths]
  expected = {}
  for entry in table:
    i = int(entry.keys[0].split(".")[1]) // 3
    is_weight = entry.layout == "linear"
    expected[entry.keys[0]] = (widths[i], inputs[i]) if is_weight else (widths[i],)
  _check(state, expected, [entry.keys for entry in table])
  return unflatten(_read(state, table))


def export_torch(variables: Mapping[str, Any], model: Model) -> dict[str, np.ndarray]:
  """The exact inverse of `convert`: variables -> a state dict under the published names.

  Blocks that the reference stores twice are written twice, "num_batches_tracked" as 0. Where the
  head is a module beside the backbone, the backbone's keys start as there ("encoder." with a mask
  transformer, "vit_backbone." with a classifier). Any tree shaped like the variables will do,
  gradients included; leaves it does not have are left out, so that "params" alone gives no
  statistics.

  Args:
    variables: {"params": ..., and optionally "batch_stats" and "unused"}.
    model: the model they belong to.

  Returns:
    Published name -> numpy array, in the published layout.
  """
  trees = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
  flat = flatten(trees)
  state = dict(_position_out(model, flat))
  for entry in key_table(model):
    if entry.path in flat:
      for key in entry.keys:
        state[key] = LAYOUTS[entry.layout][1](flat[entry.path])
        if key.endswith("running_var"):
          state[key.replace("running_var", "num_batches_tracked")] = np.int64(0)
  state |= variables.get("unused", {})
  if not model.num_classes or model.head_kind not in SEPARATE_HEADS:
    return state
  own, prefix = SEPARATE_HEADS[model.head_kind]
  return {key if key.startswith(own) else prefix + key: x for key, x in state.items()}
