"""What follows the backbone: the projection MLPs of contrastive learning and the block fusion."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from hseg_jax.models.initializers import dense
from hseg_jax.models.stem import batch_norm


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
  def __call__(self, x: Float[Array, "b d"], train: bool) -> Float[Array, "b e"]:
    for i in range(self.num_layers):
      last = i == self.num_layers - 1
      width = self.out_dim if last else self.hidden_dim
      layer = dense(x.shape[-1], width, "torch", name=f"fc_{i}", dtype=self.dtype, use_bias=False)
      x = batch_norm(train, name=f"norm_{i}", dtype="float32", affine=not last)(layer(x))
      x = x if last else nn.relu(x)
    return x


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
    x = batch_norm(train, name="norm", dtype="float32")(x, mask=mask[..., None])
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = dense(in_features, self.dim, self.scheme, name="projection", dtype=self.dtype)(x)
    return x.astype(jnp.float32)
