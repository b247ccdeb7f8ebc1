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

_SMALL = 0.1  # of the mean group: smaller unions are merged sooner


def border_lengths(labels: Int[Array, "b h w"], num_segments: int) -> Float[Array, "b n n"]:
  """Length of the border that each two segments share: the pairs of 4-neighbours across it.

  Args:
    labels: segment of each pixel; ids outside [0, num_segments) belong to no segment.
    num_segments: n.

  Returns:
    Whole numbers, symmetric, zero on the diagonal.
  """
  values = [jnp.ones(first.shape, jnp.float32) for first, _ in _neighbours(labels)]
  return _sum_along_borders(labels, values, num_segments)


def border_contrasts(
  labels: Int[Array, "b h w"], image: Float[Array, "b h w c"], num_segments: int
) -> Float[Array, "b n n"]:
  """The image's steps across the border that each two segments share, summed along it.

  A step is from one pixel to its neighbour, so a smooth image has smaller ones at a higher
  resolution.

  Args:
    labels: as for `border_lengths`, which counts the same pairs of pixels.
    image: of the labels' size.
    num_segments: n.

  Returns:
    Sums of Euclidean distances, in the image's own units; symmetric, zero on the diagonal.
  """
  values = [vector_lengths(first - second) for first, second in _neighbours(image)]
  return _sum_along_borders(labels, values, num_segments)


def vector_lengths(vectors: Float[Array, "*n c"]) -> Float[Array, "*n"]:
  """Euclidean lengths, at least 1e-6, so that their gradients are finite at zero."""
  return jnp.sqrt(jnp.maximum((vectors**2).sum(-1), 1e-12))


def _neighbours(grid):
  """The pairs of 4-neighbours: those above each other, and those side by side."""
  return (grid[:, :-1], grid[:, 1:]), (grid[:, :, :-1], grid[:, :, 1:])


def _sum_along_borders(labels, values, num_segments):
  """Sums what pairs of 4-neighbours have over the pairs that two segments share."""
  pairs = []
  for first, second in _neighbours(labels):
    low, high = jnp.minimum(first, second), jnp.maximum(first, second)
    crosses = (low >= 0) & (low < high) & (high < num_segments)
    pairs.append(jnp.where(crosses, low * num_segments + high, -1))
  flat = lambda parts: jnp.concatenate([x.reshape(x.shape[0], -1) for x in parts], axis=1)
  sums = segment_sum(flat(values), flat(pairs), num_segments**2)
  sums = sums.reshape(-1, num_segments, num_segments)
  return sums + jnp.swapaxes(sums, 1, 2)


def donors(borders: Float[Array, "b n n"], mask: Bool[Array, "b n"]) -> Int[Array, "b n"]:
  """The valid segment that speaks for each: itself, or where it lost its token a neighbour's.

  A lost segment takes what the neighbour with the longest shared border has, among those that have
  one; ties go to the lowest id, and rounds repeat until nobody is reached any more, as in
  `Hierarchy.from_assignments`. Those that are never reached, ids without pixels say, stay with
  themselves.
  """
  own = jnp.broadcast_to(jnp.arange(mask.shape[1])[None], mask.shape)

  def reach(state):
    found, _ = state
    shared = jnp.where((found >= 0)[:, None], borders, 0)
    reached = (found < 0) & (shared > 0).any(-1)
    heir = jnp.take_along_axis(found, shared.argmax(-1), axis=1)
    return jnp.where(reached, heir, found), reached.any()

  found, _ = jax.lax.while_loop(lambda state: state[1], reach, (jnp.where(mask, own, -1), True))
  return jnp.where(found < 0, own, found)


