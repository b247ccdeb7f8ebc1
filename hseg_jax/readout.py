"""What a model says of images: all that a hierarchy is made of."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from hseg_jax.preprocessing import normalize


def read(
  model: Any,
  variables: Mapping[str, Any],
  image: UInt8[Array, "b h w 3"],
  segments: Int[Array, "b h w"] | None,
  borders: Float[Array, "b n n"] | None = None,
) -> dict[str, Any]:
  """Arguments of `Hierarchy.from_assignments`, for each image of a batch; or a ViT's `tokens`."""
  known = {} if borders is None else {"borders": borders}
  out = model.apply(variables, normalize(image), segments, train=False, **known)
  found: dict[str, Any] = {"image_features": out.features}
  if out.levels:
    found["assignments"] = tuple(level.clusters for level in out.levels)
    found["features"] = (*(level.tokens for level in out.levels), out.levels[-1].centroids)
  else:
    found["tokens"] = out.tokens
  if borders is not None:
    found["lengths"] = tuple(level.lengths for level in out.levels)
  if model.num_classes and model.head_kind != "projector":
    found["logits"] = out.logits
    if out.logits.ndim == 2:
      found["probabilities"] = jax.nn.softmax(out.logits)
  elif out.logits.ndim == 3:
    found["embeddings"] = out.logits
  return jax.tree.map(
    lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, found
  )
