"""Which model a state dict belongs to, by the names and shapes of its tensors."""

import collections
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hseg_jax.errors import UserError
from hseg_jax.models import VARIANTS, create_model
from hseg_jax.models.cast import Cast, CastSeg
from hseg_jax.models.tome import Tome
from hseg_jax.models.vit import Vit

StateDict = Mapping[str, np.ndarray]
Fields = dict[str, Any]

# Fields that no name or shape depends on.
UNSEEN = ("num_heads", "pool_num_heads", "stem_strides", "num_segments", "num_clusters")
UNSEEN += ("num_merged", "segment_mean", "output", "empty_segments")

# What a model pools to does not show in its weights: side of the stem's grid -> clusters.
_CLUSTERS = {28: (64, 32, 16, 8), 64: (320, 160, 80, 40)}
# The variant to start from where the weights fit none.
_NEAREST = {
  Cast: "cast_small",
  CastSeg: "cast_small_seg",
  Vit: "vit_conv_small",
  Tome: "tome_small",
}


def detect(
  state: StateDict, *, name: str | None = None, image_size: int | None = None, head: str = "keep"
) -> tuple[str, Fields]:
  """Finds the model that weights belong to.

  Args:
    state: published name -> array; bare names, with a prefix only for a head beside the backbone.
    name: the variant where it is known; its width and depth are then not looked for.
    image_size: side in pixels of the images it is for; those that fit its positions if None.
    head: "keep" or "drop", whether the model gets the head.

  Returns:
    The variant's name and the fields for `create_model`. What the weights do not tell (`UNSEEN`)
    is as in the reference for such a model and image size.

  Raises:
    UserError: these are no weights of a CAST, ViT or ToMe, or there is no such variant.
  """
  if not {"cls_token", "pos_embed"} <= state.keys() or state["pos_embed"].ndim != 3:
    held = ", ".join(sorted(state)[:3]) or "nothing"
    raise UserError(f"These are no weights of a CAST, ViT or ToMe; there is {held} and the like.")
  odd = [key for key, x in state.items() if not x.ndim and not key.endswith("batches_tracked")]
  if odd:
    raise UserError(f"These are no weights of a CAST, ViT or ToMe; {odd[0]} is a single number.")
  cls = _class_of(state) if name is None else type(create_model(name))
  told = _told_by_blocks(state) if name is None else {}
  name = name or _variant(cls, told)
  told |= _told_by_position(state, cls)
  told |= _told_by_head(state, cls, told["position"]) if head == "keep" else {"num_classes": 0}
  told["init"] = "moco" if told["position"] == "sincos" else "deit"
  told.pop("num_convs", None)
  model = create_model(name, **told)
  side = (image_size or model.image_size[0]) // model.stride
  return name, told | _at_grid(model, side, VARIANTS[name][1])


def _class_of(state: StateDict) -> type:
  if "pool1.pool_block.centroid_fc.bias" in state:
    fuses = any(key.startswith("block_fusion.") for key in state)
    return CastSeg if fuses else Cast
  # Of the models without pooling only ToMe keeps the position of CLS apart.
  return Tome if "pe_token" in state else Vit


def _told_by_blocks(state: StateDict) -> Fields:
  """Width, depths and stem; "num_convs" is no field, but tells variants apart."""
  dim = state["cls_token"].shape[-1]
  told: Fields = {"dim": dim}
  blocks = collections.defaultdict(set)  # stage ("" for the numbering over all) -> numbers
  for key in state:
    if found := re.match(r"blocks(\d*)\.(\d+)\.", key):
      blocks[found[1]].add(found[2])
  total = len(blocks.pop("", ()))
  stages = tuple(len(blocks[stage]) for stage in sorted(blocks))
  if not stages:
    # A pooling model whose second copy of the blocks was left out as a duplicate.
    published = {sum(fields["depths"]): fields["depths"] for _, fields in VARIANTS.values()}
    stages = published.get(total, (total,)) if "pool2.pool_block.fc1.0.bias" in state else (total,)
  told["depths"] = stages
  widths = [x.shape[0] for key, x in state.items() if re.match(r"blocks.*\.fc1\.weight", key)]
  if widths:
    told["mlp_ratio"] = widths[0] / dim
  if "patch_embed.proj.weight" in state:
    told["stem_strides"] = (state["patch_embed.proj.weight"].shape[-1],)
  told["num_convs"] = sum(
    x.ndim == 4 and x.shape[-1] > 1 for key, x in state.items() if key.startswith("patch_embed.")
  )
  return told


def _variant(cls: type, told: Fields) -> str:
  """The variant of the class that has the width, depths and stem that are told."""
  for name, (kind, fields) in VARIANTS.items():
    found = fields["dim"], tuple(fields["depths"]), len(fields["stem_strides"])
    if kind is cls and found == (told["dim"], told["depths"], told["num_convs"]):
      return name
  return _NEAREST[cls]


def _told_by_position(state: StateDict, cls: type) -> Fields:
  table = state["pos_embed"]
  cells = table.shape[1] - ("pe_token" not in state)
  side = math.isqrt(max(cells, 0))
  if cells < 1 or side * side != cells:
    raise UserError(f"pos_embed has {cells} positions besides that of CLS, which make no square.")
  # Of a plain ViT both kinds look alike, but only the fixed one is zero at CLS.
  is_fixed = "pe_token" in state or (cls is Vit and not table[:, 0].any())
  return {"position": "sincos" if is_fixed else "learned", "position_grid": (side, side)}


def _told_by_head(state: StateDict, cls: type, position: str) -> Fields:
  size = lambda key, axis=0: int(state[key].shape[axis])
  if "decoder.cls_emb" in state:
    classes = size("decoder.cls_emb", 1)
    return {"num_classes": classes, "head_kind": "mask_transformer", "output": "segments"}
  for kind, first, last in (
    ("classifier", "semantic_classifier.0.weight", "semantic_classifier.3.weight"),
    ("projector", "head.0.weight", "head.6.weight"),
  ):
    if first in state and last in state:
      output = {"output": "segments"} if kind == "classifier" else {}
      return {
        "num_classes": size(last),
        "head_kind": kind,
        "head_hidden_dim": size(first),
        **output,
      }
  # The reference's segmentation model for Segmenter has norm and head, but never applies them.
  never_applied = cls is CastSeg and position == "learned" and "norm.weight" in state
  if "head.weight" in state and not never_applied:
    return {"num_classes": size("head.weight")}
  return {"num_classes": 0}


def _at_grid(model: Any, side: int, variant: Fields) -> Fields:
  """What goes with a stem's grid of `side` x `side` cells in the reference."""
  if not model.num_segments:
    return {}
  # Half as many superpixels as cells along either axis.
  fields: Fields = {"num_segments": side * side // 4}
  if isinstance(model, Vit):
    return fields
  nearest = min(_CLUSTERS, key=lambda published: abs(published - side))
  if isinstance(model, CastSeg):
    # With learned positions it is only ever fine-tuned.
    if model.position == "learned" or model.head_kind in ("classifier", "mask_transformer"):
      nearest = 64
    if nearest == 64:
      fields |= {"segment_mean": "bilinear", "output": "segments"}
  if nearest == 28 and side == variant["position_grid"][0]:
    return fields | {"num_clusters": variant["num_clusters"]}
  return fields | {"num_clusters": _CLUSTERS[nearest]}
