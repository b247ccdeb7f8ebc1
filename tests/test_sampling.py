"""Farthest-point sampling against the definition in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax.models.sampling import farthest_node_sampling, farthest_point_sampling


def brute_force(tokens, mask, num_samples, groups=None):
  tokens = tokens.astype(np.float64)
  groups = np.arange(len(mask)) if groups is None else groups
  valid = np.flatnonzero(mask)
  picks, chosen = [], [tokens[valid].mean(0)]
  while len(picks) < num_samples:
    left = [i for i in valid if groups[i] not in [groups[j] for j in picks if j >= 0]]
    if not left:
      picks.append(-1)
      continue
    distances = [min(((tokens[i] - c) ** 2).sum() for c in chosen) for i in left]
    best = left[int(np.argmax(distances))]
    picks.append(best)
    chosen.append(tokens[best])
  return picks


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_equals_brute_force(offset):
  # A common offset must not spoil the picks: the distances do not change.
  rng = np.random.default_rng(0)
  tokens = (rng.normal(size=(4, 30, 8)) + offset).astype(np.float32)
  mask = rng.random((4, 30)) < 0.7
  picks = farthest_point_sampling(jnp.asarray(tokens), jnp.asarray(mask), 12)
  expected = [brute_force(t, m, 12) for t, m in zip(tokens, mask, strict=True)]
  np.testing.assert_array_equal(picks, expected)


def test_groups_are_picked_from_once():
  rng = np.random.default_rng(4)
  tokens = rng.normal(size=(4, 30, 8)).astype(np.float32)
  mask = rng.random((4, 30)) < 0.7
  groups = np.where(mask, rng.integers(0, 9, (4, 30)), -1)
  picks = farthest_point_sampling(*map(jnp.asarray, (tokens, mask)), 10, jnp.asarray(groups))
  expected = [brute_force(t, m, 10, g) for t, m, g in zip(tokens, mask, groups, strict=True)]
  np.testing.assert_array_equal(picks, expected)
  assert (np.asarray(picks)[:, 9] == -1).all()


def test_surplus_samples_are_marked():
  tokens = np.random.default_rng(1).normal(size=(2, 6, 3)).astype(np.float32)
  mask = np.array([[True, False, True, False, True, False], [False] * 6])
  picks = np.asarray(farthest_point_sampling(jnp.asarray(tokens), jnp.asarray(mask), 8))
  assert set(picks[0, :3]) == {0, 2, 4}
  assert (picks[0, 3:] == -1).all() and (picks[1] == -1).all()


def test_ties_go_to_the_lowest_index_and_picks_are_distinct():
  tokens = np.ones((1, 5, 4), np.float32)
  picks = farthest_point_sampling(jnp.asarray(tokens), jnp.ones((1, 5), bool), 5)
  np.testing.assert_array_equal(picks, [[0, 1, 2, 3, 4]])


def test_invalid_tokens_do_not_matter():
  rng = np.random.default_rng(2)
  tokens = rng.normal(size=(1, 10, 4)).astype(np.float32)
  mask = np.arange(10)[None] < 7
  picks = farthest_point_sampling(jnp.asarray(tokens), jnp.asarray(mask), 4)
  tokens[:, 7:] = 1e6
  again = farthest_point_sampling(jnp.asarray(tokens), jnp.asarray(mask), 4)
  np.testing.assert_array_equal(picks, again)


def test_nodes_are_picked_farthest_first():
  rng = np.random.default_rng(3)
  points = rng.normal(size=(3, 14, 2))
  distances = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1).astype(np.float32)
  mask = rng.random((3, 14)) < 0.7
  picks = farthest_node_sampling(jnp.asarray(distances), jnp.asarray(mask), 12)
  for table, valid, found in zip(distances, mask, np.asarray(picks), strict=True):
    nodes = np.flatnonzero(valid)
    expected = [nodes[table[np.ix_(nodes, nodes)].sum(1).argmax()]]
    while len(expected) < len(nodes):
      left = np.setdiff1d(nodes, expected)
      expected.append(left[table[np.ix_(left, expected)].min(1).argmax()])
    np.testing.assert_array_equal(found, [*expected, *[-1] * 12][:12])
