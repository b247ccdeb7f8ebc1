"""A model as in evaluation, save that batch normalisations take their statistics from the batch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hseg_jax.models.output import CastOutput
from hseg_jax.models.stem import BATCH_NORM_MOMENTUM


def apply(
  model: nn.Module, variables: Mapping[str, Any], image: Any, segments: Any
) -> tuple[CastOutput, dict]:
  """Applies a model without dropout.

  Args:
    model: any model.
    variables: of it; the running statistics are not used.
    image: as the model takes it.
    segments: likewise.

  Returns:
    The output, and the batch's own statistics: with these for running ones evaluation gives the
    same output.
  """
  # From zero the running statistics move by a known share towards those of the batch.
  empty = jax.tree.map(jnp.zeros_like, variables.get("batch_stats", {}))
  with nn.intercept_methods(_skip_dropout):
    out, found = model.apply(
      {**variables, "batch_stats": empty}, image, segments, train=True, mutable=["batch_stats"]
    )
  share = 1 - BATCH_NORM_MOMENTUM
  return out, jax.tree.map(lambda leaf: leaf / share, found.get("batch_stats", {}))


def _skip_dropout(call, args, kwargs, context):
  return args[0] if isinstance(context.module, nn.Dropout) else call(*args, **kwargs)
