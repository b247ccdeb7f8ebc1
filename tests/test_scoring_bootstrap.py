"""Bootstrap: known intervals, pairing, scores of sums, images without a score, refusals."""

import math

import numpy as np
import pytest

from hseg_jax.scoring import bootstrap, semantic


def mean(tallies):
  values = tallies["score"]
  values = values[~np.isnan(values)]
  return {"mean": float(values.mean()) if len(values) else math.nan}


def estimate(scores, **options):
  (found,), nothing = bootstrap.compare([{"score": scores}], mean, **options)
  assert nothing == []
  return found["mean"]


def compare(first, second, **options):
  intervals, differences = bootstrap.compare([{"score": first}, {"score": second}], mean, **options)
  return intervals[0]["mean"], intervals[1]["mean"], differences[0]["mean"]


def test_intervals_of_a_mean_are_those_of_theory():
  scores = np.random.default_rng(0).normal(0.5, 0.1, 400)
  interval = estimate(scores, num_resamples=4000)
  assert interval.value == pytest.approx(scores.mean())
  error = scores.std() / np.sqrt(400)
  assert interval.low == pytest.approx(scores.mean() - 1.96 * error, abs=0.1 * error)
  assert interval.high == pytest.approx(scores.mean() + 1.96 * error, abs=0.1 * error)
  narrow = estimate(scores, num_resamples=4000, confidence=0.6827)
  assert narrow.high - narrow.low == pytest.approx(2 * error, rel=0.1)


def test_pairing_cancels_what_images_share():
  hard = np.random.default_rng(2).random(60)
  first, second, difference = compare(hard, hard + 0.01, num_resamples=500)
  assert first.high - first.low > 0.05
  np.testing.assert_allclose(difference, [0.01, 0.01, 0.01, 1], atol=1e-12)
  assert [first, second] == [estimate(each, num_resamples=500) for each in (hard, hard + 0.01)]
  *_, back = compare(hard + 0.01, hard, num_resamples=500)
  np.testing.assert_allclose(back, [-0.01, -0.01, -0.01, 1], atol=1e-12)


def test_a_method_beside_itself_differs_by_nothing():
  scores = np.random.default_rng(3).random(20)
  assert compare(scores, scores, num_resamples=200)[2] == (0, 0, 0, 0)


def test_agreement_and_intervals_tell_the_same():
  rng, insignificant = np.random.default_rng(4), 0
  for seed in range(30):
    *_, found = compare(rng.random(40), rng.random(40), num_resamples=200, seed=seed)
    inside = found.low <= 0 <= found.high
    assert inside == (found.agreement < 0.975) or 0.96 < found.agreement < 0.99
    assert 0.4 < found.agreement
    insignificant += inside
  assert 24 <= insignificant  # of methods that do not differ, 28.5 of 30 are expected


def test_every_score_follows_from_the_tallies_of_the_drawn_images():
  confusions = np.random.default_rng(5).integers(0, 50, (30, 3, 4))
  names = np.repeat(np.array([["a", "b"]]), 30, axis=0)  # tallies may hold names

  def summarize(tallies):
    assert tallies["names"][0].tolist() == ["a", "b"]
    return {"miou": semantic.dataset_mean_iou(tallies["counts"]), "images": len(tallies["counts"])}

  (found,), _ = bootstrap.compare(
    [{"counts": confusions, "names": names}], summarize, num_resamples=300, seed=1
  )
  assert found["miou"].value == pytest.approx(semantic.dataset_mean_iou(confusions))
  assert found["miou"].low < found["miou"].value < found["miou"].high
  assert found["images"] == (30, 30, 30)
  rows = np.random.default_rng(1).integers(0, 30, (1, 30))[0]
  (once,), _ = bootstrap.compare(
    [{"counts": confusions, "names": names}], summarize, num_resamples=1, seed=1
  )
  expected = semantic.dataset_mean_iou(confusions[rows])
  assert once["miou"].low == once["miou"].high == pytest.approx(expected)


def test_scores_that_one_method_alone_has_are_not_compared():
  summarize = lambda tallies: {name: float(rows.mean()) for name, rows in tallies.items()}
  methods = [{"a": np.ones(4), "b": np.zeros(4)}, {"b": np.ones(4), "c": np.ones(4)}]
  intervals, differences = bootstrap.compare(methods, summarize, num_resamples=3)
  assert [set(each) for each in intervals] == [{"a", "b"}, {"b", "c"}]
  assert differences == [{"b": (1, 1, 1, 1)}]


def test_scores_that_few_resamples_have_are_counted_where_they_are():
  def summarize(tallies):  # a class that only the first image shows
    return {"iou": float(tallies["score"].max())} if tallies["score"].any() else {}

  scores = np.array([0.5, 0, 0])
  (found,), _ = bootstrap.compare([{"score": scores}], summarize, num_resamples=50)
  assert found["iou"] == (0.5, 0.5, 0.5)


def test_resamples_depend_on_the_seed_alone():
  scores = np.random.default_rng(6).random(25)
  one, two, other = (estimate(scores, num_resamples=150, seed=seed) for seed in (7, 7, 8))
  assert one == two and one != other
  assert one.value == other.value


def test_images_without_a_score_count_nothing():
  found = estimate(np.array([0.25, np.nan, 0.75, np.nan]), num_resamples=400)
  assert found == (0.5, 0.25, 0.75)  # resamples without any score are left out
  nothing = np.full(3, np.nan)
  assert all(math.isnan(value) for value in estimate(nothing, num_resamples=5))
  assert all(math.isnan(value) for value in compare(nothing, nothing, num_resamples=5)[2])


def test_every_resample_is_told():
  calls = []
  estimate(np.ones(3), num_resamples=7, advance=lambda: calls.append(1))
  assert len(calls) == 7


def test_refuses_what_cannot_be_drawn():
  scores = np.ones(3)
  with pytest.raises(ValueError, match=r"different numbers of images: \[2, 3\]"):
    compare(scores, scores[:2], num_resamples=10)
  for options in ({"num_resamples": 0}, {"num_resamples": 9, "confidence": 95.0}):
    with pytest.raises(ValueError, match="cannot draw"):
      estimate(scores, **options)
  with pytest.raises(ValueError, match="of 0 images"):
    estimate(scores[:0], num_resamples=9)
