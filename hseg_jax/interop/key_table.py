"""Every key of the published PyTorch weights beside ours."""

from collections.abc import Iterator
from typing import NamedTuple

from hseg_jax.models.cast import Cast, CastSeg
from hseg_jax.models.mask_transformer import NUM_LAYERS
from hseg_jax.models.tome import Tome
from hseg_jax.models.vit import Vit

Model = Cast | Vit


class Entry(NamedTuple):
  """One tensor: its path in our variables, its published names, and how it is laid out there.

  Attributes:
    path: "/"-joined, its collection ("params" or "batch_stats") first.
    keys: published names; where there are two, the reference stores the same tensor twice.
    layout: a key of `LAYOUTS`.
  """

  path: str
  keys: tuple[str, ...]
  layout: str


# Layout -> (published array to ours, ours to published).
LAYOUTS = {
  "same": (lambda x: x, lambda x: x),
  "linear": (lambda x: x.T, lambda x: x.T),
  "conv": (lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)),
  "conv_1x1": (lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None]),
  "token": (lambda x: x[0, 0], lambda x: x[None, None]),
  "batch": (lambda x: x[0], lambda x: x[None]),
}

# Heads that are modules of their own beside the backbone: what their keys start with, and then
# those of the backbone.
SEPARATE_HEADS = {
  "classifier": ("semantic_classifier.", "vit_backbone."),
  "mask_transformer": ("decoder.", "encoder."),
}


def key_table(model: Model) -> list[Entry]:
  """Every parameter and statistic of `model` beside its published names.

  Positions are not listed, since some classes keep those of CLS and grid in one tensor.
  """
  return [*_stem(model), Entry("params/cls_token", ("cls_token",), "token"), *_backbone(model)]


def _linear(path: str, *keys: str, layout: str = "linear", bias: bool = True) -> Iterator[Entry]:
  yield Entry(f"params/{path}/kernel", tuple(f"{key}.weight" for key in keys), layout)
  if bias:
    yield Entry(f"params/{path}/bias", tuple(f"{key}.bias" for key in keys), "same")


def _norm(path: str, *keys: str) -> Iterator[Entry]:
  yield Entry(f"params/{path}/scale", tuple(f"{key}.weight" for key in keys), "same")
  yield Entry(f"params/{path}/bias", tuple(f"{key}.bias" for key in keys), "same")


def _batch_norm(path: str, key: str, affine: bool = True) -> Iterator[Entry]:
  if affine:
    yield from _norm(path, key)
  yield Entry(f"batch_stats/{path}/mean", (f"{key}.running_mean",), "same")
  yield Entry(f"batch_stats/{path}/var", (f"{key}.running_var",), "same")


def _attention(path: str, *keys: str) -> Iterator[Entry]:
  yield from _linear(f"{path}/qkv", *(f"{key}.qkv" for key in keys))
  yield from _linear(f"{path}/out", *(f"{key}.proj" for key in keys))


def _block(path: str, *keys: str) -> Iterator[Entry]:
  yield from _norm(f"{path}/norm_1", *(f"{key}.norm1" for key in keys))
  yield from _attention(f"{path}/attention", *(f"{key}.attn" for key in keys))
  yield from _norm(f"{path}/norm_2", *(f"{key}.norm2" for key in keys))
  yield from _linear(f"{path}/mlp/fc_1", *(f"{key}.mlp.fc1" for key in keys))
  yield from _linear(f"{path}/mlp/fc_2", *(f"{key}.mlp.fc2" for key in keys))


def _stem(model: Model) -> Iterator[Entry]:
  if len(model.stem_strides) == 1:
    yield from _linear("stem/projection", "patch_embed.proj", layout="conv")
    return
  for i in range(len(model.stem_strides)):
    yield from _linear(f"stem/conv_{i}", f"patch_embed.proj.{3 * i}", layout="conv", bias=False)
    yield from _batch_norm(f"stem/norm_{i}", f"patch_embed.proj.{3 * i + 1}")
  last = f"patch_embed.proj.{3 * len(model.stem_strides)}"
  yield from _linear("stem/projection", last, layout="conv_1x1")


