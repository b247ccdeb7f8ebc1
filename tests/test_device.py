"""Superpixels on the device: connected, complete, the same however they are computed."""

import functools
import itertools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from hseg_jax.errors import UserError
from hseg_jax.scoring import superpixels as scoring
from hseg_jax.superpixels import device, device_slic

CROSS = ndimage.generate_binary_structure(2, 1)
TINY, NUMBER = (24, 21), 50  # cells of three pixels have no coarser blocks: quickly compiled
RING = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))


@functools.cache
def cutter(num_segments):
  return jax.jit(functools.partial(device.segment, num_segments=num_segments))


def pictures(count, height, width, seed=0):
  """Blobs of colour that move borders, with noise that would tear segments apart."""
  rng = np.random.default_rng(seed)
  blobs = ndimage.zoom(
    rng.uniform(0, 255, (count, 5, 4, 3)), (1, height / 5, width / 4, 1), order=1
  )
  noisy = blobs + rng.normal(0, 25, blobs.shape)
  return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


# Of odd sizes, too, which blocks of four pixels do not divide; and with cells of less than a block.
@pytest.mark.parametrize(
  ("height", "width", "number"),
  [(64, 64, 64), (33, 50, 20), (9, 7, 63), (5, 40, 3), (1, 6, 2)],
)
def test_every_segment_is_there_and_connected(height, width, number):
  rows, columns = device.grid_shape(height, width, number)
  images = pictures(2, height, width)
  labels = np.asarray(cutter(number)(images))
  assert labels.dtype == np.int32 and labels.shape == images.shape[:3]
  for each in labels:
    np.testing.assert_array_equal(np.unique(each), np.arange(rows * columns))
    np.testing.assert_array_equal(scoring.count_pieces(each), 1)


def test_grid_shape_is_the_largest_grid_of_squarish_cells():
  assert device.grid_shape(224, 224, 196) == (14, 14)
  assert device.grid_shape(512, 512, 1024) == (32, 32)
  assert device.grid_shape(64, 64, 64) == (8, 8)
  rows, columns = device.grid_shape(321, 481, 196)
  assert rows * columns <= 196 and 321 / rows == pytest.approx(481 / columns, rel=0.1)
  with pytest.raises(UserError, match="num_segments"):
    device.segment(jnp.zeros((1, 8, 8, 3)), 0)
  with pytest.raises(UserError, match="raise superpixels.num_segments"):
    jax.eval_shape(functools.partial(device.segment, num_segments=1), jnp.zeros((1, 500, 500, 3)))


def test_borders_of_the_image_become_borders_of_segments():
  image = np.full((2, 64, 64, 3), 200, np.uint8)
  image[:, :, 29:] = (30, 60, 160)  # off the grid's borders, which are at 24 and 32
  image[:, 37:, :29] = (180, 90, 20)
  labels = np.asarray(cutter(64)(image))[0]
  truth = image[0].astype(int) @ (1, 256, 65536)
  assert scoring.achievable_accuracy(np.unique(truth, return_inverse=True)[1], labels) > 0.995


def test_batch_mates_order_and_dtype_change_nothing():
  images = pictures(3, *TINY)
  cut = cutter(NUMBER)
  together = np.asarray(cut(images))
  assert len({each.tobytes() for each in together}) == 3
  np.testing.assert_array_equal(cut(images[[2, 0, 1]]), together[[2, 0, 1]])
  np.testing.assert_array_equal(cut(images[1:2])[0], together[1])
  np.testing.assert_array_equal(cut(images.astype(np.float32)), together)
  np.testing.assert_array_equal(cut(images), together)


def test_mapped_over_images_as_accelerators_do_it():
  images = pictures(3, *TINY)
  rows, columns = device.grid_shape(*TINY, NUMBER)
  every = jax.jit(jax.vmap(lambda colour: device._segment_image(colour, rows, columns)))
  expected = np.asarray(cutter(NUMBER)(images))
  np.testing.assert_array_equal(every(device.to_lab(jnp.asarray(images, jnp.float32))), expected)
  twice = jax.jit(jax.vmap(functools.partial(device.segment, num_segments=NUMBER)))
  np.testing.assert_array_equal(twice(images[:, None])[:, 0], expected)


def test_four_devices_make_what_one_makes():
  images = pictures(4, *TINY)
  mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  labels = cutter(NUMBER)(jax.device_put(images, split))
  np.testing.assert_array_equal(labels, cutter(NUMBER)(images))


