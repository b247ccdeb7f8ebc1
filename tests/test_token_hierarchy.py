"""Hierarchies of tokens: sizes, features, and which method is asked."""

import numpy as np
import pytest

from hseg_jax.baselines import kmeans, methods, token_hierarchy

TOKENS = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)


@pytest.mark.parametrize("method", methods.TOKEN_METHODS)
def test_levels_are_those_of_the_method_at_the_size_of_the_image(method):
  found = token_hierarchy.segment(TOKENS, 16, 24, (9, 4, 2), method=method, seed=3)
  expected = methods.TOKEN_METHODS[method](TOKENS, (16, 24), (9, 4, 2), seed=3)
  assert found.sizes == (9, 4, 2)
  for level, labels in enumerate(expected):
    np.testing.assert_array_equal(found.labels(level), labels)


def test_features_are_the_mean_tokens_of_the_regions_pixels():
  found = token_hierarchy.segment(TOKENS, 16, 24, (9, 4, 2), method="kmeans", seed=0)
  pixels = kmeans.upsample(TOKENS, (16, 24)).reshape(16, 24, 8)
  for level in range(3):
    assert found.features[level].dtype == np.float32
    for region in range(found.sizes[level]):
      expected = pixels[found.labels(level) == region].mean(axis=0)
      np.testing.assert_allclose(found.features[level][region], expected, atol=1e-5)


def test_huge_images_are_clustered_at_fewer_pixels_of_the_same_aspect():
  found = token_hierarchy.segment(TOKENS, 1000, 1500, (4,), method="spectral", seed=0)
  height, width = found.segments.shape
  assert 49_000 < height * width <= 224 * 224 and abs(width / height - 1.5) < 0.02
