"""Pictures of a hierarchy: sizes, families of colours, nothing drawn where nothing is."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import color

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.viz import panels


@pytest.fixture
def hierarchy():
  """Sixteen cells, of which four and four make quadrants, of which two and two make halves."""
  cells = np.arange(16).reshape(4, 4)
  quadrants = np.kron([[0, 1], [2, 3]], np.ones((2, 2), int))
  halves = np.kron([[0, 1]], np.ones((4, 2), int))
  return Hierarchy.from_labels(
    [np.kron(m, np.ones((3, 3), int)) for m in (cells, quadrants, halves)]
  )


def hues(colors):
  lab = color.rgb2lab(colors[None])[0]
  return np.arctan2(lab[:, 2], lab[:, 1])


def test_regions_have_colours_of_their_own_near_their_parents(hierarchy):
  colors = panels.level_colors(hierarchy)
  assert [len(each) for each in colors] == [16, 4, 2]
  for each in colors:
    assert len(np.unique(each, axis=0)) == len(each)
  tops = hues(colors[2])
  for level, ancestors in (
    (0, hierarchy.parents[1][hierarchy.parents[0]]),
    (1, hierarchy.parents[1]),
  ):
    turn = np.angle(np.exp(1j * (hues(colors[level])[:, None] - tops)))
    np.testing.assert_array_equal(np.abs(turn).argmin(axis=1), ancestors)


def test_an_only_child_keeps_its_parents_colour():
  labels = np.array([[0, 1, 2]])
  colors = panels.level_colors(Hierarchy.from_labels([labels, labels, np.array([[0, 0, 1]])]))
  np.testing.assert_array_equal(colors[0], colors[1])
  np.testing.assert_array_equal(colors[1][2], colors[2][1])


def test_tiles_show_every_level_at_one_size(hierarchy):
  image = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
  tiles = panels.tiles(image, hierarchy, 48)
  assert [tile.title for tile in tiles] == ["image", "16 superpixels", "4 regions", "2 regions"]
  assert all(tile.picture.shape == (48, 48, 3) for tile in tiles)
  # Inside a superpixel its mean colour, on its boundary white.
  np.testing.assert_allclose(tiles[1].picture[6, 6], image[:3, :3].mean((0, 1)), atol=1)
  assert (tiles[1].picture[11, 5] == 255).all() and (tiles[1].picture[12, 5] == 255).all()
  # Large images are not enlarged, and one region has no boundary.
  whole = Hierarchy(np.zeros((12, 12), np.int32), (np.zeros(1, np.int32),))
  large = panels.tiles(image, whole, 6)
  assert large[0].picture.shape == (12, 12, 3) and large[2].title == "1 region"
  assert len(np.unique(large[1].picture.reshape(-1, 3), axis=0)) == 1
  np.testing.assert_array_equal(large[0].picture, image)


def test_a_shrunk_image_is_drawn_with_shrunk_regions(hierarchy):
  image = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
  coarse = Hierarchy(hierarchy.segments[1::3, 1::3], hierarchy.parents)
  for found, expected in zip(
    panels.tiles(image[::3, ::3], hierarchy, 4),
    panels.tiles(image[::3, ::3], coarse, 4),
    strict=True,
  ):
    assert found.title == expected.title
    np.testing.assert_array_equal(found.picture, expected.picture)
  # Regions that have no pixel left are no trouble.
  assert panels.tiles(image[:2, :2], hierarchy, 2)[1].title == "16 superpixels"


def test_panel_puts_the_tiles_side_by_side(hierarchy):
  image = np.full((12, 12, 3), 128, np.uint8)
  picture = panels.panel(image, hierarchy, size=48, title="a cat")
  assert picture.dtype == np.uint8 and picture.shape == (48 + 20, 4 * 48 + 3 * 2, 3)
  tiles = panels.tiles(image, hierarchy, 48)
  np.testing.assert_array_equal(picture[:48, 100:148], tiles[2].picture)
  untitled = panels.panel(image, hierarchy, size=48)
  assert (picture[48:, :48] != untitled[48:, :48]).any()
  np.testing.assert_array_equal(picture[:, 50:], untitled[:, 50:])
  # A long title stays below its own tile.
  longer = panels.panel(image, hierarchy, size=48, title="a cat " * 9)
  np.testing.assert_array_equal(longer[:, 50:], untitled[:, 50:])
  assert (longer[48:, :48] != picture[48:, :48]).any()


def test_mean_colors_by_hand():
  image = np.array([[[0, 10, 20], [2, 10, 20], [9, 9, 9]]], np.uint8)
  np.testing.assert_array_equal(
    panels.mean_colors(image, np.array([[0, 0, 1]])), [[1, 10, 20], [9, 9, 9]]
  )


def test_levels_without_an_image_have_tiles_of_one_size(hierarchy):
  picture = panels.level_panel(hierarchy, size=48)
  assert picture.shape == (48 + 20, 3 * 48 + 2 * 2, 3)
  for level, colors in enumerate(panels.level_colors(hierarchy)):
    # Off the lines, the colour of the region.
    np.testing.assert_array_equal(picture[6, 50 * level + 6], colors[0])
  # Of whatever size the labels are, even lines of pixels.
  large = Hierarchy(np.repeat([[0, 1]], 900, axis=1).astype(np.int32).repeat(7, axis=0))
  assert panels.level_panel(large, size=48).shape == (1 + 20, 48, 3)


def test_a_hierarchy_shows_its_levels_in_a_notebook(hierarchy):
  picture = np.asarray(Image.open(io.BytesIO(hierarchy._repr_png_())))
  np.testing.assert_array_equal(picture, panels.level_panel(hierarchy))
  assert repr(hierarchy) == "Hierarchy(12x12 pixels, 16 > 4 > 2 regions)"


def test_maps_are_painted_by_their_ids():
  small = panels.paint(np.array([[0, 0, 5, 5]] * 4 + [[-1, -1, 5, 5]] * 4), 32)
  assert small.shape == (32, 16, 3)
  first, second, blank = small[8, 4], small[8, 12], small[28, 4]
  assert (first != second).any() and (blank == 200).all() and (small[8, 7] > 200).all()
  other = panels.paint(np.array([[5, 9], [5, 9]]), 16)
  assert (other[8, 4] == second).all()  # an id has one colour in all pictures
  large = panels.paint(np.kron([[0.0, 1.0]], np.ones((50, 50))), 20)
  assert large.shape == (10, 20, 3) and large[5, 4].tolist() == [0] * 3
  assert large[5, 15].tolist() == [255] * 3
  assert panels.paint(np.eye(2, dtype=bool), 2)[0, 0].tolist() == [255] * 3
  assert panels.thumbnail(np.zeros((40, 80, 3), np.uint8), 20).shape == (10, 20, 3)
