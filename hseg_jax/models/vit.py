"""The vision transformer: attention, blocks and position embeddings, and the ViT baseline."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from hseg_jax.models.dot_product_attention import (
  NEVER,
  attention_weights,
  dot_product_attention,
)
from hseg_jax.models.heads import read_head
from hseg_jax.models.initializers import cls_init, dense, transformer_scheme
from hseg_jax.models.layer_norm import LayerNorm
from hseg_jax.models.linear import gelu
from hseg_jax.models.output import CastOutput
from hseg_jax.models.position import Position
from hseg_jax.models.segments import resize_bicubic
from hseg_jax.models.stem import make_stem


def split_heads(qkv: Float[Array, "b n width"], num_heads: int) -> list[Float[Array, "b h n e"]]:
  """Queries, keys and values of each head, from what one linear layer made side by side.

  Heads come first, as the products of attention want them. Each third is turned for itself: of one
  array of all three XLA would turn the gradient twice.
  """
  thirds = jnp.split(qkv, 3, axis=-1)
  shape = *qkv.shape[:2], num_heads, qkv.shape[-1] // (3 * num_heads)
  return [jnp.swapaxes(third.reshape(shape), 1, 2) for third in thirds]


class Attention(nn.Module):
  """Multi-head self-attention.

  Attributes:
    dim: width of the tokens.
    num_heads: divides `dim`.
    scheme: how the linear layers start, see `initializers.dense`.
    dtype: of the products; the softmax is float32.
    dropout: of the attention weights and of the result.
  """

  dim: int
  num_heads: int
  scheme: str
  dtype: str
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b n d"],
    mask: Bool[Array, "b n"] | None = None,
    sizes: Float[Array, "b n"] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, "b n d"], Float[Array, "b n e"]]:
    """Attends from every token to every valid one.

    Args:
      x: tokens.
      mask: True for tokens that may be attended to; all of them if None. Where no token is valid,
        the attended value is zero.
      sizes: how many tokens each token stands for; their logarithm is added to the attention
        logits ("proportional attention").
      train: whether dropout is on.

    Returns:
      The projected values, and the keys averaged over the heads. The attention weights,
      `[b, heads, n, n]`, are sown as "weights" for whoever makes "intermediates" mutable.
    """
    batch, tokens, _ = x.shape
    project = dense(self.dim, 3 * self.dim, self.scheme, name="qkv", dtype=self.dtype, num_groups=3)
    query, key, value = split_heads(project(x), self.num_heads)
    bias = jnp.zeros((batch, 1, 1, tokens))
    if sizes is not None:
      bias += jnp.log(jnp.maximum(sizes, 1e-9))[:, None, None]
    some = 1
    if mask is not None:
      bias = jnp.where(mask[:, None, None], bias, NEVER)
      some = mask.any(-1).astype(self.dtype)[:, None, None, None]
    weights = lambda: some * attention_weights(query, key, bias)
    if self.is_mutable_collection("intermediates"):
      self.sow("intermediates", "weights", weights())
    drop = lambda x: nn.Dropout(self.dropout, deterministic=not train)(x)
    if train and self.dropout:
      attended = drop(weights()).astype(value.dtype) @ value
    else:
      attended = dot_product_attention(query, key, some * value, bias)
    attended = jnp.swapaxes(attended, 1, 2)
    out = dense(self.dim, self.dim, self.scheme, name="out", dtype=self.dtype)
    return drop(out(attended.reshape(batch, tokens, self.dim))), key.mean(1)


class Mlp(nn.Module):
  """Linear, exact GELU, linear, dropout after each.

  Attributes:
    dim: width of the tokens.
    mlp_dim: width in between.
    scheme: how the linear layers start, see `initializers.dense`.
    dtype: of the computation.
    dropout: its rate.
  """

  dim: int
  mlp_dim: int
  scheme: str
  dtype: str
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"], train: bool = False) -> Float[Array, "b n d"]:
    drop = lambda x: nn.Dropout(self.dropout, deterministic=not train)(x)
    x = dense(self.dim, self.mlp_dim, self.scheme, name="fc_1", dtype=self.dtype)(x)
    x = drop(gelu(x))
    return drop(dense(self.mlp_dim, self.dim, self.scheme, name="fc_2", dtype=self.dtype)(x))


class DropPath(nn.Module):
  """Drops a residual branch for a whole example with probability `rate` while training."""

  rate: float

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"], train: bool) -> Float[Array, "b n d"]:
    return nn.Dropout(self.rate, broadcast_dims=(1, 2), deterministic=not train)(x)


class Block(nn.Module):
  """Pre-norm transformer block; the residual stream stays float32.

  Attributes:
    dim: width of the tokens.
    num_heads: of the attention.
    mlp_ratio: width of the MLP over `dim`.
    drop_path: probability of dropping a branch.
    scheme: how the linear layers start, see `initializers.dense`.
    dtype: of the computation.
    dropout: inside attention and MLP.
    epsilon: of the norms.
  """

  dim: int
  num_heads: int
  mlp_ratio: float
  drop_path: float
  scheme: str
  dtype: str
  dropout: float = 0.0
  epsilon: float = 1e-6

  def setup(self):
    self.norm_1 = LayerNorm(self.dtype, self.epsilon)
    self.attention = Attention(self.dim, self.num_heads, self.scheme, self.dtype, self.dropout)
    self.norm_2 = LayerNorm(self.dtype, self.epsilon)
    mlp_dim = int(self.dim * self.mlp_ratio)
    self.mlp = Mlp(self.dim, mlp_dim, self.scheme, self.dtype, self.dropout)
    self.residual = DropPath(self.drop_path)

  def attend(self, x, mask, sizes, train):
    """The block's first half: the stream after attention, and the keys averaged over heads."""
    y, keys = self.attention(self.norm_1(x), mask, sizes, train)
    return x + self.residual(y, train), keys

  def transform(self, x, train):
    """The block's second half: the stream after the MLP."""
    return x + self.residual(self.mlp(self.norm_2(x), train), train)

  def __call__(
    self, x: Float[Array, "b n d"], mask: Bool[Array, "b n"] | None, train: bool
  ) -> Float[Array, "b n d"]:
    """Both halves; rows where `mask` is False come out as zero."""
    x, _ = self.attend(x, mask, None, train)
    x = self.transform(x, train)
    return x if mask is None else jnp.where(mask[..., None], x, 0)


