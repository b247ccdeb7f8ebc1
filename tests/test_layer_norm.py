"""Layer normalisation: results and gradients are those of Flax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hseg_jax.models.layer_norm import LayerNorm


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 3, 7)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_gradients_are_those_of_the_plain_one(shape, offset):
  keys = jax.random.split(jax.random.key(0), 4)
  x = offset + jax.random.normal(keys[0], shape)
  params = {
    "scale": 1 + jax.random.normal(keys[1], (7,)),
    "bias": jax.random.normal(keys[2], (7,)),
  }
  weights = jax.random.normal(keys[3], shape)
  found, expected = (
    jax.value_and_grad(lambda x, p, m=m: (m.apply({"params": p}, x) * weights).sum(), (0, 1))(
      x, params
    )
    for m in (LayerNorm("float32", 1e-5), nn.LayerNorm(1e-5, use_fast_variance=False))
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


def test_it_starts_as_the_plain_one():
  x = jnp.ones((2, 5))
  found, expected = (
    layer.init(jax.random.key(0), x) for layer in (LayerNorm("float32"), nn.LayerNorm())
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_statistics_are_float32():
  x = (1000 + jax.random.normal(jax.random.key(0), (3, 64))).astype(jnp.float32)
  found, expected = (
    jax.jit(lambda x, d=d: LayerNorm(d).init_with_output(jax.random.key(0), x)[0])(x)
    for d in ("bfloat16", "float32")
  )
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found, expected.astype(jnp.bfloat16))


def test_equal_rows_have_gradients():
  norm = LayerNorm("float32")
  variables = norm.init(jax.random.key(0), jnp.ones((2, 5)))
  gradient = jax.grad(lambda x: norm.apply(variables, x).sum())(jnp.ones((2, 5)))
  assert np.isfinite(gradient).all()
