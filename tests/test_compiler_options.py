"""Options of the compiler, and what is compiled with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax import compiler_options, inference

LIBRARY = "xla_cpu_experimental_ynn_fusion_type"


def draw():
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((64, 48), (48, 32))]


def test_same_results():
  function = lambda x, y: jax.nn.softmax(x @ y)
  np.testing.assert_allclose(inference.jit(function)(*draw()), function(*draw()), rtol=1e-5)


def test_cpus_compute_large_products_without_the_library():
  if compiler_options.for_cpu(**{LIBRARY: "LIBRARY_FUSION_TYPE_REDUCE"}) is None:
    pytest.skip("this compiler is left as it is")
  uses_library = lambda jit: "__ynn_fusion" in jit(jnp.matmul).lower(*draw()).compile().as_text()
  assert uses_library(jax.jit) and not uses_library(inference.jit)


def test_other_backends_have_no_options(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert compiler_options.for_cpu(xla_backend_optimization_level="2") is None


def test_the_users_own_choice_stays(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=1")
  assert compiler_options.for_cpu(xla_backend_optimization_level="2") is None


def test_it_must_be_the_outermost():
  if compiler_options.for_cpu(**{LIBRARY: "LIBRARY_FUSION_TYPE_REDUCE"}) is None:
    pytest.skip("this compiler is left as it is")
  with pytest.raises(ValueError, match="top-level"):
    jax.jit(inference.jit(jnp.matmul))(*draw())


def test_options_that_the_compiler_lacks_are_left_out(monkeypatch):
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  found = compiler_options.for_cpu(xla_cpu_no_such_option="1", xla_backend_optimization_level="2")
  if jax.default_backend() == "cpu":
    assert found == {"xla_backend_optimization_level": "2"}
