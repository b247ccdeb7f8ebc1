"""The stem's convolution, whose filter gradient is fast on CPUs as well."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from hseg_jax.models.initializers import uniform

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class Convolution(nn.Module):
  """A 3x3 convolution without bias, padded by one pixel of zeros on every side.

  Attributes:
    features: width of the output.
    stride: of rows and columns; sizes that it does not divide round up.
    dtype: of the computation.
  """

  features: int
  stride: int
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b gh gw e"]:
    shape = 3, 3, x.shape[-1], self.features
    bound = 1 / math.sqrt(9 * x.shape[-1])
    kernel = self.param("kernel", uniform(bound), shape, jnp.float32)
    return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
  x: Float[Array, "b h w d"],
  kernel: Float[Array, "kh kw d e"],
  stride: int,
  padding: int,
) -> Float[Array, "b gh gw e"]:
  """Two-dimensional convolution (cross-correlation, as all networks have it).

  The result and the gradient of `x` are XLA's own; the gradient of the kernel is that too on
  accelerators, and one matrix product for each of the kernel's taps on CPUs, where XLA's takes
  three times as long. Reverse mode only.

  Args:
    x: features.
    kernel: of the same dtype.
    stride: of rows and columns.
    padding: rows and columns of zeros on every side.
  """
  return _convolve(x, kernel, stride, padding)


def _convolve(x, kernel, stride, padding):
  # Padding is explicit, for "SAME" would pad a stride of two on one side only.
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), ((padding, padding),) * 2, dimension_numbers=_LAYOUT
  )


def _forward(x, kernel, stride, padding):
  return _convolve(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, saved, gradient):
  x, kernel = saved
  plain = functools.partial(_convolve, stride=stride, padding=padding)
  of_x = jax.vjp(lambda x: plain(x, kernel), x)[1](gradient)[0]
  of_kernel = jax.lax.platform_dependent(
    x,
    gradient,
    cpu=functools.partial(kernel_gradient, shape=kernel.shape[:2], stride=stride, padding=padding),
    default=lambda x, gradient: jax.vjp(lambda kernel: plain(x, kernel), kernel)[1](gradient)[0],
  )
  return of_x, of_kernel


def kernel_gradient(
  x: Float[Array, "b h w d"],
  gradient: Float[Array, "b gh gw e"],
  *,
  shape: tuple[int, int],
  stride: int,
  padding: int,
) -> Float[Array, "kh kw d e"]:
  """The gradient of a convolution's kernel, by one matrix product per tap.

  Args:
    x: what was convolved.
    gradient: of the result.
    shape: height and width of the kernel.
    stride: of the convolution.
    padding: of the convolution.
  """
  _, rows, columns, width = gradient.shape
  padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  # Flat matrices, for XLA would lay out three contracted dimensions anew; and the gradient on the
  # left, for that side is transposed, which it then is once for all taps.
  flat = gradient.reshape(-1, width).T

  def tap(i: int, j: int) -> Float[Array, "e d"]:
    stop = i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1
    seen = padded[:, i : stop[0] : stride, j : stop[1] : stride]
    return flat @ seen.reshape(-1, x.shape[-1])

  taps = jnp.stack([jnp.stack([tap(i, j) for j in range(shape[1])]) for i in range(shape[0])])
  return jnp.swapaxes(taps, -1, -2)


convolve.defvjp(_forward, _backward)
