"""ToMe: a ViT over superpixel tokens that merges similar tokens inside every block."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from hseg_jax.models.graph_pool import unit
from hseg_jax.models.segments import segment_mean, shrink_labels
from hseg_jax.models.vit import Block, Blocks, Vit


def match(
  metric: Float[Array, "b n d"], sizes: Float[Array, "b n"], num_merged: int
) -> tuple[Int[Array, "b u"], Int[Array, "b r"], Int[Array, "b r"]]:
  """Bipartite soft matching: which tokens merge into which.

  Tokens at even positions (CLS first, which never merges) each look for the most similar token at
  an odd position; the `num_merged` strongest pairs merge. Tokens of size zero are nobody's
  partner and merge only where no others are left to.

  Args:
    metric: what tokens are compared by, as the cosine.
    sizes: how many tokens each token stands for; those of size zero come last.
    num_merged: r, at most half of the tokens without CLS.

  Returns:
    Even tokens that stay (in order, CLS first), even tokens that merge, and the odd token each of
    them merges into; as indices among the even and the odd tokens.
  """
  metric = jax.lax.stop_gradient(unit(metric.astype(jnp.float32)))
  even, odd = metric[:, ::2], metric[:, 1::2]
  scores = jnp.einsum("bnd,bmd->bnm", even, odd, precision=jax.lax.Precision.HIGHEST)
  scores = jnp.where(sizes[:, None, 1::2] > 0, scores, -jnp.inf)
  partner = jnp.argmax(scores, axis=-1)
  # No cosine is below -1, so empty tokens rank between all others and CLS.
  strength = jnp.where(sizes[:, ::2] > 0, scores.max(-1), -2).at[:, 0].set(-jnp.inf)
  order = jnp.argsort(-strength, axis=-1)
  merged, kept = order[:, :num_merged], jnp.sort(order[:, num_merged:], axis=-1)
  return kept, merged, jnp.take_along_axis(partner, merged, axis=1)


def merge(
  x: Float[Array, "b n d"], sizes: Float[Array, "b n"], metric: Float[Array, "b n e"], r: int
) -> tuple[Float[Array, "b m d"], Float[Array, "b m"]]:
  """Merges `r` tokens into their partners as means weighted by size; returns tokens and sizes.

  Tokens of size zero are moved behind all others, so that they change nothing for these.
  """
  r = min(r, (x.shape[1] - 1) // 2)
  order = jnp.argsort(sizes == 0, axis=1)
  x, metric = (jnp.take_along_axis(each, order[..., None], axis=1) for each in (x, metric))
  sizes = jnp.take_along_axis(sizes, order, axis=1)
  kept, merged, target = match(metric, sizes, r)
  # The sizes travel as one more feature, so that both are summed in one go.
  weighted = jnp.concatenate([x * sizes[..., None], sizes[..., None]], axis=-1)
  even, odd = weighted[:, ::2], weighted[:, 1::2]
  source = jnp.take_along_axis(even, merged[..., None], axis=1)
  odd = jax.vmap(lambda total, index, value: total.at[index].add(value))(odd, target, source)
  out = jnp.concatenate([jnp.take_along_axis(even, kept[..., None], axis=1), odd], axis=1)
  return out[..., :-1] / jnp.maximum(out[..., -1:], 1e-9), out[..., -1]


class MergingBlocks(Blocks):
  """Transformer blocks that merge tokens between attention and MLP.

  Attributes (besides those of `Blocks`):
    num_merged: r, how many tokens each block merges.
  """

  num_merged: int

  @nn.compact
  def __call__(
    self, x: Float[Array, "b n d"], mask: Bool[Array, "b n"], train: bool
  ) -> Float[Array, "b m d"]:
    sizes = mask.astype(jnp.float32)
    for i, rate in enumerate(self.rates):
      block = Block(
        self.dim,
        self.num_heads,
        self.mlp_ratio,
        rate,
        self.scheme,
        self.dtype,
        name=f"block_{i:02d}",
      )
      x, keys = block.attend(x, sizes > 0, sizes, train)
      x, sizes = merge(x, sizes, keys, self.num_merged)
      x = block.transform(x, train)
    return x


class Tome(Vit):
  """A ViT whose tokens are superpixels and which merges `num_merged` of them in every block.

  Attributes (besides those of `Vit`; `remat` has no effect):
    num_segments: n, how many superpixel ids there may be.
    num_merged: r, tokens merged in each block.
    empty_segments: "mask" gives tokens without pixels the size zero, so that the others fare as if
      there were none; "attend" lets them take part. NOTE(reference): it does the latter.

  Source: section 4.4 of the paper; `moco-v3/models/tome_suppix.py` of the reference.
  """

  num_segments: int = 196
  num_merged: int = 16
  empty_segments: str = "mask"

  def tokenize(self, grid, segments):
    """Means over segments shrunk to the stem's grid."""
    labels = shrink_labels(jnp.asarray(segments, jnp.int32), *grid.shape[1:3])
    tokens, mask = segment_mean(grid, labels, self.num_segments)
    if self.empty_segments == "attend":
      mask = jnp.ones_like(mask)
    return tokens, jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)

  def blocks(self):
    """What is applied to CLS and tokens, their mask and `train`."""
    return MergingBlocks(*self.block_fields(), self.num_merged, name="stage_0")
