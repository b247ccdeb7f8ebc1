"""Images on canvases, whose memory serves again, but not as long as anybody looks at it."""

import gc

import jax
import numpy as np
import pytest
from test_transforms import photo

from hseg_jax.data import canvases, transforms
from hseg_jax.data.canvases import Canvases


def images(*shapes, value=255):
  return [np.full((*shape, 3), value, np.uint8) for shape in shapes]


def address(canvas):
  return canvas.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(30, 40), (40, 30), (40, 40)])
def test_what_fits_a_canvas_keeps_its_pixels(shape):
  canvas = np.full((40, 40, 3), 255, np.uint8)
  assert canvases.on_canvas(photo(*shape), canvas) == shape
  height, width = shape
  np.testing.assert_array_equal(canvas[:height, :width], photo(*shape))
  assert not canvas[height:].any() and not canvas[:, width:].any()


@pytest.mark.parametrize("covered", [(0, 0), (10, 35), (10, 40), (35, 20), (35, 35), (40, 40)])
def test_what_is_black_on_a_canvas_is_not_written_again(covered):
  canvas = np.full((40, 40, 3), 9, np.uint8)  # where it says that it is black
  expected = canvas.copy()
  canvas[: covered[0], : covered[1]] = 255
  expected[: covered[0], : covered[1]] = 0
  expected[:20, :30] = photo(20, 30)
  assert canvases.on_canvas(photo(20, 30), canvas, covered=covered) == (20, 30)
  np.testing.assert_array_equal(canvas, expected)


@pytest.mark.parametrize(
  ("shape", "expected"), [((60, 44), (40, 29)), ((100, 150), (27, 40)), ((1, 500), (1, 40))]
)
def test_what_does_not_fit_a_canvas_is_shrunk(shape, expected):
  canvas = np.full((40, 40, 3), 255, np.uint8)
  assert canvases.on_canvas(photo(*shape), canvas) == expected
  wanted = transforms.resize(photo(*shape), *expected).astype(int)
  height, width = expected
  assert np.abs(canvas[:height, :width] - wanted).mean() < 9  # other filters, and it has noise
  assert not canvas[height:].any() and not canvas[:, width:].any()


def test_what_is_beside_an_image_is_black_whatever_was_there_before():
  memory = Canvases(2, 8)
  used = set()
  for shapes in (((8, 8), (3, 5)), ((2, 6), (8, 1)), ((20, 10), (5, 5)), ((7, 2), (1, 8))):
    canvas, size = memory.fill(images(*shapes))
    assert canvas.shape == (2, 8, 8, 3) and canvas.dtype == np.uint8 and size.dtype == np.int32
    for i in range(2):
      expected = np.zeros((8, 8, 3), np.uint8)
      expected[: size[i, 0], : size[i, 1]] = 255
      np.testing.assert_array_equal(canvas[i], expected)
    used.add(address(canvas))
    del canvas
  assert len(used) == 1
  np.testing.assert_array_equal(size, [[7, 2], [1, 8]])


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
  memory = Canvases(2, 64)
  memory.fill(images((64, 64), (64, 64), value=3))  # for new memory and used alike
  held = look(memory.fill(images((64, 64), (64, 64), value=1))[0])
  gc.collect()
  for _ in range(3):
    memory.fill(images((64, 64), (64, 64), value=2))
  assert (np.asarray(held) == 1).all()


def test_what_was_black_stays_untouched(monkeypatch):
  covered, on_canvas = [], canvases.on_canvas

  def record(image, canvas, **options):
    covered.append(options["covered"])
    return on_canvas(image, canvas, **options)

  monkeypatch.setattr(canvases, "on_canvas", record)
  memory = Canvases(2, 8)
  for shapes in (((3, 4), (16, 12)), ((8, 8), (1, 1)), ((2, 2), (2, 2))):
    memory.fill(images(*shapes))
  assert covered == [(0, 0), (0, 0), (3, 4), (8, 6), (8, 8), (1, 1)]


def test_sizes_are_kept_when_memory_serves_again():
  memory = Canvases(1, 8)
  _, size = memory.fill(images((3, 4)))
  memory.fill(images((5, 6)))
  np.testing.assert_array_equal(size, [[3, 4]])


def test_canvases_cannot_be_written_to():
  canvas, _ = Canvases(1, 8).fill(images((3, 4)))
  with pytest.raises(ValueError, match="read-only"):
    canvas[0, 7, 7] = 1


def test_a_batch_is_filled_whole_or_not_at_all():
  memory = Canvases(2, 8)
  for wrong in (images((8, 8)), images((8, 8), (8, 8), (8, 8))):
    with pytest.raises(ValueError, match="zip"):
      memory.fill(wrong)
  canvas, size = memory.fill(images((2, 2), (3, 3)))
  assert canvas.sum() == 255 * 3 * (4 + 9) and (size == [[2, 2], [3, 3]]).all()


def test_memory_outlives_its_canvases():
  memory = Canvases(1, 64)
  canvas, _ = memory.fill(images((64, 64), value=7))
  del memory
  gc.collect()
  assert (canvas == 7).all()
