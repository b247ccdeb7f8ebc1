"""Token operations against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax.models import segments as ops


def mean_by_loop(grid, labels, num_segments):
  means = np.zeros((grid.shape[0], num_segments, grid.shape[-1]))
  for b, n in np.ndindex(grid.shape[0], num_segments):
    inside = labels[b] == n
    if inside.any():
      means[b, n] = grid[b][inside].astype(np.float64).mean(0)
  return means


def test_segment_mean_ignores_ids_outside():
  rng = np.random.default_rng(0)
  grid = rng.normal(size=(2, 5, 7, 3)).astype(np.float32)
  labels = rng.integers(-3, 9, size=(2, 5, 7)).astype(np.int32)
  means, mask = ops.segment_mean(jnp.asarray(grid), jnp.asarray(labels), 6)
  np.testing.assert_allclose(means, mean_by_loop(grid, labels, 6), atol=1e-6)
  np.testing.assert_array_equal(mask, [[(one == n).any() for n in range(6)] for one in labels])


def test_segment_mean_has_static_shapes_and_compiles_once():
  traces = []

  @jax.jit
  def f(grid, labels):
    traces.append(1)
    return ops.segment_mean(grid, labels, 6)

  for seed in range(3):
    rng = np.random.default_rng(seed)
    f(jnp.ones((1, 4, 4, 2)), jnp.asarray(rng.integers(0, 6, (1, 4, 4)), jnp.int32))
  assert len(traces) == 1


@pytest.mark.parametrize(
  ("size", "target"), [(224, 28), (64, 8), (65, 9), (50, 7), (8, 16), (5, 5)]
)
def test_nearest_indices_follow_the_published_rule(size, target):
  scale = np.float32(size / target)
  expected = [min(int(np.floor(np.float32(i) * scale)), size - 1) for i in range(target)]
  np.testing.assert_array_equal(ops.nearest_indices(size, target), expected)


def cubic(x, a=-0.75):
  x = abs(x)
  if x <= 1:
    return (a + 2) * x**3 - (a + 3) * x**2 + 1
  return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def upsample_by_loop(grid, height, width, method):
  """Nearest, bilinear or bicubic, align_corners=False, sample by sample."""

  def along(x, target):
    size = x.shape[0]
    out = np.zeros((target, *x.shape[1:]))
    for i in range(target):
      source = (i + 0.5) * size / target - 0.5
      if method == "nearest":
        source = i * size / target
        weigh, reach = lambda d: float(0 <= d < 1), (0,)
      elif method == "bilinear":
        source = max(source, 0)
        weigh, reach = lambda d: max(0.0, 1 - abs(d)), (0, 1)
      else:
        weigh, reach = cubic, (-1, 0, 1, 2)
      low = int(np.floor(source))
      for t in reach:
        out[i] += weigh(source - (low + t)) * x[min(max(low + t, 0), size - 1)]
    return out

  return along(along(grid, height).swapaxes(0, 1), width).swapaxes(0, 1)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(21, 13), (3, 4)])
def test_interpolated_mean_equals_upsampling_then_averaging(method, size):
  rng = np.random.default_rng(1)
  grid = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
  labels = rng.integers(-1, 8, size=(2, *size)).astype(np.int32)
  upsampled = np.stack([upsample_by_loop(g, *size, method) for g in grid])
  means, mask = ops.interpolated_mean(jnp.asarray(grid), jnp.asarray(labels), 7, method)
  np.testing.assert_allclose(means, mean_by_loop(upsampled, labels, 7), atol=2e-6)
  np.testing.assert_array_equal(mask, [[(one == n).any() for n in range(7)] for one in labels])


@pytest.mark.parametrize("size", [(9, 4), (3, 11)])
def test_resize_bicubic(size):
  grid = np.random.default_rng(2).normal(size=(6, 5, 3)).astype(np.float32)
  got = ops.resize_bicubic(jnp.asarray(grid), *size)
  np.testing.assert_allclose(got, upsample_by_loop(grid, *size, "bicubic"), atol=2e-6)


def test_compose_and_unpool():
  fine = jnp.array([[0, 2, 1, 2]])
  coarse = jnp.array([[1, 0, 1]])
  both = ops.compose(fine, coarse)
  np.testing.assert_array_equal(both, [[1, 1, 0, 1]])
  values = jnp.array([[[1.0], [2.0]]])
  np.testing.assert_array_equal(ops.unpool(values, both)[0, :, 0], [2, 2, 1, 2])
  # The way back is a sum over segments.
  grad = jax.grad(lambda v: ops.unpool(v, both).sum())(values)
  np.testing.assert_array_equal(grad[0, :, 0], [1, 3])


def test_hard_assignment_skips_surplus_clusters():
  logits = jnp.array([[[1.0, 5.0, 1.0], [2.0, 9.0, 3.0]]])
  got = ops.hard_assignment(logits, jnp.array([[True, False, True]]))
  np.testing.assert_array_equal(got, [[0, 2]])