class Blocks(nn.Module):
  """A run of transformer blocks.

  Attributes:
    dim: width of the tokens.
    num_heads: of the attention.
    mlp_ratio: width of the MLPs over `dim`.
    rates: drop-path rate of each block.
    scheme: how the linear layers start, see `initializers.dense`.
    dtype: of the computation.
    remat: recompute each block in the backward pass instead of keeping its activations.
  """

  dim: int
  num_heads: int
  mlp_ratio: float
  rates: Sequence[float]
  scheme: str
  dtype: str
  remat: bool

  @nn.compact
  def __call__(
    self, x: Float[Array, "b n d"], mask: Bool[Array, "b n"] | None, train: bool
  ) -> Float[Array, "b n d"]:
    block = nn.remat(Block, static_argnums=(3,)) if self.remat else Block
    for i, rate in enumerate(self.rates):
      x = block(
        self.dim,
        self.num_heads,
        self.mlp_ratio,
        rate,
        self.scheme,
        self.dtype,
        name=f"block_{i:02d}",
      )(x, mask, train)
    return x


def drop_path_rates(rate: float, num_blocks: int) -> list[float]:
  """The linear ramp of drop-path rates from zero at the first block to `rate` at the last."""
  return [float(r) for r in np.linspace(0, rate, num_blocks)]


def frozen_mask(params: dict, frozen) -> dict:
  """True for the leaves whose path of keys `frozen` accepts: they get no update and no decay."""
  return jax.tree_util.tree_map_with_path(lambda path, _: frozen([p.key for p in path]), params)


