"""Options of the compiler that suit a program better than its own choices."""

import functools
import os

import jax


def for_cpu(**options: str) -> dict[str, str] | None:
  """What `jax.jit` takes as `compiler_options`, for programs that may run on CPUs.

  Starts the backend. A program compiled so must be called as it is: inside another `jax.jit` or a
  gradient, jax refuses options of the compiler.

  Args:
    **options: values by name, as in `XLA_FLAGS`, whose own choices go before them.

  Returns:
    Those that the compiler has, which come and go with its releases; None if there are none, or on
    other backends.
  """
  if jax.default_backend() != "cpu":
    return None
  chosen = os.environ.get("XLA_FLAGS", "")
  wanted = {name: value for name, value in options.items() if f"--{name}=" not in chosen}
  return {name: value for name, value in wanted.items() if _is_known(name, value)} or None


@functools.cache
def _is_known(name: str, value: str) -> bool:
  try:
    jax.jit(lambda x: x, compiler_options={name: value}).lower(0).compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True
