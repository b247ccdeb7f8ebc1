"""Forward passes compiled with options of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax import inference


@pytest.fixture(autouse=True)
def forgotten_options():
  """Options are found anew in each test and after it."""
  inference._options.cache_clear()
  yield
  inference._options.cache_clear()


def draw():
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((64, 48), (48, 32))]


def test_same_results():
  function = lambda x, y: jax.nn.softmax(x @ y)
  np.testing.assert_allclose(inference.jit(function)(*draw()), function(*draw()), rtol=1e-5)


def test_cpus_compute_large_products_without_the_library():
  if inference._options(jax.default_backend()) is None:
    pytest.skip("this compiler is left as it is")
  uses_library = lambda jit: "__ynn_fusion" in jit(jnp.matmul).lower(*draw()).compile().as_text()
  assert uses_library(jax.jit) and not uses_library(inference.jit)


def test_other_backends_have_no_options():
  assert inference._options("gpu") is None


def test_the_users_own_choice_stays(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", f"--{inference._OPTION}=LIBRARY_FUSION_TYPE_DOT")
  assert inference._options("cpu") is None


def test_it_must_be_the_outermost():
  applied = inference.jit(jnp.matmul)
  if inference._options(jax.default_backend()) is None:
    pytest.skip("this compiler is left as it is")
  with pytest.raises(ValueError, match="top-level"):
    jax.jit(applied)(*draw())


def test_options_that_the_compiler_lacks_are_left_out(monkeypatch):
  monkeypatch.setattr(inference, "_OPTION", "xla_cpu_no_such_option")
  np.testing.assert_allclose(inference.jit(jnp.matmul)(*draw()), jnp.matmul(*draw()), rtol=1e-5)
