"""Metrics as pure functions on global arrays, with masks for padded examples (True = valid)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num


def masked_mean(
  values: Num[Array, " b"] | Bool[Array, " b"], valid: Bool[Array, " b"]
) -> Float[Array, ""]:
  """Mean of the valid values; 0 where none is valid."""
  weights = valid.astype(jnp.float32)
  return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def top_k(logits: Float[Array, "b c"], label: Int[Array, " b"], k: int) -> Bool[Array, " b"]:
  """Whether each label is among the `k` largest logits.

  Ties and NaN count against the label; labels outside `[0, c)` are never hit.
  """
  own = jnp.take_along_axis(logits, jnp.clip(label, 0, logits.shape[1] - 1)[:, None], axis=1)
  others = jnp.arange(logits.shape[1])[None] != label[:, None]
  rank = jnp.sum(~(logits < own) & others, axis=1)
  return (rank < k) & (label >= 0) & (label < logits.shape[1])


def cross_entropy(
  logits: Float[Array, "b c"], label: Int[Array, " b"], label_smoothing: float
) -> Float[Array, " b"]:
  """Cross-entropy in nats with the label's mass spread by `label_smoothing` over all classes."""
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  own = jnp.take_along_axis(log_p, label[:, None], axis=1)[:, 0]
  return -(1.0 - label_smoothing) * own - label_smoothing * jnp.mean(log_p, axis=-1)


def entropy(logits: Float[Array, "*b c"]) -> Float[Array, "*b"]:
  """Entropy of the classes' probabilities, in nats; finite whatever the logits."""
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def confusion_matrix(
  prediction: Int[Array, " n"], label: Int[Array, " n"], valid: Bool[Array, " n"], num_classes: int
) -> Int[Array, "c c"]:
  """Counts of valid pairs: rows are labels, columns predictions."""
  index = jnp.where(valid, label * num_classes + prediction, num_classes**2)
  counts = jnp.bincount(index, length=num_classes**2 + 1)[:-1]
  return counts.reshape(num_classes, num_classes)


def iou(confusion: Int[Array, "c c"]) -> Float[Array, " c"]:
  """Intersection over union by class; NaN for a class in neither labels nor predictions."""
  hits = jnp.diagonal(confusion)
  union = jnp.sum(confusion, axis=0) + jnp.sum(confusion, axis=1) - hits
  return jnp.where(union > 0, hits / jnp.maximum(union, 1), jnp.nan)
