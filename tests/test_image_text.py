"""The models of open_clip, with stand-ins for it and for torch, which the tests do not have."""

import contextlib
import sys
import types

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.interop.image_text import ImageTextModel, OpenClip


class Tensor(np.ndarray):
  """As much of a tensor as the adapter uses."""

  def split(self, size):
    return [self[i : i + size] for i in range(0, len(self), size)]

  def to(self, device):
    return self

  def float(self):
    return self.astype(np.float32)

  def cpu(self):
    return self

  def numpy(self):
    return np.asarray(self)


class Model:
  """Embeds images as the means of their channels, sentences as they are."""

  is_evaluated = False

  def __init__(self):
    self.batches = []

  def eval(self):
    self.is_evaluated = True
    return self

  def encode_image(self, images):
    assert self.is_evaluated and images.shape[1] == 3 and images.flags["C_CONTIGUOUS"]
    self.batches.append(len(images))
    return images.mean(axis=(2, 3))

  def encode_text(self, tokens):
    return tokens


@pytest.fixture
def model(monkeypatch):
  """Puts the stand-ins in the place of open_clip and torch; gives the model they make."""
  model = Model()
  tensor = lambda values: np.asarray(values).view(Tensor)

  def create(name, pretrained, device):
    assert device == "cpu"
    if (name, pretrained) != ("ViT-B-16", "openai"):
      raise RuntimeError("Unknown model. Available: many others")
    transform = lambda image: tensor(
      np.asarray(image)[::2, ::2].transpose(2, 0, 1) / np.float32(255)
    )
    return model, None, transform

  torch = types.ModuleType("torch")
  torch.cuda = types.SimpleNamespace(is_available=lambda: False)
  torch.no_grad, torch.from_numpy = contextlib.nullcontext, tensor
  torch.cat = lambda parts: tensor(np.concatenate(parts))
  open_clip = types.ModuleType("open_clip")
  open_clip.create_model_and_transforms = create
  open_clip.get_tokenizer = lambda name: lambda texts: tensor([[len(t), 0.0] for t in texts])
  monkeypatch.setitem(sys.modules, "torch", torch)
  monkeypatch.setitem(sys.modules, "open_clip", open_clip)
  return model


def test_images_and_texts_become_unit_vectors(model):
  clip = OpenClip("ViT-B-16", "openai")
  assert isinstance(clip, ImageTextModel)
  image = np.zeros((8, 8, 3), np.uint8)
  image[::2, ::2] = (51, 0, 204)
  prepared = clip.prepare(image)
  assert prepared.shape == (4, 4, 3)
  np.testing.assert_allclose(prepared[0, 0], (0.2, 0, 0.8))
  vectors = clip.embed_images(np.tile(prepared[None], (40, 1, 1, 1)))
  np.testing.assert_allclose(vectors, np.tile([[1, 0, 4]], (40, 1)) / np.sqrt(17), rtol=1e-6)
  assert model.batches == [32, 8]  # no more at once than memory holds
  np.testing.assert_allclose(clip.embed_texts(["a", "bc"]), [[1, 0], [1, 0]])


def test_says_what_is_missing(model, monkeypatch):
  with pytest.raises(UserError, match="No weights are given for ViT-B-16"):
    OpenClip("ViT-B-16", "")
  with pytest.raises(UserError, match="no ViT-X with weights openai: Unknown model.$"):
    OpenClip("ViT-X", "openai")
  monkeypatch.setitem(sys.modules, "open_clip", None)
  with pytest.raises(UserError, match=r"pip install 'hseg_jax\[clip\]'"):
    OpenClip("ViT-B-16", "openai")
