"""Heads at many rates in one pass: the steps, the orders and the scores against plain numpy."""

import jax
import numpy as np
import pytest

from hseg_jax import linear_heads


def examples(num_views=1, num_examples=10, dim=4, num_classes=3):
  rng = np.random.default_rng(0)
  labels = np.tile(rng.integers(0, num_classes, num_examples), (num_views, 1))
  features = rng.normal(size=(num_views, num_examples, dim)) + np.eye(num_classes, dim)[labels]
  return features.astype(np.float32), labels


def train_plainly(features, labels, *, num_classes, rate, num_epochs, batch_size, seed):
  """One head, example by example, with the softmax's gradient written out."""
  rng = np.random.default_rng(seed)
  num_views, count, dim = features.shape
  kernel = 0.01 * rng.standard_normal((dim, num_classes), np.float32).astype(np.float64)
  bias, v_kernel, v_bias = np.zeros(num_classes), 0.0, 0.0
  for epoch in range(num_epochs):
    now = rate * 0.5 * (1 + np.cos(np.pi * epoch / num_epochs))
    order = rng.permutation(count)
    for start in range(0, count, batch_size):
      g_kernel, g_bias = np.zeros_like(kernel), np.zeros_like(bias)
      batch = order[start : start + batch_size]
      for i in batch:
        x, y = features[epoch % num_views, i], labels[epoch % num_views, i]
        p = np.exp(x @ kernel + bias)
        p /= p.sum()
        p[y] -= 1
        g_kernel += np.outer(x, p) / len(batch)
        g_bias += p / len(batch)
      v_kernel, v_bias = 0.9 * v_kernel + g_kernel, 0.9 * v_bias + g_bias
      kernel, bias = kernel - now * v_kernel, bias - now * v_bias
  return kernel, bias


@pytest.mark.parametrize("num_views", [1, 2])
def test_every_rate_is_trained_as_if_alone(num_views):
  features, labels = examples(num_views)
  options = dict(num_classes=3, num_epochs=3, batch_size=4, seed=5)  # the last batch has two
  heads = linear_heads.train(features, labels, learning_rates=(0.1, 1.0), **options)
  for i, rate in enumerate((0.1, 1.0)):
    kernel, bias = train_plainly(features, labels, rate=rate, **options)
    np.testing.assert_allclose(heads.kernel[i], kernel, atol=2e-6)
    np.testing.assert_allclose(heads.bias[i], bias, atol=2e-6)


def test_a_head_that_diverges_leaves_the_others_alone_and_scores_nothing():
  features, labels = examples()
  options = dict(num_classes=3, num_epochs=3, batch_size=4, seed=0)
  alone = linear_heads.train(features, labels, learning_rates=(0.1,), **options)
  beside = linear_heads.train(features, labels, learning_rates=(0.1, 1e38), **options)
  np.testing.assert_allclose(beside.kernel[0], alone.kernel[0], rtol=1e-5)
  assert not np.isfinite(beside.kernel[1]).all()
  assert linear_heads.accuracies(beside, features[0], labels[0])[0, 1] < 0.5


def test_accuracies_count_over_parts(monkeypatch):
  monkeypatch.setattr(linear_heads, "_AT_ONCE", 4)
  rng = np.random.default_rng(1)
  kernel = rng.normal(size=(2, 5, 7)).astype(np.float32)
  heads = jax.device_put(linear_heads.Heads(kernel, np.zeros((2, 7), np.float32)))
  features, labels = rng.normal(size=(10, 5)).astype(np.float32), rng.integers(0, 7, 10)
  ranks = np.argsort(-np.einsum("nd,rdc->rnc", features, kernel), axis=-1)
  found = linear_heads.accuracies(heads, features, labels)
  for row, k in enumerate((1, 5)):
    wanted = (ranks[..., :k] == labels[None, :, None]).any(-1).mean(-1)
    np.testing.assert_allclose(found[row], wanted)