def test_simple_pixels_by_brute_force():
  rings = np.array(list(itertools.product((False, True), repeat=8)))
  expected = []
  for ring in rings:
    window = np.zeros((3, 3), bool)
    for (y, x), value in zip(RING, ring, strict=True):
      window[y, x] = value
    # Corners that hang on nothing are none of the middle's business.
    pieces = ndimage.label(window, CROSS)[0]
    beside = {pieces[y, x] for y, x in ((0, 1), (1, 2), (2, 1), (1, 0))} - {0}
    around_all = window[[0, 1, 1, 2], [1, 0, 2, 1]].all() and len(beside) == 1 and window.sum() == 8
    expected.append(len(beside) == 1 and not around_all)
  np.testing.assert_array_equal(device.is_simple(list(jnp.asarray(rings.T))), expected)


def brute_force_sweep(colour, labels, count, scale):
  """One sweep of `device._move`, pixel by pixel, in numpy."""
  height, width = labels.shape
  place = [np.rint((np.arange(n) + 0.5) * scale).astype(int) for n in (height, width)]
  points = np.stack([*colour, *np.broadcast_arrays(place[0][:, None], place[1])])
  size = np.array([(labels == k).sum() for k in range(count)])
  total = np.array([[p[labels == k].sum() for p in points] for k in range(count)])
  means = (total + size[:, None] // 2) // size[:, None]
  edges = ((-1, 0), (0, 1), (1, 0), (0, -1))
  labels = np.pad(labels, 1, constant_values=-1)
  for p, q in ((0, 0), (1, 1), (0, 1), (1, 0)):
    for y, x in itertools.product(range(p, height, 2), range(q, width, 2)):
      window = labels[y : y + 3, x : x + 3]
      own, offers = window[1, 1], [window[1 + dy, 1 + dx] for dy, dx in edges]

      def energy(k, y=y, x=x, offers=offers):
        apart = points[:, y, x] - means[k]
        distance = (apart[:3] ** 2).sum() + (apart[3:] ** 2).sum() // 16
        return distance - round(device.BORDER * 16) * offers.count(k)

      without = window == own
      without[1, 1] = False
      pieces = ndimage.label(without, CROSS)[0]
      if size[own] <= device.FEWEST or len({pieces[1 + dy, 1 + dx] for dy, dx in edges} - {0}) != 1:
        continue
      best = min([own] + [k for k in offers if k >= 0], key=energy)  # the first of equals
      labels[y + 1, x + 1] = best
  return labels[1:-1, 1:-1]


def test_sweeps_equal_brute_force():
  rng, sweeps = np.random.default_rng(2), 2
  height, width, rows, columns = 11, 13, 2, 3  # odd
  colour = np.full((3, height, width), 500) + rng.integers(-60, 60, (3, height, width))
  start = device._start(height, width, rows, columns)
  expected = np.asarray(device._join(start))[:height, :width]
  moved = device._move(jnp.asarray(colour, jnp.int32), start, rows * columns, 12.5, sweeps)
  for _ in range(sweeps):
    before, expected = expected, brute_force_sweep(colour, expected, rows * columns, 12.5)
    assert (before != expected).any()
  np.testing.assert_array_equal(moved, expected)


def test_colours_are_those_of_opencv():
  image = np.random.default_rng(0).integers(0, 256, (1, 20, 20, 3)).astype(np.float32)
  steps = device.unpack(device.to_lab(jnp.asarray(image))[0], 3, device.COLOUR_BITS)
  found = (np.stack(steps, axis=-1) - (0, 512, 512)) / device.COLOUR_STEPS
  expected = cv2.cvtColor(image[0] / 255, cv2.COLOR_RGB2LAB)
  np.testing.assert_allclose(found, expected, atol=0.5)  # OpenCV looks colours up in a coarse table


def test_slic_follows_colour_within_reach():
  image = np.full((2, 32, 32, 3), 220, np.uint8)
  image[1, :, 18:] = (20, 60, 160)
  labels = np.asarray(jax.jit(functools.partial(device_slic.segment, num_segments=16))(image))
  np.testing.assert_array_equal(labels[0], np.kron(np.arange(16).reshape(4, 4), np.ones((8, 8))))
  truth = np.repeat((np.arange(32) >= 18)[None], 32, axis=0).astype(int)
  assert scoring.achievable_accuracy(truth, labels[1]) == 1
  assert not np.isin(labels[1][:, :8], (2, 3)).any()  # two cells away
