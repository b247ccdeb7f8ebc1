"""The linear probe: what it trains on, what chooses the rate, what it refuses."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax import linear_heads
from hseg_jax.data import sources
from hseg_jax.errors import UserError
from hseg_jax.evaluators import linear_probe
from hseg_jax.models.output import CastOutput
from hseg_jax.training import sharding


class Colours:
  """Class i is a plain colour of its own, slightly noisy; red is the left half only."""

  class_names = ("red", "green", "blue")

  def __init__(self, length):
    self._length = length

  def __len__(self):
    return self._length

  def __getitem__(self, i):
    image = np.random.default_rng(i).integers(0, 60, (32, 32, 3), np.uint8)
    image[:, : 16 if i % 3 == 0 else 32, i % 3] += 180
    return {"image": image, "label": i % 3}


class MeanColour:
  """Its features are the mean colours of both halves, or all alike."""

  def apply(self, variables, image, segments, train):
    assert not train
    halves = [half.mean((1, 2)) for half in jnp.split(image, 2, axis=2)]
    features = jnp.concatenate(halves, axis=-1) * variables["scale"]
    return CastOutput(logits=features, features=features)


def make(**options):
  source = lambda length: sources.Source(Colours(length), max_bad_images=0)
  defaults = dict(
    source=source(9),
    train_source=source(50),
    batch_size=4,
    image_size=32,
    superpixels={"method": "none"},
    num_workers=0,
    to_global=functools.partial(sharding.to_global, mesh=sharding.make_mesh()),
    inputs=("features",),
    learning_rates=(1e-6, 0.3),
    num_epochs=20,
    head_batch_size=8,
    num_images=31,
    held_out=0.2,
    num_views=0,
    min_scale=0.9,
    standardize=False,
    seed=0,
  )
  return linear_probe.Evaluator(MeanColour(), **defaults | options)


@pytest.fixture
def trained(monkeypatch):
  """What heads were trained on, and with which options."""
  calls, original = [], linear_heads.train
  note = lambda *a, **k: calls.append((*a, k)) or original(*a, **k)
  monkeypatch.setattr(linear_heads, "train", note)
  return calls


def test_it_learns_and_says_by_which_rate(trained):
  found = dict(make(inputs=("features", "histograms")).run({"scale": jnp.ones(())}))
  assert found["val/linear_probe/features/top1"] == 1.0
  assert found["val/linear_probe/features/learning_rate"] == 0.3
  assert found["val/linear_probe/features/lr_0.3/top1"] == 1.0
  assert found["val/linear_probe/features/lr_1e-06/top1"] < 1.0
  assert found["val/linear_probe/features/top5"] == 1.0
  assert found["val/linear_probe/histograms/best_top1"] == 1.0
  assert trained[0][0].shape == (1, 25, 6)  # 6 of 31 are held out
  assert trained[0][2]["learning_rates"] == [1e-6 * 8 / 256, 0.3 * 8 / 256]


def test_the_validation_images_do_not_choose(monkeypatch):
  scores = iter([[[0.2, 0.9], [1, 1]], [[0.8, 0.1], [0.9, 0.4]]])  # held out, then validation
  monkeypatch.setattr(linear_heads, "accuracies", lambda *a: np.array(next(scores)))
  found = dict(make().run({"scale": jnp.ones(())}))
  of = lambda name: found[f"val/linear_probe/features/{name}"]
  assert (of("top1"), of("top5"), of("held_out_top1")) == (0.1, 0.4, 0.9)
  assert of("best_top1") == 0.8 and of("lr_1e-06/top1") == 0.8


def test_views_are_crops_of_all_but_the_held_out_images(trained):
  dict(make(num_views=3, min_scale=0.3).run({"scale": jnp.ones(())}))
  features, labels, _ = trained[0]
  assert features.shape == (3, 25, 6)
  assert len({tuple(row) for row in features.reshape(-1, 6).tolist()}) == 75  # each another crop
  for view in labels:
    np.testing.assert_array_equal(np.bincount(view), np.bincount(labels[0]))


def test_standardized_features_have_mean_zero_and_deviation_one(trained):
  scale = {"scale": jnp.full((), 50.0)}
  dict(make(standardize=True).run(scale))
  dict(make().run(scale))
  np.testing.assert_allclose(trained[0][0].mean((0, 1)), 0.0, atol=1e-4)
  np.testing.assert_allclose(trained[0][0].std((0, 1)), 1.0, rtol=1e-5)
  assert trained[1][0].std() > 5


def test_baselines_are_probed_once(trained):
  evaluator = make(inputs=("features", "pixels"), num_epochs=1)
  for _ in range(2):
    dict(evaluator.run({"scale": jnp.ones(())}))
  assert [call[0].shape[-1] for call in trained] == [6, 32 * 32 * 3, 6]


def test_the_held_out_are_a_share_spread_evenly():
  assert linear_probe.evenly_spaced(10, 0.3).tolist() == [0, 3, 6]
  assert linear_probe.evenly_spaced(3, 0.01).tolist() == [0]
  assert linear_probe.evenly_spaced(2, 0.99).tolist() == [0]
  with pytest.raises(UserError, match="not 1"):
    linear_probe.evenly_spaced(1, 0.5)


def test_images_without_classes_are_refused():
  source = sources.Source(Colours(3), max_bad_images=0)
  source.num_classes = 0
  with pytest.raises(UserError, match="needs images with classes"):
    make(source=source)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"inputs": ("edges",)}, "'edges'"),
    ({"inputs": ()}, "linear_probe.inputs"),
    ({"learning_rates": ()}, "learning_rates"),
    ({"learning_rates": (0.1, 0.0)}, "positive"),
    ({"num_epochs": 0}, "num_epochs is 0"),
    ({"held_out": 1.0}, "between 0 and 1"),
  ],
)
def test_what_makes_no_sense_is_refused(options, message):
  with pytest.raises(UserError, match=message):
    make(**options)
