"""Operations on the device: pixel by pixel the host's, and drawn from the same distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from test_transforms import photo

from hseg_jax import device_transforms
from hseg_jax.data import transforms

JITTER = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.2, "hue": 0.1}


def keys(count):
  return jax.random.split(jax.random.key(0), count)


def difference(actual, expected):
  """Absolute differences from a host's image, in levels of 255; the other holds whole numbers."""
  assert actual.dtype == np.float32 and expected.dtype == np.uint8
  assert (np.asarray(actual) == np.round(actual)).all()
  return np.abs(np.asarray(actual) - expected)


def assert_close(actual, expected, mean=0.05):
  """Here and there a level apart, where a sum is rounded otherwise."""
  error = difference(actual, expected)
  assert error.max() <= 1 and error.mean() < mean


def assert_alike(samples, others):
  """No column is told from the other's by the test of Kolmogorov and Smirnov."""
  for sample, other in zip(np.transpose(samples), np.transpose(others), strict=True):
    assert stats.ks_2samp(sample, other).pvalue > 1e-3


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.9, 1.0, 1.4, 2.5])
def test_enhancements_are_the_hosts(factor):
  image = jnp.asarray(photo(), jnp.float32)
  for name in ("brightness", "contrast", "saturation"):
    adjust, wanted = (getattr(m, f"adjust_{name}") for m in (device_transforms, transforms))
    assert_close(adjust(image, factor), wanted(photo(), factor))


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.003, 0.05, 0.1])
def test_hue_is_the_hosts(shift):
  for image in (photo(), np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)):
    found = device_transforms.adjust_hue(jnp.asarray(image, jnp.float32), shift)
    error = difference(found, transforms.adjust_hue(image, shift))
    assert error.max() <= 8 and error.mean() < 0.05  # a hue's rounding decides on several levels


def test_grayscale_and_solarize_are_the_hosts():
  image = jnp.asarray(photo(), jnp.float32)
  assert difference(device_transforms.grayscale(image), transforms.grayscale(photo())).max() == 0
  assert difference(device_transforms.solarize(image), transforms.solarize(photo())).max() == 0


@pytest.mark.parametrize("sigma", [0.1, 0.4, 0.7, 1.3, 2.0])
def test_blur_is_the_hosts(sigma):
  found = device_transforms.gaussian_blur(jnp.asarray(photo(), jnp.float32), sigma, max_sigma=2.0)
  assert_close(found, transforms.gaussian_blur(photo(), sigma=sigma))


@pytest.mark.parametrize(
  "box", [(0, 0, 48, 64), (5, 7, 11, 13), (0, 31, 48, 33), (9, 9, 32, 32), (47, 0, 1, 64)]
)
def test_crops_are_the_hosts_and_see_nothing_beside_them(box):
  top, left, height, width = box
  part = photo()[top : top + height, left : left + width]
  for beside in (0, 255):
    canvas = np.full((70, 70, 3), beside, np.uint8)
    canvas[top : top + height, left : left + width] = part
    for size in (9, 32, 50):
      found = device_transforms.crop_and_resize(jnp.asarray(canvas), jnp.array(box), size)
      # Pillow rounds between rows and columns, in the order that it finds cheaper.
      assert_close(found, transforms.resize(part, size, size), mean=0.3)


@pytest.mark.parametrize("start", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_the_smallest_crops_are_of_one_pixel(start):
  canvas = jnp.arange(12, dtype=jnp.uint8).reshape(2, 2, 3)
  found = device_transforms.crop_and_resize(canvas, jnp.array([start, 0.0, 1.0, 1.0]), 3)
  assert np.unique(found).tolist() in ([0, 1, 2], [6, 7, 8])


def test_flip_is_fair():
  image = jnp.arange(6, dtype=jnp.float32).reshape(1, 2, 3)
  found = np.asarray(jax.vmap(lambda key: device_transforms.random_flip(image, key))(keys(1000)))
  flipped = (found == np.asarray(image)[:, ::-1]).all(axis=(1, 2, 3))
  assert (flipped | (found == np.asarray(image)).all(axis=(1, 2, 3))).all()
  assert 440 < flipped.sum() < 560


def test_color_jitter_draws_all_orders_and_factors(monkeypatch):
  """Each operation writes its number and its factor behind those of the ones before."""
  names = list(JITTER)
  for i, name in enumerate(names):
    record = lambda log, factor, i=i: jnp.append(log[1:], jnp.array([[[i, factor, 0]]]), axis=0)
    monkeypatch.setattr(device_transforms, f"adjust_{name}", record)
  jitter = lambda key: device_transforms.color_jitter(jnp.zeros((4, 1, 3)), key, **JITTER)
  order, factors, _ = np.moveaxis(np.asarray(jax.vmap(jitter)(keys(2000)))[:, :, 0], 2, 0)
  counts = np.unique(order, axis=0, return_counts=True)[1]
  assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3
  ranges = ((0.6, 1.4), (0, 2.5), (0.8, 1.2), (-0.1, 0.1))
  for i, (low, high) in enumerate(ranges):
    assert stats.kstest(factors[order == i], "uniform", (low, high - low)).pvalue > 1e-3
