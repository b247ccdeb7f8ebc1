"""Models that compare pictures with text: the interface, and those of open_clip.

This is the only file that imports open_clip, which is an extra of the package.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from hseg_jax.errors import UserError

_BATCH = 32


@runtime_checkable
class ImageTextModel(Protocol):
  """What puts pictures and text into one space, where their cosine tells how well they match."""

  def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "s s 3"]:
    """An RGB image at the model's size, normalised as it was trained with."""
    ...

  def embed_images(self, images: Float32[np.ndarray, "b s s 3"]) -> Float[np.ndarray, "b d"]:
    """Unit vectors of prepared images."""
    ...

  def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "m d"]:
    """Unit vectors of sentences."""
    ...


class OpenClip:
  """A CLIP of open_clip, on the CPU or the GPU that torch finds."""

  def __init__(self, name: str, weights: str):
    """Loads a model.

    Args:
      name: as open_clip has it, such as "ViT-B-16".
      weights: the tag of published weights, such as "openai", which are downloaded unless they
        are in the cache; or a file of weights.

    Raises:
      UserError: the extra is not installed, or there are no such weights.
    """
    try:
      import open_clip
      import torch
    except ImportError as error:
      raise UserError(
        "Labelling with text needs open_clip, which is not installed; run pip install "
        "'hseg_jax[clip]', or take part_whole.labellings=('oracle',)."
      ) from error
    if not weights:  # open_clip would make random ones
      raise UserError(f"No weights are given for {name}; name a tag, such as openai, or a file.")
    self._torch = torch
    self._device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
      model, _, self._transform = open_clip.create_model_and_transforms(
        name, pretrained=weights, device=self._device
      )
      self._tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # names, files and downloads each fail in their own ways
      reason = str(error).partition(" Available")[0]  # lists of everything it knows follow
      raise UserError(f"open_clip has no {name} with weights {weights}: {reason}") from error
    self._model = model.eval()

  def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "s s 3"]:
    """An RGB image at the model's size, normalised: the model's own transform of evaluation."""
    return self._transform(Image.fromarray(image)).numpy().transpose(1, 2, 0)

  def embed_images(self, images: Float32[np.ndarray, "b s s 3"]) -> Float[np.ndarray, "b d"]:
    """Unit vectors of prepared images."""
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return self._embed(self._model.encode_image, self._torch.from_numpy(channels_first))

  def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "m d"]:
    """Unit vectors of sentences."""
    return self._embed(self._model.encode_text, self._tokenizer(list(texts)))

  def _embed(self, encode, inputs) -> Float[np.ndarray, "b d"]:
    with self._torch.no_grad():
      # In parts, for the sake of memory.
      parts = [encode(part.to(self._device)).float().cpu() for part in inputs.split(_BATCH)]
    vectors = self._torch.cat(parts).numpy()
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
