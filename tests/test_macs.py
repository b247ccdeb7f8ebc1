"""Tests of counting multiply-adds."""

import jax
import jax.numpy as jnp
import pytest

import hseg_jax
from hseg_jax import macs


def shape(*dims):
  return jax.ShapeDtypeStruct(dims, jnp.float32)


def model_macs(name, side, **fields):
  model = hseg_jax.create_model(name, **fields)
  image, segments = shape(1, side, side, 3), jax.ShapeDtypeStruct((1, side, side), jnp.int32)
  key = jax.random.key(0)
  variables = jax.eval_shape(lambda *a: model.init(key, *a, train=False), image, segments)
  return macs.count(lambda *a: model.apply(*a, train=False).logits, variables, image, segments)


def test_matrix_product():
  assert macs.count(jnp.matmul, shape(3, 4), shape(4, 5)) == 3 * 4 * 5


def test_batched_product_counts_the_batch_once():
  assert macs.count(jnp.matmul, shape(7, 3, 4), shape(7, 4, 5)) == 7 * 3 * 4 * 5


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups):
  def conv(x, w):
    return jax.lax.conv_general_dilated(
      x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )

  counted = macs.count(conv, shape(1, 8, 8, 6), shape(3, 3, 6 // groups, 10))
  assert counted == 4 * 4 * 10 * 9 * 6 // groups


def test_scan_counts_every_step():
  def repeated(x):
    return jax.lax.scan(lambda c, _: (c @ c, None), x, length=5)[0]

  assert macs.count(jax.jit(repeated), shape(4, 4)) == 5 * 4**3


def test_of_branches_the_dearest_counts():
  def either(x):
    return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

  assert macs.count(either, shape(4, 4)) == 2 * 4**3


def test_while_loop_is_refused_only_with_a_product():
  def doubled(x, fn):
    return jax.lax.while_loop(lambda x: x[0, 0] < 9, fn, x)

  assert macs.count(lambda x: doubled(x, lambda x: x + x), shape(4, 4)) == 0
  with pytest.raises(ValueError, match="while loop"):
    macs.count(lambda x: doubled(x, lambda x: x @ x), shape(4, 4))


@pytest.mark.parametrize(
  ("name", "giga"),
  [("vit_conv_small", 4.60), ("cast_small", 3.07), ("vit_conv_base", 17.70), ("cast_base", 11.89)],
)
def test_published_variants(name, giga):
  assert model_macs(name, 224) / 1e9 == pytest.approx(giga, rel=0.01)


def test_twice_the_images_cost_twice():
  def head(x):
    return x @ jnp.ones((4, 5))

  assert macs.count(head, shape(2, 4)) == 2 * macs.count(head, shape(1, 4))
