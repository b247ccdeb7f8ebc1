"""Softmax attention in a form that is fast on CPUs as well."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

NEVER = -1e9  # as a bias: attended to only where nothing else may be


def attention_weights(
  query: Float[Array, "b h n e"],
  key: Float[Array, "b h m e"],
  bias: Float[Array, "b #h #n m"],
) -> Float[Array, "b h n m"]:
  """How much each query takes of each key, in float32; rows sum to one.

  Args:
    query: queries of every head.
    key: keys, of the same dtype.
    bias: what is added to the scaled products. A sum and no `where`, for with sums XLA makes one
      loop of both products and the softmax on CPUs, three times as fast.
  """
  logits = (query * (1 / math.sqrt(query.shape[-1]))) @ jnp.swapaxes(key, -1, -2)
  return jax.nn.softmax(logits.astype(jnp.float32) + bias)


@jax.custom_vjp
def dot_product_attention(
  query: Float[Array, "b h n e"],
  key: Float[Array, "b h m e"],
  value: Float[Array, "b h m e"],
  bias: Float[Array, "b #h #n m"],
) -> Float[Array, "b h n e"]:
  """The values, weighted by `attention_weights`.

  Its gradient sums each row of weights times their gradients by way of the result, which is
  narrower than the row (Dao et al., 2022). Reverse mode only.
  """
  return _forward(query, key, value, bias)[0]


def _forward(query, key, value, bias):
  weights = attention_weights(query, key, bias)
  attended = weights.astype(value.dtype) @ value
  return attended, (query, key, value, bias, weights, attended)


def _backward(saved, gradient):
  query, key, value, bias, weights, attended = saved
  of_value = jnp.swapaxes(weights.astype(value.dtype), -1, -2) @ gradient
  of_weights = (gradient @ jnp.swapaxes(value, -1, -2)).astype(jnp.float32)
  sums = (gradient.astype(jnp.float32) * attended.astype(jnp.float32)).sum(-1, keepdims=True)
  of_logits = weights * (of_weights - sums)
  of_bias = of_logits
  for axis in range(bias.ndim):
    if bias.shape[axis] == 1:
      of_bias = of_bias.sum(axis, keepdims=True)
  of_products = (of_logits * (1 / math.sqrt(query.shape[-1]))).astype(query.dtype)
  of_key = jnp.swapaxes(of_products, -1, -2) @ query
  return of_products @ key, of_key, of_value, of_bias


dot_product_attention.defvjp(_forward, _backward)
