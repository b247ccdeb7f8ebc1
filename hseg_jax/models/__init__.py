"""The models by name: `create_model` and the table of variants."""

import dataclasses
import difflib

from flax import linen as nn

from hseg_jax.errors import UserError
from hseg_jax.models.cast import Cast, CastSeg
from hseg_jax.models.heads import HEADS
from hseg_jax.models.initializers import INITS
from hseg_jax.models.path_assignment import SEEDS
from hseg_jax.models.region_graph import PATHS
from hseg_jax.models.tome import Tome
from hseg_jax.models.vit import Vit

_SMALL = dict(dim=384, num_heads=12)
_BASE = dict(dim=768, num_heads=12)
_CAST = dict(
  num_classes=1000,
  depths=(3, 3, 3, 2),
  pool_num_heads=12,
  num_segments=196,
  num_clusters=(64, 32, 16, 8),
  stem_strides=(2, 2, 2, 1),
  position_grid=(28, 28),
)
_DEEP = dict(depths=(6, 3, 3, 3))
_TINY = dict(
  dim=128,
  depths=(2, 2, 2, 2),
  num_heads=4,
  pool_num_heads=4,
  num_segments=64,
  num_clusters=(32, 16, 8, 4),
  stem_strides=(2, 2, 1, 1),
  position_grid=(16, 16),
)
_VIT = dict(num_classes=1000, depths=(11,), stem_strides=(2, 2, 2, 2), position_grid=(14, 14))

_CASTS = {
  "cast_tiny": {**_CAST, **_TINY},
  "cast_small": {**_CAST, **_SMALL},
  "cast_small_deep": {**_CAST, **_SMALL, **_DEEP},
  "cast_base": {**_CAST, **_BASE},
  "cast_base_deep": {**_CAST, **_BASE, **_DEEP},
}

VARIANTS: dict[str, tuple[type[nn.Module], dict]] = {
  **{name: (Cast, fields) for name, fields in _CASTS.items()},
  # The last pooling's CLS token enters the fusion, so losses always reach it.
  **{f"{n}_seg": (CastSeg, {**fields, "train_last_pool": True}) for n, fields in _CASTS.items()},
  "vit_conv_tiny": (
    Vit,
    {**_VIT, "dim": 128, "depths": (8,), "num_heads": 4}
    | {"stem_strides": (2, 2, 2, 1), "position_grid": (8, 8)},
  ),
  "vit_conv_small": (Vit, {**_VIT, **_SMALL}),
  "vit_conv_base": (Vit, {**_VIT, **_BASE}),
  "vit_small": (Vit, {**_VIT, **_SMALL, "depths": (12,), "stem_strides": (16,)}),
  "tome_small": (Tome, {**_VIT, **_SMALL, "stem_strides": (2, 2, 2, 1), "position_grid": (28, 28)}),
}

_CHOICES = {
  "position": ("sincos", "learned"),
  "init": INITS,
  "empty_segments": ("mask", "attend"),
  "assignment": ("cosine", "path"),
  "path_distance": PATHS,
  "path_seeds": SEEDS,
  "segment_mean": ("nearest", "area", "bilinear"),
  "output": ("image", "segments"),
  "head_kind": HEADS,
  "dtype": ("float32", "bfloat16", "float16"),
}

_COUNTS = ("dim", "num_heads", "pool_num_heads", "depths", "num_segments", "num_clusters")
_COUNTS += ("stem_strides", "position_grid", "head_hidden_dim")
_LISTS = ("depths", "num_clusters", "stem_strides", "position_grid")


def nearest_name(name: str, names) -> str:
  """A hint for an error message: the closest of `names`, or all of them."""
  close = difflib.get_close_matches(name, names, n=1)
  return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(sorted(names))}."


def known_fields(name: str) -> set[str]:
  """What `create_model` takes for a variant.

  Raises:
    UserError: there is no such variant.
  """
  if name not in VARIANTS:
    raise UserError(f"There is no model {name!r}: {nearest_name(name, VARIANTS)}")
  known = {field.name for field in dataclasses.fields(VARIANTS[name][0])} - {"parent", "name"}
  # `init` is a method of every Flax module, so the field itself has a longer name.
  return known - {"weight_init"} | {"init"}


