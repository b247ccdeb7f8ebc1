"""Names for segments: which class of object, and of part, each region of an image gets.

The protocol of the reference's PartImageNet notebooks, after OVSeg (Liang et al., CVPR 2023) but
without its fine-tuning: the segments of one level are named among the objects, those of a finer one
among the parts of the object that they lie in. Names are found by comparing pictures of segments
with sentences, or by an oracle, which knows the truth and so judges the segmentation alone.
"""

import numpy as np
from jaxtyping import Float, Float32, Int, Integer

from hseg_jax.vocabulary import Vocabulary

# In the normalised space of an image-text model, as in the reference: a colour near mid-grey.
FILL = 0.5
TEMPLATE = "a photo of a {}"


def label_objects(
  segments: Integer[np.ndarray, "h w"], scores: Float[np.ndarray, "n c"]
) -> Int[np.ndarray, "h w"]:
  """Gives every segment its best class, the background among them; ties go to the lowest.

  Args:
    segments: segment of every pixel; ids 0, 1, 2, ...
    scores: of each segment for each object, the background last.
  """
  return scores.argmax(axis=1)[segments]


def label_parts(
  segments: Integer[np.ndarray, "h w"],
  objects: Int[np.ndarray, "h w"],
  scores: Float[np.ndarray, "n c"],
  vocabulary: Vocabulary,
) -> Int[np.ndarray, "h w"]:
  """Gives every segment its best class among the parts of one object; ties go to the lowest.

  The object is the one at the segment's first pixel, row by row, as in the reference. Segments of
  the background are background, and so are those for which no part scores above -inf.

  Args:
    segments: segment of every pixel; ids 0, 1, 2, ...
    objects: class map of objects, as `label_objects` made it.
    scores: of each segment for each class of part.
    vocabulary: which parts belong to which object.
  """
  background = len(vocabulary.pairs)
  _, first = np.unique(segments, return_index=True)
  classes = np.full(len(first), background)
  for segment, found in enumerate(objects.ravel()[first].tolist()):
    members = vocabulary.members(found)
    if len(members) and scores[segment, members].max() > -np.inf:
      classes[segment] = members[scores[segment, members].argmax()]
  return classes[segments]


def overlaps(
  segments: Integer[np.ndarray, "h w"], truth: Int[np.ndarray, "h w"], num_classes: int
) -> Float[np.ndarray, "n c"]:
  """The oracle's scores: pixels that each segment shares with each class; -inf for none."""
  shared = np.zeros((int(segments.max()) + 1, num_classes))
  inside = truth < num_classes
  np.add.at(shared, (segments[inside], truth[inside]), 1)
  return np.where(shared > 0, shared, -np.inf)


def mask_images(
  image: Float32[np.ndarray, "s s 3"], segments: Integer[np.ndarray, "h w"]
) -> Float32[np.ndarray, "n s s 3"]:
  """One picture of every segment: the image with `FILL` everywhere else.

  Args:
    image: normalised as the image-text model wants it.
    segments: of the same view, at any resolution; the nearest pixel tells.
  """
  rows, columns = (
    ((np.arange(new) + 0.5) * old / new).astype(int)
    for new, old in zip(image.shape[:2], segments.shape, strict=True)
  )
  labels = segments[rows[:, None], columns]
  inside = labels == np.arange(int(segments.max()) + 1)[:, None, None]
  return np.where(inside[..., None], image, np.float32(FILL))
