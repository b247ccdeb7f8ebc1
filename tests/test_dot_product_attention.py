"""Softmax attention and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax.models.dot_product_attention import (
  NEVER,
  attention_weights,
  dot_product_attention,
)


def draw(bias_shape=(2, 1, 1, 7), dtype=jnp.float32):
  rng = np.random.default_rng(0)
  shapes = (2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4), bias_shape
  query, key, value, bias = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes)
  return query.astype(dtype), key.astype(dtype), value.astype(dtype), bias


def plain(query, key, value, bias):
  logits = jnp.einsum("bhne,bhme->bhnm", query, key) / 2 + bias
  return jnp.einsum("bhnm,bhme->bhne", jax.nn.softmax(logits), value)


@pytest.mark.parametrize("bias_shape", [(2, 1, 1, 7), (2, 3, 5, 7), (2, 1, 5, 7)])
def test_result_and_gradients_are_those_of_the_formula(bias_shape):
  arguments = draw(bias_shape)
  out, pullback = jax.vjp(dot_product_attention, *arguments)
  wanted, expected = jax.vjp(plain, *arguments)
  np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)
  gradient = jnp.asarray(np.random.default_rng(1).normal(size=out.shape), jnp.float32)
  for found, right in zip(pullback(gradient), expected(gradient), strict=True):
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)


def test_never_is_never():
  query, key, _, bias = draw()
  weights = attention_weights(query, key, bias.at[..., 2].set(NEVER))
  np.testing.assert_array_equal(weights[..., 2], 0)
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


def test_bfloat16_stays():
  arguments = draw(dtype=jnp.bfloat16)
  out, pullback = jax.vjp(dot_product_attention, *arguments)
  assert {x.dtype for x in (out, *pullback(out)[:3])} == {jnp.dtype(jnp.bfloat16)}
  assert attention_weights(*arguments[:2], arguments[3]).dtype == jnp.float32
