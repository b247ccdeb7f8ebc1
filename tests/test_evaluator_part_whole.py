"""The part-whole evaluator with an oracle, and with an image-text model that knows colours."""

import functools

import numpy as np
import pytest

from hseg_jax.errors import UserError
from hseg_jax.evaluators import part_whole
from hseg_jax.interop import image_text
from hseg_jax.vocabulary import Vocabulary
from tests.quarters import QUARTERS, Examples, QuarterCast, QuarterVit, options

RED, GREEN, BLUE = np.eye(3)
# The crow's wing is greener than the fox's tail, but no part of a fox.
MEANINGS = {
  "a photo of a Fox": RED + GREEN,
  "a photo of a Crow": RED + GREEN + BLUE,
  "a photo of a Background": BLUE,
  "a photo of a Fox Head": RED,
  "a photo of a Fox Tail": GREEN + 0.3 * BLUE,
  "a photo of a Crow Head": RED,
  "a photo of a Crow Wing": GREEN,
}


class Colours:
  """Compares the mean colour of what is not filled with the colours of words."""

  def prepare(self, image):
    return image.astype(np.float32) / 255

  def embed_images(self, images):
    shown = (images != 0.5).any(axis=-1, keepdims=True)
    return self._unit((images * shown).sum(axis=(1, 2)))

  def embed_texts(self, texts):
    return self._unit(np.array([MEANINGS[text] for text in texts]))

  def _unit(self, vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def show(*labels):
  """The same picture every time, red above green on the left; some say that it is a crow."""
  image = np.select([QUARTERS[..., None] == 0, QUARTERS[..., None] == 2], [RED, GREEN], BLUE)
  parts = np.select([QUARTERS == 0, QUARTERS == 2], [1, 2], 0).astype(np.uint8)
  source = Examples(
    {
      "image": (255 * image).astype(np.uint8),
      "label": label,
      "object": QUARTERS % 2 == 0,
      "parts": np.where(parts == 2, 2 + label, parts).astype(np.uint8),
    }
    for label in labels
  )
  source.vocabulary = Vocabulary(("Fox", "Crow"), ("Head", "Tail", "Wing"), ((0, 1), (0, 2)))
  return source


def make(model, source, **changes):
  defaults = dict(
    object_level=-1,
    part_level=-2,
    labellings=("oracle", "clip"),
    clip_model="",
    clip_weights="",
    tolerance=1.0,
    image_text=Colours(),
  )
  return part_whole.Evaluator(model, **{**options(model, source), **defaults, **changes})


def test_oracle_and_model_name_objects_and_their_parts():
  scores = dict(make(QuarterCast(), show(0, 1, 1)).run({}))
  expected = {
    # One fox is right; of two crows only the background is.
    "object_miou_per_image": (1 + 1 / 3 + 1 / 3) / 3,
    "object_miou_dataset": (1 / 3 + 0 + 1) / 3,
    "part_miou_per_image": (1 + 1 / 5 + 1 / 5) / 3,
    "part_miou_dataset": (1 / 3 + 1 / 3 + 0 + 0 + 1) / 5,
    "object_boundary_f_per_image": (1 + 1 / 3 + 1 / 3) / 3,
    "part_boundary_f_per_image": (1 + 1 / 5 + 1 / 5) / 3,
    "object_boundary_f_dataset": (1 / 2 + 0 + 1) / 3,
    "part_boundary_f_dataset": (1 / 2 + 1 / 2 + 0 + 0 + 1) / 5,
  }
  assert len(scores) == 2 * len(expected)
  for name, value in expected.items():
    assert scores[f"val/part_whole/clip/{name}"] == pytest.approx(value), name
    assert scores[f"val/part_whole/oracle/{name}"] == 1, name


def test_levels_may_be_chosen():
  run = lambda **levels: dict(
    make(QuarterCast(), show(0), labellings=("oracle",), **levels).run({})
  )
  # Halves cannot be cut into parts; quarters are objects as good as halves.
  assert run(part_level=2)["val/part_whole/oracle/part_miou_dataset"] == pytest.approx(
    (1 / 2 + 0 + 1) / 3
  )
  assert run(object_level=1)["val/part_whole/oracle/object_miou_dataset"] == 1


def test_a_vit_is_scored_by_kmeans_of_its_tokens():
  scores = dict(make(QuarterVit(), show(0), labellings=("oracle",)).run({}))
  assert 0 < scores["val/part_whole/oracle/part_miou_dataset"] < 1


def test_refuses_what_it_cannot_score():
  make_cast = functools.partial(make, QuarterCast())
  with pytest.raises(UserError, match="no names of parts"):
    make_cast(Examples(show(0)))
  with pytest.raises(UserError, match="no object and no parts"):
    make_cast(Examples([{"image": 0, "label": 0}]))
  with pytest.raises(UserError, match="part_whole.part_level is 3, but there are 3 levels"):
    make_cast(show(0), part_level=3)
  with pytest.raises(UserError, match="oracle and clip"):
    make_cast(show(0), labellings=("oracle", "guess"))


def test_open_clip_is_taken_where_no_other_model_is_given(monkeypatch):
  asked = []
  monkeypatch.setattr(part_whole, "OpenClip", lambda *names: asked.append(names) or Colours())
  make(QuarterCast(), show(0), image_text=None, clip_model="ViT-B-16", clip_weights="openai")
  assert asked == [("ViT-B-16", "openai")]
  assert part_whole.OpenClip is not image_text.OpenClip
