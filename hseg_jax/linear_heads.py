"""Linear classifiers on fixed features, trained at many learning rates at once."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from hseg_jax import metrics

MOMENTUM = 0.9
_AT_ONCE = 4096  # examples classified at a time, for the sake of memory


class Heads(NamedTuple):
  """Linear classifiers, one for each of `r` learning rates, or their velocities.

  Attributes:
    kernel: weights.
    bias: added to the logits.
  """

  kernel: Float[Array | np.ndarray, "r d c"]
  bias: Float[Array | np.ndarray, "r c"]


def train(
  features: Float[np.ndarray, "v n d"],
  labels: Int[np.ndarray, "v n"],
  *,
  num_classes: int,
  learning_rates: Sequence[float],
  num_epochs: int,
  batch_size: int,
  seed: int,
) -> Heads:
  """Trains a head at each learning rate, all on the same batches, from the same start.

  SGD with momentum 0.9 and without decay on the cross-entropy; after each epoch every rate takes
  the next value of a cosine that ends at 0. Kernels start from N(0, 0.01^2), biases from 0. Epoch e
  sees view e modulo v of every example, in a new order; its last batch may be smaller.

  Args:
    features: of every example, seen in v ways.
    labels: alike.
    num_classes: size of a head.
    learning_rates: of the first epoch, for this very batch size.
    num_epochs: passes over the examples.
    batch_size: examples of a step.
    seed: of the start and the orders.

  Source: `moco-v3/main_lincls_suppix.py` of the reference.
  """
  rng = np.random.default_rng(seed)
  num_views, num_examples, dim = features.shape
  kernel = 0.01 * rng.standard_normal((dim, num_classes), np.float32)
  rates = np.asarray(learning_rates, np.float32)
  heads = Heads(
    np.tile(kernel, (len(rates), 1, 1)), np.zeros((len(rates), num_classes), np.float32)
  )
  state = jax.device_put((heads, jax.tree.map(np.zeros_like, heads)))
  on_device = jax.device_put((features.astype(np.float32), labels.astype(np.int32)))
  num_steps = -(-num_examples // batch_size)
  for epoch in range(num_epochs):
    order = np.full(num_steps * batch_size, -1, np.int32)
    order[:num_examples] = rng.permutation(num_examples)
    share = 0.5 * (1 + np.cos(np.pi * epoch / num_epochs))
    plan = np.int32(epoch % num_views), order.reshape(num_steps, -1), np.float32(share) * rates
    state = _train_epoch(*state, *on_device, *jax.device_put(plan))
  return state[0]


@jax.jit
def _train_epoch(
  heads: Heads,
  velocity: Heads,
  features: Float[Array, "v n d"],
  labels: Int[Array, "v n"],
  view: Int[Array, ""],
  order: Int[Array, "s b"],
  rates: Float[Array, " r"],
) -> tuple[Heads, Heads]:
  """Steps through the examples that the rows of `order` name; -1 fills the last one up."""

  def step(state, index):
    heads, velocity = state
    batch = features[view, index], labels[view, index], index >= 0
    grads = jax.grad(_sum_of_losses)(heads, *batch)
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, grads)
    # The rate multiplies the whole velocity, as in PyTorch.
    move = lambda w, v: w - rates.reshape((-1,) + (1,) * (w.ndim - 1)) * v
    return (jax.tree.map(move, heads, velocity), velocity), None

  return jax.lax.scan(step, (heads, velocity), order)[0]


def _sum_of_losses(
  heads: Heads, features: Float[Array, "b d"], labels: Int[Array, " b"], valid: Bool[Array, " b"]
) -> Float[Array, ""]:
  """Heads share no parameter, so the gradient of the sum is each head's own."""
  losses = jax.vmap(lambda logits: metrics.cross_entropy(logits, labels, 0.0))
  means = jax.vmap(lambda values: metrics.masked_mean(values, valid))
  return jnp.sum(means(losses(_logits(heads, features))))


def _logits(heads: Heads, features: Float[Array, "b d"]) -> Float[Array, "r b c"]:
  return jnp.einsum("bd,rdc->rbc", features, heads.kernel) + heads.bias[:, None]


def accuracies(
  heads: Heads, features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "2 r"]:
  """Top-1 and top-5 of every head, shares in [0, 1]; a head that has diverged has 0."""
  counts = 0
  for start in range(0, len(labels), _AT_ONCE):
    part = slice(start, start + _AT_ONCE)
    batch = features[part].astype(np.float32), labels[part].astype(np.int32)
    counts += jax.device_get(_count_hits(heads, *jax.device_put(batch)))
  return counts / len(labels)


@jax.jit
def _count_hits(heads: Heads, features: Float[Array, "b d"], labels: Int[Array, " b"]):
  hits = lambda logits, k: jnp.sum(metrics.top_k(logits, labels, k))
  logits = _logits(heads, features)
  return jnp.stack([jax.vmap(lambda each, k=k: hits(each, k))(logits) for k in (1, 5)])
