"""Recipes on the device: the host's by their statistics, and functions of each example's seed."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
from jax.sharding import PartitionSpec
from test_device_transforms import assert_alike
from test_transforms import photo

from hseg_jax import augmentation, device_transforms, train
from hseg_jax.data import crops, transforms
from hseg_jax.errors import UserError
from hseg_jax.superpixels import grid
from hseg_jax.training import sharding

CANVAS, SIZE = 48, 16


def make(augment="supervised", **options):
  defaults = {"augment_options": {}, "image_size": SIZE, "superpixels": {"method": "device"}}
  return augmentation.make(augment=augment, canvas_size=CANVAS, **{**defaults, **options})


def batch_of(count, views=1):
  """One photograph so many times, each with crops and a seed of its own."""
  rng = np.random.default_rng(0)
  canvas = np.zeros((count, CANVAS, CANVAS, 3), np.uint8)
  canvas[:, :36, :40] = photo(36, 40)
  numbers = rng.random((count, views, crops.NUMBERS))
  boxes = [crops.boxes(each, 36, 40) for each in numbers]
  seed = rng.integers(0, 1 << 32, (count, 2), np.uint32)
  label = np.arange(count, dtype=np.int32)
  return {"canvas": canvas, "boxes": np.array(boxes, np.float32), "seed": seed, "label": label}


def describe(images):
  """Numbers that tell brightness, contrast, colour, sharpness and left from right."""
  x = np.asarray(images, np.float64)
  grey = x.mean(axis=3)
  edges = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
  colour = (x[..., 0] - x[..., 1]).mean(axis=(1, 2)), (x[..., 2] - x[..., 1]).mean(axis=(1, 2))
  tilt = (grey[:, :, : SIZE // 2] - grey[:, :, SIZE // 2 :]).mean(axis=(1, 2))
  spread = x.std(axis=3).mean(axis=(1, 2))
  return np.stack([grey.mean((1, 2)), grey.std((1, 2)), edges, *colour, tilt, spread], axis=1)


@pytest.mark.parametrize("augment", ["supervised", "moco"])
def test_recipes_give_what_the_hosts_give(augment):
  recipe = {"supervised": transforms.supervised, "moco": transforms.moco_views}[augment]
  found = make(augment)(batch_of(600, transforms.VIEWS[augment]))
  host = [recipe(photo(36, 40), np.random.default_rng(i), image_size=SIZE) for i in range(600)]
  wanted = [host] if augment == "supervised" else list(zip(*host, strict=True))
  names = ["image"] if augment == "supervised" else ["image_1", "image_2"]
  assert set(found) == {*names, "label"}
  for name, images in zip(names, wanted, strict=True):
    assert found[name].dtype == np.uint8 and found[name].shape == (600, SIZE, SIZE, 3)
    assert_alike(describe(found[name]), describe(np.stack(images)))
  assert len({image.tobytes() for image in np.asarray(found[names[0]])}) == 600


def test_recipes_have_the_hosts_options():
  for name in ("supervised", "moco_views"):
    host, device = (
      {p.name: p.default for p in inspect.signature(getattr(m, name)).parameters.values()}
      for m in (transforms, augmentation)
    )
    assert [x for x in host.items() if x[0] not in ("image", "rng", "min_scale")] == [
      x for x in device.items() if x[0] not in ("canvas", "boxes", "key")
    ]


def test_moco_views_follow_the_reference(monkeypatch):
  """Each operation leaves its number behind those before; the blur also its width."""
  order = ["crop_and_resize", "color_jitter", "grayscale", "gaussian_blur", "solarize"]

  def record(number):
    def operation(log, *args, sigma=0.0, **kwargs):
      if number == 0:
        log = jnp.zeros((5, 1, 3))
      if number == 1:
        assert {k: v for k, v in kwargs.items() if k != "key"} == transforms.MOCO_JITTER
      return jnp.append(log[1:], jnp.array([[[number + 1, sigma, 0]]]), axis=0)

    return operation

  for number, name in enumerate(order):
    monkeypatch.setattr(device_transforms, name, record(number))
  monkeypatch.setattr(device_transforms, "random_flip", lambda image, key: image)
  draw = lambda key: augmentation.moco_views(
    jnp.zeros((1, 1, 3), jnp.uint8), jnp.zeros((2, 4)), key, image_size=112
  )
  views = jax.vmap(draw)(jax.random.split(jax.random.key(0), 2000))
  expected = {"image_1": [1, 0.8, 0.2, 1, 0], "image_2": [1, 0.8, 0.2, 0.1, 0.2]}
  for name, rates in expected.items():
    numbers, sigmas, _ = np.moveaxis(np.asarray(views[name])[:, :, 0], 2, 0)
    assert ((np.diff(numbers) > 0) | (numbers[:, 1:] == 0)).all()  # always in this order
    found = [(numbers == k + 1).any(axis=1).mean() for k in range(len(order))]
    np.testing.assert_allclose(found, rates, atol=0.03)
    sigmas = sigmas[numbers == 4]
    assert 0.05 <= sigmas.min() < 0.07 and 0.97 < sigmas.max() <= 1.0
  assert not np.array_equal(views["image_1"], views["image_2"])


def test_an_image_depends_on_its_own_seed_and_not_on_devices(monkeypatch):
  original, traces = augmentation.supervised, []
  count = lambda *args, **kwargs: traces.append(1) or original(*args, **kwargs)
  monkeypatch.setattr(augmentation, "supervised", count)
  mesh = sharding.make_mesh()
  augment = make(placement=sharding.batch_sharded(mesh))
  batch = batch_of(8)
  with jax.transfer_guard("disallow"):
    found = augment(sharding.to_global(batch, mesh))
    again = augment(sharding.to_global({k: v[::-1] for k, v in batch.items()}, mesh))
  assert len(traces) == 1
  assert found["image"].sharding.spec == PartitionSpec(sharding.AXIS)
  np.testing.assert_array_equal(found["image"], again["image"][::-1])
  # Shards are other shapes, whose sums round otherwise here and there.
  error = np.abs(np.asarray(found["image"], int) - np.asarray(make()(batch)["image"], int))
  assert error.max() <= 1 and (error > 0).mean() < 0.01
  np.testing.assert_array_equal(found["label"], batch["label"])


def test_options_and_grids_arrive():
  superpixels = {"method": "grid", "num_segments": 9}
  plain = {"min_scale": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
  box = np.array([[[0, 0, CANVAS, CANVAS]]], np.float32)
  seed = np.array([[0, 7]], np.uint32)
  batch = {"canvas": photo(CANVAS, CANVAS)[None], "boxes": box, "seed": seed}
  found = make(augment_options=plain, superpixels=superpixels)(batch)
  wanted = transforms.resize(photo(CANVAS, CANVAS), SIZE, SIZE).astype(int)
  errors = [np.abs(found["image"][0] - x).max() for x in (wanted, wanted[:, ::-1])]
  assert min(errors) <= 1
  np.testing.assert_array_equal(found["segments"][0], grid.segment(batch["canvas"][0][:16, :16], 9))


def test_each_view_is_a_crop_of_its_own():
  boxes = np.array([[[20, 10, 28, 38], [0, 0, 20, 20]]], np.float32)
  canvas = np.zeros((1, CANVAS, CANVAS, 3), np.uint8)
  canvas[:, 20:] = 255
  batch = {"canvas": canvas, "boxes": boxes, "seed": np.array([[0, 1]], np.uint32)}
  views = make("moco", augment_options={"min_scale": 0.2})(batch)
  assert views["image_1"].min() > 130 and views["image_2"].max() < 60


def test_views_are_flipped_independently():
  count = 200
  canvas = np.zeros((count, CANVAS, CANVAS, 3), np.uint8)
  canvas[:, :, : CANVAS // 2] = 120
  boxes = np.tile(np.array([0, 0, CANVAS, CANVAS], np.float32), (count, 2, 1))
  views = make("moco")({**batch_of(count), "canvas": canvas, "boxes": boxes})
  means = (np.asarray(views[f"image_{i}"], float).mean(axis=(1, 3)) for i in (1, 2))
  first, second = (mean[:, : SIZE // 2].sum(1) > mean[:, SIZE // 2 :].sum(1) for mean in means)
  assert 70 < (first == second).sum() < 130 and 70 < first.sum() < 130


def settings(**fields):
  device = {"data__augment_on": "device", "superpixels__method": "device", **fields}
  return tiny_run.config("supervised", **device).to_dict()


def test_a_config_says_who_augments():
  found = augmentation.options(settings())
  assert found["canvas_size"] == 32 * 16 // 7 and found["augment_options"] == {"min_scale": 0.08}
  assert augmentation.options(settings(data__canvas_size=40))["canvas_size"] == 40
  on_host = augmentation.options(settings(data__augment_on="host", data__augment="none"))
  assert on_host["canvas_size"] is None and on_host["augment_options"] == {}
  batch = {"image": 1}
  assert augmentation.make(**on_host)(batch) is batch


@pytest.mark.parametrize(
  ("field", "value", "words"),
  [
    ("data__augment_on", "gpu", 'Unknown data.augment_on "gpu"; choose "host" or "device"'),
    ("superpixels__method", "seeds", 'set superpixels.method="device" or data.augment_on="host"'),
  ],
)
def test_what_a_device_cannot_do_is_refused(field, value, words):
  with pytest.raises(UserError, match=words):
    augmentation.options(settings(**{field: value}))


def test_a_run_augments_on_the_device(tmp_path, monkeypatch):
  seen = []
  original = augmentation.make

  def spy(**kwargs):
    augment = original(**kwargs)
    return lambda batch: seen.append((set(batch), augment(batch))) or seen[-1][1]

  monkeypatch.setattr(augmentation, "make", spy)
  fields = {"superpixels__method": "none", "data__augment_on": "device", "num_steps": 2}
  config = tiny_run.config("contrastive", **fields, eval_every_steps=2)
  assert train.train_and_evaluate(config, tmp_path).step == 2
  for names, batch in seen:
    assert names == {"canvas", "boxes", "seed", "label"}
    assert set(batch) == {"image_1", "image_2", "label"}
  assert not np.array_equal(seen[0][1]["image_1"], seen[1][1]["image_1"])
