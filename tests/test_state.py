"""The state: what it starts with, and where."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hseg_jax.training import sharding
from hseg_jax.training import state as states


class Objective:
  """One matrix as wide as the images are tall, its copy as target."""

  def init(self, key, batch):
    params = {"kernel": jax.random.normal(key, (batch["image"].shape[1], 2))}
    return {"params": params, "batch_stats": {"mean": jnp.zeros(2)}, "target": {"params": params}}


BATCH = {"image": np.zeros((4, 8, 8, 3), np.uint8)}


def make_init(ema=True):
  return states.make_init(Objective(), optax.adam(1e-3), BATCH, ema=ema)


def test_a_state_is_made_in_its_place_and_knows_its_shapes():
  placement = sharding.replicated(sharding.make_mesh())
  state = states.create(make_init(), 3, placement)
  wanted = states.abstract(make_init(), placement)
  assert jax.tree.structure(state) == jax.tree.structure(wanted)
  for leaf, shape in zip(jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True):
    assert (leaf.shape, leaf.dtype, leaf.sharding) == (shape.shape, shape.dtype, placement)
  assert state.params["kernel"].shape == (8, 2) and state.step == 0


def test_the_seed_decides():
  placement = sharding.replicated(sharding.make_mesh())
  first, same, other = (states.create(make_init(), seed, placement) for seed in (3, 3, 4))
  for name in ("params", "rng"):
    equal = lambda a, b: jax.tree.all(jax.tree.map(np.array_equal, a, b))
    assert equal(getattr(first, name), getattr(same, name))
    assert not equal(getattr(first, name), getattr(other, name))


def test_every_copy_may_be_given_away():
  placement = sharding.replicated(sharding.make_mesh())
  state = states.create(make_init(), 0, placement)
  next_step = jax.jit(lambda s: s.replace(step=s.step + 1), donate_argnums=0)
  assert next_step(next_step(state)).step == 2


def test_evaluation_prefers_the_average():
  placement = sharding.replicated(sharding.make_mesh())
  with_average = states.create(make_init(ema=True), 0, placement)
  assert with_average.eval_params is with_average.ema
  without = states.create(make_init(ema=False), 0, placement)
  assert without.ema is None and without.eval_params is without.params
