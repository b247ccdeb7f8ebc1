"""From a config to its objects."""

import dataclasses
import itertools
import sys
import types

import jax
import numpy as np
import pytest
import tiny_run
from PIL import Image

import hseg_jax
from hseg_jax import experiment, images
from hseg_jax.data import sources
from hseg_jax.errors import UserError
from hseg_jax.evaluators import run_all
from hseg_jax.interop import torch_weights


def settings(objective="supervised", **fields):
  return tiny_run.config(objective, **fields).to_dict()


def test_the_data_decides_the_head():
  supervised = experiment.setup(settings())
  assert supervised.model.num_classes == 16 == len(supervised.settings["class_names"])
  assert experiment.setup(settings("contrastive")).model.num_classes == 0


def test_an_encoder_may_be_evaluated_with_its_projector():
  given = settings("contrastive")
  given["model"] |= {"num_classes": 8, "head_kind": "projector", "head_hidden_dim": 16}
  found = experiment.setup(given)
  names = torch_weights.shapes_of_model(found.model)
  assert any(name.startswith("params/head/") for name in names)
  assert found.objective.model.num_classes == 0


def test_a_trained_head_counts_where_the_data_have_no_classes():
  class Examples(list):
    class_names = ()

  plain, classes = (sources.Source(Examples([{}]), max_bad_images=0) for _ in range(2))
  classes.num_classes, classes.class_names = 2, ("a", "b")

  def head(objective, data, **fields):
    given = settings(objective)
    given["model"] |= fields
    return experiment.resolve(given, data)["model"]["num_classes"]

  assert head("supervised", plain, num_classes=7) == 7
  assert head("contrastive", plain) == head("contrastive", plain, num_classes=7) == 0
  assert head("supervised", classes, num_classes=7) == 2
  assert head("contrastive", classes, num_classes=7, head_kind="projector") == 7
  with pytest.raises(UserError, match="no classes of images"):
    head("supervised", plain)
  classes.num_classes, classes.class_names = 1, ("a",)
  assert head("contrastive", classes) == 0
  with pytest.raises(UserError, match="one class of images; a classifier needs two or more"):
    head("supervised", classes)


def test_the_length_is_given_in_steps_or_in_epochs():
  count = lambda **fields: experiment.count_steps(settings(**fields), 39)
  assert count(num_steps=7) == 7
  assert count(num_steps=0, num_epochs=2.5) == 10  # of four whole batches of eight
  with pytest.raises(UserError, match="exactly one"):
    count(num_steps=0)
  with pytest.raises(UserError, match="not even one batch"):
    count(num_steps=0, num_epochs=0.01)


@pytest.mark.parametrize("objective", ["supervised", "contrastive"])
def test_batches_have_the_announced_shapes(objective):
  e = experiment.setup(settings(objective))
  batch = next(experiment.train_batches(e, 0))
  announced = experiment.example_batch(e.settings)
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    k: (v.shape, v.dtype) for k, v in announced.items()
  }
  later = experiment.train_batches(e, 0)
  next(later)
  np.testing.assert_array_equal(next(later)["label"], next(experiment.train_batches(e, 1))["label"])


def test_only_canvases_are_filled_with_smaller_photographs(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
  for split, name in itertools.product(("train", "val"), "ab"):
    (tmp_path / split / name).mkdir(parents=True)
    Image.fromarray(noise).save(tmp_path / split / name / "0.jpg")
  fields = {"source": "folder", "root": str(tmp_path), "val_split": "val", "image_size": 16}
  fields |= {"augment": "supervised", "canvas_size": 32}
  some = settings(**{f"data__{key}": value for key, value in fields.items()})
  some["data"]["min_scale"] = 1.0  # no such crop fits, which leaves the centre
  host = experiment.setup(some)
  assert next(experiment.train_batches(host, 0))["image"].shape == (8, 16, 16, 3)
  some["data"]["augment_on"] = "device"
  device = experiment.setup(some)
  batch = next(experiment.train_batches(device, 0))
  file = tmp_path / "train" / "a" / "0.jpg"
  half, _ = images.decode_smaller(file, "it", lambda height, width: 2)
  assert half.shape == (20, 32, 3)
  np.testing.assert_array_equal(batch["canvas"][:, :20, :27], [half[:, 2:29]] * 8)
  np.testing.assert_array_equal(batch["boxes"], [[(0, 0.5, 20, 26.5)]] * 8)
  for source in (device.train_source, device.val_source):  # as evaluators see them
    assert source[0]["image"].shape == (40, 64, 3)


def test_batches_bring_no_superpixels_that_the_step_makes():
  for method, has_segments in (("seeds", True), ("grid", True), ("device", False), ("none", False)):
    some = settings()
    some["superpixels"]["method"] = method
    assert ("segments" in experiment.example_batch(some)) == has_segments


def test_splits_with_different_classes_are_refused(tmp_path):
  for folder in ("train/a", "train/b", "val/a"):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "image.png").touch()
  options = dict(data__source="folder", data__root=str(tmp_path))
  with pytest.raises(UserError, match=r"different classes \(2 and 1\): 'val' lacks 'b'"):
    experiment.setup(settings(**options))


