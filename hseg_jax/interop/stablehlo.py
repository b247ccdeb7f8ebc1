"""A model as one compiled program with its parameters inside, which runs without this package.

The file is what `jax.export` serializes (StableHLO of a fixed version); jax alone reads it back:
`jax.export.deserialize(bytearray(data)).call(image, segments)`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Float, Int, Int32, UInt8

from hseg_jax.interop.exported import PROGRAM
from hseg_jax.models.segments import compose
from hseg_jax.preprocessing import normalize

PLATFORMS = ("cpu", "cuda", "tpu")


def make_forward(model: Any, variables: Mapping[str, Any]) -> Callable[..., dict[str, Array]]:
  """The model in evaluation as a function of plain arrays to a dictionary of plain arrays.

  Args:
    model: as `create_model` makes it.
    variables: {"params": ..., "batch_stats": ...}, which become constants of the program.

  Returns:
    A function of `image`, uint8 `[b, h, w, 3]` in RGB, and, for a model with superpixels,
    `segments`, int32 `[b, h, w]`. It gives `logits`, `features` and, for each level l of the
    hierarchy, `level_l`, int32 `[b, n]`: the region of each superpixel id, -1 for ids that have no
    token because they are absent, or were lost when labels were shrunk to the stem's grid.
  """

  def forward(
    image: UInt8[Array, "b h w 3"], segments: Int[Array, "b h w"] | None = None
  ) -> dict[str, Float[Array, "..."] | Int32[Array, "b n"]]:
    out = model.apply(variables, normalize(image), segments, train=False)
    found = {"logits": out.logits, "features": out.features}
    region = None
    for i, level in enumerate(out.levels, start=1):
      if region is None:
        region = level.clusters
      else:
        region = jnp.where(region < 0, -1, compose(jnp.maximum(region, 0), level.clusters))
      found[f"level_{i}"] = region
    return found

  return forward


def serialize(
  model: Any, variables: Mapping[str, Any], image_size: int
) -> tuple[bytes, dict[str, Any]]:
  """A model as a serialized `jax.export` artifact for CPUs, CUDA GPUs and TPUs.

  Args:
    model: as `create_model` makes it.
    variables: {"params": ..., "batch_stats": ...}.
    image_size: side of the images in pixels; label maps have the same. Batches are of any size.

  Returns:
    The artifact, and what `model.json` says of it: file, platforms, inputs and outputs.
  """
  (batch,) = export.symbolic_shape("b")
  arguments = {"image": jax.ShapeDtypeStruct((batch, image_size, image_size, 3), jnp.uint8)}
  if model.num_segments:
    arguments["segments"] = jax.ShapeDtypeStruct(arguments["image"].shape[:3], jnp.int32)
  forward = jax.jit(make_forward(model, variables))
  exported = export.export(forward, platforms=PLATFORMS)(*arguments.values())
  outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
  meanings = {"image": "RGB, not normalised", "segments": "superpixel of each pixel"}
  meanings |= {name: "region of each superpixel, -1 for none" for name in outputs if "_" in name}
  info = {
    kind: {name: _signature(aval, meanings.get(name)) for name, aval in avals.items()}
    for kind, avals in (("inputs", arguments), ("outputs", outputs))
  }
  return bytes(exported.serialize()), {"file": PROGRAM, "platforms": PLATFORMS, **info}


def _signature(aval: Any, meaning: str | None) -> str:
  shape = f"{aval.dtype} [{', '.join(map(str, aval.shape))}]"
  return f"{shape}, {meaning}" if meaning else shape
