"""Images on canvases, whose memory serves again, but not as long as anybody looks at it."""

import gc
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_crops import random_box
from test_transforms import photo

from hseg_jax import device_transforms
from hseg_jax.data import canvases, crops, stream, transforms
from hseg_jax.data.canvases import Memory
from hseg_jax.images import decode_smaller

CANVAS = 40


def lay(shape, *boxes, image_size=1):
  """The canvas, the boxes on it, and where it was written to."""
  first, second = (np.full((CANVAS, CANVAS, 3), value, np.uint8) for value in (0, 255))
  found = canvases.on_canvas(photo(*shape), boxes, first, image_size=image_size)
  assert canvases.on_canvas(photo(*shape), boxes, second, image_size=image_size) == found
  return first, found, (first == second).all(axis=2)


def cut(image, box):
  """The pixels whose centres a box holds."""
  ends = np.add(box[:2], box[2:])
  top, left = np.ceil(np.array(box[:2]) - 0.5).astype(int)
  height, width = np.ceil(ends - 0.5).astype(int) - (top, left)
  assert height > 0 and width > 0 and min(top, left) >= 0
  assert top + height <= len(image) and left + width <= image.shape[1]
  return image[top : top + height, left : left + width]


@pytest.mark.parametrize(
  ("boxes", "size"),
  [
    ([(10, 20, 40, 30)], (40, 30)),
    ([(0, 0, 5, 7)], (5, 7)),
    ([(60, 70, 20, 20)], (20, 20)),
    ([(10, 20, 5, 5), (30, 15, 7, 9)], (27, 10)),
    ([(10, 20, 40, 40), (15, 30, 5, 6)], (40, 40)),
  ],
)
def test_crops_that_fit_a_canvas_keep_their_pixels(boxes, size):
  canvas, found, is_written = lay((80, 90), *boxes)
  for box, there in zip(boxes, found, strict=True):
    np.testing.assert_array_equal(cut(canvas, there), cut(photo(80, 90), box))
  height, width = size
  assert is_written[:height, :width].all() and is_written.sum() == height * width


@pytest.mark.parametrize(
  ("shape", "boxes", "image_size", "size"),
  [
    ((60, 44), [(0, 0, 60, 44)], 35, (40, 29)),  # halves have fewer pixels than 26x26
    ((60, 44), [(0, 0, 60, 44)], 34, (30, 22)),
    ((61, 45), [(0, 0, 61, 45)], 22, (30, 22)),
    ((80, 60), [(0, 0, 80, 60)], 20, (40, 30)),  # three were possible
    ((61, 45), [(0, 0, 61, 45), (3, 2, 20, 21)], 22, (40, 30)),  # for one crop of the two
    ((61, 45), [(0, 0, 61, 30), (3, 2, 58, 43)], 15, (30, 22)),
    ((100, 150), [(0, 0, 100, 150)], 10, (25, 37)),
    ((100, 150), [(0, 0, 100, 150)], 99, (27, 40)),
    ((1, 500), [(0, 0, 1, 500)], 9, (1, 40)),
    ((3, 500), [(0, 1, 2, 499), (2, 0, 1, 1)], 1, (1, 40)),
  ],
)
def test_crops_that_do_not_fit_are_shrunk(shape, boxes, image_size, size):
  canvas, found, is_written = lay(shape, *boxes, image_size=image_size)
  height, width = size
  assert is_written[:height, :width].all() and is_written.sum() == height * width
  for box, there in zip(boxes, found, strict=True):
    part = cut(canvas[:height, :width], there)
    scale = np.divide(size, shape)
    np.testing.assert_allclose(there, box * np.tile(scale, 2), atol=1.01)
    assert all(side >= 1 for side in there[2:])
    wanted = transforms.resize(cut(photo(*shape), box), *part.shape[:2]).astype(int)
    # Other filters, and it has noise.
    assert part.shape[0] == 1 or np.abs(part - wanted).mean() < 14


@pytest.mark.parametrize(("shape", "end"), [((90, 81), (30, 27)), ((91, 83), (30.33, 27.49))])
def test_blocks_are_means(shape, end):
  """Those that are left out at the end are still counted, so that nothing moves."""
  canvas, (box,), is_written = lay(shape, (0, 0, *shape), image_size=27)
  np.testing.assert_allclose(box, (0, 0, *end), atol=0.01)
  blocks = photo(*shape)[:90, :81].reshape(30, 3, 27, 3, 3).mean(axis=(1, 3))
  assert np.abs(canvas[:30, :27] - blocks).max() <= 0.5 and is_written.sum() == 30 * 27


def test_no_pixel_is_left_out_where_blocks_are_not_enough():
  stripes = np.tile(np.array([255, 0, 0, 255], np.uint8)[:, None, None], (45, 50, 3))
  canvas = np.zeros((CANVAS, CANVAS, 3), np.uint8)
  canvases.on_canvas(stripes, [(0, 0, *stripes.shape[:2])], canvas, image_size=999)
  assert abs(canvas[1:39, :10].astype(int) - 127).max() <= 40  # every second row would be black


