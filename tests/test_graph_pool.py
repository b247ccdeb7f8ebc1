"""Graph pooling by itself."""

import jax
import jax.numpy as jnp

from hseg_jax.models.graph_pool import GraphPooling


def test_sampling_cosines_and_means_stay_precise_under_bfloat16():
  pool = GraphPooling(3, 8, 2, 0.0, "xavier", "bfloat16", attend_empty=False)
  inputs = jnp.ones((2, 8)), jnp.ones((2, 5, 8)), jnp.ones((2, 5), bool)
  variables = jax.eval_shape(lambda key: pool.init(key, *inputs, train=False), jax.random.key(0))
  program = jax.make_jaxpr(lambda v: pool.apply(v, *inputs, train=False))(variables)
  products = str(program).split("dot_general[")[1:]
  precise = [one for one in products if "HIGHEST" in one]
  assert len(precise) == 3 and len(products) == 9
  assert all("preferred_element_type=float32" in one for one in precise)