def create_model(name: str, **overrides) -> nn.Module:
  """Builds a model.

  Args:
    name: a key of `VARIANTS`.
    **overrides: any field of the variant's module, and `init` for its `weight_init`.

  Returns:
    A Flax module: `init(key, image, segments, train=False)` gives the variables and
    `apply(variables, image, segments, train=...)` a `CastOutput`.

  Raises:
    UserError: on an unknown name or field, or a value that the model cannot have.
  """
  known = known_fields(name)
  cls, fields = VARIANTS[name]
  for key in overrides:
    if key not in known:
      raise UserError(f"Model {name!r} has no field {key!r}: {nearest_name(key, known)}")
  fields = {**fields, **overrides}
  # Configurations read from json hold lists, which a module cannot be hashed with.
  fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
  _check(name, fields)
  fields["weight_init"] = fields.pop("init", "moco")
  return cls(**fields)


def fields_of(model: nn.Module) -> dict:
  """Every field of a model under the name that `create_model` takes it by."""
  fields = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
  hidden = ("parent", "name", "weight_init")
  known = {key: value for key, value in fields.items() if key not in hidden}
  return {**known, "init": fields["weight_init"]}


def may_lack(variable: str) -> bool:
  """Whether weights may come without a variable, named as in "params/pool_0/path/scale", or with it
  to no use: those that only one way of assigning tokens has, and that start from fixed values."""
  return "path" in variable.split("/")


def _check(name: str, fields: dict) -> None:
  """Raises UserError where fields contradict each other."""
  for key, choices in _CHOICES.items():
    if fields.get(key, choices[0]) not in choices:
      raise UserError(f"{key}={fields[key]!r} is not one of {', '.join(choices)} (model {name!r}).")
  for key in _COUNTS:
    value = fields.get(key, 1)
    entries = value if isinstance(value, tuple) else (value,)
    if not entries or not all(isinstance(entry, int) and entry > 0 for entry in entries):
      raise UserError(f"{key}={value!r} is not made of positive integers (model {name!r}).")
    if key in fields and isinstance(value, tuple) != (key in _LISTS):
      wanted = "several numbers" if key in _LISTS else "one number"
      raise UserError(f"{key}={value!r} has to be {wanted} (model {name!r}).")
  if len(fields["position_grid"]) != 2:
    raise UserError(f"position_grid={fields['position_grid']!r} is not two numbers.")
  for key in ("drop_path", "pool_dropout", "fusion_dropout"):
    if not (isinstance(fields.get(key, 0), (int, float)) and 0 <= fields.get(key, 0) < 1):
      raise UserError(f"{key}={fields[key]} is no rate in [0, 1) (model {name!r}).")
  ratio = fields.get("mlp_ratio", 4)
  if not (isinstance(ratio, (int, float)) and ratio > 0):
    raise UserError(f"mlp_ratio={ratio} is not positive (model {name!r}).")
  if fields.get("head_kind") in HEADS[2:] and fields.get("output") != "segments":
    raise UserError(
      f"head_kind={fields['head_kind']!r} is for segments, so model {name!r} has to be a _seg "
      "variant with output='segments'."
    )
  if fields.get("assignment") == "path" and fields.get("empty_segments") == "attend":
    raise UserError(
      f"assignment='path' follows borders, which empty segments have not; model {name!r} needs "
      "empty_segments='mask' with it."
    )
  depths, clusters = fields["depths"], fields.get("num_clusters")
  if clusters is not None and len(depths) != len(clusters):
    raise UserError(
      f"Model {name!r} needs one entry of num_clusters for each of depths, "
      f"not {len(clusters)} for {len(depths)}."
    )
  for key in ("num_heads", "pool_num_heads"):
    if key in fields and fields["dim"] % fields[key]:
      raise UserError(f"Model {name!r}: {key}={fields[key]} does not divide dim={fields['dim']}.")
  unit = 4 if len(fields["stem_strides"]) == 1 else 2 ** (len(fields["stem_strides"]) - 1)
  if fields["dim"] % max(4, unit):
    raise UserError(f"Model {name!r}: dim={fields['dim']} is not a multiple of {max(4, unit)}.")
