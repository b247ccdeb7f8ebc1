"""The product of linear layers: results and gradients are those of a plain product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hseg_jax.models import linear


@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 6)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_those_of_a_plain_product(shape, dtype):
  keys = jax.random.split(jax.random.key(0), 3)
  x, kernel = (jax.random.normal(k, s, dtype) for k, s in zip(keys, (shape, (6, 5)), strict=False))
  weights = jax.random.normal(keys[2], (*shape[:-1], 5), dtype)
  found, expected = (
    jax.value_and_grad(lambda x, kernel, f=f: (f(x, kernel) * weights).sum(), (0, 1))(x, kernel)
    for f in (linear.project, jnp.matmul)
  )
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert one.dtype == other.dtype == dtype and one.shape == other.shape
    tolerance = 1e-6 if dtype == "float32" else 0.05
    np.testing.assert_allclose(np.float32(one), np.float32(other), rtol=tolerance, atol=tolerance)


def test_a_layer_takes_it():
  x = jax.random.normal(jax.random.key(0), (2, 3, 6))
  plain, ours = nn.Dense(5), nn.Dense(5, dot_general=linear.dot_general)
  variables = jax.jit(plain.init)(jax.random.key(1), x)
  found, expected = (jax.jit(layer.apply)(variables, x) for layer in (ours, plain))
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_is_exact(dtype):
  x = jnp.linspace(-8, 8, 1001).astype(dtype)
  expected = jax.nn.gelu(x.astype("float32"), approximate=False)
  found = linear.gelu(x)
  assert found.dtype == dtype
  tolerance = 2e-6 if dtype == "float32" else 0.05
  np.testing.assert_allclose(np.float32(found), expected, rtol=0, atol=tolerance)
