"""Token merging against a version written with loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import hseg_jax
from hseg_jax.models.tome import merge


def merge_by_loop(x, sizes, metric, r):
  r = min(r, (len(x) - 1) // 2)
  unit = metric / np.linalg.norm(metric, axis=-1, keepdims=True)
  even, odd = range(0, len(x), 2), range(1, len(x), 2)
  partner = {a: max(odd, key=lambda b, a=a: unit[a] @ unit[b]) for a in even if a}
  order = sorted(partner, key=lambda a: -(unit[a] @ unit[partner[a]]))
  total, count = x * sizes[:, None], sizes.copy()
  for a in order[:r]:
    total[partner[a]] += x[a] * sizes[a]
    count[partner[a]] += sizes[a]
  rest = sorted(set(even) - set(order[:r])) + list(odd)
  return (total / count[:, None])[rest], count[rest]


def test_merge_equals_the_loop():
  rng = np.random.default_rng(0)
  x, metric = rng.normal(size=(2, 3, 14, 6)).astype(np.float32)
  sizes = rng.integers(1, 4, (3, 14)).astype(np.float32)
  for r in (0, 3, 6, 20):
    got, got_sizes = merge(jnp.asarray(x), jnp.asarray(sizes), jnp.asarray(metric), r)
    for b in range(3):
      expected, expected_sizes = merge_by_loop(x[b], sizes[b], metric[b], r)
      np.testing.assert_allclose(got[b], expected, atol=1e-5)
      np.testing.assert_allclose(got_sizes[b], expected_sizes)


def test_merge_passes_over_tokens_of_size_zero():
  rng = np.random.default_rng(0)
  x, metric = rng.normal(size=(2, 14, 6)).astype(np.float32)
  sizes = np.ones(14, np.float32)
  sizes[[3, 4, 9]] = 0
  metric[[3, 4, 9]] = metric[[2, 6, 8]]  # they would be the best of partners
  got, got_sizes = merge(
    jnp.asarray(x[None]), jnp.asarray(sizes[None]), jnp.asarray(metric[None]), 3
  )
  valid = sizes > 0
  expected, expected_sizes = merge_by_loop(x[valid], sizes[valid], metric[valid], 3)
  kept = np.asarray(got_sizes[0]) > 0
  np.testing.assert_allclose(got[0][kept], expected, atol=1e-5)
  np.testing.assert_allclose(got_sizes[0][kept], expected_sizes)


def model_and_variables(**fields):
  model = hseg_jax.create_model(
    "tome_small",
    dim=16,
    depths=(2,),
    num_heads=2,
    num_segments=16,
    stem_strides=(2, 2),
    position_grid=(8, 8),
    num_classes=3,
    num_merged=3,
    **fields,
  )
  image = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  segments = jnp.arange(16, dtype=jnp.int32).reshape(1, 4, 4).repeat(8, 1).repeat(8, 2)
  segments = segments.repeat(2, 0)
  init = jax.jit(functools.partial(model.init, train=False))
  return model, init(jax.random.key(1), image, segments), image, segments


def test_each_block_merges_tokens():
  model, variables, image, segments = model_and_variables()
  out = jax.jit(functools.partial(model.apply, train=False))(variables, image, segments)
  assert out.tokens.shape == (2, 16 - 2 * 3, 16) and out.levels == ()
  assert out.logits.shape == (2, 3)


def test_empty_segments_change_nothing():
  # 14 of 24 ids have pixels; the others must fare as with room for 14, where none can be empty.
  model, variables, image, segments = model_and_variables()
  gaps = jnp.where((segments == 3) | (segments == 6), -1, segments)
  closed = gaps - (gaps > 3) - (gaps > 6)

  def features(ids, **fields):
    apply = jax.jit(functools.partial(model.clone(**fields).apply, train=False))
    return apply(variables, image, ids).features

  expected = features(closed, num_segments=14, empty_segments="attend")
  np.testing.assert_allclose(features(gaps, num_segments=24), expected, atol=1e-5)
