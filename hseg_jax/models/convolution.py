"""The stem's convolution, whose gradients are fast on CPUs as well."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from hseg_jax.models.initializers import uniform

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_CACHE = 2**21  # bytes that stay in the cache of a core


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

  The result is XLA's own, and on accelerators so are the gradients. On CPUs they are
  `input_gradient` and, with a single device, `kernel_gradient`; XLA's take several times as long.
  Reverse mode only.

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
  of_x = jax.lax.platform_dependent(
    gradient,
    kernel,
    cpu=functools.partial(input_gradient, shape=x.shape[1:3], stride=stride, padding=padding),
    default=lambda gradient, kernel: jax.vjp(lambda x: plain(x, kernel), x)[1](gradient)[0],
  )
  by_xla = lambda x, gradient: jax.vjp(lambda kernel: plain(x, kernel), kernel)[1](gradient)[0]
  if jax.device_count() > 1:
    # Of a batch on several CPUs the loop would wait for the others in every turn, and may hang.
    return of_x, by_xla(x, gradient)
  by_rows = functools.partial(
    kernel_gradient, shape=kernel.shape[:2], stride=stride, padding=padding
  )
  return of_x, jax.lax.platform_dependent(x, gradient, cpu=by_rows, default=by_xla)


def input_gradient(
  gradient: Float[Array, "b gh gw e"],
  kernel: Float[Array, "kh kw d e"],
  *,
  shape: tuple[int, int],
  stride: int,
  padding: int,
) -> Float[Array, "b h w d"]:
  """The gradient of what was convolved, without the zeros that XLA puts between the rows and
  columns of a strided convolution's gradient.

  Inputs that lie `stride` apart see the same weights, so one convolution of stride one gives
  `stride` x `stride` neighbours at each of its cells.

  Args:
    gradient: of the result.
    kernel: as it was convolved with.
    shape: height and width of what was convolved.
    stride: of the convolution.
    padding: of the convolution.
  """
  *sides, features, _ = kernel.shape
  reach = [-(-side // stride) for side in sides]  # results that see one input, along each axis
  spare = [(0, n * stride - side) for n, side in zip(reach, sides, strict=True)]
  split = jnp.pad(kernel, (*spare, (0, 0), (0, 0)))
  split = split.reshape(reach[0], stride, reach[1], stride, features, -1)[::-1, :, ::-1]
  split = jnp.transpose(split, (0, 2, 5, 1, 3, 4)).reshape(*reach, -1, stride**2 * features)
  around = [(n - 1, n - 1) for n in reach]
  cells = jax.lax.conv_general_dilated(gradient, split, (1, 1), around, dimension_numbers=_LAYOUT)
  batch, rows, columns, _ = cells.shape
  cells = cells.reshape(batch, rows, columns, stride, stride, features)
  pixels = jnp.swapaxes(cells, 2, 3).reshape(batch, rows * stride, columns * stride, features)
  # Inputs behind the last window were not seen.
  ends = [max(0, padding + n - m) for n, m in zip(shape, pixels.shape[1:3], strict=True)]
  pixels = jnp.pad(pixels, ((0, 0), (0, ends[0]), (0, ends[1]), (0, 0)))
  return pixels[:, padding : padding + shape[0], padding : padding + shape[1]]


def kernel_gradient(
  x: Float[Array, "b h w d"],
  gradient: Float[Array, "b gh gw e"],
  *,
  shape: tuple[int, int],
  stride: int,
  padding: int,
) -> Float[Array, "kh kw d e"]:
  """The gradient of a convolution's kernel, by matrix products of a few rows of the image each.

  All that the kernel sees is laid out for so few rows that it stays in a processor's cache.

  Args:
    x: what was convolved.
    gradient: of the result.
    shape: height and width of the kernel.
    stride: of the convolution.
    padding: of the convolution.
  """
  batch, rows, columns, features = gradient.shape
  inputs = shape[0] * shape[1] * x.shape[-1]
  padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  bytes_per_row = batch * columns * inputs * x.dtype.itemsize
  fitting = [n for n in range(1, rows + 1) if rows % n == 0 and n * bytes_per_row <= _CACHE]
  count = max(fitting, default=1)

  def add(total: Float[Array, "e k"], start: Int[Array, ""]) -> tuple[Float[Array, "e k"], None]:
    height = (count - 1) * stride + shape[0]
    seen = jax.lax.dynamic_slice_in_dim(padded, start * stride, height, axis=1)
    stops = (count - 1) * stride + 1, (columns - 1) * stride + 1
    taps = [
      seen[:, i : i + stops[0] : stride, j : j + stops[1] : stride]
      for i, j in itertools.product(*map(range, shape))
    ]
    # Flat matrices, for XLA would lay out three contracted dimensions anew.
    patches = jnp.concatenate(taps, axis=-1).reshape(-1, inputs)
    given = jax.lax.dynamic_slice_in_dim(gradient, start, count, axis=1).reshape(-1, features)
    return total + jnp.matmul(given.T, patches, preferred_element_type=jnp.float32), None

  starts = jnp.arange(0, rows, count)
  total, _ = jax.lax.scan(add, jnp.zeros((features, inputs), jnp.float32), starts)
  total = total.reshape(features, *shape, x.shape[-1])
  return jnp.transpose(total, (1, 2, 3, 0)).astype(x.dtype)


convolve.defvjp(_forward, _backward)
