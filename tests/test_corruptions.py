"""Corruptions: what each does by severity, and that they repeat."""

import numpy as np
import pytest

from hseg_jax.data import corruptions
from hseg_jax.data.partworld import PartWorld
from hseg_jax.errors import UserError


def corrupt(name, severity, image, seed=0):
  return corruptions.corrupt(image, name, severity, np.random.default_rng(seed))


def test_noise_has_the_deviation_of_its_severity():
  grey = np.full((64, 64, 3), 127, np.uint8)
  for severity, deviation in ((1, 0.08), (3, 0.18)):
    found = corrupt("noise", severity, grey)
    assert found.dtype == np.uint8
    assert found.std() / 255 == pytest.approx(deviation, rel=0.05)
    assert abs(found.mean() - 127) < 1


def test_blur_and_contrast_take_away_and_more_of_it():
  image = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
  for name in ("blur", "contrast"):
    deviations = [corrupt(name, severity, image).std() for severity in range(1, 6)]
    assert all(a > b for a, b in zip([image.std(), *deviations], deviations, strict=False))
  pale = corrupt("contrast", 2, image).astype(float)
  assert pale.std() / image.std() == pytest.approx(0.3, abs=0.01)
  np.testing.assert_array_equal(corrupt("none", 3, image), image)


def test_blur_is_scaled_with_the_image():
  edge = np.zeros((224, 224, 3), np.uint8)
  edge[:, 112:] = 255
  small = edge[::4, ::4]
  large = corrupt("blur", 5, edge)[112, :, 0]
  found = corrupt("blur", 5, small)[28, :, 0]
  # A step's slope is 1 / (sigma sqrt(2 pi)) a pixel: four times as steep in a quarter of them.
  assert np.diff(found.astype(int)).max() == pytest.approx(
    4 * np.diff(large.astype(int)).max(), rel=0.1
  )


def test_a_source_is_cut_then_corrupted_and_reads_alike_twice():
  source = PartWorld("val", size=96, num_examples=3)
  options = dict(severity=1, image_size=64, seed=5)
  noisy = corruptions.Corrupted(source, name="noise", **options)
  plain = corruptions.Corrupted(source, name="none", **options)
  assert len(noisy) == 3 and noisy.class_names == source.class_names
  for i in range(3):
    first, second, clean = noisy[i], noisy[i], plain[i]
    np.testing.assert_array_equal(first["image"], second["image"])
    assert first["image"].shape == (64, 64, 3) and first["parts"].shape == (64, 64)
    np.testing.assert_array_equal(first["parts"], clean["parts"])
    assert first["label"] == source[i]["label"]
    assert 5 < np.abs(first["image"].astype(int) - clean["image"]).mean() < 25
  noise = [noisy[i]["image"].astype(int) - plain[i]["image"] for i in range(2)]
  assert np.any(noise[0] != noise[1])


def test_refuses_unknown_ones():
  source = PartWorld("val", size=64, num_examples=1)
  with pytest.raises(UserError, match="'fog'"):
    corruptions.Corrupted(source, name="fog", severity=1, image_size=8, seed=0)
  for severity in (0, 6):
    with pytest.raises(UserError, match="must be 1, 2, 3, 4 or 5"):
      corruptions.Corrupted(source, name="blur", severity=severity, image_size=8, seed=0)
