"""Schedules, optimizers and the masks that say which parameter is trained and which decays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hseg_jax.errors import UserError

PyTree = Any
Schedule = Callable[[Any], jax.Array]


def warmup_cosine(
  peak: float, *, num_steps: int, warmup_steps: int, final_fraction: float
) -> Schedule:
  """Linear from 0 to `peak` over `warmup_steps`, then half a cosine to `final_fraction * peak`.

  Source: the reference's moco-v3/main_moco_suppix.py, `adjust_learning_rate`, where
  `step / steps_per_epoch` is the fractional epoch.
  """

  def schedule(step: Any) -> jax.Array:
    warmup = step / max(warmup_steps, 1)
    progress = jnp.clip((step - warmup_steps) / max(num_steps - warmup_steps, 1), 0.0, 1.0)
    cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    decayed = final_fraction + (1.0 - final_fraction) * cosine
    return peak * jnp.where(step < warmup_steps, warmup, decayed)

  return schedule


def momentum_cosine(base: float, *, num_steps: int) -> Schedule:
  """The momentum encoder's coefficient: from `base` to 1 along half a cosine.

  Source: the reference's `adjust_moco_momentum`: m = 1 - (1 + cos(pi e / E)) / 2 * (1 - base).
  """
  return lambda step: 1.0 - 0.5 * (1.0 + jnp.cos(jnp.pi * step / num_steps)) * (1.0 - base)


def pack_vectors(tree: PyTree) -> dict[str, PyTree]:
  """Lays all leaves with less than two dimensions end to end.

  What is done to every leaf becomes a few loops for each; most leaves of a model are vectors, and
  the time that their loops take is the compiler's. Elementwise updates, and those that tell only
  matrices from vectors, are the same on both trees.

  Args:
    tree: floating-point arrays of one dtype.

  Returns:
    "matrices", the tree with None in the vectors' places, and "vectors", `[total]`.
  """
  vectors = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree) if leaf.ndim < 2]
  return {
    "matrices": jax.tree.map(lambda leaf: leaf if leaf.ndim > 1 else None, tree),
    "vectors": jnp.concatenate(vectors) if vectors else jnp.zeros(0),
  }


def unpack_vectors(packed: dict[str, PyTree], like: PyTree) -> PyTree:
  """Undoes `pack_vectors`.

  Args:
    packed: what it returned.
    like: a tree of the shapes that were packed.
  """
  vectors = [leaf for leaf in jax.tree.leaves(like) if leaf.ndim < 2]
  ends = np.cumsum([vector.size for vector in vectors])[:-1]
  parts = iter(jnp.split(packed["vectors"], ends))
  matrices = iter(jax.tree.leaves(packed["matrices"]))
  return jax.tree.map(
    lambda leaf: next(matrices) if leaf.ndim > 1 else next(parts).reshape(leaf.shape), like
  )


def global_norm(tree: PyTree) -> jax.Array:
  """The square root of the sum of all squares of a tree's leaves."""
  return optax.tree.norm(pack_vectors(tree))


def _with_packed_vectors(tx: optax.GradientTransformation) -> optax.GradientTransformation:
  """The same optimizer, whose state and updates have all vectors in one."""

  def update(updates: PyTree, state: optax.OptState, params: PyTree):
    packed, state = tx.update(pack_vectors(updates), state, pack_vectors(params))
    return unpack_vectors(packed, updates), state

  return optax.GradientTransformation(lambda params: tx.init(pack_vectors(params)), update)


def _names(path: tuple) -> list[str]:
  return [str(getattr(key, "key", getattr(key, "name", key))) for key in path]


def _is_matrix(path: tuple, leaf: jax.Array) -> bool:
  return leaf.ndim > 1 and "position" not in _names(path)


def decay_mask(params: PyTree, decay: str) -> PyTree:
  """Which parameters weight decay touches, as a tree of bool.

  Args:
    params: the parameters, nested dicts of arrays.
    decay: "all" (the contrastive reference: biases, norms and tokens too) or "no_1d" (DeiT:
      neither 1-D tensors and biases nor the position table and the CLS token).

  Raises:
    UserError: `decay` is neither.
  """
  if decay not in ("all", "no_1d"):
    raise UserError(f"optimizer.decay is {decay!r}; it must be 'all' or 'no_1d'.")
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: decay == "all" or _is_matrix(path, leaf), params
  )


def _adamw(schedule: Schedule, weight_decay: float, mask: Callable, b1: float, b2: float):
  return optax.adamw(schedule, b1=b1, b2=b2, eps=1e-8, weight_decay=weight_decay, mask=mask)


def _sgd(schedule: Schedule, weight_decay: float, mask: Callable, b1: float, b2: float):
  del b2  # SGD keeps no second moment
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask),
    optax.trace(b1),
    optax.scale_by_learning_rate(schedule),
  )


def _lars(schedule: Schedule, weight_decay: float, mask: Callable, b1: float, b2: float):
  """Layer-wise rates, as the reference's moco/optimizer.py: 1-D tensors take plain SGD."""
  del b2  # LARS keeps no second moment
  matrices = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask),
    optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), matrices),
    optax.trace(b1),
    optax.scale_by_learning_rate(schedule),
  )


def _muon(schedule: Schedule, weight_decay: float, mask: Callable, b1: float, b2: float):
  """Orthogonalised momentum for matrices, AdamW for all else, at AdamW's learning rates.

  Source: Jordan et al. 2024; the scale of the updates is Liu et al.'s (arXiv 2502.16982).
  """
  # Its own weight decay would miss the parameters that it leaves to AdamW.
  return optax.chain(
    optax.contrib.muon(1.0, adam_b1=b1, adam_b2=b2, consistent_rms=0.2),
    optax.add_decayed_weights(-weight_decay, mask),
    optax.scale_by_schedule(schedule),
  )


OPTIMIZERS = {"adamw": _adamw, "muon": _muon, "sgd": _sgd, "lars": _lars}


def make_optimizer(
  schedule: Schedule,
  *,
  name: str,
  weight_decay: float,
  decay: str,
  clip_norm: float,
  b1: float,
  b2: float,
  frozen: Callable[[PyTree], PyTree],
) -> optax.GradientTransformation:
  """An optimizer whose frozen parameters get no update and no decay.

  Args:
    schedule: step -> learning rate.
    name: a key of `OPTIMIZERS`.
    weight_decay: decoupled for AdamW and Muon, added to the gradient for SGD and LARS.
    decay: which parameters decay, see `decay_mask`.
    clip_norm: the largest global norm of the trained parameters' gradient; 0 does not clip.
    b1: AdamW's first moment; the momentum of SGD and LARS. Muon's own momentum is 0.95.
    b2: AdamW's second moment.
    frozen: parameters -> tree of bool, True = frozen.

  Raises:
    UserError: unknown `name` or `decay`.
  """
  if name not in OPTIMIZERS:
    raise UserError(f"optimizer.name is {name!r}; known optimizers: {', '.join(OPTIMIZERS)}.")
  decay_mask({}, decay)
  trained = OPTIMIZERS[name](
    schedule, weight_decay, lambda params: decay_mask(params, decay), b1, b2
  )
  if clip_norm > 0:
    trained = optax.chain(optax.clip_by_global_norm(clip_norm), trained)
  labels = lambda params: jax.tree.map(
    lambda is_frozen: "frozen" if is_frozen else "trained", frozen(params)
  )
  return optax.partition(
    {"trained": _with_packed_vectors(trained), "frozen": optax.set_to_zero()}, labels
  )
