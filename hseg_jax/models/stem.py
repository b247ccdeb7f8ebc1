"""From pixels to a grid of features: the convolutional stem and the plain patch embedding."""

import math
from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from hseg_jax.models.convolution import Convolution
from hseg_jax.models.initializers import dense, uniform

BATCH_NORM_MOMENTUM = 0.9  # share of the running statistics that a training step keeps


def batch_norm(*, name: str | None, dtype: str, affine: bool = True) -> nn.BatchNorm:
  """Batch normalisation with PyTorch's constants.

  NOTE(reference): the running variance is the biased one here, PyTorch keeps the unbiased one.
  Statistics are those of the global batch here; there too, save in supervised training.
  """
  return nn.BatchNorm(
    momentum=BATCH_NORM_MOMENTUM,
    epsilon=1e-5,
    # The fast formula loses three digits where the mean is large.
    use_fast_variance=False,
    use_bias=affine,
    use_scale=affine,
    dtype=dtype,
    name=name,
  )


class ConvStem(nn.Module):
  """3x3 convolutions with batch normalisation and ReLU, then a 1x1 convolution.

  Widths double up to `dim`: dim / 8, dim / 4, dim / 2, dim for four strides. Sizes that a stride
  does not divide round up. Source: `cast_models/modules.py` of the reference.

  Attributes:
    dim: width of the output.
    strides: one per 3x3 convolution.
    dtype: of the computation.
  """

  dim: int
  strides: Sequence[int]
  dtype: str

  def setup(self):
    widths = [self.dim >> i for i in reversed(range(len(self.strides)))]
    self.conv = [
      Convolution(width, stride, self.dtype)
      for width, stride in zip(widths, self.strides, strict=True)
    ]
    self.norm = [batch_norm(name=None, dtype=self.dtype) for _ in self.strides]
    self.projection = dense(self.dim, self.dim, "torch", name=None, dtype=self.dtype)

  def __call__(self, image: Float[Array, "b h w 3"], train: bool) -> Float[Array, "b gh gw d"]:
    """The features before the last, 1x1 convolution."""
    x = image
    for convolve, normalise in zip(self.conv, self.norm, strict=True):
      x = nn.relu(normalise(convolve(x), not train))
    return x

  def project(self, x: Float[Array, "*cells d"]) -> Float[Array, "*cells d"]:
    """The 1x1 convolution. It is linear, so averages may be taken before it instead of after."""
    return self.projection(x)


class PatchEmbed(nn.Module):
  """One linear map per square patch; an incomplete patch at the border is dropped.

  Attributes:
    dim: width of the output.
    patch_size: side of a patch in pixels.
    dtype: of the computation.
    init: "moco" (Xavier over the patch flattened to one vector) or "deit" (PyTorch's default).
  """

  dim: int
  patch_size: int
  dtype: str
  init: str

  @nn.compact
  def __call__(self, image: Float[Array, "b h w 3"], train: bool) -> Float[Array, "b gh gw d"]:
    del train
    size = self.patch_size
    inputs = 3 * size * size
    default = uniform(1 / math.sqrt(inputs))
    return nn.Conv(
      self.dim,
      (size, size),
      size,
      padding="VALID",
      kernel_init=uniform(math.sqrt(6 / (inputs + self.dim))) if self.init == "moco" else default,
      bias_init=nn.initializers.zeros if self.init == "moco" else default,
      dtype=self.dtype,
      name="projection",
    )(image)

  def project(self, x: Float[Array, "*cells d"]) -> Float[Array, "*cells d"]:
    """Nothing is left to do."""
    return x


def make_stem(dim: int, strides: Sequence[int], dtype: str, init: str) -> ConvStem | PatchEmbed:
  """A `ConvStem`, or a `PatchEmbed` where a single stride is given."""
  if len(strides) == 1:
    return PatchEmbed(dim, strides[0], dtype, init, name="stem")
  return ConvStem(dim, tuple(strides), dtype, name="stem")
