"""Supervised classification: cross-entropy with label smoothing."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hseg_jax import metrics
from hseg_jax.preprocessing import add_segments, normalize

PyTree = Any


@dataclasses.dataclass(frozen=True)
class SupervisedLoss:
  """The objective as a callable; see `make_loss`."""

  model: Any
  label_smoothing: float
  segments_on_device: int = 0

  def init(self, key: jax.Array, batch: PyTree) -> dict[str, PyTree]:
    """Returns `{"params", "batch_stats", "target"}` for batches shaped like `batch`."""
    batch = add_segments(batch, self.segments_on_device)
    image = normalize(batch["image"])
    variables = self.model.init(key, image, batch.get("segments"), train=False)
    return {
      "params": variables["params"],
      "batch_stats": variables.get("batch_stats", {}),
      "target": None,
    }

  def frozen(self, params: PyTree) -> PyTree:
    """Mask of `params`, True for leaves that get no update and no decay."""
    return self.model.frozen(params)

  def model_variables(self, params: PyTree, batch_stats: PyTree) -> dict[str, PyTree]:
    """The variables of `model` alone: what evaluation and export use."""
    return {"params": params, "batch_stats": batch_stats}

  def with_model(self, state: PyTree, variables: dict[str, PyTree]) -> PyTree:
    """The state with other `model_variables`."""
    return state.replace(params=variables["params"], batch_stats=variables["batch_stats"])

  def __call__(
    self, params: PyTree, state: PyTree, batch: PyTree, rng: jax.Array
  ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
    """Returns the mean loss in nats, the state with new statistics, and the metrics.

    Args:
      params: of the model.
      state: the `TrainState`; its `batch_stats` are read.
      batch: `image` uint8 `[b, h, w, 3]`, `segments` int32 `[b, h, w]` where the model takes them
        and the step does not make them, `label` int32 `[b]`, and optionally `valid` bool `[b]`,
        False for examples to leave out.
      rng: for dropout and drop path, this step's own.
    """
    batch = add_segments(batch, self.segments_on_device)
    out, updated = self.model.apply(
      self.model_variables(params, state.batch_stats),
      normalize(batch["image"]),
      batch.get("segments"),
      train=True,
      rngs={"dropout": rng},
      mutable=["batch_stats"],
    )
    label = jnp.asarray(batch["label"])
    valid = jnp.asarray(batch.get("valid", np.ones(label.shape, bool)))
    losses = metrics.cross_entropy(out.logits, label, self.label_smoothing)
    top1 = metrics.masked_mean(metrics.top_k(out.logits, label, 1), valid)
    new_state = state.replace(batch_stats=updated.get("batch_stats", {}))
    return metrics.masked_mean(losses, valid), (new_state, {"top1": top1})


def make_loss(model: Any, *, label_smoothing: float, segments_on_device: int = 0) -> SupervisedLoss:
  """The supervised objective of a model.

  Args:
    model: a model with a head, `logits [b, c]`.
    label_smoothing: share of a label's mass that is spread evenly over all classes, in [0, 1).
    segments_on_device: the most superpixels to make of an image; 0 if batches have `segments`.
  """
  return SupervisedLoss(model, label_smoothing, segments_on_device)
