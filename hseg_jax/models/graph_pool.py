"""Graph pooling: segment tokens are assigned softly to a few sampled ones and averaged."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from hseg_jax.models.initializers import dense
from hseg_jax.models.layer_norm import LayerNorm
from hseg_jax.models.linear import gelu
from hseg_jax.models.output import Level
from hseg_jax.models.path_assignment import PathAssignment, RegionGraph
from hseg_jax.models.sampling import farthest_point_sampling
from hseg_jax.models.vit import Attention


def masked_mean(x: Float[Array, "b n d"], mask: Bool[Array, "b n"]) -> Float[Array, "b 1 d"]:
  """Mean over the valid tokens; zero where there are none."""
  weights = mask.astype(x.dtype)[..., None]
  return (x * weights).sum(1, keepdims=True) / jnp.maximum(weights.sum(1, keepdims=True), 1)


def unit(x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
  """Vectors of length one; finite at zero, forwards and backwards."""
  return x * jax.lax.rsqrt(jnp.maximum((x**2).sum(-1, keepdims=True), 1e-24))


class NodeFeatures(nn.Module):
  """What tokens are compared by: self-attention over the tokens, centred, plus a learned bias.

  Attributes:
    dim: width of the tokens.
    num_heads: of the attention.
    scheme: how the linear layers start, see `initializers.dense`.
    dtype: of the attention; the result is float32.
  """

  dim: int
  num_heads: int
  scheme: str
  dtype: str

  @nn.compact
  def __call__(
    self, tokens: Float[Array, "b n d"], mask: Bool[Array, "b n"]
  ) -> Float[Array, "b n d"]:
    attention = Attention(self.dim, self.num_heads, self.scheme, self.dtype, name="attention")
    normed = LayerNorm(self.dtype, name="norm")(tokens)
    features = tokens + attention(normed, mask)[0].astype(jnp.float32)
    bias = self.param("bias", nn.initializers.normal(0.01), (self.dim,))
    return features - masked_mean(features, mask) + bias[None, None]


class Expand(nn.Module):
  """Norm, linear to four times the width, exact GELU, dropout; before the average."""

  dim: int
  dropout: float
  scheme: str
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"], train: bool) -> Float[Array, "b n e"]:
    x = LayerNorm(self.dtype, 1e-5, name="norm")(x)
    x = dense(self.dim, 4 * self.dim, self.scheme, name="fc", dtype=self.dtype)(x)
    return nn.Dropout(self.dropout, deterministic=not train)(gelu(x))


class Reduce(nn.Module):
  """Norm, linear back to the width of the tokens; after the average."""

  dim: int
  scheme: str
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b n e"]) -> Float[Array, "b n d"]:
    x = LayerNorm(self.dtype, 1e-5, name="norm")(x)
    return dense(4 * self.dim, self.dim, self.scheme, name="fc", dtype=self.dtype)(x)


class GraphPooling(nn.Module):
  """Pools `n` tokens into `num_clusters`: seeds by farthest-point sampling, soft assignment by
  cosine similarity to them, weighted means through a small MLP, and a skip connection to the seed.
  Or seeds and assignment along the graph of the segments, by `PathAssignment`.

  Attributes:
    num_clusters: k; clusters beyond the number of valid tokens are masked and zero.
    dim: width of the tokens.
    num_heads: of the attention that makes the node features.
    dropout: inside the MLP.
    scheme: how the linear layers start, see `initializers.dense`.
    dtype: of the MLP and the attention; sampling, cosines and means are float32.
    attend_empty: treat invalid tokens as the reference does: they take the place of the mean when
      seeds are sampled, count as valid everywhere else, and keep their values.
    assignment: "cosine" as published, or "path".
    path_distance, path_seeds, path_color, path_contrast, path_cosine: `distance`, `seeds`, `color`,
      `contrast` and `cosine` of `PathAssignment`.

  Source: section 3.2 of the paper; `cast_models/graph_pool.py` of the reference.
  """

  num_clusters: int
  dim: int
  num_heads: int
  dropout: float
  scheme: str
  dtype: str
  attend_empty: bool
  assignment: str = "cosine"
  path_distance: str = "minimax"
  path_seeds: str = "balanced"
  path_color: bool = True
  path_contrast: bool = False
  path_cosine: bool = False

  @nn.compact
  def __call__(
    self,
    cls_token: Float[Array, "b d"],
    tokens: Float[Array, "b n d"],
    mask: Bool[Array, "b n"],
    train: bool,
    graph: RegionGraph | None = None,
  ) -> tuple[Float[Array, "b d"], Level]:
    """Pools one level.

    Args:
      cls_token: takes part in the MLP only.
      tokens: of the stage's last block.
      mask: True for valid tokens.
      train: whether dropout is on.
      graph: of the tokens' segments; of use to the assignment "path", which needs it.

    Returns:
      The new CLS token and the level, whose `centroids` and `cluster_mask` are the next stage's
      tokens and mask.
    """
    candidates, valid = tokens, mask
    if self.attend_empty:
      candidates = jnp.where(mask[..., None], tokens, masked_mean(tokens, mask))
      valid = jnp.ones_like(mask)
    nodes = NodeFeatures(self.dim, self.num_heads, self.scheme, self.dtype, name="nodes")
    features = unit(nodes(tokens, valid))
    highest = jax.lax.Precision.HIGHEST
    lengths = None
    if self.assignment == "path":
      path = PathAssignment(
        self.num_clusters,
        self.path_distance,
        self.path_seeds,
        self.path_color,
        self.path_contrast,
        self.path_cosine,
        name="path",
      )
      sampled, logits, lengths = path(tokens, features, valid, graph)
    else:
      sampled = farthest_point_sampling(candidates, valid, self.num_clusters)
      centres = jnp.take_along_axis(features, jnp.maximum(sampled, 0)[..., None], axis=1)
      logits = 5 * jnp.einsum("bnd,bkd->bnk", features, centres, precision=highest)
    cluster_mask = sampled >= 0
    picks = jnp.maximum(sampled, 0)[..., None]
    pairs = valid[..., None] & cluster_mask[:, None]
    assignment = jax.nn.softmax(jnp.where(cluster_mask[:, None], logits, -1e9))
    assignment = jnp.where(pairs, assignment, 0)

    x = jnp.concatenate([cls_token[:, None], tokens], axis=1)
    x = Expand(self.dim, self.dropout, self.scheme, self.dtype, name="expand")(x, train)
    weights = assignment / jnp.maximum(assignment.sum(1, keepdims=True), 1e-12)
    x = x.astype(jnp.float32)
    pooled = jnp.einsum("bnk,bne->bke", weights, x[:, 1:], precision=highest)
    x = jnp.concatenate([x[:, :1], pooled], axis=1)
    x = Reduce(self.dim, self.scheme, self.dtype, name="reduce")(x).astype(jnp.float32)
    centroids = x[:, 1:] + jnp.take_along_axis(tokens, picks, axis=1)
    level = Level(
      tokens=tokens,
      mask=mask,
      logits=logits,
      assignment=assignment,
      sampled=sampled,
      cluster_mask=cluster_mask,
      centroids=jnp.where(cluster_mask[..., None], centroids, 0),
      lengths=lengths,
    )
    return cls_token + x[:, 0], level