def merge(
  borders: Float[Array, "b n n"], groups: Int[Array, "b n"], num_groups: int
) -> Float[Array, "b k k"]:
  """The borders of unions of segments, P^T A P, with a diagonal of zero: two unions touch where it
  is above zero. Segments whose group is outside [0, num_groups) drop out."""
  member = jax.nn.one_hot(groups, num_groups, dtype=borders.dtype)
  highest = jax.lax.Precision.HIGHEST
  merged = jnp.einsum("bnk,bnm,bml->bkl", member, borders, member, precision=highest)
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
    The node before each on its path, for starts itself. Nodes that no path reaches are led back to
    one that is no start.
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
    better = is_open & (way < offer)
    return (jnp.where(better, way, offer), is_open, jnp.where(better, nearest, previous)), None

  first = jnp.where(starts, 0.0, jnp.inf).astype(weights.dtype)
  itself = jnp.broadcast_to(nodes, starts.shape)
  state = (first, jnp.ones(starts.shape, bool), itself)
  (_, _, previous), _ = jax.lax.scan(settle, state, length=weights.shape[-1])
  return previous


def follow(
  previous: Int[Array, "b m n"], length: Float[Array, "b m n"], kind: str
) -> tuple[Int[Array, "b m n"], Float[Array, "b m n"]]:
  """Where the path of each node starts, and its length, from its last step and that step's length.

  log2(n) rounds, each of which doubles the steps taken; differentiable in `length`.
  """
  for _ in range(int(np.ceil(np.log2(max(previous.shape[-1], 2))))):
    beyond = jnp.take_along_axis(length, previous, axis=-1)
    length = length + beyond if kind == "shortest" else jnp.maximum(length, beyond)
    previous = jnp.take_along_axis(previous, previous, axis=-1)
  return previous, length


def path_lengths(
  weights: Float[Array, "b n n"], starts: Bool[Array, "b m n"], kind: str
) -> Float[Array, "b m n"]:
  """How far the best path to each node is from the nearest node of a set, for many sets at once.

  Args and rounds are those of `path_trees`; differentiable in `weights`. Infinite where no path
  leads.
  """
  previous = path_trees(weights, starts, kind)
  nodes = jnp.arange(weights.shape[-1])[None, None]
  steps = (previous * weights.shape[-1] + nodes).reshape(weights.shape[0], -1)
  step = jnp.take_along_axis(weights.reshape(weights.shape[0], -1), steps, axis=1)
  step = jnp.where(previous == nodes, 0, step.reshape(previous.shape))
  root, length = follow(previous, step, kind)
  return jnp.where(jnp.take_along_axis(starts, root, axis=-1), length, jnp.inf)


def minimax_edges(weights: Float[Array, "b n n"]) -> Int[Array, "b n n"]:
  """The longest edge on the minimax path between each two nodes, for all pairs in n rounds.

  Prim's algorithm: a node that joins the tree meets all others through the node it joins at. Where
  there is no path, an edge of infinite weight. Ties as in `path_trees`. Not differentiable, but
  the weight of the edge, as `edge_weights` reads it, is the minimax distance, and is so.

  Args:
    weights: of the edges, not negative; zero on the diagonal, infinite where there is none.

  Returns:
    Edges (i, j) as i n + j, symmetric up to the direction.
  """
  weights = jax.lax.stop_gradient(weights)
  num_nodes = weights.shape[-1]
  nodes, bound = jnp.arange(num_nodes), jnp.finfo(weights.dtype).max

  def all_pairs(weights):
    def settle(state, _):
      offer, before, is_open, longest, edges = state
      # Bounded, so that nodes beyond every path take their turn as well.
      new = jnp.where(is_open, jnp.minimum(offer, bound), jnp.inf).argmin()
      via = before[new]
      step = weights[via, new]
      row = jnp.maximum(longest[via], step)
      # Of nodes still open nothing is known: they fill in their own rows and columns.
      known = jnp.where(longest[via] > step, edges[via], via * num_nodes + new)
      known = jnp.where(nodes == new, new * num_nodes + new, known)
      row = jnp.where(nodes == new, 0, row)
      longest = longest.at[new].set(row).at[:, new].set(row)
      edges = edges.at[new].set(known).at[:, new].set(known)
      is_open &= nodes != new
      better = is_open & (weights[new] < offer)
      offer = jnp.where(better, weights[new], offer)
      return (offer, jnp.where(better, new, before), is_open, longest, edges), None

    offer = jnp.full(num_nodes, jnp.inf, weights.dtype)
    longest = jnp.zeros_like(weights)
    state = (offer, nodes * 0, nodes >= 0, longest, jnp.zeros(weights.shape, nodes.dtype))
    (_, _, _, _, edges), _ = jax.lax.scan(settle, state, length=num_nodes)
    return edges

  return jax.vmap(all_pairs)(weights)


