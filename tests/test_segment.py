"""The Segmenter: images of any size and number to hierarchies at their own resolution."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import hseg_jax
from hseg_jax import segment
from hseg_jax.errors import UserError
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.model_input import resize_labels
from hseg_jax.superpixels import device, seeds
from tests.tiny_segmenter import FIELDS, SEEDS, built, photograph, save


def superpixels_of(image):
  """Those of at most 32 requested that are nearest to 16, what SEEDS makes of 32x32 pixels."""
  counts = {n: seeds.count(*image.shape[:2], n) for n in range(16, 32)}
  request = max((n for n in counts if counts[n] <= 16), key=counts.get)
  return seeds.segment(image, request, bins=5, iterations=5)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
  return segment.Segmenter.from_exported(save(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def traced(monkeypatch):
  """The shapes for which a model is compiled, in order; it is one that sees only mean colours."""
  shapes = []

  def forward(model, variables, image, segments):
    shapes.append(image.shape)
    count = len(image), model.num_segments
    features = jnp.broadcast_to(image.mean((1, 2))[:, None], (*count, 3))
    assignment = jnp.arange(model.num_segments) % model.num_clusters[0]
    return {
      "assignments": (jnp.broadcast_to(assignment, count),),
      "features": (features, features[:, : model.num_clusters[0]]),
    }

  monkeypatch.setattr(segment, "read", forward)
  return shapes


def assert_equal(one, other):
  np.testing.assert_array_equal(one.segments, other.segments)
  assert len(one.parents) == len(other.parents)
  for first, second in zip(one.parents, other.parents, strict=True):
    np.testing.assert_array_equal(first, second)
  for first, second in zip(one.features, other.features, strict=True):
    np.testing.assert_allclose(first, second, atol=1e-5)
  for name in ("probabilities", "logits", "image_features"):
    np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-5)
  assert one.embeddings is None and other.embeddings is None


def test_along_paths_every_region_is_one_piece(tmp_path):
  # Weights that were trained without paths, photographs larger than what the model sees, and
  # superpixels so thin that most touch others there than in the photograph, or vanish.
  along = segment.Segmenter.from_exported(save(tmp_path / "weights"), assignment="path")
  images = [photograph(seed, 90, 90) for seed in range(3)]
  stripes = np.zeros((90, 90), np.int32)
  for i, start in enumerate((20, 22, 45, 47, 48, 60, 63), start=1):
    stripes[start:] = i
    stripes[:40, start:] += 8 * (i == 4)
  # Two red blocks meet where the model sees them, but a line that is lost there keeps them apart.
  blocks = np.zeros((96, 96), np.int32)
  blocks[:48, 70:], blocks[48], blocks[49:, :50], blocks[49:, 50:] = 1, 2, 3, 4
  colors = np.array([[0, 0, 255], [255, 0, 0], [0, 0, 0], [0, 255, 0], [255, 0, 0]], np.uint8)
  maps = [stripes, stripes.T, np.rot90(stripes), blocks]
  hierarchies = along([*images, colors[blocks]], maps)
  assert [each.sizes[1:] for each in hierarchies] == [(6, 3), (6, 3), (6, 3), (4, 3)]
  for i, hierarchy in enumerate(hierarchies):
    for level in range(3):
      labels = hierarchy.labels(level)
      assert all(ndimage.label(labels == region)[1] == 1 for region in np.unique(labels)), (
        i,
        level,
      )
    assert [len(heights) for heights in hierarchy.heights[1:]] == [hierarchy.sizes[1] - 3, 2]
    assert hierarchy.boundaries().max() > 0


@pytest.mark.parametrize("size", [(47, 71), (89, 59)])
def test_levels_nest_at_full_resolution(segmenter, size):
  image = photograph(0, *size)
  hierarchy = segmenter(image)
  maps = [hierarchy.labels(level) for level in range(hierarchy.num_levels)]
  assert all(labels.shape == size for labels in maps)
  Hierarchy.from_labels(maps)  # raises unless they nest
  assert [len(features) for features in hierarchy.features] == list(hierarchy.sizes)
  assert 1 <= hierarchy.sizes[2] <= 3 and hierarchy.sizes[1] <= 6
  _, expected = np.unique(superpixels_of(image), return_inverse=True)
  np.testing.assert_array_equal(maps[0], expected.reshape(size))
  assert hierarchy.probabilities.shape == (5,)
  np.testing.assert_allclose(hierarchy.probabilities.sum(), 1, atol=1e-5)


def test_an_exported_model_says_what_the_model_says(segmenter):
  image = photograph(1, 57, 83)
  model, variables = built()
  labels = superpixels_of(image)
  # The short side shrinks to 32; 32 * 83 / 57 is 46.6, and the nearest multiple of 4 is 48.
  small = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR))
  mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
  pixels = (small / np.float32(255) - mean) / std
  shrunk = cv2.resize(labels, (48, 32), interpolation=cv2.INTER_NEAREST_EXACT)
  apply = jax.jit(functools.partial(model.apply, train=False))
  out = apply(variables, pixels[None], shrunk[None])
  coarse, coarser = (np.where(level.mask, level.assignment.argmax(-1), -1) for level in out.levels)
  first, second = out.levels
  features = [np.asarray(x[0]) for x in (first.tokens, second.tokens, second.centroids)]
  probabilities = np.asarray(jax.nn.softmax(out.logits))[0]
  expected = Hierarchy.from_assignments(
    labels,
    [coarse[0], coarser[0]],
    features,
    probabilities,
    logits=np.asarray(out.logits[0]),
    image_features=np.asarray(out.features[0]),
  )
  assert_equal(segmenter(image), expected)


def test_lists_equal_single_images(segmenter):
  sizes = [(40, 60), (60, 40), (41, 61), (80, 121)]
  images = [photograph(i, *size) for i, size in enumerate(sizes)]
  found = segmenter(images)
  assert [hierarchy.segments.shape for hierarchy in found] == sizes
  for image, hierarchy in zip(images, found, strict=True):
    assert_equal(hierarchy, segmenter(image))
  assert segmenter([]) == []


def test_files_are_read_upright(segmenter, tmp_path):
  images = [photograph(i, 40, 60) for i in range(2)]
  exif = Image.Exif()
  exif[0x0112] = 8  # rotate by 90 degrees to the left to show it
  Image.fromarray(images[0]).save(tmp_path / "a.png")
  Image.fromarray(np.rot90(images[1], k=-1)).save(tmp_path / "b.png", exif=exif)
  expected = segmenter(images)
  assert_equal(segmenter(str(tmp_path / "a.png")), expected[0])
  found = segmenter([tmp_path / "b.png", images[0], str(tmp_path / "a.png")])
  for one, other in zip(found, (expected[1], expected[0], expected[0]), strict=True):
    assert_equal(one, other)
  with pytest.raises(UserError, match="none.jpg"):
    segmenter("none.jpg")


def test_other_variables_of_the_same_model(segmenter, tmp_path):
  path = str(tmp_path / "photo.png")
  Image.fromarray(photograph(0, 47, 71)).save(path)
  before = segmenter(path)
  params = segmenter.variables["params"]
  head = {**params["head"], "kernel": 3 * params["head"]["kernel"]}
  variables = {**segmenter.variables, "params": {**params, "head": head}}
  after = segmenter.with_variables(variables)(path)
  np.testing.assert_array_equal(after.segments, before.segments)
  np.testing.assert_allclose(
    after.logits, 3 * before.logits - 2 * params["head"]["bias"], atol=1e-5
  )
  assert_equal(segmenter(path), before)
  image, labels = segmenter.inputs(path)
  out = segmenter.model.apply(variables, image, labels, train=False)
  np.testing.assert_allclose(out.logits[0], after.logits, atol=1e-4)


def test_foreign_superpixels_take_the_place_of_seeds(segmenter):
  image = photograph(2, 47, 71)
  labels = superpixels_of(image)
  assert_equal(segmenter(image, labels), segmenter(image))
  assert_equal(segmenter([image, image], [None, labels])[1], segmenter(image))
  # Ids that the model has no room for mean the same as those that close up in their order.
  assert_equal(segmenter(image, labels * 1000), segmenter(image, labels))
  halves = np.zeros((47, 71), int)
  halves[:, 40:] = 5
  np.testing.assert_array_equal(segmenter(image, halves).segments, halves // 5)
  # At the size that the model sees, 32 by 48, they are enlarged for the result.
  small = np.zeros((32, 48), int)
  small[16:] = 1
  found = segmenter(image, small).segments
  assert found.shape == (47, 71) and (found[:23] == 0).all() and (found[24:] == 1).all()
  with pytest.raises(UserError, match="1 label maps were given for 2 images"):
    segmenter([image, image], [labels])


def test_compiles_once_for_images_of_like_shape(traced):
  fresh = segment.Segmenter(*built(), superpixels=SEEDS)
  for size in [(64, 96), (65, 97), (40, 60), (40, 61)]:
    fresh(photograph(0, *size))
  assert traced == [(1, 32, 48, 3)]
  fresh([photograph(i, 96, 64) for i in range(3)])
  fresh([photograph(i, 96, 64) for i in range(4)])
  assert traced[1:] == [(4, 48, 32, 3)]


def test_superpixels_are_as_in_supervised_training_unless_told(traced):
  model, variables = built()
  plain = segment.Segmenter(model, variables)
  image = photograph(0, 64, 64)
  expected = seeds.segment(image, model.num_segments, bins=5, iterations=15)
  np.testing.assert_array_equal(plain(image).segments, expected)


def test_superpixels_of_the_device_are_those_of_what_the_model_sees(traced):
  options = dict(method="device", num_segments=81)  # cells of three pixels
  fresh = segment.Segmenter(*built(), superpixels=options)
  images = [photograph(0, 32, 32), photograph(1, 64, 64), photograph(2, 20, 22)]
  for image, found in zip(images, fresh(images), strict=True):
    height, width = image.shape[:2]
    seen = fresh.prepare(image).image  # of the image's proportions: 32x36 for the last
    expected = np.asarray(device.segment(jnp.asarray(seen[None]), 81))[0]
    assert found.segments.shape == (height, width)
    shown = resize_labels(expected, height, width)
    _, renamed = np.unique(shown, return_inverse=True)
    np.testing.assert_array_equal(found.segments, renamed.reshape(height, width))
    pixels, segments = fresh.inputs(image)
    np.testing.assert_array_equal(segments[0], expected)
  own = np.zeros((32, 32), int)
  mixed = fresh(images[:2], [own, None])
  assert (mixed[0].segments == 0).all() and mixed[1].sizes[0] == 81


def test_many_images_go_in_batches(traced, monkeypatch):
  monkeypatch.setattr(segment, "MAX_BATCH", 2)
  fresh = segment.Segmenter(*built(), superpixels=SEEDS)
  images = np.stack([photograph(i, 32, 32) for i in range(5)])
  found = fresh(images)
  assert traced == [(2, 32, 32, 3)]  # the last image fills a batch alone: nothing else to compile
  for image, hierarchy in zip(images, found, strict=True):
    np.testing.assert_allclose(hierarchy.features[1][0], image.mean((0, 1)), rtol=1e-5)


def test_larger_size_and_more_superpixels(traced):
  superpixels = dict(method="grid", num_segments=50)
  large = segment.Segmenter(*built(), superpixels=superpixels, size=64)
  hierarchy = large(photograph(0, 100, 150))
  assert traced == [(1, 64, 96, 3)]
  assert hierarchy.sizes == (50, 6)
  assert large.class_names == ()


def test_makes_as_many_superpixels_as_in_training(traced):
  model, variables = built()
  superpixels = dict(SEEDS, num_segments=64)
  fresh = segment.Segmenter(model, variables, superpixels=superpixels, size=64)
  assert seeds.count(64, 64, 64) == 64 and seeds.count(321, 481, 64) == 35
  assert 50 <= fresh(photograph(0, 321, 481)).sizes[0] <= 64
  assert fresh(photograph(0, 64, 64)).sizes[0] == 64
  assert 10 <= fresh(photograph(0, 17, 17)).sizes[0] <= 64  # too small for more than 64


@pytest.mark.parametrize(
  "fields, expected",
  [
    (dict(output="image"), {"probabilities": (1, 5), "logits": (1, 5)}),
    (dict(output="image", num_classes=0), {}),
    (dict(output="segments", segment_mean="bilinear"), {"logits": (1, 16, 5)}),
    (
      dict(output="segments", segment_mean="bilinear", num_classes=0),
      {"embeddings": (1, 16, 16)},
    ),
  ],
)
def test_what_heads_say_of_images_or_superpixels(fields, expected):
  model = hseg_jax.create_model("cast_tiny_seg", **{**FIELDS, **fields})
  image, labels = jnp.zeros((1, 32, 32, 3), jnp.uint8), jnp.zeros((1, 32, 32), jnp.int32)
  variables = jax.eval_shape(model.init, jax.random.key(0), image.astype(float), labels)
  out = jax.eval_shape(functools.partial(segment.read, model), variables, image, labels)
  assert out["image_features"].shape == (1, 16)
  found = {key: out[key].shape for key in ("probabilities", "logits", "embeddings") if key in out}
  assert found == expected


@pytest.mark.parametrize(
  "name, words", [("vit_conv_tiny", "has no superpixels"), ("tome_small", "no levels")]
)
def test_refuses_superpixels_for_models_without_levels(name, words):
  with pytest.raises(UserError, match=words):
    segment.Segmenter(hseg_jax.create_model(name), {}, superpixels=SEEDS)


@pytest.mark.parametrize(
  "options, message",
  [
    (dict(superpixels=dict(SEEDS, method="none")), 'method "none"'),
    (dict(superpixels=SEEDS, size=34), "multiple of 4"),
    (dict(superpixels=SEEDS, size=0), "multiple of 4"),
    (dict(superpixels=SEEDS, class_names=("ant",)), "1 class names"),
  ],
)
def test_refuses_options_that_do_not_suit(options, message):
  with pytest.raises(UserError, match=message):
    segment.Segmenter(*built(), **options)


@pytest.mark.parametrize(
  "image, message",
  [
    (np.zeros((40, 40, 3), np.float32), "float32"),
    (np.zeros((40, 3), np.uint8), r"\[40, 3\]"),
    (np.zeros((40, 40, 4), np.uint8), r"\[40, 40, 4\]"),
    (np.zeros((0, 40, 3), np.uint8), r"\[0, 40, 3\]"),
    (np.zeros((5, 5, 3), np.uint8), "too small"),
  ],
)
def test_refuses_what_is_no_image(segmenter, image, message):
  with pytest.raises(UserError, match=message):
    segmenter(image)
