"""Position embeddings of the stem's grid and of the CLS token."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float


def sincos_table(rows: int, columns: int, dim: int) -> np.ndarray:
  """The fixed two-dimensional position embedding, float32 `[rows, columns, dim]`.

  With quarter q = dim / 4 and w_k = 10000^(-k / q), the vector of row i and column j is
  sin(i w), cos(i w), sin(j w), cos(j w). Source: MoCo v3; `cast_models/cast.py` of the reference.
  """
  omega = 10000.0 ** -(np.arange(dim // 4) / (dim // 4))
  i = np.arange(rows)[:, None, None] * omega
  j = np.arange(columns)[None, :, None] * omega
  parts = np.broadcast_arrays(np.sin(i), np.cos(i), np.sin(j), np.cos(j))
  return np.concatenate(parts, axis=-1).astype(np.float32)


class Position(nn.Module):
  """Position embeddings of a grid and of the CLS token.

  Attributes:
    kind: "sincos" (fixed by formula, zero for CLS, frozen) or "learned".
    grid: rows and columns of the table.
    dim: width of the tokens.
  """

  kind: str
  grid: tuple[int, int]
  dim: int

  @nn.compact
  def __call__(self) -> tuple[Float[Array, "rows columns d"], Float[Array, "d"]]:
    shape = (*self.grid, self.dim)
    if self.kind == "learned":
      init = nn.initializers.normal(0.02)
      return self.param("table", init, shape), self.param("cls", init, (self.dim,))
    table = self.param("table", lambda key: jnp.asarray(sincos_table(*shape)))
    cls = self.param("cls", nn.initializers.zeros, (self.dim,))
    return jax.lax.stop_gradient(table), jax.lax.stop_gradient(cls)
