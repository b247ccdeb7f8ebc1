"""Graphs of segments in JAX against numpy, scipy and the definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csgraph

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.models import region_graph as graphs
from hseg_jax.region_graph import border_lengths


def symmetric(tables):
  """Mirrors what stands above the diagonal; infinite on it."""
  upper = np.where(np.triu(np.ones(tables.shape[-2:], bool), 1), tables, np.inf)
  return np.minimum(upper, np.swapaxes(upper, -1, -2)).astype(np.float32)


def grids(side, seed=0, batch=2):
  """Square grids of cells, with random weights; paths between cells wind through most of them."""
  row, column = np.divmod(np.arange(side * side), side)
  touch = np.abs(row[:, None] - row) + np.abs(column[:, None] - column) == 1
  rng = np.random.default_rng(seed)
  return symmetric(np.where(touch, rng.random((batch, *touch.shape)) ** 8, np.inf))


def sparse_graphs(seed=0, batch=4, n=24, degree=2.0):
  """Random graphs in several parts."""
  rng = np.random.default_rng(seed)
  touch = rng.random((batch, n, n)) < degree / n
  return symmetric(np.where(touch, rng.random(touch.shape), np.inf))


def each(weights):
  """Every node as a set of its own."""
  return np.broadcast_to(np.eye(weights.shape[-1], dtype=bool), weights.shape)


@functools.partial(jax.jit, static_argnames="kind")
def lengths(weights, starts, kind):
  previous = graphs.path_trees(weights, starts, kind)
  length, root = graphs.path_lengths(weights, previous, kind)
  return jnp.where(jnp.take_along_axis(starts, root, axis=-1), length, jnp.inf)


@functools.partial(jax.jit, static_argnames="kind")
def roots(weights, starts, kind):
  previous = graphs.path_trees(weights, starts, kind)
  return graphs.path_lengths(weights, previous, kind)[1]


def all_pairs(weights, kind):
  """Lengths of the best paths of one graph."""
  found = np.where(np.eye(len(weights), dtype=bool), 0, weights.astype(np.float64))
  if kind == "shortest":
    return csgraph.dijkstra(csgraph.csgraph_from_dense(found, null_value=np.inf))
  for middle in range(len(found)):
    found = np.minimum(found, np.maximum(found[:, middle, None], found[None, middle]))
  return found


@pytest.mark.parametrize("kind", graphs.PATHS)
@pytest.mark.parametrize("weights", [grids(7), sparse_graphs()], ids=["grids", "parts"])
def test_lengths_are_exact(weights, kind):
  got = lengths(weights, each(weights), kind)
  expected = np.stack([all_pairs(one, kind) for one in weights])
  np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", graphs.PATHS)
def test_a_set_is_as_near_as_its_nearest_node(kind):
  weights = sparse_graphs(seed=1)
  starts = np.random.default_rng(2).random((len(weights), 3, weights.shape[-1])) < 0.2
  got = lengths(weights, starts, kind)
  for one, some, found in zip(weights, starts, np.asarray(got), strict=True):
    pairs = all_pairs(one, kind)
    nearest = [
      pairs[chosen].min(0) if chosen.any() else np.full(len(one), np.inf) for chosen in some
    ]
    np.testing.assert_allclose(found, nearest, rtol=1e-5)


@pytest.mark.parametrize("kind", graphs.PATHS)
@pytest.mark.parametrize("levels", [1, 3])
def test_trees_keep_together_what_they_hold_however_many_ties(kind, levels):
  # Few distinct weights, so that most paths tie: each seed's nodes must hang together all the same.
  weights = grids(8, batch=6)
  weights = np.where(np.isinf(weights), np.inf, np.ceil(weights * levels)).astype(np.float32)
  rng = np.random.default_rng(3)
  starts = np.zeros((6, 1, 64), bool)
  for row in starts:
    row[0, rng.permutation(64)[:9]] = True
  root = roots(weights, starts, kind)
  for one, labels, some in zip(weights, np.asarray(root)[:, 0], starts[:, 0], strict=True):
    assert set(labels) == set(np.flatnonzero(some))
    inside = np.isfinite(one) & (labels[:, None] == labels)
    assert csgraph.connected_components(inside)[0] == some.sum()


@pytest.mark.parametrize("kind", graphs.PATHS)
def test_gradients_are_those_of_the_edges_on_the_path(kind):
  weights = sparse_graphs(seed=4, batch=2, n=12, degree=4.0)
  touch = np.isfinite(weights)
  factors = np.random.default_rng(5).normal(size=weights.shape).astype(np.float32)

  def total(w):
    length = lengths(jnp.where(touch, w, jnp.inf), each(weights), kind)
    return jnp.where(jnp.isfinite(length), length * factors, 0).sum()

  finite = np.where(touch, weights, 0)
  gradient = np.asarray(jax.jit(jax.grad(total))(finite))
  assert np.isfinite(gradient).all() and not gradient[~touch].any()
  step = np.random.default_rng(6).normal(size=weights.shape).astype(np.float32) * touch
  slope = (total(finite + 1e-3 * step) - total(finite - 1e-3 * step)) / 2e-3
  np.testing.assert_allclose((gradient * step).sum(), slope, rtol=2e-2)


def test_runs_under_vmap():
  weights = np.stack([grids(4, seed) for seed in range(3)])
  starts = np.broadcast_to(each(weights), weights.shape)
  got = jax.vmap(lambda w, s: lengths(w, s, "shortest"))(weights, starts)
  expected = [lengths(w, s, "shortest") for w, s in zip(weights, starts, strict=True)]
  np.testing.assert_array_equal(got, expected)


def test_borders_are_counted_and_their_contrast_summed():
  rng = np.random.default_rng(0)
  labels = rng.integers(-1, 8, (3, 9, 11))  # -1 and 7 belong to no segment
  image = rng.normal(size=(3, 9, 11, 2)).astype(np.float32)
  length, contrast = graphs.borders(jnp.asarray(labels), jnp.asarray(image), 7)
  outside = np.where((labels < 0) | (labels > 6), 7, labels)
  for i in range(3):
    np.testing.assert_array_equal(length[i], border_lengths(outside[i], 8)[:7, :7])
  expected = np.zeros((7, 7))
  for (y, x), first in np.ndenumerate(labels[0]):
    for v, u in ((y + 1, x), (y, x + 1)):
      if (
        v < 9
        and u < 11
        and first != labels[0, v, u]
        and {first, labels[0, v, u]}.isdisjoint({-1, 7})
      ):
        step = np.linalg.norm(image[0, y, x] - image[0, v, u])
        expected[first, labels[0, v, u]] += step
        expected[labels[0, v, u], first] += step
  np.testing.assert_allclose(contrast[0], expected, rtol=1e-5)


def test_merged_borders_are_those_of_the_merged_map():
  labels = np.random.default_rng(1).integers(0, 9, (2, 8, 8))
  groups = np.array([[0, 1, 2, 3, 0, 1, 2, 3, -1], [3, 3, 3, 0, 0, 0, 1, 1, 1]])
  length, _ = graphs.borders(jnp.asarray(labels), jnp.zeros((2, 8, 8, 1)), 9)
  merged = graphs.merge(length, jnp.asarray(groups), 4)
  for i in range(2):
    union = groups[i][labels[i]]
    expected = border_lengths(np.where(union < 0, 4, union), 5)[:4, :4]
    np.testing.assert_array_equal(merged[i], expected)


def test_lost_segments_follow_the_neighbours_that_hierarchies_give_them():
  rng = np.random.default_rng(2)
  labels = rng.integers(0, 12, (4, 6, 6)).repeat(2, 1).repeat(2, 2)
  mask = np.stack([np.isin(np.arange(12), one) & (rng.random(12) < 0.4) for one in labels])
  mask[3] = False
  length, _ = graphs.borders(jnp.asarray(labels), jnp.zeros((4, 12, 12, 1)), 12)
  found = np.asarray(graphs.donors(length, jnp.asarray(mask)))
  for i in range(3):
    hierarchy = Hierarchy.from_assignments(labels[i], [np.where(mask[i], np.arange(12), -1)])
    present = np.unique(labels[i])
    np.testing.assert_array_equal(np.flatnonzero(mask[i])[hierarchy.parents[0]], found[i][present])
  np.testing.assert_array_equal(found[3], np.arange(12))
