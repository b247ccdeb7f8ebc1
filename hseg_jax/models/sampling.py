"""Farthest-point sampling, in space and along graphs: the seeds of graph pooling."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def farthest_point_sampling(
  tokens: Float[Array, "b n d"],
  mask: Bool[Array, "b n"],
  num_samples: int,
  groups: Int[Array, "b n"] | None = None,
) -> Int[Array, "b k"]:
  """Picks `num_samples` tokens, each as far as possible from the mean and from those picked before.

  Greedy on squared Euclidean distances, starting at the mean of the valid tokens, which is itself
  not a pick. Picked and invalid tokens are out; ties go to the lowest index. Not differentiable.

  Args:
    tokens: float32 features.
    mask: True for valid tokens.
    num_samples: how many to pick; may exceed the number of valid tokens.
    groups: of which each may be picked from once: a pick takes all tokens of its group out.

  Returns:
    int32 indices in [0, n), distinct within an image; -1 beyond the number of valid tokens, or of
    their groups.

  Source: section 3.2 of the paper; `cast_models/graph_pool.py` of the reference.
  NOTE(reference): sampled in float64 there, in float32 from centred tokens here; picks can differ
  where two distances agree to about six digits.
  """
  tokens = jax.lax.stop_gradient(tokens).astype(jnp.float32)
  weights = mask.astype(jnp.float32)[..., None]
  mean = (tokens * weights).sum(1, keepdims=True) / jnp.maximum(weights.sum(1, keepdims=True), 1)
  # Centred, the products stay as small as the distances they are subtracted to give.
  centred = (tokens - mean) * weights
  gram = jnp.einsum("bnd,bmd->bnm", centred, centred, precision=jax.lax.Precision.HIGHEST)
  norms = (centred**2).sum(-1)
  if groups is None:
    groups = jnp.broadcast_to(jnp.arange(mask.shape[1])[None], mask.shape)

  def pick(distance, _):
    is_left = ~(distance < 0).all(1)
    index = jnp.argmax(distance, axis=1).astype(jnp.int32)
    to_index = jnp.take_along_axis(gram, index[:, None, None], axis=1)[:, 0]
    norm = jnp.take_along_axis(norms, index[:, None], axis=1)
    # Rounding may take a distance below zero; only tokens that are out may lie there.
    closest = jnp.minimum(distance, jnp.maximum(norms + norm - 2 * to_index, 0))
    out = (distance < 0) | (groups == jnp.take_along_axis(groups, index[:, None], axis=1))
    return jnp.where(out, -1.0, closest), jnp.where(is_left, index, -1)

  _, picks = jax.lax.scan(pick, jnp.where(mask, norms, -1.0), length=num_samples)
  return picks.T


def farthest_node_sampling(
  distances: Float[Array, "b n n"], mask: Bool[Array, "b n"], num_samples: int
) -> Int[Array, "b k"]:
  """Picks `num_samples` nodes of a graph: first the one that is farthest from all on average, then
  each as far as possible from those picked before.

  Invalid nodes are out; ties go to the lowest index. Not differentiable.

  Args:
    distances: between each two nodes, finite for valid ones.
    mask: True for valid nodes.
    num_samples: how many to pick; may exceed the number of valid nodes.

  Returns:
    int32 indices in [0, n), distinct within an image; -1 beyond the number of valid nodes.
  """
  distances = jax.lax.stop_gradient(distances)
  nodes = jnp.arange(mask.shape[1])[None]

  def pick(state, _):
    rank, closest = state
    index = jnp.argmax(rank, axis=1).astype(jnp.int32)
    to_index = jnp.take_along_axis(distances, index[:, None, None], axis=1)[:, 0]
    out = (rank < 0) | (nodes == index[:, None])
    closest = jnp.minimum(closest, to_index)
    return (jnp.where(out, -1.0, closest), closest), index

  total = jnp.where(mask[:, None], distances, 0).sum(-1)
  state = jnp.where(mask, total, -1.0), jnp.full_like(total, jnp.inf)
  _, picks = jax.lax.scan(pick, state, length=num_samples)
  enough = jnp.arange(num_samples)[None] < mask.sum(1)[:, None]
  return jnp.where(enough, picks.T, -1)
