"""Top-1 and top-5 over padded batches on the mesh."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax.data import sources
from hseg_jax.data.partworld import PartWorld
from hseg_jax.errors import UserError
from hseg_jax.evaluators import classification
from hseg_jax.models.output import CastOutput
from hseg_jax.training import sharding


class Oracle:
  """Ranks the classes by distance from a number that the image's first pixel holds."""

  num_classes = 16

  def apply(self, variables, image, segments, train):
    assert not train and segments is None
    centre = image[:, 0, 0, 0] * 0.229 * 255 + 0.485 * 255
    logits = -jnp.abs(jnp.arange(16)[None] - centre[:, None])
    return CastOutput(logits=logits + variables["shift"], features=logits)


class Numbers:
  """Images whose pixels say their label, or the label plus an offset for every third of them."""

  class_names = tuple(map(str, range(16)))

  def __init__(self, length, offset):
    self._length, self._offset = length, offset

  def __len__(self):
    return self._length

  def __getitem__(self, i):
    value = i % 10 + (self._offset if i % 3 == 0 else 0)
    return {"image": np.full((32, 32, 3), value, np.uint8), "label": i % 10}


def run(source, batch_size):
  evaluator = classification.Evaluator(
    Oracle(),
    source=sources.Source(source, max_bad_images=0),
    batch_size=batch_size,
    image_size=32,
    superpixels={"method": "none"},
    num_workers=0,
    to_global=functools.partial(sharding.to_global, mesh=sharding.make_mesh()),
  )
  return dict(evaluator.run({"shift": jnp.zeros(())}))


@pytest.mark.parametrize("batch_size", [4, 8, 12])
def test_padding_counts_for_nothing(batch_size):
  found = run(Numbers(9, offset=1.0), batch_size)
  np.testing.assert_allclose(found["val/top1"], 6 / 9, rtol=1e-6)
  np.testing.assert_allclose(found["val/top5"], 1.0)


def test_top5_is_not_top1():
  found = run(Numbers(9, offset=4), 4)
  assert found["val/top1"] == pytest.approx(6 / 9) and found["val/top5"] == pytest.approx(6 / 9)
  assert run(Numbers(9, offset=0), 4)["val/top1"] == 1.0


def test_loss_is_the_mean_cross_entropy():
  logits = -np.abs(np.arange(16)[None] - (np.arange(9) % 10)[:, None]).astype(np.float64)
  wanted = np.mean(np.log(np.exp(logits).sum(1)))
  np.testing.assert_allclose(run(Numbers(9, offset=0), 4)["val/loss"], wanted, rtol=1e-3)


def test_a_model_without_a_head_is_refused(monkeypatch):
  monkeypatch.setattr(Oracle, "num_classes", 0)
  with pytest.raises(UserError, match="a model with a head"):
    run(Numbers(9, offset=0), 4)


def test_images_without_classes_are_refused(monkeypatch):
  monkeypatch.setattr(Numbers, "class_names", ())
  with pytest.raises(UserError, match="needs images with classes"):
    run(Numbers(9, offset=0), 4)


def test_it_runs_on_partworld():
  found = run(PartWorld("val", size=32, num_examples=6), 4)
  assert 0 <= found["val/top1"] <= found["val/top5"] <= 1