@pytest.mark.parametrize("views", [1, 2])
def test_crops_are_close_to_the_hosts(views):
  """Of an image three times as long as its canvas, whole boxes or not."""
  size, errors, is_kept = 16, [], []
  image = transforms.resize(photo(30, 40), 90, 120)
  for numbers in np.random.default_rng(0).random((60, views, crops.NUMBERS)):
    boxes = [random_box((90, 120), view) for view in numbers]
    canvas = np.full((CANVAS, CANVAS, 3), 255, np.uint8)
    found = canvases.on_canvas(image, boxes, canvas, image_size=size)
    is_kept.append(all(box[2:] == there[2:] for box, there in zip(boxes, found, strict=True)))
    for box, there in zip(boxes, found, strict=True):
      seen = device_transforms.crop_and_resize(jnp.asarray(canvas), jnp.array(there), size)
      errors.append(np.abs(seen - transforms.resize(cut(image, box), size, size).astype(int)))
  assert views == 2 or 0 < sum(is_kept) < 60
  worst = np.array(errors).mean(axis=(1, 2, 3))
  assert np.median(worst) < 1.5 and worst.max() < 4 * views


class Photographs:
  """JPEGs that remember how many times smaller they last came."""

  class_names = ()

  def __init__(self, *shapes):
    self.wholes = [transforms.resize(photo(30, 40), *shape) for shape in shapes]
    self.factors = {}

  def __len__(self):
    return len(self.wholes)

  def __getitem__(self, index):
    raise NotImplementedError

  def smaller(self, index, reduction):
    file = io.BytesIO()
    Image.fromarray(self.wholes[index]).save(file, format="jpeg", quality=95, subsampling=0)
    image, size = decode_smaller(file, "it", reduction)
    self.factors[index] = round(size[0] / image.shape[0])
    return {"image": image, "size": size, "label": index}


def test_decoders_factors_are_told_from_sizes():
  """Of those that a canvas of 24 pixels needs for 18, too."""
  for side in range(20, 200):
    for factor in (1, 2, 4, 8):
      image = np.zeros((-(-side // factor), -(-2 * side // factor), 3), np.uint8)
      (box,) = canvases._on_smaller(image, [(0, 8, 16, 24)], (side, 2 * side))
      assert box == (0, 8 / factor, 16 / factor, 24 / factor)


@pytest.mark.parametrize("views", [1, 2])
def test_what_decoders_made_smaller_is_close_to_the_hosts(views):
  """Boxes count in pixels of the file, whose last block need not be full."""
  size, seed, factors, errors = 16, 3, [], []
  source = Photographs((38, 30), (99, 150), (93, 61), (151, 123), (310, 205))
  options = {"source": source, "seed": seed, "views": views, "min_scale": 0.2, "image_size": size}
  memory = Memory(len(source), CANVAS)
  for number in range(16):
    (batch,) = canvases.decode_batches([number], memory=memory, **options)
    count = number * len(source)
    seeds, words = np.split(
      stream.words(seed, [count], len(source), 1 + views * crops.NUMBERS), [1], axis=1
    )
    np.testing.assert_array_equal(batch["seed"], np.ascontiguousarray(seeds).view(np.uint32))
    words = words >> 11
    for i, label in enumerate(batch["label"]):
      whole, factor = source.wholes[label], source.factors[label]
      factors.append(factor)
      for view, there in zip(np.split(words[i] * 2.0**-53, views), batch["boxes"][i], strict=True):
        box = random_box(whole.shape[:2], view, min_scale=0.2)
        if factor > 1 and views == 1:  # it fits then, from the pixel in which it begins
          wanted = np.divide(box, factor)
          wanted[:2] %= 1
          np.testing.assert_allclose(there, wanted, atol=1e-5)
        seen = device_transforms.crop_and_resize(
          jnp.asarray(batch["canvas"][i]), jnp.array(there), size
        )
        errors.append(np.abs(seen - transforms.resize(cut(whole, box), size, size).astype(int)))
  assert {1, 2, 4} <= set(factors)
  worst = np.array(errors).mean(axis=(1, 2, 3))
  assert np.median(worst) < 1.2 and worst.max() < 3


def images(memory, value):
  canvas = memory.take()
  canvas[:] = value
  return memory.lend(canvas)


def test_memory_serves_again():
  memory = Memory(2, 8)
  used = set()
  for value in range(4):
    canvas = images(memory, value)
    assert canvas.shape == (2, 8, 8, 3) and canvas.dtype == np.uint8 and (canvas == value).all()
    used.add(canvas.__array_interface__["data"][0])
    del canvas
  assert len(used) == 1
  assert memory.take() is not memory.take()


@pytest.mark.parametrize(
  "look",
  [
    lambda canvas: canvas,
    lambda canvas: canvas[1],
    lambda canvas: canvas[:, ::2].reshape(-1),
    lambda canvas: memoryview(canvas),
    lambda canvas: jax.device_put(canvas),
    lambda canvas: jax.device_put(canvas[0]),
  ],
  ids=["itself", "part", "view of a view", "buffer", "jax", "jax of a part"],
)
def test_what_is_looked_at_is_not_written_to(look):
  memory = Memory(2, 64)
  images(memory, 3)  # for new memory and used alike
  held = look(images(memory, 1))
  gc.collect()
  for _ in range(3):
    images(memory, 2)
  assert (np.asarray(held) == 1).all()


def test_canvases_cannot_be_written_to():
  canvas = images(Memory(1, 8), 0)
  with pytest.raises(ValueError, match="read-only"):
    canvas[0, 7, 7] = 1


def test_canvases_outlive_their_memory():
  memory = Memory(1, 64)
  canvas = images(memory, 7)
  del memory
  gc.collect()
  assert (canvas == 7).all()
