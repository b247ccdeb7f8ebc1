"""Names for segments."""

import numpy as np

from hseg_jax.scoring import labelling
from hseg_jax.vocabulary import Vocabulary

WORDS = Vocabulary(("Fish", "Bird"), ("Head", "Fin", "Wing"), ((0, 1), (0, 2)))
BACKGROUND, NO_PART = 2, 4


def test_objects_take_the_best_class_of_their_segment():
  scores = np.array([[0.1, 0.3, 0.2], [0.4, 0.4, 0.0], [0.0, 0.1, 0.2]])
  found = labelling.label_objects(np.array([[0, 1], [2, 0]]), scores)
  assert found.tolist() == [[1, 0], [BACKGROUND, 1]]


def test_parts_are_those_of_the_object_at_the_segments_first_pixel():
  segments = np.array([[0, 0, 1], [2, 0, 1]])
  objects = np.array([[1, 0, 0], [BACKGROUND, 0, 1]])
  scores = np.array([[9, 8, 1, 2], [5, 6, 9, 9], [9, 9, 9, 9]], float)
  found = labelling.label_parts(segments, objects, scores, WORDS)
  assert found.tolist() == [[3, 3, 1], [NO_PART, 3, 1]]


def test_the_oracle_names_what_a_segment_shares_most_pixels_with():
  segments = np.array([[0, 0, 0], [1, 1, 1]])
  objects, parts = np.array([[1, 1, 2], [2, 2, 1]]), np.array([[4, 4, 2], [0, 0, 4]])
  scores = labelling.overlaps(segments, objects, 3)
  np.testing.assert_array_equal(scores, [[-np.inf, 2, 1], [-np.inf, 1, 2]])
  found = labelling.label_objects(segments, scores)
  assert found.tolist() == [[1, 1, 1], [2, 2, 2]]
  # Most of the first segment is no part, yet it gets one; the second is background.
  scores = labelling.overlaps(segments, parts, 4)
  assert labelling.label_parts(segments, found, scores, WORDS).tolist() == [[2] * 3, [4] * 3]
  # A segment without any part of its object is no part of it.
  birds = np.ones_like(found)
  assert labelling.label_parts(segments, birds, scores, WORDS).tolist() == [[2] * 3, [4] * 3]


def test_a_picture_shows_one_segment_and_the_fill():
  image = np.arange(4 * 4 * 3, dtype=np.float32).reshape(4, 4, 3) - 7
  pictures = labelling.mask_images(image, np.array([[0, 1], [1, 2]]))
  assert pictures.shape == (3, 4, 4, 3) and pictures.dtype == np.float32
  np.testing.assert_array_equal(pictures[0, :2, :2], image[:2, :2])
  np.testing.assert_array_equal(pictures[1, :2, 2:], image[:2, 2:])
  np.testing.assert_array_equal(pictures[1, 2:, :2], image[2:, :2])
  assert (pictures[0, 2:] == 0.5).all() and (pictures[1, 2:, 2:] == 0.5).all()
  # Finer segments than the picture: the nearest pixel tells.
  fine = labelling.mask_images(image[:2, :2], np.arange(36).reshape(6, 6) // 6)
  assert len(fine) == 6 and [(each != 0.5).any() for each in fine] == [0, 1, 0, 0, 1, 0]
