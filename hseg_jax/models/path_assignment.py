"""Assignment along the graph of the segments: what touches and is alike is pooled together."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from hseg_jax.models import region_graph
from hseg_jax.models.sampling import farthest_node_sampling, farthest_point_sampling
from hseg_jax.models.segments import nearest_indices, segment_mean, segment_sum

HIGHEST = jax.lax.Precision.HIGHEST

SEEDS = ("features", "graph", "regions", "balanced")

_SCALE = 5.0  # of the cosines in the published logits
_COLOR = 0.3  # of a step of one standard deviation of ImageNet's colours
_CONTRAST = 0.3  # likewise

# A cluster's own tokens lie above all other logits by so much, which breaks every tie.
_MARGIN = 1e-3


class RegionGraph(struct.PyTreeNode):
  """The segments of one level as the nodes of a graph.

  Attributes:
    borders: length of the border that each two share, in pixels; zero where they do not touch.
    colors: mean colour of each.
    sizes: pixels of each; those of a segment that lost its token count for nobody.
    contrasts: mean contrast across that border, times its length; None where it is not wanted.
  """

  borders: Float[Array, "b n n"]
  colors: Float[Array, "b n c"]
  sizes: Float[Array, "b n"]
  contrasts: Float[Array, "b n n"] | None = None


def make_graph(
  labels: Int[Array, "b sh sw"],
  image: Float[Array, "b h w c"],
  mask: Bool[Array, "b n"],
  borders: Float[Array, "b n n"] | None = None,
  contrast: bool = False,
) -> RegionGraph:
  """The graph of a label map, in which paths lead from each valid segment to all others.

  Segments without a token become one with a neighbour's, see `region_graph.donors`, so that no gap
  opens where they lie. Parts that pixels of no segment keep apart are joined where their colours
  are most alike, by a border of one pixel.

  Args:
    labels: segment of each pixel, ids in [0, n); others belong to no segment.
    image: any size; sampled where the labels are.
    mask: True for segments that have a token.
    borders: of the segments, where they are known from a finer label map than this one.
    contrast: whether to measure contrasts. Across borders that `labels` does not show, bridges and
      those of a finer map, it is the distance of mean colours.
  """
  num_segments = mask.shape[1]
  rows = nearest_indices(image.shape[1], labels.shape[1])
  columns = nearest_indices(image.shape[2], labels.shape[2])
  image = image[:, rows][:, :, columns]
  colors, _ = segment_mean(image, labels, num_segments)
  ids = labels.reshape(labels.shape[0], -1)
  sizes = segment_sum(jnp.ones(ids.shape, jnp.float32), ids, num_segments)
  seen = region_graph.border_lengths(labels, num_segments)
  borders = seen if borders is None else borders
  heirs = region_graph.donors(borders, mask)
  merged = region_graph.merge(borders, heirs, num_segments)
  # A segment of a finer map that has no pixel here has no colour of its own.
  heirs_colors = jnp.take_along_axis(colors, heirs[..., None], axis=1)
  distances = pairwise(jnp.where((sizes > 0)[..., None], colors, heirs_colors))
  bridged = _bridge(merged, distances, mask)
  if not contrast:
    return RegionGraph(bridged, colors, sizes)
  sums = region_graph.border_contrasts(labels, image, num_segments)
  means = jnp.where(seen > 0, sums / jnp.maximum(seen, 1), distances)
  sums = region_graph.merge(means * borders, heirs, num_segments)
  return RegionGraph(bridged, colors, sizes, jnp.where(merged > 0, sums, distances * bridged))


def _bridge(
  borders: Float[Array, "b n n"], distances: Float[Array, "b n n"], mask: Bool[Array, "b n"]
) -> Float[Array, "b n n"]:
  """The borders, and one of length one wherever a spanning tree has to leap over a gap."""
  leap = 1 + distances.max((1, 2), keepdims=True)
  weights = distances + jnp.where(borders > 0, 0, leap)
  weights = jnp.where(mask[:, None] & mask[:, :, None], weights, jnp.inf)
  start = mask & (jnp.cumsum(mask, axis=1) == 1)
  before = region_graph.path_trees(weights, start[:, None], "minimax")[:, 0]
  step = jax.nn.one_hot(before, mask.shape[1], dtype=borders.dtype)
  step = jnp.where(mask[..., None], step, 0)
  itself = jnp.eye(mask.shape[1], dtype=bool)[None]
  return jnp.where(itself, 0, jnp.maximum(borders, jnp.maximum(step, jnp.swapaxes(step, 1, 2))))


def pairwise(points: Float[Array, "b n c"]) -> Float[Array, "b n n"]:
  """Euclidean distances between each two, at least 1e-6, for few coordinates."""
  return region_graph.vector_lengths(points[:, :, None] - points[:, None])


def pool_graph(graph: RegionGraph, groups: Int[Array, "b n"], num_groups: int) -> RegionGraph:
  """The graph of the groups; nodes of no group, -1, drop out."""
  sizes = segment_sum(graph.sizes, groups, num_groups)
  colors = segment_sum(graph.colors * graph.sizes[..., None], groups, num_groups)
  merge = lambda edges: region_graph.merge(edges, groups, num_groups)
  return RegionGraph(
    merge(graph.borders),
    colors / jnp.maximum(sizes, 1)[..., None],
    sizes,
    None if graph.contrasts is None else merge(graph.contrasts),
  )


class PathAssignment(nn.Module):
  """Seeds, and how far every token is from each of them along the graph.

  An edge is as long as its two segments are unlike: 1 - cosine of their node features and, with
  `color` and `contrast`, learned multiples of the distance of their mean colours and of the mean
  contrast across their border. Logits are distances times a learned negative scale and, with
  `cosine`, the published ones besides. The arg-max of each cluster's column is one piece of the
  graph: tokens go where their path comes from, or with the region that they were merged into, and
  that cluster's logit is lifted just above all others.

  Parameters that are not there, as in weights trained with another assignment, have the value they
  start from.

  Attributes:
    num_clusters: k.
    distance: one of `region_graph.PATHS`.
    seeds: "features" samples farthest points as published, "graph" farthest nodes along the graph;
      "regions" merges touching tokens by average linkage until k regions are left, and samples
      farthest points of which no two are of one region: as unlike each other as those published, so
      that weights trained with either meet the tokens they know. "balanced" does the same, but
      merges small regions sooner, so that fewer clusters are spent on them.
    color: whether the distance of mean colours counts.
    contrast: whether the image's steps across the shared border count, which the graph must hold.
    cosine: whether five times the cosine of token and seed is added to the logits.
  """

  num_clusters: int
  distance: str
  seeds: str
  color: bool
  contrast: bool
  cosine: bool

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "b n d"],
    features: Float[Array, "b n d"],
    mask: Bool[Array, "b n"],
    graph: RegionGraph,
  ) -> tuple[Int[Array, "b k"], Float[Array, "b n k"], Float[Array, "b n n"]]:
    """Assigns one level.

    Args:
      tokens: of the stage's last block.
      features: unit node features.
      mask: True for valid tokens.
      graph: of the same level.

    Returns:
      The seed of each cluster, -1 for surplus clusters; logits, finite everywhere; the lengths of
      the edges, infinite between tokens that do not touch.
    """
    weights = jnp.maximum(1 - jnp.einsum("bnd,bmd->bnm", features, features, precision=HIGHEST), 0)
    if self.color:
      weights += self._learned("color", _COLOR) * pairwise(graph.colors)
    if self.contrast:
      means = graph.contrasts / jnp.maximum(graph.borders, 1e-9)
      weights += self._learned("contrast", _CONTRAST) * means
    touch = (graph.borders > 0) & mask[:, None] & mask[:, :, None]
    lengths = jnp.where(touch, weights, jnp.inf)
    weights = jnp.where(jnp.eye(mask.shape[1], dtype=bool)[None], 0, lengths)

    edges = region_graph.minimax_edges(weights) if self.distance == "minimax" else None
    if self.seeds in ("regions", "balanced"):
      sizes = graph.sizes if self.seeds == "balanced" else None
      merge = region_graph.average_linkage
      groups = merge(weights, graph.borders, mask, self.num_clusters, sizes)
      sampled = farthest_point_sampling(tokens, mask, self.num_clusters, groups)
    else:
      if self.seeds == "graph":
        sampled = farthest_node_sampling(self._all_pairs(weights, edges), mask, self.num_clusters)
      else:
        sampled = farthest_point_sampling(tokens, mask, self.num_clusters)
      groups = self._nearest(weights, sampled)
    of_seed = jnp.take_along_axis(groups, jnp.maximum(sampled, 0), axis=1)
    own = (groups[..., None] == of_seed[:, None]) & (sampled >= 0)[:, None]
    pairs = mask[..., None] & (sampled >= 0)[:, None]
    distances = jnp.where(pairs, self._to_seeds(weights, edges, sampled), 0)
    logits = -self._learned("scale", _SCALE) * distances
    if self.cosine:
      centres = jnp.take_along_axis(features, jnp.maximum(sampled, 0)[..., None], axis=1)
      logits += _SCALE * jnp.einsum("bnd,bkd->bnk", features, centres, precision=HIGHEST)
    highest = jnp.where(pairs, logits, -jnp.inf).max(-1, keepdims=True)
    lift = jax.lax.stop_gradient(jnp.where(pairs, highest + _MARGIN - logits, 0))
    return sampled, logits + jnp.where(own, lift, 0), lengths

  def _learned(self, name: str, value: float) -> Float[Array, ""]:
    """A positive parameter that starts from a value."""
    if not self.is_initializing() and not self.has_variable("params", name):
      return jnp.float32(value)
    return value * jnp.exp(self.param(name, nn.initializers.zeros, ()))

  def _all_pairs(self, weights, edges):
    if edges is not None:
      return region_graph.edge_weights(weights, edges)
    nodes = jnp.broadcast_to(jnp.eye(weights.shape[-1], dtype=bool)[None], weights.shape)
    return region_graph.path_lengths(weights, nodes, self.distance)

  def _to_seeds(self, weights, edges, sampled):
    picks = jnp.maximum(sampled, 0)[:, None]
    if edges is not None:
      return region_graph.edge_weights(weights, jnp.take_along_axis(edges, picks, axis=2))
    starts = jax.nn.one_hot(picks[:, 0], weights.shape[-1], dtype=bool)
    return jnp.swapaxes(region_graph.path_lengths(weights, starts, self.distance), 1, 2)

  def _nearest(self, weights, sampled):
    """The seed that each token's path comes from."""
    nodes = jnp.arange(weights.shape[-1])[None, None]
    starts = (nodes == sampled[..., None]).any(1, keepdims=True)
    before = region_graph.path_trees(weights, starts, self.distance)
    root, _ = region_graph.follow(before, jnp.zeros(before.shape), self.distance)
    return root[:, 0]
