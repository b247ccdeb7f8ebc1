"""Metrics against numpy, with padding."""

import jax
import jax.numpy as jnp
import numpy as np

from hseg_jax import metrics


def test_masked_mean_counts_valid_values_only():
  values, valid = jnp.array([1.0, 5.0, 3.0]), jnp.array([True, False, True])
  assert metrics.masked_mean(values, valid) == 2.0
  assert metrics.masked_mean(values, jnp.zeros(3, bool)) == 0.0


def test_top_k_agrees_with_sorting():
  rng = np.random.default_rng(0)
  logits, label = rng.normal(size=(50, 7)).astype(np.float32), rng.integers(0, 7, 50)
  for k in (1, 5):
    best = np.argsort(-logits, axis=1)[:, :k]
    wanted = (best == label[:, None]).any(axis=1)
    np.testing.assert_array_equal(metrics.top_k(jnp.asarray(logits), jnp.asarray(label), k), wanted)


def test_top_k_gives_a_constant_output_no_credit():
  label = jnp.arange(3)
  assert not metrics.top_k(jnp.zeros((3, 3)), label, 1).any()
  assert metrics.top_k(jnp.zeros((3, 3)), label, 3).all()
  assert not metrics.top_k(jnp.zeros((2, 3)), jnp.array([-1, 3]), 3).any()
  assert not metrics.top_k(jnp.full((3, 3), jnp.nan), label, 2).any()


def test_top_k_gives_nan_no_credit():
  logits = jnp.array([[jnp.nan] * 3, [jnp.nan, 1.0, 0.0], [0.0, 1.0, jnp.nan]])
  np.testing.assert_array_equal(metrics.top_k(logits, jnp.array([0, 0, 1]), 1), [False] * 3)


def test_confusion_and_iou():
  label = jnp.array([0, 0, 1, 1, 0, 0])
  prediction = jnp.array([0, 1, 1, 1, 1, 1])
  valid = jnp.array([True, True, True, True, True, False])
  confusion = jax.jit(metrics.confusion_matrix, static_argnums=3)(prediction, label, valid, 3)
  np.testing.assert_array_equal(confusion, [[1, 2, 0], [0, 2, 0], [0, 0, 0]])
  np.testing.assert_allclose(metrics.iou(confusion), [1 / 3, 2 / 4, np.nan])
