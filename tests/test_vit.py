"""The ViT baseline and the parts it is made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hseg_jax
from hseg_jax.models.position import sincos_table
from hseg_jax.models.vit import Attention, DropPath, drop_path_rates


def test_attention_ignores_invalid_keys():
  attention = Attention(8, 2, "xavier", "float32")
  x = jax.random.normal(jax.random.key(0), (1, 6, 8))
  mask = jnp.arange(6)[None] < 4
  variables, apply = jax.jit(attention.init)(jax.random.key(1), x), jax.jit(attention.apply)
  masked, _ = apply(variables, x.at[:, 4:].set(100.0), mask)
  short, _ = apply(variables, x[:, :4])
  np.testing.assert_allclose(masked[:, :4], short, atol=1e-5)
  nothing, _ = apply(variables, x, jnp.zeros((1, 6), bool))
  np.testing.assert_allclose(nothing, 0, atol=1e-6)


def test_attention_weighs_by_size():
  # A token of size two counts as much as the same token twice.
  attention = Attention(8, 2, "xavier", "float32")
  x = jax.random.normal(jax.random.key(0), (1, 3, 8))
  variables, apply = jax.jit(attention.init)(jax.random.key(1), x), jax.jit(attention.apply)
  twice = jnp.concatenate([x, x[:, 2:]], axis=1)
  sized, _ = apply(variables, x, None, jnp.array([[1.0, 1.0, 2.0]]))
  np.testing.assert_allclose(sized, apply(variables, twice)[0][:, :3], atol=1e-6)


def test_sincos_table_is_the_published_formula():
  table = sincos_table(3, 5, 8)
  omega = np.array([1.0, 10000.0 ** (-1 / 2)])
  expected = np.concatenate(
    [np.sin(2 * omega), np.cos(2 * omega), np.sin(4 * omega), np.cos(4 * omega)]
  )
  np.testing.assert_allclose(table[2, 4], expected, atol=1e-6)


def test_drop_path_drops_whole_examples():
  out = DropPath(0.5).apply({}, jnp.ones((32, 3, 2)), True, rngs={"dropout": jax.random.key(0)})
  assert {(one.min(), one.max()) for one in np.asarray(out)} == {(0, 0), (2, 2)}


def test_drop_path_ramps_up():
  np.testing.assert_allclose(drop_path_rates(0.1, 11), np.linspace(0, 0.1, 11))


@pytest.mark.parametrize("strides", [(2, 2), (4,)])
def test_any_size_and_no_segments(strides):
  model = hseg_jax.create_model(
    "vit_conv_tiny", dim=16, depths=(1,), num_heads=2, stem_strides=strides, position_grid=(8, 8)
  )
  image = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), image, None)
  apply = jax.jit(functools.partial(model.apply, train=False))
  out = apply(variables, image, None)
  assert out.logits.shape == (2, 1000) and out.tokens.shape == (2, 64, 16)
  assert out.levels == () and out.cls_tokens == ()
  other = apply(variables, image[:, :24, :20], None)
  assert other.tokens.shape == (2, 30, 16) and np.isfinite(other.logits).all()
