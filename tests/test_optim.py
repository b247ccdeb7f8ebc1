"""Schedules, masks and optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hseg_jax.errors import UserError
from hseg_jax.training import optim

PARAMS = {
  "cls_token": jnp.full((4,), 2.0),
  "position": {"table": jnp.full((2, 2, 4), 2.0), "cls": jnp.full((4,), 2.0)},
  "block": {"kernel": jnp.full((3, 4), 2.0), "bias": jnp.full((4,), 2.0)},
  "pool": {"kernel": jnp.full((3, 4), 2.0)},
}
OPTIONS = dict(weight_decay=0.5, decay="no_1d", clip_norm=0.0, b1=0.9, b2=0.999)


def frozen(params):
  """The pooling is frozen, as a model's own mask would say."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key == "pool", params)


def first_update(name, grads, *, rate=0.1, **options):
  tx = optim.make_optimizer(lambda step: rate, name=name, frozen=frozen, **OPTIONS | options)
  updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
  return updates


def like(value):
  return jax.tree.map(lambda x: jnp.full_like(x, value), PARAMS)


def test_warmup_cosine_goes_from_zero_to_peak_to_the_final_fraction():
  schedule = optim.warmup_cosine(2.0, num_steps=110, warmup_steps=10, final_fraction=0.1)
  values = [float(schedule(step)) for step in (0, 5, 10, 60, 110, 200)]
  np.testing.assert_allclose(values, [0.0, 1.0, 2.0, 1.1, 0.2, 0.2], rtol=1e-6)


def test_warmup_cosine_follows_the_reference():
  epochs, warmup, per_epoch, peak = 10, 2, 7, 1.5
  schedule = optim.warmup_cosine(
    peak, num_steps=epochs * per_epoch, warmup_steps=warmup * per_epoch, final_fraction=0.0
  )
  for step in range(epochs * per_epoch):
    e = step / per_epoch
    wanted = peak * e / warmup
    if e >= warmup:
      wanted = peak * 0.5 * (1 + np.cos(np.pi * (e - warmup) / (epochs - warmup)))
    np.testing.assert_allclose(schedule(step), wanted, rtol=1e-5, atol=1e-6)


def test_a_warmup_longer_than_the_run_stays_finite():
  schedule = optim.warmup_cosine(1.0, num_steps=2, warmup_steps=5, final_fraction=0.0)
  np.testing.assert_allclose([schedule(0), schedule(1), schedule(9)], [0.0, 0.2, 0.0], atol=1e-6)


def test_momentum_cosine_grows_to_one():
  momentum = optim.momentum_cosine(0.99, num_steps=100)
  np.testing.assert_allclose([momentum(s) for s in (0, 50, 100)], [0.99, 0.995, 1.0], rtol=1e-6)


def test_decay_masks():
  everything = optim.decay_mask(PARAMS, "all")
  assert all(jax.tree.leaves(everything))
  matrices = optim.decay_mask(PARAMS, "no_1d")
  assert matrices == {
    "cls_token": False,
    "position": {"table": False, "cls": False},
    "block": {"kernel": True, "bias": False},
    "pool": {"kernel": True},
  }


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_a_frozen_parameter_gets_no_update_and_no_decay(name):
  updates = first_update(name, like(1.0))
  assert not np.any(updates["pool"]["kernel"])
  assert np.all(updates["block"]["kernel"] != 0)


def test_adamw_decays_apart_from_the_gradient():
  updates = first_update("adamw", like(1.0))
  np.testing.assert_allclose(updates["block"]["bias"], -0.1, rtol=1e-5)
  np.testing.assert_allclose(updates["block"]["kernel"], -0.1 - 0.1 * 0.5 * 2.0, rtol=1e-5)
  np.testing.assert_allclose(updates["position"]["table"], -0.1, rtol=1e-5)
  every = first_update("adamw", like(1.0), decay="all")
  np.testing.assert_allclose(every["cls_token"], -0.2, rtol=1e-5)


def test_sgd_adds_decay_to_the_gradient_and_keeps_momentum():
  tx = optim.make_optimizer(lambda step: 0.1, name="sgd", frozen=frozen, **OPTIONS)
  state = tx.init(PARAMS)
  for wanted in (-0.1 * 2.0, -0.1 * (0.9 * 2.0 + 2.0)):
    updates, state = tx.update(like(1.0), state, PARAMS)
    np.testing.assert_allclose(updates["block"]["kernel"], wanted, rtol=1e-5)
    np.testing.assert_allclose(updates["block"]["bias"], wanted / 2, rtol=1e-5)  # no decay


