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
  compiled = inference.jit(jnp.matmul).lower(*draw()).compile()
  assert "ynn" not in compiled.as_text()


def test_other_backends_have_no_options():
  assert inference._options("gpu") is None


def test_options_that_the_compiler_lacks_are_left_out(monkeypatch):
  monkeypatch.setattr(inference, "_CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
  np.testing.assert_allclose(inference.jit(jnp.matmul)(*draw()), jnp.matmul(*draw()), rtol=1e-5)
