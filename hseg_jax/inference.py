"""Forward passes, compiled as they are fastest."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

# On CPUs, XLA of jax 0.10 hands matrix products, convolutions and sums to a library called YNNPACK.
# Its sums, and attention between them, are worth having; of large products and convolutions XLA's
# own take three quarters of the time.
_OPTION = "xla_cpu_experimental_ynn_fusion_type"
_VALUE = "LIBRARY_FUSION_TYPE_REDUCE"


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
  """`jax.jit` for functions that only apply a model.

  Starts the backend. The result must be called as it is: inside another `jax.jit` or a gradient,
  jax refuses options of the compiler. What they do for CPUs does not pay in training, whose
  gradients have many small products; a choice in `XLA_FLAGS` goes before ours.
  """
  return jax.jit(function, compiler_options=_options(jax.default_backend()))


@functools.cache
def _options(backend: str) -> dict[str, str] | None:
  """The options of a backend, if the compiler has them, which come and go with its releases."""
  if backend != "cpu" or _OPTION in os.environ.get("XLA_FLAGS", ""):
    return None
  options = {_OPTION: _VALUE}
  try:
    jax.jit(lambda x: x, compiler_options=options).lower(0).compile()
  except jax.errors.JaxRuntimeError:
    return None
  return options
