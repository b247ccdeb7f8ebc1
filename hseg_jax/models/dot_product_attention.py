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
  return jax.nn.softmax(_logits(_scaled(query), key, bias))


def _scaled(query: Float[Array, "b h n e"]) -> Float[Array, "b h n e"]:
  return query * (1 / math.sqrt(query.shape[-1]))


def _logits(scaled, key, bias):
  return (scaled @ jnp.swapaxes(key, -1, -2)).astype(jnp.float32) + bias


@jax.custom_vjp
def dot_product_attention(
  query: Float[Array, "b h n e"],
  key: Float[Array, "b h m e"],
  value: Float[Array, "b h m e"],
  bias: Float[Array, "b #h #n m"],
) -> Float[Array, "b h n e"]:
  """The values, weighted by `attention_weights`.

  The weights themselves are never made: what would divide each row of them divides the result, or
  in the gradient what comes in, which are narrower. Nor are they needed for the sum over a row of
  weights times their gradients, which follows from the result (Dao et al., 2022). Reverse mode
  only.
  """
  return _forward(query, key, value, bias)[0]


def _forward(query, key, value, bias):
  scaled = _scaled(query)
  logits = _logits(scaled, key, bias)
  powers = jnp.exp(logits - logits.max(-1, keepdims=True))
  sums = powers.sum(-1, keepdims=True)
  attended = ((powers.astype(value.dtype) @ value).astype(jnp.float32) / sums).astype(value.dtype)
  return attended, (scaled, key, value, bias, powers, sums, attended)


def _backward(saved, gradient):
  scaled, key, value, bias, powers, sums, attended = saved
  wide = gradient.astype(jnp.float32) / sums
  share = wide.astype(value.dtype)
  of_value = jnp.swapaxes(powers.astype(value.dtype), -1, -2) @ share
  of_powers = (share @ jnp.swapaxes(value, -1, -2)).astype(jnp.float32)
  totals = (wide * attended.astype(jnp.float32)).sum(-1, keepdims=True)
  of_logits = powers * (of_powers - totals)
  of_bias = of_logits
  for axis in range(bias.ndim):
    if bias.shape[axis] == 1:
      of_bias = of_bias.sum(axis, keepdims=True)
  of_products = of_logits.astype(scaled.dtype)
  of_key = jnp.swapaxes(of_products, -1, -2) @ scaled
  return _scaled(of_products @ key), of_key, of_value, of_bias


dot_product_attention.defvjp(_forward, _backward)
