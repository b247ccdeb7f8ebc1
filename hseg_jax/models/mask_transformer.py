"""The mask transformer: segments and classes attend to each other, then are compared."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from hseg_jax.models.graph_pool import unit
from hseg_jax.models.initializers import dense
from hseg_jax.models.layer_norm import LayerNorm
from hseg_jax.models.vit import Block

NUM_LAYERS = 2
_HEAD_DIM = 64
_DROPOUT = 0.1
_EPSILON = 1e-5  # of every norm here; the backbone's is another


class MaskTransformer(nn.Module):
  """The decoder of Segmenter over segment tokens.

  A learned token for each class joins the segments' tokens in two transformer blocks; the logits
  are the cosines of segments and classes, normalised over the classes.

  Attributes:
    num_classes: c.
    dim: width of the tokens.
    mlp_ratio: width of the MLPs over `dim`.
    dtype: of the blocks; cosines are float32.

  Source: arXiv 2105.05633; `segmenter/segm/model/decoder.py` of the reference.
  """

  num_classes: int
  dim: int
  mlp_ratio: float
  dtype: str

  @nn.compact
  def __call__(
    self, tokens: Float[Array, "b n d"], mask: Bool[Array, "b n"], train: bool
  ) -> Float[Array, "b n c"]:
    """Logits of every segment; zero where `mask` is False, and such segments change nothing."""
    batch, num_segments, _ = tokens.shape
    x = dense(self.dim, self.dim, "normal", name="projection", dtype=self.dtype)(tokens)
    shape = (self.num_classes, self.dim)
    classes = self.param("class_tokens", nn.initializers.normal(0.02), shape)
    classes = jnp.broadcast_to(classes, (batch, *shape))
    x = jnp.concatenate([x.astype(jnp.float32), classes], axis=1)
    valid = jnp.pad(mask, ((0, 0), (0, self.num_classes)), constant_values=True)
    heads = max(self.dim // _HEAD_DIM, 1)
    for i in range(NUM_LAYERS):
      block = Block(
        self.dim,
        heads,
        self.mlp_ratio,
        drop_path=0.0,
        scheme="normal",
        dtype=self.dtype,
        dropout=_DROPOUT,
        epsilon=_EPSILON,
        name=f"block_{i:02d}",
      )
      x = block(x, valid, train)
    x = LayerNorm("float32", _EPSILON, name="norm")(x)
    segments = self._project(x[:, :num_segments], "segment_projection")
    classes = self._project(x[:, num_segments:], "class_projection")
    highest = jax.lax.Precision.HIGHEST
    cosines = jnp.einsum("bnd,bcd->bnc", segments, classes, precision=highest)
    logits = LayerNorm("float32", _EPSILON, name="class_norm")(cosines)
    return jnp.where(mask[..., None], logits, 0)

  def _project(self, x: Float[Array, "b n d"], name: str) -> Float[Array, "b n d"]:
    """A square matrix's images of the tokens, at length one."""
    init = nn.initializers.normal(self.dim**-0.5)
    matrix = self.param(name, init, (self.dim, self.dim))
    return unit(jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST))
