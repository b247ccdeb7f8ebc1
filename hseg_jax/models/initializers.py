"""How weights start: the three schemes that the two published recipes mix.

"moco" models start every linear layer with Xavier; "deit" models start the transformer with a
narrow normal and leave the pooling and fusion layers at PyTorch's default.
"""

import math
from collections.abc import Callable

import jax
from flax import linen as nn

from hseg_jax.models import linear

INITS = ("moco", "deit")


def uniform(bound: float) -> Callable:
  """An initializer that draws from the uniform distribution over [-bound, bound]."""

  def init(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def dense(
  in_features: int,
  features: int,
  scheme: str,
  *,
  name: str | None,
  dtype: str,
  use_bias: bool = True,
  num_groups: int = 1,
) -> nn.Dense:
  """A linear layer with one of the starting schemes.

  Args:
    in_features: size of the input's last axis; the "torch" scheme scales its bias by it.
    features: size of the output's last axis.
    scheme: "xavier" (uniform, bias 0), "normal" (standard deviation 0.02, bias 0) or "torch"
      (weights and bias uniform within 1 / sqrt(in_features)).
    name: the layer's key in the parameter tree; None where an attribute gives it.
    dtype: in which the product is computed; parameters are float32.
    use_bias: whether there is a bias.
    num_groups: how many separate square matrices the kernel holds side by side (3 for query, key
      and value), which Xavier's bound has to know.
  """
  bias_init = nn.initializers.zeros
  if scheme == "xavier":
    kernel_init = uniform(math.sqrt(6 / (in_features + features / num_groups)))
  elif scheme == "normal":
    # The published code truncates at 2.0, which is a hundred standard deviations away.
    kernel_init = nn.initializers.normal(0.02)
  else:
    kernel_init = bias_init = uniform(1 / math.sqrt(in_features))
  return nn.Dense(
    features,
    use_bias,
    dtype=dtype,
    kernel_init=kernel_init,
    bias_init=bias_init,
    name=name,
    dot_general=linear.dot_general,
  )


def transformer_scheme(init: str) -> str:
  """Scheme of the transformer's linear layers under `init` ("moco" or "deit")."""
  return "xavier" if init == "moco" else "normal"


def pooling_scheme(init: str) -> str:
  """Scheme of the linear layers of pooling and fusion under `init`: the "deit" code adds them after
  its own initialisation has run, so they keep PyTorch's default."""
  return "xavier" if init == "moco" else "torch"


def cls_init(init: str):
  """How the CLS token starts under `init` ("moco" or "deit")."""
  return nn.initializers.normal(1e-6 if init == "moco" else 0.02)
