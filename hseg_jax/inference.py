"""Forward passes, compiled as they are fastest."""

from collections.abc import Callable
from typing import Any

import jax

from hseg_jax import compiler_options

# On CPUs, XLA of jax 0.10 hands matrix products, convolutions and sums to a library called YNNPACK.
# Its sums, and attention between them, are worth having; of large products and convolutions XLA's
# own take three quarters of the time. In training, whose gradients have many small products, they
# do not.
_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
  """`jax.jit` for functions that only apply a model.

  Starts the backend. The result must be called as it is, not inside another `jax.jit` or a gradient
  (see `compiler_options.for_cpu`).
  """
  return jax.jit(function, compiler_options=compiler_options.for_cpu(**_OPTIONS))
