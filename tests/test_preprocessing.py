"""Superpixels made in the step: the same as if the batch had brought them, for every view."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax.objectives import contrastive, supervised
from hseg_jax.preprocessing import add_segments, count_on_device
from hseg_jax.superpixels import device
from hseg_jax.training.state import TrainState

NUMBER = 16


class Model:
  """In the place of a network: its output is made of the mean pixel and of the superpixels."""

  num_classes, dtype = 0, "float32"

  def apply(self, variables, image, segments, *, train, rngs, mutable):
    del variables, train, rngs, mutable
    weights = jnp.sin(jnp.arange(segments[0].size, dtype=jnp.float32)).reshape(segments[0].shape)
    shape = jnp.mean(jnp.cos(segments) * weights[None], axis=(1, 2))
    features = jnp.concatenate([image.mean((1, 2)), shape[:, None]], axis=1)
    return types.SimpleNamespace(features=features, logits=features), {}

  def init_with_output(self, key, image, segments, *, train):
    return self.apply({}, image, segments, train=train, rngs=key, mutable=())[0], {"params": {}}


def images(count, seed):
  colours = np.random.default_rng(seed).integers(0, 256, (count, 4, 3, 3), np.uint8)
  return jnp.asarray(np.kron(colours, np.ones((1, 3, 4, 1), np.uint8)))


def state_of(trees):
  return TrainState(
    step=jnp.zeros((), jnp.int32), opt_state=(), ema=None, rng=jax.random.key(0), **trees
  )


def test_every_view_gets_its_own_and_other_methods_leave_batches_alone():
  batch = {"image_1": images(2, 0), "image_2": images(2, 1), "label": np.arange(2)}
  assert add_segments(batch, 0) == batch
  found = jax.jit(add_segments, static_argnums=1)(batch, NUMBER)
  assert set(found) - set(batch) == {"segments_1", "segments_2"}
  for view in "12":
    expected = device.segment(batch[f"image_{view}"], NUMBER)
    np.testing.assert_array_equal(found[f"segments_{view}"], expected)
  assert (found["segments_1"] != found["segments_2"]).any()
  for method, expected in (("device", NUMBER), ("seeds", 0), ("grid", 0), ("none", 0)):
    assert count_on_device({"method": method, "num_segments": NUMBER}) == expected


def test_the_supervised_step_makes_them():
  batch = {"image": images(3, 0), "label": jnp.array([0, 1, 3])}
  state = state_of({"params": {}, "batch_stats": {}, "target": None})
  rng = jax.random.key(0)
  losses = []
  for given, number in ((add_segments(batch, NUMBER), 0), (batch, NUMBER)):
    loss = supervised.make_loss(Model(), label_smoothing=0.1, segments_on_device=number)
    losses.append(float(jax.jit(loss)(state.params, state, given, rng)[0]))
  assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_contrastive_step_makes_them():
  batch = {"image_1": images(3, 0), "image_2": images(3, 1)}
  losses = []
  for given, number in ((add_segments(batch, NUMBER), 0), (batch, NUMBER)):
    loss = contrastive.make_loss(
      Model(),
      temperature=0.2,
      momentum=0.9,
      projection_dim=4,
      hidden_dim=4,
      segments_on_device=number,
    )
    state = state_of(loss.init(jax.random.key(1), given))
    losses.append(float(jax.jit(loss)(state.params, state, given, jax.random.key(0))[0]))
  assert losses[0] == pytest.approx(losses[1], abs=1e-6)
