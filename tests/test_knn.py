"""Weighted nearest neighbours, and what they are given to compare."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax.data import sources
from hseg_jax.errors import UserError
from hseg_jax.evaluators import knn
from hseg_jax.models.output import CastOutput
from hseg_jax.training import sharding


def test_the_nearest_weigh_most():
  unit = lambda degrees: [np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))]
  bank = np.array([unit(1), unit(20), unit(22), unit(180)], np.float32)
  labels = np.array([0, 1, 1, 2])
  query = np.array([unit(0)], np.float32) * 7
  classify = functools.partial(knn.classify, bank, labels, query)
  assert classify(num_neighbors=3, temperature=0.01) == [0]
  assert classify(num_neighbors=3, temperature=1.0) == [1]  # the two outvote the one
  assert classify(num_neighbors=1, temperature=1.0) == [0]
  assert classify(num_neighbors=99, temperature=0.01) == [0]  # more than there are


def test_low_temperatures_do_not_silence_far_neighbours():
  bank, query = np.eye(4, dtype=np.float32), np.float32([[1, 2, 9, 4]])
  found = knn.classify(bank, np.array([0, 1, 2, 1]), query, num_neighbors=1, temperature=1e-4)
  assert found == [2]


def test_classify_agrees_with_the_formula():
  rng = np.random.default_rng(0)
  bank, queries = rng.normal(size=(60, 5)).astype(np.float32), rng.normal(size=(300, 5))
  labels = rng.integers(0, 4, 60)
  found = knn.classify(bank, labels, queries.astype(np.float32), num_neighbors=7, temperature=0.1)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  cosine = unit(queries) @ unit(bank).T
  for row, prediction in zip(cosine, found, strict=True):
    votes = np.zeros(4)
    for i in np.argsort(-row)[:7]:
      votes[labels[i]] += np.exp(row[i] / 0.1)
    assert votes.argmax() == prediction


def test_colour_histograms_forget_places_and_pixels_do_not():
  image = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
  flipped = image[:, ::-1]
  np.testing.assert_allclose(knn.color_histogram(image), knn.color_histogram(flipped))
  np.testing.assert_allclose(np.square(knn.color_histogram(image)).sum(1), 1.0, rtol=1e-5)
  two = knn.color_histogram(np.stack([np.full((8, 8, 3), value, np.uint8) for value in (0, 40)]))
  assert two.shape == (2, 512) and two[0] @ two[1] == 0
  assert not np.allclose(knn.raw_pixels(image), knn.raw_pixels(flipped))
  np.testing.assert_allclose(knn.raw_pixels(image).mean(1), 0.0, atol=1e-4)


class Colours:
  """Class i is a plain colour of its own, slightly noisy."""

  class_names = ("red", "green", "blue")

  def __init__(self, length):
    self._length = length

  def __len__(self):
    return self._length

  def __getitem__(self, i):
    image = np.random.default_rng(i).integers(0, 60, (32, 32, 3), np.uint8)
    image[..., i % 3] += 180
    return {"image": image, "label": i % 3}


class MeanColour:
  """Its features are the mean colour, or all alike."""

  def apply(self, variables, image, segments, train):
    features = image.mean((1, 2)) * variables["scale"]
    return CastOutput(logits=features, features=features)


def make(**options):
  source = lambda length: sources.Source(Colours(length), max_bad_images=0)
  defaults = dict(
    source=source(10),
    train_source=source(50),
    batch_size=4,
    image_size=32,
    superpixels={"method": "none"},
    num_workers=0,
    to_global=functools.partial(sharding.to_global, mesh=sharding.make_mesh()),
    num_neighbors=5,
    temperature=0.07,
    bank_size=21,
    inputs=("features", "pixels", "histograms"),
  )
  return knn.Evaluator(MeanColour(), **defaults | options)


def test_every_input_is_reported_on_the_same_bank():
  evaluator = make()
  found = dict(evaluator.run({"scale": jnp.ones(())}))
  assert found == {"val/knn_features": 1.0, "val/knn_pixels": 1.0, "val/knn_histograms": 1.0}
  useless = dict(evaluator.run({"scale": jnp.zeros(())}))
  assert useless["val/knn_features"] < 1.0 and useless["val/knn_pixels"] == 1.0


def test_the_bank_is_as_large_as_asked_for(monkeypatch):
  sizes = []
  original = knn.classify
  monkeypatch.setattr(
    knn, "classify", lambda bank, *a, **k: sizes.append(len(bank)) or original(bank, *a, **k)
  )
  dict(make(inputs=("features",)).run({"scale": jnp.ones(())}))
  assert sizes == [21]


@pytest.mark.parametrize("inputs", [("edges",), ()])
def test_inputs_that_there_are_not_are_refused(inputs):
  with pytest.raises(UserError, match="knn.inputs is .*; choose among features"):
    make(inputs=inputs)


def test_images_without_classes_are_refused():
  source = sources.Source(Colours(3), max_bad_images=0)
  source.num_classes = 0
  with pytest.raises(UserError, match="needs images with classes"):
    make(source=source)


@pytest.mark.parametrize("options", [{"num_neighbors": 0}, {"temperature": 0.0}])
def test_impossible_numbers_are_refused(options):
  with pytest.raises(UserError, match="must be positive"):
    make(**options)