def test_superpixels_must_fit_the_model():
  fields = {"model__name": "cast_tiny", "model__depths": (1, 1, 1, 1), "model__num_segments": 9}
  cast = settings(**fields, superpixels__method="seeds", superpixels__num_segments=16)
  cast["model"] |= {"position_grid": None}
  said = "num_segments=16 is more than the model's num_segments=9; give model.num_segments"
  with pytest.raises(UserError, match=said):
    experiment.setup(cast)
  cast["superpixels"]["method"] = "none"
  with pytest.raises(UserError, match="needs superpixels"):
    experiment.setup(cast)


@pytest.mark.parametrize(
  ("method", "given", "found"),
  [("seeds", None, "nearest"), ("device", None, "area"), ("device", "nearest", "nearest")],
)
def test_superpixels_of_the_device_are_averaged_by_area_unless_told_otherwise(method, given, found):
  fields = {"model__name": "cast_tiny", "model__depths": (1, 1, 1, 1), "model__num_segments": 16}
  fields |= {"superpixels__method": method, "superpixels__num_segments": 16}
  cast = settings(**fields, model__segment_mean=given)
  cast["model"] |= {"position_grid": None}
  made = experiment.setup(cast)
  assert made.model.segment_mean == found
  # What is stored with a run, and exported.
  assert made.settings["model"].get("segment_mean", "nearest") == found


def test_models_without_such_means_are_not_told_of_them():
  fields = {"name": "tome_small", "dim": None}
  assert experiment.complete_model(fields, "device") == {"name": "tome_small"}
  with pytest.raises(UserError, match="takes no superpixels; set superpixels.method='none'"):
    experiment.setup(settings(superpixels__method="device"))


def test_labels_of_images_need_a_model_that_classifies_images():
  fields = {"name": "cast_tiny_seg", "depths": (1, 1, 1, 1), "position_grid": None}
  seg = settings(superpixels__method="seeds", superpixels__num_segments=16)
  seg["model"] |= fields
  assert experiment.setup(seg).model.output == "image"
  seg["model"]["output"] = "segments"
  with pytest.raises(UserError, match="set model.output='image'"):
    experiment.setup(seg)


def test_one_image_has_nothing_to_be_compared_with():
  with pytest.raises(UserError, match="batch_size is 1"):
    settings_of_one = settings("contrastive", batch_size=1)
    experiment.make_objective(settings_of_one, None, num_steps=1)


class Evaluator:
  """Asks for two of the things that are offered, and has a picture."""

  def __init__(self, model, *, source, to_global, factor):
    self._value = len(source) * factor

  def run(self, variables):
    yield "val/product", self._value * variables

  def figures(self):
    return {"val/picture": np.zeros((2, 2, 3), np.uint8)}


def test_an_evaluator_is_handed_what_it_asks_for(monkeypatch):
  e = experiment.setup(settings())
  module = types.ModuleType("hseg_jax.evaluators.product")
  module.Evaluator = Evaluator
  module.__spec__ = types.SimpleNamespace()
  monkeypatch.setitem(sys.modules, module.__name__, module)
  e.settings["evaluators"] = {"product": {"factor": 2}}
  metrics, figures = run_all(experiment.make_evaluators(e), np.float32(3))
  assert metrics == {"val/product": 12 * 2 * 3.0} and set(figures) == {"val/picture"}


def test_a_model_is_described_by_its_size_and_cost():
  model = hseg_jax.create_model("cast_tiny", num_classes=16)
  e = dataclasses.replace(experiment.setup(settings(data__image_size=64)), model=model)
  image, segments = np.zeros((1, 64, 64, 3), np.float32), np.zeros((1, 64, 64), np.int32)
  key = jax.random.key(0)
  variables = jax.eval_shape(lambda: model.init(key, image, segments, train=False))
  assert experiment.describe_model(e, variables) == {
    "parameters": "2.53 M",
    "multiply-adds per image": "102 M",
  }


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("batch_size", 0),
    ("data__augment", "heavy"),
    ("superpixels__method", "slic"),
    ("superpixels__num_segments", 4000),
  ],
)
def test_a_mistake_is_found_before_the_data_is_opened(field, value, monkeypatch):
  monkeypatch.setattr(experiment, "load_sources", lambda _: pytest.fail("the data was opened"))
  fields = {"model__name": "cast_tiny", "superpixels__method": "seeds", field: value}
  with pytest.raises(UserError, match=f"{field.rpartition('_')[2]}|{value}"):
    experiment.setup(settings(**fields))
