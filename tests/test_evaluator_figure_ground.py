"""The figure-ground evaluator on attention that is known."""

import numpy as np
import pytest

from hseg_jax import create_model
from hseg_jax.errors import UserError
from hseg_jax.evaluators import figure_ground
from tests.quarters import QUARTERS, SIZE, Examples, QuarterCast, QuarterVit, options

# The first head sees the first quarter, the second the last; the strongest of each has 60 % alone.
HEADS = (0.5, 0.1, 0.1, 0.1), (0.1, 0.1, 0.1, 0.5)
IMAGE = np.zeros((SIZE, SIZE, 3), np.uint8)


def make(model, source, **changes):
  return figure_ground.Evaluator(model, **{**options(model, source), "share": 0.6, **changes})


def show(*figures):
  """Images whose figure is a quarter each; 4 shows none."""
  return Examples({"image": IMAGE, "object": QUARTERS == figure} for figure in figures)


def test_heads_are_scored_together_and_one_by_one():
  scores = dict(make(QuarterCast(HEADS), show(0, 4, 3, 0)).run({}))
  f = 1.3 * 0.5 / (0.3 * 0.5 + 1)  # of half precision and full recall
  expected = {
    "level_1/jaccard": 1 / 2,  # the mean over heads keeps both quarters
    "level_1/jaccard_best_head": 2 / 3,
    "level_1/jaccard_best_head_of_image": 1,
    "level_1/jaccard_adaptive": 1 / 2,
    "level_1/f_adaptive": f,
    "level_1/max_f": f,
    "level_1/mae": 1 / 4,
    "level_0/jaccard": 1 / 4,  # alike everywhere: all is kept
    "level_0/mae": 1 / 4,
    "level_0/best_region": 1 / 4,
    "level_1/best_region": 1,
    "level_2/best_region": 1 / 2,
    "level_0/best_union": 1,
    "level_2/best_union": 1 / 2,
    "everything/jaccard": 1 / 4,
  }
  for name, value in expected.items():
    assert scores[f"val/figure_ground/{name}"] == pytest.approx(value, abs=1e-6), name


def test_a_mask_keeps_the_share_of_the_attention():
  scores = dict(make(QuarterCast(HEADS), show(0, 3), share=0.9).run({}))
  assert scores["val/figure_ground/level_1/jaccard"] == pytest.approx(1 / 4)


def test_a_vit_has_attention_over_patches_and_regions_of_kmeans():
  heads = (0.1, 0.5, 0.1, 0.1), (0.1, 0.1, 0.1, 0.5)
  scores = dict(make(QuarterVit(heads), show(1, 3)).run({}))
  names = {name.removeprefix("val/figure_ground/").rpartition("/")[0] for name in scores}
  assert names == {"everything", "patches", "kmeans/4", "kmeans/2"}
  assert scores["val/figure_ground/patches/jaccard"] == pytest.approx(1 / 2)
  assert scores["val/figure_ground/patches/jaccard_best_head_of_image"] == pytest.approx(1)


def test_classes_are_figure_and_ignored_pixels_do_not_count():
  classes = np.select([QUARTERS == 0, QUARTERS == 3], [7, 255], 0).astype(np.uint8)
  score = lambda **masks: dict(
    make(QuarterCast(HEADS), Examples([{"image": IMAGE, **masks}])).run({})
  )
  scores = score(semantic=classes)
  assert scores["val/figure_ground/level_1/jaccard"] == pytest.approx(1)
  assert scores["val/figure_ground/everything/jaccard"] == pytest.approx(1 / 3)
  assert scores["val/figure_ground/level_2/best_region"] == pytest.approx(1 / 2)
  assert score(semantic=classes, object=QUARTERS == 0) == scores


def test_refuses_what_it_cannot_score():
  with pytest.raises(UserError, match="no object and no semantic"):
    make(QuarterCast(), Examples([{"image": IMAGE, "label": 0}]))
  with pytest.raises(UserError, match="figure_ground.share is 0"):
    make(QuarterCast(), show(0), share=0.0)
  with pytest.raises(UserError, match="Tome"):
    make(create_model("tome_small"), show(0))
  with pytest.raises(UserError, match="None of the images shows a figure"):
    dict(make(QuarterCast(), show(4, 4)).run({}))
