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


lengths = jax.jit(graphs.path_lengths, static_argnames="kind")


@functools.partial(jax.jit, static_argnames="kind")
def roots(weights, starts, kind):
  previous = graphs.path_trees(weights, starts, kind)
  return graphs.follow(previous, jnp.zeros(previous.shape), kind)[0]


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


@pytest.mark.parametrize("weights", [grids(6), sparse_graphs()], ids=["grids", "parts"])
def test_minimax_edges_are_the_longest_of_all_pairs(weights):
  n = weights.shape[-1]
  weights = np.where(np.eye(n, dtype=bool), 0, weights)
  edges = np.asarray(jax.jit(graphs.minimax_edges)(weights))
  found = jax.jit(graphs.edge_weights)(weights, edges)
  np.testing.assert_array_equal(found, [all_pairs(one, "minimax") for one in weights])


def linkage(weights, borders, mask, num_groups, sizes=None):
  """The definition in plain loops."""
  groups = [{i} for i in np.flatnonzero(mask)]
  if sizes is not None:
    enough, sizes = 0.1 * sizes[mask].sum() / num_groups, np.maximum(sizes, 1)
  while len(groups) > num_groups:
    best = np.inf, None
    for i, first in enumerate(groups):
      for second in groups[i + 1 :]:
        block = np.ix_(sorted(first), sorted(second))
        if borders[block].any():
          mean = np.average(np.where(borders[block] > 0, weights[block], 0), weights=borders[block])
          if sizes is not None:
            smaller = min(sizes[list(first)].sum(), sizes[list(second)].sum())
            mean *= min(smaller / enough, 1)
          best = min(best, (mean, (first, second)), key=lambda item: item[0])
    if best[1] is None:
      break
    first, second = best[1]
    groups.remove(second)
    first |= second
  labels = np.full(len(mask), -1)
  for number, group in enumerate(sorted(groups, key=min)):
    labels[list(group)] = number
  return labels


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("num_groups", [1, 6, 20])
def test_average_linkage_merges_by_the_mean_along_borders(num_groups, sized):
  weights = np.concatenate([grids(4, batch=4) ** 0.1, sparse_graphs(n=16, degree=3.0)])
  rng = np.random.default_rng(7)
  length = np.triu(rng.integers(1, 9, weights.shape))
  borders = np.where(np.isinf(weights), 0, length + np.swapaxes(length, 1, 2)).astype(np.float32)
  mask = rng.random(weights.shape[:2]) < 0.8
  merge = jax.jit(graphs.average_linkage, static_argnames="num_groups")
  sizes = rng.integers(0, 200, mask.shape).astype(np.float32) ** 2
  sizes = np.where(mask & (rng.random(mask.shape) < 0.1), 0, np.where(mask, sizes, 1e6))
  inputs = weights, borders, mask
  found = merge(*inputs, num_groups, sizes if sized else None)
  plain = [linkage(*one, num_groups) for one in zip(*inputs, strict=True)]
  by_size = [linkage(*one, num_groups, size) for *one, size in zip(*inputs, sizes, strict=True)]
  np.testing.assert_array_equal(found, by_size if sized else plain)
  if num_groups == 6:
    assert not np.array_equal(plain, by_size)


def test_runs_under_vmap():
  weights = np.stack([grids(4, seed) for seed in range(3)])
  starts = np.broadcast_to(each(weights), weights.shape)
  got = jax.vmap(lambda w, s: lengths(w, s, "shortest"))(weights, starts)
  expected = [lengths(w, s, "shortest") for w, s in zip(weights, starts, strict=True)]
  np.testing.assert_array_equal(got, expected)


def test_borders_are_counted():
  labels = np.random.default_rng(0).integers(-1, 8, (3, 9, 11))  # -1 and 7 belong to no segment
  outside = np.where((labels < 0) | (labels > 6), 7, labels)
  expected = [border_lengths(one, 8)[:7, :7] for one in outside]
  np.testing.assert_array_equal(graphs.border_lengths(jnp.asarray(labels), 7), expected)


def test_contrasts_are_summed_along_borders():
  rng = np.random.default_rng(0)
  labels = rng.integers(-1, 4, (2, 5, 6))  # -1 and 3 belong to no segment
  image = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
  expected = np.zeros((2, 3, 3))
  for i, row, column in np.ndindex(labels.shape):
    for below, right in ((1, 0), (0, 1)):
      if row + below < 5 and column + right < 6:
        pair = [labels[i, row, column], labels[i, row + below, column + right]]
        if pair[0] != pair[1] and all(0 <= one < 3 for one in pair):
          step = np.linalg.norm(image[i, row, column] - image[i, row + below, column + right])
          expected[i][tuple(pair)] += step
          expected[i][tuple(pair[::-1])] += step
  found = graphs.border_contrasts(jnp.asarray(labels), jnp.asarray(image), 3)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_merged_borders_are_those_of_the_merged_map():
  labels = np.random.default_rng(1).integers(0, 9, (2, 8, 8))
  groups = np.array([[0, 1, 2, 3, 0, 1, 2, 3, -1], [3, 3, 3, 0, 0, 0, 1, 1, 1]])
  borders = graphs.border_lengths(jnp.asarray(labels), 9)
  merged = graphs.merge(borders, jnp.asarray(groups), 4)
  for i in range(2):
    union = groups[i][labels[i]]
    expected = border_lengths(np.where(union < 0, 4, union), 5)[:4, :4]
    np.testing.assert_array_equal(merged[i], expected)


def test_lost_segments_follow_the_neighbours_that_hierarchies_give_them():
  rng = np.random.default_rng(2)
  labels = rng.integers(0, 12, (4, 6, 6)).repeat(2, 1).repeat(2, 2)
  mask = np.stack([np.isin(np.arange(12), one) & (rng.random(12) < 0.4) for one in labels])
  mask[3] = False
  borders = graphs.border_lengths(jnp.asarray(labels), 12)
  found = np.asarray(graphs.donors(borders, jnp.asarray(mask)))
  for i in range(3):
    hierarchy = Hierarchy.from_assignments(labels[i], [np.where(mask[i], np.arange(12), -1)])
    present = np.unique(labels[i])
    np.testing.assert_array_equal(np.flatnonzero(mask[i])[hierarchy.parents[0]], found[i][present])
  np.testing.assert_array_equal(found[3], np.arange(12))