def test_lars_scales_matrices_by_their_trust_ratio():
  updates = first_update("lars", like(1.0))
  size = np.sqrt(12)
  ratio = 0.001 * (2.0 * size) / (2.0 * size)  # parameters 2, gradient plus decay 2
  np.testing.assert_allclose(updates["block"]["kernel"], -0.1 * ratio * 2.0, rtol=1e-5)
  np.testing.assert_allclose(updates["block"]["bias"], -0.1, rtol=1e-5)


def test_muon_orthogonalises_matrices_and_leaves_the_rest_to_adamw():
  gradient = np.random.default_rng(0).normal(size=PARAMS["block"]["kernel"].shape)
  grads = like(1.0) | {"block": {"kernel": jnp.asarray(gradient), "bias": jnp.ones(4)}}
  updates = first_update("muon", grads, weight_decay=0.0)
  stretch = np.linalg.svd(updates["block"]["kernel"], compute_uv=False)
  # The iteration brings singular values near 1 only; an update is as large as one of AdamW's.
  np.testing.assert_allclose(stretch / (0.1 * 0.2 * np.sqrt(4)), 1.0, atol=0.35)
  assert np.all(np.sum(updates["block"]["kernel"] * gradient) < 0)
  decayed = first_update("muon", grads)
  np.testing.assert_allclose(
    decayed["block"]["kernel"] - updates["block"]["kernel"], -0.1 * 0.5 * 2.0, rtol=1e-4
  )
  assert np.all(decayed["block"]["bias"] == updates["block"]["bias"])
  every = first_update("muon", grads, decay="all")
  np.testing.assert_allclose(every["block"]["bias"] - updates["block"]["bias"], -0.1, rtol=1e-4)


def test_clipping_leaves_frozen_gradients_out_of_the_norm():
  grads = like(0.0) | {"cls_token": jnp.array([3.0, 4.0, 0.0, 0.0]), "pool": like(100.0)["pool"]}
  updates = first_update("sgd", grads, rate=1.0, clip_norm=1.0, weight_decay=0.0)
  np.testing.assert_allclose(optax.tree.norm(updates), 1.0, rtol=1e-5)
  np.testing.assert_allclose(updates["cls_token"], [-0.6, -0.8, 0.0, 0.0], rtol=1e-5)


def test_unknown_names_are_refused():
  with pytest.raises(UserError, match="'adam'"):
    first_update("adam", like(1.0))
  with pytest.raises(UserError, match="'none'"):
    first_update("sgd", like(1.0), decay="none")


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_packed_vectors_are_updated_like_leaves_of_their_own(name):
  keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(PARAMS)))
  keys = jax.tree.unflatten(jax.tree.structure(PARAMS), keys)
  grads = jax.tree.map(lambda leaf, key: jax.random.normal(key, leaf.shape), PARAMS, keys)
  mask = lambda params: optim.decay_mask(params, "no_1d")
  plain = optim.OPTIMIZERS[name](lambda step: 0.1, 0.5, mask, 0.9, 0.999)
  wanted, _ = plain.update(grads, plain.init(PARAMS), PARAMS)
  found = first_update(name, grads)
  found["pool"] = wanted["pool"]  # frozen here
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)


def test_vectors_are_packed_and_unpacked():
  tree = {"a": jnp.arange(3.0), "b": {"c": jnp.ones((2, 2)), "d": jnp.float32(7)}}
  packed = optim.pack_vectors(tree)
  np.testing.assert_array_equal(packed["vectors"], [0, 1, 2, 7])
  assert len(jax.tree.leaves(packed)) == 2
  jax.tree.map(np.testing.assert_array_equal, optim.unpack_vectors(packed, tree), tree)
  np.testing.assert_allclose(optim.global_norm(tree), np.sqrt(0 + 1 + 4 + 49 + 4))
  matrix = {"c": tree["b"]["c"]}
  assert optim.unpack_vectors(optim.pack_vectors(matrix), matrix)["c"] is matrix["c"]
