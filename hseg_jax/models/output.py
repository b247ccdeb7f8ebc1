"""What every model returns: all intermediates that the science needs, not only the logits."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int


class Level(struct.PyTreeNode):
  """One stage: its `n` tokens and how the pooling after them assigns them to `k` clusters.

  Attributes:
    tokens: after the stage's last block, before any norm; zero where `mask` is False.
    mask: True for tokens that stand for a segment with pixels. NOTE(reference): its padding masks
      are True for the others.
    logits: 5 times the cosine of token and cluster centre, in [-5, 5]; with the assignment "path" a
      negative multiple of their distance, or the sum of both, and just above all others for a
      token's own cluster. Finite everywhere.
    assignment: softmax of `logits` over valid clusters; rows of valid tokens sum to one, the
      others are zero.
    sampled: index of the token that is each cluster's seed, as farthest-point sampling picks them
      unless the assignment is "path"; -1 for surplus clusters.
    cluster_mask: True for clusters that have a seed. It is the next level's `mask`.
    centroids: the pooled tokens; zero where `cluster_mask` is False.
    lengths: of the edges between tokens that touch, infinite between others; None unless the
      assignment is "path".
  """

  tokens: Float[Array, "b n d"]
  mask: Bool[Array, "b n"]
  logits: Float[Array, "b n k"]
  assignment: Float[Array, "b n k"]
  sampled: Int[Array, "b k"]
  cluster_mask: Bool[Array, "b k"]
  centroids: Float[Array, "b k d"]
  lengths: Float[Array, "b n n"] | None = None

  @property
  def clusters(self) -> Int[Array, "b n"]:
    """The cluster that each token is most of; -1 where `mask` is False."""
    return jnp.where(self.mask, self.assignment.argmax(axis=-1).astype(jnp.int32), -1)


class CastOutput(struct.PyTreeNode):
  """Output of every model in this package.

  Attributes:
    logits: `[b, c]`, or `[b, n, c]` where the head sees every segment; what the head would have
      seen if the model has none.
    features: `[b, d]`, the image's representation.
    cls_tokens: the CLS token after each pooling; empty for models without pooling.
    levels: one per stage; empty for models without pooling.
    tokens: `[b, n, d]`, the last block's tokens without CLS, for models without pooling.
    attention: how much CLS attends to each token, in every block from the first to the last,
      float32 in [0, 1]; CLS attends to itself with what is missing to one. Empty unless
      `attention.apply_with_attention` made the output.
  """

  logits: Float[Array, "b *n c"]
  features: Float[Array, "b d"]
  cls_tokens: tuple[Float[Array, "b d"], ...] = ()
  levels: tuple[Level, ...] = ()
  tokens: Float[Array, "b n d"] | None = None
  attention: tuple[Float[Array, "b heads _"], ...] = ()