class Vit(nn.Module):
  """The ViT baseline: square patches, blocks, no pooling.

  Attributes:
    num_classes: size of the head; 0 for none.
    dim: width of the tokens.
    depths: a single number, the blocks of the one stage.
    num_heads: of the attention; divides `dim`.
    mlp_ratio: width of the MLPs over `dim`.
    stem_strides: strides of the convolutional stem; a single one is a linear patch embedding.
    position: "sincos" (fixed) or "learned".
    position_grid: rows and columns of the position table, resized bicubically for other grids.
    drop_path: rate at the last block, ramped up linearly from 0.
    weight_init: "moco" or "deit", how the weights start (`create_model` calls it `init`).
    head_kind: "linear", or "projector" as in contrastive learning.
    head_hidden_dim: width inside a projector.
    dtype: of the computation; parameters are float32.
    remat: recompute each block in the backward pass instead of keeping its activations.

  Source: `moco-v3/models/vits.py` of the reference.
  """

  num_classes: int
  dim: int
  depths: Sequence[int]
  num_heads: int
  stem_strides: Sequence[int]
  position_grid: tuple[int, int]
  mlp_ratio: float = 4.0
  position: str = "sincos"
  drop_path: float = 0.0
  weight_init: str = "moco"
  head_kind: str = "linear"
  head_hidden_dim: int = 4096
  dtype: str = "float32"
  remat: bool = False

  num_segments = 0
  num_clusters = ()

  @property
  def stride(self) -> int:
    """Pixels per cell of the stem's grid."""
    return math.prod(self.stem_strides)

  @property
  def image_size(self) -> tuple[int, int]:
    """Height and width of the images that fit the position table, in pixels."""
    return self.position_grid[0] * self.stride, self.position_grid[1] * self.stride

  def frozen(self, params: dict) -> dict:
    """Mask of `params`, True for leaves that get no update and no decay."""
    return frozen_mask(params, lambda path: self.position == "sincos" and path[0] == "position")

  @nn.compact
  def __call__(
    self,
    image: Float[Array | np.ndarray, "b h w 3"],
    segments: Int[Array | np.ndarray, "b sh sw"] | None = None,
    train: bool = False,
  ) -> CastOutput:
    """Applies the model.

    Args:
      image: float32, normalised with the ImageNet mean and standard deviation.
      segments: not used by a plain ViT.
      train: whether drop path is on and batch statistics are those of the batch.
    """
    image = jnp.asarray(image)
    stem = make_stem(self.dim, self.stem_strides, self.dtype, self.weight_init)
    grid = stem.project(stem(image, train))
    table, cls_position = Position(self.position, self.position_grid, self.dim, name="position")()
    if grid.shape[1:3] != table.shape[:2]:
      table = resize_bicubic(table, *grid.shape[1:3])
    tokens, mask = self.tokenize(grid + table[None], segments)
    cls = self.param("cls_token", cls_init(self.weight_init), (self.dim,)) + cls_position
    cls = jnp.broadcast_to(cls, (image.shape[0], 1, self.dim))
    x = self.blocks()(jnp.concatenate([cls, tokens], axis=1), mask, train)
    features = LayerNorm("float32", name="norm")(x[:, 0])
    logits = read_head(self, features, train) if self.num_classes else features
    return CastOutput(logits=logits.astype(jnp.float32), features=features, tokens=x[:, 1:])

  def tokenize(
    self, grid: Float[Array, "b gh gw d"], segments: Int[Array | np.ndarray, "b sh sw"] | None
  ) -> tuple[Float[Array, "b n d"], Bool[Array, "b m"] | None]:
    """The tokens of the feature grid, and which of them, CLS first, are valid (None: all)."""
    del segments
    return grid.reshape(grid.shape[0], -1, self.dim), None

  def blocks(self) -> nn.Module:
    """What is applied to CLS and tokens, their mask and `train`."""
    return Blocks(*self.block_fields(), name="stage_0")

  def block_fields(self) -> tuple:
    """The fields of `Blocks`, in order."""
    rates = drop_path_rates(self.drop_path, sum(self.depths))
    scheme = transformer_scheme(self.weight_init)
    return self.dim, self.num_heads, self.mlp_ratio, rates, scheme, self.dtype, self.remat