def _block_keys(model: Model, stage: int, block: int) -> tuple[str, ...]:
  """Published names of a block: the classes of the reference number them differently."""
  number = sum(model.depths[:stage]) + block
  if not isinstance(model, Cast):
    return (f"blocks.{number}",)
  if isinstance(model, CastSeg) and model.position == "sincos":
    return (f"blocks{stage + 1}.{block}",)
  return f"blocks.{number}", f"blocks{stage + 1}.{number}"


def _backbone(model: Model) -> Iterator[Entry]:
  for stage, depth in enumerate(model.depths):
    for block in range(depth):
      path, keys = f"stage_{stage}/block_{block:02d}", _block_keys(model, stage, block)
      yield from _block(path, *keys)
    if isinstance(model, Cast):
      path, key = f"pool_{stage}", f"pool{stage + 1}.pool_block"
      yield Entry(f"params/{path}/nodes/bias", (f"{key}.centroid_fc.bias",), "same")
      yield from _norm(f"{path}/nodes/norm", f"{key}.centroid_fc.norm")
      yield from _attention(f"{path}/nodes/attention", f"{key}.centroid_fc.attn")
      for part, published in (("expand", "fc1"), ("reduce", "fc2")):
        yield from _norm(f"{path}/{part}/norm", f"{key}.{published}.0")
        yield from _linear(f"{path}/{part}/fc", f"{key}.{published}.1")
  if isinstance(model, CastSeg):
    yield from _batch_norm("fusion/norm", "block_fusion.proj_blocks.0.norm")
    yield from _linear("fusion/projection", "block_fusion.proj_blocks.2")
  else:
    yield from _norm("norm", "norm")
  if model.num_classes:
    yield from _head(model)


def _head(model: Model) -> Iterator[Entry]:
  if model.head_kind == "projector":
    yield from projector_table("head", "head", 3)
  elif model.head_kind == "classifier":
    key = "semantic_classifier"
    yield from _linear("head/fc_0", f"{key}.0", layout="conv_1x1", bias=False)
    yield from _batch_norm("head/norm", f"{key}.1")
    yield from _linear("head/fc_1", f"{key}.3", layout="conv_1x1")
  elif model.head_kind == "mask_transformer":
    yield from _mask_transformer("head", "decoder")
  else:
    yield from _linear("head", "head")


def _mask_transformer(path: str, key: str) -> Iterator[Entry]:
  yield Entry(f"params/{path}/class_tokens", (f"{key}.cls_emb",), "batch")
  yield from _linear(f"{path}/projection", f"{key}.proj_dec")
  for i in range(NUM_LAYERS):
    yield from _block(f"{path}/block_{i:02d}", f"{key}.blocks.{i}")
  yield from _norm(f"{path}/norm", f"{key}.decoder_norm")
  for name, published in (("segment", "patch"), ("class", "classes")):
    yield Entry(f"params/{path}/{name}_projection", (f"{key}.proj_{published}",), "same")
  yield from _norm(f"{path}/class_norm", f"{key}.mask_norm")


def projector_table(path: str, key: str, num_layers: int) -> list[Entry]:
  """The table of MoCo's projector (3 layers, "head") or predictor (2 layers, "predictor")."""
  entries = []
  for i in range(num_layers):
    entries += _linear(f"{path}/fc_{i}", f"{key}.{3 * i}", bias=False)
    entries += _batch_norm(f"{path}/norm_{i}", f"{key}.{3 * i + 1}", affine=i < num_layers - 1)
  return entries


def has_pe_token(model: Model) -> bool:
  """Whether the reference keeps the position of CLS in a tensor of its own."""
  return isinstance(model, Cast | Tome) and model.position == "sincos"
