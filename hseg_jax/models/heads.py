"""What follows the backbone: block fusion, classifiers, projection MLPs of contrastive learning.

The mask transformer, which is built of transformer blocks, has a file of its own.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from hseg_jax.models.initializers import dense, transformer_scheme
from hseg_jax.models.stem import batch_norm

# What may stand on a model: the last two only on one that classifies every segment.
HEADS = ("linear", "projector", "classifier", "mask_transformer")


def _some(mask: Bool[Array, "b n"]) -> Bool[Array, "b n 1"]:
  """`mask` for a batch normalisation, which needs one row at least: all where none is valid."""
  return (mask | ~mask.any())[..., None]


class Projector(nn.Module):
  """Linear layers without bias, each with batch normalisation, ReLU in between; the last
  normalisation has neither scale nor bias.

  Attributes:
    hidden_dim: width of all layers but the last.
    out_dim: width of the last layer.
    num_layers: 3 for MoCo v3's projector, 2 for its predictor.
    dtype: of the products; the result is float32.

  Source: `moco-v3/suppix_utils/builder.py` of the reference.
  """

  hidden_dim: int
  out_dim: int
  num_layers: int
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "b *n d"], train: bool, mask: Bool[Array, "b n"] | None = None
  ) -> Float[Array, "b *n e"]:
    """Projects features, or tokens; statistics of tokens are taken where `mask` is True."""
    rows = None if mask is None else _some(mask)
    for i in range(self.num_layers):
      last = i == self.num_layers - 1
      width = self.out_dim if last else self.hidden_dim
      layer = dense(x.shape[-1], width, "torch", name=f"fc_{i}", dtype=self.dtype, use_bias=False)
      norm = batch_norm(name=f"norm_{i}", dtype="float32", affine=not last)
      x = norm(layer(x), not train, mask=rows)
      x = x if last else nn.relu(x)
    return x


class Classifier(nn.Module):
  """Linear without bias, batch normalisation, ReLU, linear: for tokens.

  NOTE(reference): it takes the statistics over pixels, so that each segment counts by its area;
  here each counts once. With running statistics the two are the same.

  Attributes:
    hidden_dim: width in between.
    num_classes: c.
    scheme: how the linear layers start, see `initializers.dense`.
    dtype: of the products; the normalisation is float32.

  Source: `SPML/spml/models/predictions/softmax_classifier.py` of the reference.
  """

  hidden_dim: int
  num_classes: int
  scheme: str
  dtype: str

  @nn.compact
  def __call__(
    self, x: Float[Array, "b n d"], train: bool, mask: Bool[Array, "b n"]
  ) -> Float[Array, "b n c"]:
    """Classifies tokens; statistics are taken over the rows where `mask` is True."""
    layer = lambda x, width, name, **options: dense(
      x.shape[-1], width, self.scheme, name=name, dtype=self.dtype, **options
    )(x)
    x = layer(x, self.hidden_dim, "fc_0", use_bias=False)
    x = nn.relu(batch_norm(name="norm", dtype="float32")(x, not train, mask=_some(mask)))
    return layer(x, self.num_classes, "fc_1")


def read_head(
  model: Any, x: Float[Array, "b *n d"], train: bool, mask: Bool[Array, "b n"] | None = None
) -> Float[Array, "b *n c"]:
  """Applies the head that a model's `head_kind` names; to be called inside the model.

  Args:
    model: with `num_classes`, `head_kind`, `head_hidden_dim`, `weight_init` and `dtype`.
    x: features, or tokens.
    train: whether batch statistics are those of the batch.
    mask: which tokens are valid; not given for features.
  """
  if model.head_kind == "projector":
    projector = Projector(model.head_hidden_dim, model.num_classes, 3, model.dtype, name="head")
    return projector(x, train, mask)
  scheme = transformer_scheme(model.weight_init)
  if model.head_kind == "classifier":
    classes = model.num_classes
    return Classifier(model.head_hidden_dim, classes, scheme, model.dtype, name="head")(
      x, train, mask
    )
  return dense(x.shape[-1], model.num_classes, scheme, name="head", dtype=model.dtype)(x)


class BlockFusion(nn.Module):
  """Fuses the tokens of all stages: batch normalisation, dropout, linear.

  Attributes:
    dim: width of the output.
    dropout: between normalisation and linear layer.
    scheme: how the linear layer starts, see `initializers.dense`.
    dtype: of the product; the result is float32.

  Source: `cast_models/cast_seg.py` of the reference.
  """

  dim: int
  dropout: float
  scheme: str
  dtype: str

  @nn.compact
  def __call__(
    self, x: Float[Array, "b n e"], mask: Bool[Array, "b n"], train: bool
  ) -> Float[Array, "b n d"]:
    """Statistics are taken over the rows where `mask` is True; one such row at least is needed."""
    in_features = x.shape[-1]
    x = batch_norm(name="norm", dtype="float32")(x, not train, mask=mask[..., None])
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = dense(in_features, self.dim, self.scheme, name="projection", dtype=self.dtype)(x)
    return x.astype(jnp.float32)
