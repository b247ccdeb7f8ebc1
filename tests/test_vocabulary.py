"""Class maps of objects and parts."""

import numpy as np

from hseg_jax.data.partworld import PartWorld
from hseg_jax.vocabulary import Vocabulary

# Heads are shared, a wing is the bird's alone.
WORDS = Vocabulary(("Fish", "Bird"), ("Head", "Wing", "Fin"), ((0, 2), (0, 1)))


def test_parts_of_different_objects_are_different_classes():
  assert WORDS.pairs == [(0, 0), (0, 2), (1, 0), (1, 1)]
  assert WORDS.part_names == ["Fish Head", "Fish Fin", "Bird Head", "Bird Wing"]
  assert [WORDS.members(i).tolist() for i in range(3)] == [[0, 1], [2, 3], []]


def test_object_masks_hold_one_object_or_many():
  one = np.array([[True, False]])
  assert WORDS.object_classes(one, 1).tolist() == [[1, 2]]
  many = np.array([[0, 1, 2]], np.uint8)
  assert WORDS.object_classes(many, 0).tolist() == [[2, 0, 1]]


def test_a_part_is_its_only_owners_or_that_of_the_object_at_its_pixel():
  objects = np.array([[0, 1, 2, 0, 2, 1]])  # fish, bird, nothing, ...
  parts = np.array([[1, 1, 1, 2, 3, 0]], np.uint8)
  assert WORDS.part_classes(objects, parts).tolist() == [[0, 2, 4, 3, 1, 4]]


def test_every_drawn_part_belongs_to_the_vocabulary():
  data = PartWorld("val", size=32, num_examples=32)
  background = len(data.vocabulary.pairs)
  assert len(set(data.vocabulary.part_names)) == background
  for i in range(len(data)):
    example = data[i]
    objects = data.vocabulary.object_classes(example["object"], example["label"])
    parts = data.vocabulary.part_classes(objects, example["parts"])
    assert ((parts < background) == (example["parts"] > 0)).all()
    assert set(np.unique(parts)) <= {background, *data.vocabulary.members(example["label"])}
