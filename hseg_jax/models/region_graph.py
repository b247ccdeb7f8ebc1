"""The graph of the segments: which of them touch, and how far apart they are along it.

Shapes are static. Comparisons decide which path is best; its length is then read once more off the
weights of its edges, so gradients reach these and nothing else.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hseg_jax.models.segments import segment_sum

# How a path's length follows from its edges: their sum, or the longest of them.
PATHS = ("shortest", "minimax")


def borders(
  labels: Int[Array, "b h w"], image: Float[Array, "b h w c"], num_segments: int
) -> tuple[Float[Array, "b n n"], Float[Array, "b n n"]]:
  """Length of the border that each two segments share, and the contrast of the image across it.

  Args:
    labels: segment of each pixel; ids outside [0, num_segments) belong to no segment.
    image: of the same size, any number of channels.
    num_segments: n.

  Returns:
    The pairs of 4-neighbours across each border, and the sum over them of the Euclidean distance
    of the two pixels' colours. Symmetric, zero on the diagonal.
  """
  total = 0
  for axis in (1, 2):
    size = labels.shape[axis]
    first, second = (
      tuple(jax.lax.slice_in_dim(x, start, stop, axis=axis) for x in (labels, image))
      for start, stop in ((0, size - 1), (1, size))
    )
    low, high = jnp.minimum(first[0], second[0]), jnp.maximum(first[0], second[0])
    crosses = (low >= 0) & (low < high) & (high < num_segments)
    pair = jnp.where(crosses, low * num_segments + high, -1).reshape(len(labels), -1)
    contrast = jnp.sqrt(jnp.maximum(((first[1] - second[1]) ** 2).sum(-1), 1e-12))
    found = jnp.stack([jnp.ones_like(contrast), contrast], axis=-1).reshape(*pair.shape, 2)
    total += segment_sum(found, pair, num_segments**2)
  total = total.reshape(-1, num_segments, num_segments, 2)
  total += jnp.swapaxes(total, 1, 2)
  return total[..., 0], total[..., 1]


def donors(lengths: Float[Array, "b n n"], mask: Bool[Array, "b n"]) -> Int[Array, "b n"]:
  """The valid segment that speaks for each: itself, or where it lost its token a neighbour's.

  A lost segment takes what the neighbour with the longest shared border has, among those that have
  one; ties go to the lowest id, and rounds repeat until nobody is reached any more, as in
  `Hierarchy.from_assignments`. Those that are never reached, ids without pixels say, stay with
  themselves.
  """
  own = jnp.broadcast_to(jnp.arange(mask.shape[1])[None], mask.shape)

  def reach(state):
    found, _ = state
    shared = jnp.where((found >= 0)[:, None], lengths, 0)
    reached = (found < 0) & (shared > 0).any(-1)
    heir = jnp.take_along_axis(found, shared.argmax(-1), axis=1)
    return jnp.where(reached, heir, found), reached.any()

  found, _ = jax.lax.while_loop(lambda state: state[1], reach, (jnp.where(mask, own, -1), True))
  return jnp.where(found < 0, own, found)


def merge(
  table: Float[Array, "b n n"], groups: Int[Array, "b n"], num_groups: int
) -> Float[Array, "b k k"]:
  """The table of the groups' sums, P^T A P, with a diagonal of zero; ids outside drop out.

  Of borders, it gives those of the unions of segments; two unions touch where it is above zero.
  """
  member = jax.nn.one_hot(groups, num_groups, dtype=table.dtype)
  highest = jax.lax.Precision.HIGHEST
  merged = jnp.einsum("bnk,bnm,bml->bkl", member, table, member, precision=highest)
  return jnp.where(jnp.eye(num_groups, dtype=bool)[None], 0, merged)


def path_trees(
  weights: Float[Array, "b n n"], starts: Bool[Array, "b m n"], kind: str
) -> Int[Array, "b m n"]:
  """The best paths from sets of nodes to all others, for many sets at once.

  n rounds, each of which settles the open node that is nearest and offers its neighbours a way
  through it: the algorithms of Dijkstra ("shortest") and Prim ("minimax", whose trees are minimum
  spanning forests, and these hold a minimax path to every node). Exact on any graph. Ties go to the
  node that is settled first, and among equals to the lowest index. Not differentiable.

  Args:
    weights: of the edges, not negative; infinite where there is none.
    starts: True for the nodes of each set.
    kind: one of `PATHS`.

  Returns:
    The node before each on its path; itself for starts and for nodes that no path reaches.
  """
  weights = jax.lax.stop_gradient(weights)
  nodes = jnp.arange(weights.shape[-1])[None, None]

  def settle(state, _):
    offer, is_open, previous = state
    waiting = jnp.where(is_open, offer, jnp.inf)
    nearest = waiting.argmin(-1, keepdims=True)
    least = jnp.take_along_axis(waiting, nearest, axis=-1)
    row = jax.vmap(lambda table, i: table[i])(weights, nearest[..., 0])
    way = least + row if kind == "shortest" else row
    is_open &= nodes != nearest
    better = is_open & (way < offer) & jnp.isfinite(least)
    return (jnp.where(better, way, offer), is_open, jnp.where(better, nearest, previous)), None

  first = jnp.where(starts, 0.0, jnp.inf).astype(weights.dtype)
  itself = jnp.broadcast_to(nodes, starts.shape)
  state = (first, jnp.ones(starts.shape, bool), itself)
  (_, _, previous), _ = jax.lax.scan(settle, state, length=weights.shape[-1])
  return previous


def path_lengths(
  weights: Float[Array, "b n n"], previous: Int[Array, "b m n"], kind: str
) -> tuple[Float[Array, "b m n"], Int[Array, "b m n"]]:
  """Length of the path from each node back to the start of its tree, and that start.

  Differentiable in `weights`; log2(n) rounds, each of which doubles the steps taken.

  Args:
    weights: of the edges; finite along the paths.
    previous: as `path_trees` gives it.
    kind: one of `PATHS`; of "minimax", the longest edge.
  """
  num_nodes = weights.shape[-1]
  nodes = jnp.arange(num_nodes)[None, None]
  edges = (previous * num_nodes + nodes).reshape(len(previous), -1)
  length = jnp.take_along_axis(weights.reshape(len(weights), -1), edges, axis=1)
  length = jnp.where(previous == nodes, 0, length.reshape(previous.shape))
  for _ in range(int(np.ceil(np.log2(max(num_nodes, 2))))):
    beyond = jnp.take_along_axis(length, previous, axis=-1)
    length = length + beyond if kind == "shortest" else jnp.maximum(length, beyond)
    previous = jnp.take_along_axis(previous, previous, axis=-1)
  return length, previous
