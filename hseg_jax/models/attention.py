"""What the class token looks at, read out of a model without changing it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from hseg_jax.models.output import CastOutput


def apply_with_attention(
  model: Any,
  variables: Mapping[str, Any],
  image: Float[Array | np.ndarray, "b h w 3"],
  segments: Int[Array | np.ndarray, "b sh sw"] | None,
) -> CastOutput:
  """Applies a model in evaluation; its output has `attention` besides all else.

  Attention in block i of a CAST is over the tokens of that block's stage: those of `levels[s]`.

  Args:
    model: with blocks named `stage_S/block_BB`, as all of this package are.
    variables: its parameters and batch statistics.
    image: as the model takes it.
    segments: as the model takes them.
  """
  out, state = model.apply(variables, image, segments, train=False, mutable=["intermediates"])
  sown = state["intermediates"]
  blocks = [
    sown[stage][block]
    for stage in sorted(name for name in sown if name.startswith("stage_"))
    for block in sorted(sown[stage])
  ]
  rows = tuple(block["attention"]["weights"][0][:, :, 0, 1:] for block in blocks)
  return out.replace(attention=rows)
