"""Top-1 and top-5 accuracy and the loss on held-out images."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hseg_jax import inference, metrics
from hseg_jax.data import pipeline
from hseg_jax.errors import UserError
from hseg_jax.preprocessing import add_segments, count_on_device, normalize


class Evaluator:
  """Classifies every image of a source once, each host its share."""

  def __init__(
    self,
    model: Any,
    *,
    source: Any,
    batch_size: int,
    image_size: int,
    superpixels: Mapping[str, Any],
    num_workers: int,
    to_global: Callable[[Mapping[str, Any]], Mapping[str, jax.Array]],
  ):
    """Prepares the evaluation.

    Args:
      model: a model with a head.
      source: images with labels.
      batch_size: of all devices together.
      image_size: side in pixels.
      superpixels: as `data.pipeline.eval_batches` takes them; "device" makes them here.
      num_workers: processes that prepare batches.
      to_global: puts this host's part of a batch on the devices.

    Raises:
      UserError: the model has no head, or the data no classes.
    """
    if not model.num_classes:
      raise UserError(
        "The classification evaluator needs a model with a head, which contrastive learning does "
        "not train; remove evaluators.classification from the config."
      )
    if not source.num_classes:
      raise UserError(
        "The classification evaluator needs images with classes, and the data has none."
      )
    self._to_global = to_global
    self._batches = lambda: pipeline.eval_batches(
      source,
      batch_size=batch_size,
      image_size=image_size,
      superpixels=superpixels,
      num_workers=num_workers,
      host_index=jax.process_index(),
      host_count=jax.process_count(),
    )

    @inference.jit
    def count(variables, batch):
      batch = add_segments(batch, count_on_device(superpixels))
      out = model.apply(variables, normalize(batch["image"]), batch.get("segments"), train=False)
      label, valid = batch["label"], batch["valid"]
      losses = metrics.cross_entropy(out.logits, label, 0.0)
      return {
        "images": jnp.sum(valid),
        "top1": jnp.sum(metrics.top_k(out.logits, label, 1) & valid),
        "top5": jnp.sum(metrics.top_k(out.logits, label, 5) & valid),
        "loss": jnp.sum(jnp.where(valid, losses, 0.0)),
      }

    self._count = count

  def run(self, variables: Any) -> Iterator[tuple[str, float]]:
    """Yields `val/top1` and `val/top5`, shares in [0, 1], and `val/loss` in nats."""
    totals = None
    for batch in self._batches():
      counts = self._count(variables, self._to_global(batch))
      totals = counts if totals is None else jax.tree.map(jnp.add, totals, counts)
    totals = jax.device_get(totals)
    for name in ("top1", "top5", "loss"):
      yield f"val/{name}", float(totals[name]) / int(totals["images"])
