"""Augmentations: Pillow's results where the reference uses Pillow, and the reference's order."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from hseg_jax.data import transforms


def photo(h=48, w=64):
  """Smooth colours with some texture, so that rounding is exercised but filters behave."""
  rows, columns = np.mgrid[:h, :w]
  waves = [np.sin(rows / 5 + c) + np.cos(columns / (4 + c)) for c in range(3)]
  noise = np.random.default_rng(0).normal(0, 0.2, (h, w, 3))
  return np.clip(127 + 60 * (np.stack(waves, -1) + noise), 0, 255).astype(np.uint8)


def difference(actual, expected):
  """Largest difference between two images, in levels of 255."""
  assert actual.dtype == np.uint8
  return np.abs(actual.astype(int) - np.asarray(expected).astype(int)).max()


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.9, 1.0, 1.4, 2.5])
def test_enhancements_are_pillows(factor):
  image, picture = photo(), Image.fromarray(photo())
  brighter = ImageEnhance.Brightness(picture).enhance(factor)
  assert difference(transforms.adjust_brightness(image, factor), brighter) == 0
  contrasted = ImageEnhance.Contrast(picture).enhance(factor)
  assert difference(transforms.adjust_contrast(image, factor), contrasted) <= 1
  saturated = ImageEnhance.Color(picture).enhance(factor)
  assert difference(transforms.adjust_saturation(image, factor), saturated) <= 2


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.003, 0.05, 0.1])
def test_hue_is_pillows(shift):
  hue, saturation, value = Image.fromarray(photo()).convert("HSV").split()
  turned = (np.asarray(hue).astype(int) + int(shift * 255)) % 256
  expected = Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value))
  error = transforms.adjust_hue(photo(), shift).astype(int) - np.asarray(expected.convert("RGB"))
  assert np.abs(error).mean() < 1 and np.percentile(np.abs(error), 99) <= 5


def test_grayscale_and_solarize_are_pillows():
  picture = Image.fromarray(photo())
  expected = np.asarray(picture.convert("L"))[:, :, None].repeat(3, axis=2)
  assert difference(transforms.grayscale(photo()), expected) <= 1
  assert difference(transforms.solarize(photo()), ImageOps.solarize(picture)) == 0


def test_blur_is_about_pillows():
  for sigma in (0.5, 1.0, 2.0):
    expected = ImageFilter.GaussianBlur(sigma)
    actual = transforms.gaussian_blur(photo(), sigma=sigma)
    assert difference(actual, Image.fromarray(photo()).filter(expected)) <= 10
    assert difference(actual, photo()) > 15


def test_resize_is_pillows_with_antialiasing():
  stripes = np.zeros((64, 64, 3), np.uint8)
  stripes[:, ::2] = 255
  assert difference(transforms.resize(stripes, 16, 16), np.full((16, 16, 3), 127)) < 20


def test_random_crop_covers_what_it_says():
  rng = np.random.default_rng(0)
  boxes = np.array(
    [transforms._random_crop_box((300, 400), rng, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)]
  )
  top, left, height, width = boxes.T
  assert (top >= 0).all() and (left >= 0).all()
  assert (top + height <= 300).all() and (left + width <= 400).all()
  area = height * width / (300 * 400)
  assert 0.075 < area.min() < 0.1 and 0.95 < area.max() <= 1.0
  ratio = width / height
  assert 0.72 < ratio.min() < 0.77 and 1.29 < ratio.max() < 1.37
  # Both edges are reached: the position is uniform over all that fit.
  assert (top == 0).any() and (top + height == 300).any()
  assert (left == 0).any() and (left + width == 400).any()


@pytest.mark.parametrize(
  ("shape", "box"), [((10, 400), (0, 193, 10, 13)), ((400, 10), (193, 0, 13, 10))]
)
def test_random_crop_falls_back_to_the_centre(shape, box):
  rng = np.random.default_rng(0)
  assert transforms._random_crop_box(shape, rng, (0.9, 1.0), (3 / 4, 4 / 3)) == box


def test_flip_is_fair():
  rng = np.random.default_rng(0)
  image = photo()
  flipped = [not np.array_equal(transforms.random_flip(image, rng), image) for _ in range(1000)]
  assert 440 < sum(flipped) < 560
  results = [transforms.random_flip(image, rng) for _ in range(20)]
  assert min(difference(result, image[:, ::-1]) for result in results) == 0


def test_color_jitter_draws_all_orders_and_factors(monkeypatch):
  calls = []
  for name in ("brightness", "contrast", "saturation", "hue"):
    record = lambda image, factor, name=name: (calls.append((name, factor)), image)[1]
    monkeypatch.setattr(transforms, f"adjust_{name}", record)
  rng = np.random.default_rng(0)
  for _ in range(500):
    transforms.color_jitter(photo(), rng, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1)
  orders = {tuple(name for name, _ in calls[i : i + 4]) for i in range(0, len(calls), 4)}
  assert len(orders) == 24
  ranges = {
    "brightness": (0.6, 1.4),
    "contrast": (0, 2.5),
    "saturation": (0.8, 1.2),
    "hue": (-0.1, 0.1),
  }
  for name, (low, high) in ranges.items():
    factors = [factor for called, factor in calls if called == name]
    margin = 0.03 * (high - low)
    assert low <= min(factors) < low + margin and high - margin < max(factors) <= high


def test_moco_views_follow_the_reference(monkeypatch):
  """Order and probabilities of `main_moco_suppix.py`; the blur scales with the image size."""
  calls = []
  sigmas = []

  def record(name):
    def operation(image, *args, **kwargs):
      calls.append(name)
      if name == "gaussian_blur":
        sigmas.append(kwargs["sigma"])
      if name == "color_jitter":
        assert kwargs == {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
      return image

    return operation

  order = [
    "random_resized_crop",
    "color_jitter",
    "grayscale",
    "gaussian_blur",
    "solarize",
    "random_flip",
  ]
  for name in order:
    monkeypatch.setattr(transforms, name, record(name))
  rng = np.random.default_rng(0)
  counts = np.zeros((2, len(order)), int)
  for _ in range(1000):
    calls.clear()
    transforms.moco_views(photo(112, 112), rng, image_size=112)
    second = len(calls) - 1 - calls[::-1].index("random_resized_crop")
    for view, names in enumerate((calls[:second], calls[second:])):
      assert names == [name for name in order if name in names]
      counts[view] += [name in names for name in order]
  expected = [[1, 0.8, 0.2, 1, 0, 1], [1, 0.8, 0.2, 0.1, 0.2, 1]]
  np.testing.assert_allclose(counts / 1000, expected, atol=0.04)
  assert 0.05 <= min(sigmas) < 0.06 and 0.99 < max(sigmas) <= 1.0


@pytest.mark.parametrize("recipe", [transforms.supervised, transforms.moco_views])
def test_recipes_are_functions_of_the_seed(recipe):
  def run(seed):
    return np.stack(recipe(photo(), np.random.default_rng(seed), image_size=32))

  assert run(0).shape[-3:] == (32, 32, 3) and run(0).dtype == np.uint8
  np.testing.assert_array_equal(run(0), run(0))
  assert not np.array_equal(run(0), run(1))


def test_recipes_leave_their_input_alone():
  image = photo(32, 32)
  image.flags.writeable = False
  for seed in range(20):
    transforms.moco_views(image, np.random.default_rng(seed), image_size=32)
    transforms.supervised(image, np.random.default_rng(seed), image_size=32)


def test_evaluation_is_resize_and_centre_crop():
  for h, w in ((300, 500), (500, 300), (40, 33)):
    image = photo(h, w)
    short = 256 / min(h, w)
    size = (int(w * short), 256) if h <= w else (256, int(h * short))
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    expected = resized.crop((left, top, left + 224, top + 224))
    assert difference(transforms.evaluation(image, image_size=224), expected) == 0


def test_evaluation_keeps_images_of_the_right_size():
  assert transforms.evaluation(photo(64, 64), image_size=64) is not None
  np.testing.assert_array_equal(transforms.evaluation(photo(64, 64), image_size=64), photo(64, 64))


@pytest.mark.parametrize("shape", [(64, 64), (90, 60), (60, 90), (200, 300)])
def test_masks_follow_the_image(shape):
  """A mask drawn as a picture goes where the mask goes, up to the pixels on its edge."""
  mask = np.zeros(shape, np.uint8)
  mask[shape[0] // 3 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = 7
  picture = np.where(mask[:, :, None] > 0, 255, 0).astype(np.uint8).repeat(3, axis=2)
  seen = transforms.evaluation(picture, image_size=64)[:, :, 0]
  moved = transforms.evaluation_mask(mask, image_size=64)
  assert moved.dtype == mask.dtype and set(np.unique(moved)) == {0, 7}
  certain = (seen < 64) | (seen > 191)
  np.testing.assert_array_equal((moved > 0)[certain], (seen > 127)[certain])


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 2)])
def test_a_line_of_pixels_is_cut_before_it_is_magnified(shape, monkeypatch):
  sizes, resize = [], transforms.resize
  monkeypatch.setattr(
    transforms, "resize", lambda image, h, w: (sizes.append((h, w)), resize(image, h, w))[1]
  )
  image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
  assert transforms.evaluation(image, image_size=32).shape == (32, 32, 3)
  assert max(sizes[0]) <= 16 * min(sizes[0])
  assert transforms.evaluation_mask(image[:, :, 0], image_size=32).shape == (32, 32)