def edge_weights(weights: Float[Array, "b n n"], edges: Int[Array, "b *m"]) -> Float[Array, "b *m"]:
  """The weights of edges (i, j), given as i n + j."""
  flat = weights.reshape(weights.shape[0], -1)
  found = jnp.take_along_axis(flat, edges.reshape(edges.shape[0], -1), axis=1)
  return found.reshape(edges.shape)


def average_linkage(
  weights: Float[Array, "b n n"],
  borders: Float[Array, "b n n"],
  mask: Bool[Array, "b n"],
  num_groups: int,
  sizes: Float[Array, "b n"] | None = None,
) -> Int[Array, "b n"]:
  """Merges touching nodes until `num_groups` are left, the pair with the lowest mean weight first.

  The mean of two unions runs over the border between them, so every union hangs together. With
  `sizes`, it is multiplied by what the smaller union has of a tenth of the mean group, where that
  is less than one: specks merge sooner. Ties go to the lowest ids. Not differentiable.

  Args:
    weights: of the edges.
    borders: length of the border of each two nodes, symmetric; nodes touch where it is above zero.
    mask: True for nodes that take part.
    num_groups: k; more are left where nothing touches any more, fewer where there were no more.
    sizes: of the nodes in pixels, less than one counting as one; None where they do not matter.

  Returns:
    The group of each node, numbered by the lowest node in each; -1 for nodes that take no part.
  """
  num_nodes = weights.shape[-1]
  nodes = jnp.arange(num_nodes)
  linked = mask[:, None] & mask[:, :, None] & (borders > 0)
  borders = jnp.where(linked, borders, 0)
  sums = jnp.where(linked, jax.lax.stop_gradient(weights), 0) * borders
  if sizes is None:
    fill = jnp.ones(mask.shape, jnp.float32)
  else:  # what each has of the size that counts in full
    enough = _SMALL / num_groups * jnp.where(mask, sizes, 0).sum(-1, keepdims=True)
    fill = jnp.maximum(sizes, 1) / jnp.maximum(enough, 1)

  def join(sums, borders, fill, count):
    def mean(total, length, fill):
      weights = total / jnp.maximum(length, 1e-9) * jnp.minimum(fill, 1)
      return jnp.where(length > 0, weights, jnp.inf)

    def step(state, _):
      means, sums, borders, fill, union, count = state
      # Row by row, as CPUs find the place of the lowest value in a whole table but slowly. The
      # table is symmetric, so first < second.
      lowest = means.min(-1)
      first = lowest.argmin()
      second = means[first].argmin()
      go = (count > num_groups) & jnp.isfinite(lowest[first])
      others = (nodes != first) & (nodes != second)

      def put(table, new, gone):
        for index, row in ((first, jnp.where(others, new, gone)), (second, gone)):
          row = jnp.where(go, row, table[index])
          table = table.at[index].set(row).at[:, index].set(row)
        return table

      total, length = sums[first] + sums[second], borders[first] + borders[second]
      fill = fill.at[first].add(jnp.where(go, fill[second], 0))
      row = mean(total, length, jnp.minimum(fill[first], fill))
      state = put(means, row, jnp.inf), put(sums, total, 0.0), put(borders, length, 0.0), fill
      return (*state, jnp.where(go & (union == second), first, union), count - go), None

    means = mean(sums, borders, jnp.minimum(fill[:, None], fill[None]))
    state = means, sums, borders, fill, nodes, count
    return jax.lax.scan(step, state, length=max(num_nodes - num_groups, 0))[0][4]

  union = jax.vmap(join)(sums, borders, fill, mask.sum(-1))
  is_lowest = mask & (union == nodes[None])
  rank = jnp.cumsum(is_lowest, axis=-1) - 1
  return jnp.where(mask, jnp.take_along_axis(rank, union, axis=-1), -1)
