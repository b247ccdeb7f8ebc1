"""Bootstrap: known intervals, pairing, sums as tallies, images without a score, refusals."""

import math

import numpy as np
import pytest

from hseg_jax.scoring import bootstrap, semantic


def test_intervals_of_a_mean_are_those_of_theory():
  scores = np.random.default_rng(0).normal(0.5, 0.1, 400)
  interval = bootstrap.estimate(bootstrap.mean_tallies(scores), num_resamples=4000)
  assert interval.value == pytest.approx(scores.mean())
  error = scores.std() / np.sqrt(400)
  assert interval.low == pytest.approx(scores.mean() - 1.96 * error, abs=0.1 * error)
  assert interval.high == pytest.approx(scores.mean() + 1.96 * error, abs=0.1 * error)
  narrow = bootstrap.estimate(bootstrap.mean_tallies(scores), num_resamples=4000, confidence=0.6827)
  assert narrow.high - narrow.low == pytest.approx(2 * error, rel=0.1)


def test_intervals_equal_those_of_drawn_images():
  scores = np.random.default_rng(1).random(12)
  interval = bootstrap.estimate(bootstrap.mean_tallies(scores), num_resamples=20000, seed=3)
  rng = np.random.default_rng(9)
  means = scores[rng.integers(0, 12, (20000, 12))].mean(axis=1)
  np.testing.assert_allclose(interval[1:], np.quantile(means, [0.025, 0.975]), atol=0.01)


def test_pairing_cancels_what_images_share():
  rng = np.random.default_rng(2)
  hard = rng.random(60)
  first, second = (bootstrap.mean_tallies(hard + shift) for shift in (0, 0.01))
  found = bootstrap.compare(first, second, num_resamples=500)
  assert found.first.high - found.first.low > 0.05
  np.testing.assert_allclose(found.difference, [0.01] * 3, atol=1e-12)
  assert found.p_value == pytest.approx(2 / 501)
  alone = [bootstrap.estimate(each, num_resamples=500) for each in (first, second)]
  assert [found.first, found.second] == alone
  back = bootstrap.compare(second, first, num_resamples=500)
  np.testing.assert_allclose(back.difference, [-0.01] * 3, atol=1e-12)


def test_a_method_beside_itself_differs_by_nothing():
  tallies = bootstrap.mean_tallies(np.random.default_rng(3).random(20))
  found = bootstrap.compare(tallies, tallies, num_resamples=200)
  assert found.difference == (0, 0, 0) and found.p_value == 1


def test_p_values_and_intervals_agree():
  rng, insignificant = np.random.default_rng(4), 0
  for seed in range(30):
    first, second = (bootstrap.mean_tallies(rng.random(40)) for _ in range(2))
    found = bootstrap.compare(first, second, num_resamples=200, seed=seed)
    inside = found.difference.low <= 0 <= found.difference.high
    assert inside == (found.p_value > 0.05) or 0.03 < found.p_value < 0.08
    insignificant += inside
  assert 24 <= insignificant  # of methods that do not differ, 28.5 of 30 are expected


def test_scores_of_sums_are_computed_from_sums():
  rng = np.random.default_rng(5)
  confusions = rng.integers(0, 50, (30, 3, 4))
  interval = bootstrap.estimate(confusions, semantic.mean_iou, num_resamples=300, seed=1)
  assert interval.value == pytest.approx(semantic.dataset_mean_iou(confusions))
  assert interval.low < interval.value < interval.high
  drawn = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=1)[0]
  expected = semantic.dataset_mean_iou(n * each for n, each in zip(drawn, confusions, strict=True))
  once = bootstrap.estimate(confusions, semantic.mean_iou, num_resamples=1, seed=1)
  assert once.low == once.high == pytest.approx(expected)
  boundaries = rng.integers(1, 9, (30, 3, 4))
  found = bootstrap.estimate(boundaries, semantic.mean_boundary_f, num_resamples=50)
  assert found.low < found.value < found.high


def test_resamples_depend_on_the_seed_alone():
  tallies = bootstrap.mean_tallies(np.random.default_rng(6).random(25))
  one, two, other = (
    bootstrap.estimate(tallies, num_resamples=150, seed=seed) for seed in (7, 7, 8)
  )
  assert one == two and one != other
  assert one.value == other.value


def test_images_without_a_score_count_nothing():
  scores = np.array([0.25, np.nan, 0.75, np.nan])
  np.testing.assert_array_equal(
    bootstrap.mean_tallies(scores), [[0.25, 1], [0, 0], [0.75, 1], [0, 0]]
  )
  found = bootstrap.estimate(bootstrap.mean_tallies(scores), num_resamples=400)
  assert found == (0.5, 0.25, 0.75)  # resamples without any score are left out
  nothing = bootstrap.mean_tallies(np.full(3, np.nan))
  assert all(math.isnan(value) for value in bootstrap.estimate(nothing, num_resamples=5))
  assert math.isnan(bootstrap.compare(nothing, nothing, num_resamples=5).p_value)


def test_refuses_what_cannot_be_drawn():
  tallies = np.ones((3, 2))
  with pytest.raises(ValueError, match="3 images and the second 2"):
    bootstrap.compare(tallies, tallies[:2], num_resamples=10)
  for options in ({"num_resamples": 0}, {"num_resamples": 9, "confidence": 95.0}):
    with pytest.raises(ValueError, match="cannot draw"):
      bootstrap.estimate(tallies, **options)
  with pytest.raises(ValueError, match="of 0 images"):
    bootstrap.estimate(tallies[:0], num_resamples=9)
