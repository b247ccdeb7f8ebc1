"""Tests of the stem's convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax.models import convolution


def examples(side, stride):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, side, side + 3, 5)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 5, 4)).astype(np.float32)
  shape = jax.eval_shape(
    lambda: convolution.convolve(*map(jnp.asarray, (x, kernel)), stride, 1)
  ).shape
  return tuple(map(jnp.asarray, (x, kernel, rng.normal(size=shape).astype(np.float32))))


@pytest.mark.parametrize("cache", [2**21, 5000, 1])
@pytest.mark.parametrize(("side", "stride"), [(8, 1), (8, 2), (7, 2), (9, 3)])
def test_gradients_are_those_of_the_plain_convolution(side, stride, cache, monkeypatch):
  monkeypatch.setattr(convolution, "_CACHE", cache)
  monkeypatch.setattr(jax, "device_count", lambda: 1)
  x, kernel, gradient = examples(side, stride)
  _, pullback = jax.vjp(lambda *a: convolution.convolve(*a, stride, 1), x, kernel)

  def plain(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  out, expected = jax.vjp(plain, x, kernel)
  np.testing.assert_array_equal(convolution.convolve(x, kernel, stride, 1), out)
  for found, wanted in zip(pullback(gradient), expected(gradient), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
  ("platform", "devices", "convolutions"),
  [("cpu", 1, 1), ("cpu", 4, 2), ("cuda", 1, 2), ("tpu", 1, 2)],
)
def test_cpus_have_gradients_of_their_own(platform, devices, convolutions, monkeypatch):
  monkeypatch.setattr(jax, "device_count", lambda: devices)
  x, kernel, gradient = examples(8, 2)

  def pull(x, kernel, gradient):
    return jax.vjp(lambda *a: convolution.convolve(*a, 2, 1), x, kernel)[1](gradient)

  text = jax.jit(pull).trace(x, kernel, gradient).lower(lowering_platforms=(platform,)).as_text()
  assert text.count("stablehlo.convolution") == convolutions
  has_zeros = "lhs_dilate = [2, 2]" in text  # between the cells of the gradient
  assert has_zeros == (platform != "cpu")


def test_bfloat16_stays():
  x, kernel, _ = examples(8, 2)
  module = convolution.Convolution(4, 2, "bfloat16")
  out, pullback = jax.vjp(lambda k: module.apply({"params": {"kernel": k}}, x), jnp.asarray(kernel))
  assert out.dtype == jnp.bfloat16
  assert pullback(out)[0].dtype == jnp.float32
