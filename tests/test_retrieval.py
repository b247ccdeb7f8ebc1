"""Segment retrieval: prototypes, the vote, and the scores, on models that need no training."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax.data.masks import Labels
from hseg_jax.errors import UserError
from hseg_jax.evaluators import retrieval
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.models.output import CastOutput, Level

GRID = {"method": "grid", "num_segments": 24}  # of 6 x 6 pixels
TABLE = Labels(
  {"label": ("sky", "red", "blue"), "group": ("thing", "sky")},
  {
    "label": np.append(np.where(np.arange(255) < 3, np.arange(255), -1), 255),
    "group": np.append(np.select([np.arange(255) < 1, np.arange(255) < 3], [1, 0], -1), 255),
  },
)


class Stripes:
  """Three colours in thirds of a 24 x 36 image, in an order of its own; a rim is ignored."""

  mask_labels = TABLE
  colours = np.array([[120, 200, 120], [230, 20, 20], [20, 20, 230]], np.uint8)

  def __init__(self, *orders):
    self._orders = orders

  def __len__(self):
    return len(self._orders)

  def __getitem__(self, i):
    semantic = np.repeat(np.array(self._orders[i], np.uint8), 12)[None].repeat(24, 0)
    image = self.colours[semantic]
    semantic[0] = 255
    return {"image": image, "label": -1, "semantic": semantic}


class MeanColours:
  """What both models below compute: mean colours of the cells of 4 x 4 pixels."""

  stride, num_classes = 4, 0

  def cells(self, image):
    b, h, w, _ = image.shape
    return image.reshape(b, h // 4, 4, w // 4, 4, 3).mean((2, 4))


class Vit(MeanColours):
  num_segments, num_clusters = 0, ()

  def apply(self, variables, image, segments, train):
    tokens = self.cells(image).reshape(len(image), -1, 3)
    return CastOutput(logits=tokens[:, 0], features=tokens[:, 0], tokens=tokens)


class Cast(MeanColours):
  """Superpixels keep their own mean colour; the last level has the stripes as its regions."""

  num_segments, num_clusters, head_kind = 24, (3,), "linear"

  def apply(self, variables, image, segments, train):
    one_hot = jax.nn.one_hot(segments, 24)
    sums = jnp.einsum("bhwn,bhwc->bnc", one_hot, image)
    sizes = one_hot.sum((1, 2))[..., None]
    tokens, mask = sums / jnp.maximum(sizes, 1), sizes[..., 0] > 0
    centres = (jnp.asarray(Stripes.colours) / 255 - 0.45) / 0.225
    distances = jnp.square(tokens[:, :, None] - centres[None, None]).sum(-1)
    assignment = (distances == distances.min(-1, keepdims=True)).astype(jnp.float32)
    shape = (len(image), 3)
    level = Level(
      tokens, mask, assignment, assignment, jnp.zeros(shape, int), jnp.ones(shape, bool),
      jnp.tile(centres[None], (len(image), 1, 1)),
    )  # fmt: skip
    return CastOutput(logits=tokens[:, 0], features=tokens[:, 0], levels=(level,))


def make(model, **options):
  defaults = dict(
    source=Stripes((2, 0, 1), (1, 2, 0)),
    train_source=Stripes((0, 1, 2), (2, 1, 0), (1, 0, 2)),
    image_size=24,
    superpixels=GRID if model.num_segments else {"method": "none"},
    levels=(-1,),
    num_regions=(24, 12),
    stages=(0,),
    num_neighbors=3,
    classes=("label", "group"),
    tolerance=0.0075,
    seed=0,
  )
  return retrieval.Evaluator(model, **defaults | options)


def test_stripes_are_found_again():
  found = dict(make(Cast()).run({}))
  for classes in ("label", "group"):
    of = lambda score, c=classes: found[f"val/retrieval/level_1/{c}/{score}"]
    assert of("miou") == of("oracle_miou") == of("pixel_accuracy") == of("boundary_f") == 1.0
  assert len(found) == 8


def test_a_vit_has_clusters_of_its_tokens():
  found = dict(make(Vit(), tolerance=0.0).run({}))
  # Interpolated tokens make a few pixels of the stripes' borders somebody else's.
  assert found["val/retrieval/kmeans/12/label/miou"] > 0.9
  assert found["val/retrieval/kmeans/12/label/oracle_miou"] > 0.9
  assert {name.split("/")[3] for name in found} == {"12"}


def test_levels_are_scored_beside_each_other_and_without_boundaries():
  found = dict(make(Cast(), levels=(0, -1), classes=("label",), tolerance=0.0).run({}))
  assert sorted({name.split("/")[2] for name in found}) == ["level_0", "level_1"]
  assert not any("boundary" in name for name in found)
  assert set(found.values()) == {1.0}


def test_a_wrong_memory_names_wrongly_but_not_the_oracle():
  other = Stripes((0, 1, 2))
  other.colours = Stripes.colours[[0, 2, 1]]  # in the memory red is called blue
  found = dict(make(Cast(), train_source=other, tolerance=0.0, num_neighbors=1).run({}))
  of = lambda name: found[f"val/retrieval/level_1/{name}"]
  np.testing.assert_allclose(of("label/pixel_accuracy"), 1 / 3)
  np.testing.assert_allclose(of("label/miou"), 1 / 3)
  assert of("label/oracle_miou") == of("group/miou") == 1.0


def test_a_memory_without_labels_is_refused():
  class Ignored(Stripes):
    def __getitem__(self, i):
      example = super().__getitem__(i)
      return {**example, "semantic": np.full_like(example["semantic"], 255)}

  with pytest.raises(UserError, match="all are 255"):
    dict(make(Cast(), train_source=Ignored((0, 1, 2))).run({}))


def test_prototypes_weigh_superpixels_by_their_area():
  rng = np.random.default_rng(0)
  cells, labels = rng.integers(0, 5, (6, 7)), rng.integers(0, 3, (6, 7))
  vectors = rng.normal(size=(5, 4)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  found = retrieval.prototypes(labels, cells, vectors)
  for region in range(3):
    total = sum(vectors[cell] for cell in cells[labels == region])
    np.testing.assert_allclose(found[region], total / np.linalg.norm(total), rtol=1e-5)


def test_the_vote_against_counting_by_hand():
  rng = np.random.default_rng(0)
  memory, queries = rng.normal(size=(40, 6)), rng.normal(size=(300, 6))
  classes = rng.integers(0, 9, 40)
  found = retrieval.vote(memory, classes, queries, 6)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  for row, prediction in zip(unit(queries) @ unit(memory).T, found, strict=True):
    votes = collections.Counter(classes[np.argsort(-row)[:6]].tolist())
    assert prediction == min(c for c, n in votes.items() if n == max(votes.values()))


def test_classes_are_counted_with_the_ignored_among_them():
  labels, truth = np.array([[0, 0, 1], [1, 1, 0]]), np.array([[3, 255, 0], [255, 255, 3]], np.uint8)
  found = retrieval.count_classes(labels, truth)
  assert found.shape == (2, 256) and found.sum() == 6
  assert (found[0, 3], found[0, 255], found[1, 0], found[1, 255]) == (2, 1, 1, 2)


def test_embeddings_are_the_tokens_that_hold_a_superpixel_side_by_side():
  segments = np.arange(4).reshape(2, 2).astype(np.int32)
  fine, coarse = np.float32([[2, 0], [0, 3], [0, 1], [1, 0]]), np.float32([[0, 5], [7, 0]])
  hierarchy = Hierarchy(segments, (np.array([0, 0, 1, 1], np.int32),), (fine, coarse))
  found = retrieval.embeddings(hierarchy, (0, 1))
  half = np.sqrt(0.5)
  np.testing.assert_allclose(found[0], [half, 0, 0, half], rtol=1e-6)
  np.testing.assert_allclose(found[2], [0, half, half, 0], rtol=1e-6)
  own = Hierarchy(segments, embeddings=np.float32([[2, 0], [0, 2], [1, 0], [3, 0]]))
  np.testing.assert_allclose(retrieval.embeddings(own, (0,)), own.embeddings > 0)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"classes": ("colour",)}, "'colour',.; choose among label, group"),
    ({"classes": ()}, "retrieval.classes"),
    ({"levels": (2,)}, r"retrieval.levels is \(2,\); the model has 2"),
    ({"stages": ()}, "retrieval.stages"),
    ({"num_neighbors": 0}, "must be positive"),
  ],
)
def test_what_does_not_suit_is_refused(options, message):
  with pytest.raises(UserError, match=message):
    make(Cast(), **options)


def test_clusters_of_a_vit_cannot_grow_again():
  with pytest.raises(UserError, match=r"numbers of regions are \(12, 24\)"):
    make(Vit(), num_regions=(12, 24))


def test_data_without_masks_are_refused():
  source = Stripes((0, 1, 2))
  source.mask_labels = None
  with pytest.raises(UserError, match="data.source='masks'"):
    make(Cast(), source=source)
