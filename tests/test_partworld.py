"""PartWorld: what an example holds, what a class is, and how hard the data set is."""

import collections

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hseg_jax.data.partworld import PartWorld
from hseg_jax.data.partworld_render import render
from hseg_jax.data.partworld_shapes import CLASSES, PART_NAMES
from hseg_jax.errors import UserError


def assert_same(a: dict, b: dict):
  assert a["label"] == b["label"]
  for name in ("image", "object", "parts"):
    np.testing.assert_array_equal(a[name], b[name])


def num_differing_parts(a: str, b: str) -> int:
  """The parts that one of two classes has and the other lacks; one exchanged for one is one."""
  first, second = (collections.Counter(part.kind for part in CLASSES[name]) for name in (a, b))
  return max((first - second).total(), (second - first).total())


def test_example_has_the_promised_arrays():
  data = PartWorld("train", num_examples=64)
  assert len(data) == 64 and data.num_classes == len(data.class_names) == 16
  for example in data:
    assert set(example) == {"image", "label", "object", "parts"}
    assert example["image"].shape == (64, 64, 3) and example["image"].dtype == np.uint8
    assert example["object"].shape == (64, 64) and example["object"].dtype == bool
    assert example["parts"].shape == (64, 64) and example["parts"].dtype == np.uint8
    assert isinstance(example["label"], int) and 0 <= example["label"] < data.num_classes


def test_masks_agree_with_each_other_and_with_the_class():
  data = PartWorld("val", num_examples=320)
  for example in data:
    np.testing.assert_array_equal(example["object"], example["parts"] > 0)
    assert 0.05 < example["object"].mean() < 0.6
    kinds = {part.kind for part in CLASSES[data.class_names[example["label"]]]}
    seen = {PART_NAMES[i - 1] for i in np.unique(example["parts"]) if i}
    assert seen <= kinds


def test_the_masks_lie_on_the_colours_they_name():
  """Away from its border, every part shows its own material, not its neighbour's or the ground."""
  scene = PartWorld("val").scene(3)
  plain = np.repeat(scene.materials.colours[:, :1], 2, axis=1)
  dark = scene.light._replace(gradient=0.0, relief=0.0, shadow=0.0)
  scene = scene._replace(materials=scene.materials._replace(colours=plain), light=dark)
  image, _, parts = render(scene, 128)
  first = 1 + len(scene.clutter)
  colours = np.round(255 * plain[first : first + len(scene.parts), 0])
  for kind in set(scene.kinds):
    inside = cv2.erode((parts == kind).astype(np.uint8), np.ones((5, 5))) > 0
    own = colours[np.array(scene.kinds) == kind]
    distance = np.abs(image[inside][:, None] - own[None]).max(-1).min(1)
    assert np.median(distance) <= 1


def test_an_example_depends_on_split_seed_and_index_alone():
  data = PartWorld("train", num_examples=40)
  last_first = [data[i] for i in reversed(range(40))][::-1]
  longer = PartWorld("train", num_examples=4000)
  for i in range(40):
    assert_same(last_first[i], longer[i])
  for other in (PartWorld("val"), PartWorld("test"), PartWorld("train", seed=1)):
    assert not any(np.array_equal(data[i]["image"], other[i]["image"]) for i in range(40))


def test_the_picture_of_an_index_never_changes():
  """A change here changes every number that was ever measured on PartWorld."""
  example = PartWorld("train", seed=0)[7]
  assert PartWorld.class_names[example["label"]] == "chimera"
  assert np.bincount(example["parts"].ravel()).tolist() == [3113, 315, 132, 212, 0, 273, 51]
  np.testing.assert_allclose(example["image"].mean((0, 1)), [172.9, 181.0, 198.4], atol=0.5)


def test_splits_share_no_scene():
  seen = set()
  for split in ("train", "val", "test"):
    data = PartWorld(split, num_examples=200)
    seen |= {complex(data.scene(i).parts[0][0]) for i in range(200)}
  assert len(seen) == 600


def test_every_block_of_sixteen_holds_each_class_once_in_its_own_order():
  data = PartWorld("train", num_examples=160)
  blocks = np.array([data.scene(i).label for i in range(160)]).reshape(10, 16)
  np.testing.assert_array_equal(np.sort(blocks, axis=1), np.tile(np.arange(16), (10, 1)))
  assert len({tuple(block) for block in blocks}) == 10


def test_another_size_is_the_same_scene_only_sharper():
  small, large = PartWorld("val", size=48), PartWorld("val", size=192)
  for i in range(24):
    a, b = small[i], large[i]
    assert a["label"] == b["label"]
    shrunk = cv2.resize(b["image"], (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(float) - a["image"]).mean() < 6
    centres = b["parts"][2::4, 2::4]
    assert (centres == a["parts"]).mean() > 0.97


def test_a_fifth_of_the_objects_is_occluded_but_never_lost():
  data = PartWorld("val", num_examples=600)
  hidden = []
  for i in range(len(data)):
    scene = data.scene(i)
    _, _, whole = render(scene._replace(occluder=None), data.size)
    _, visible, parts = render(scene, data.size)
    assert (
      np.isin(parts[visible], whole[visible]).all() and (parts[visible] == whole[visible]).all()
    )
    hidden.append(1 - visible.sum() / (whole > 0).sum())
  hidden = np.array(hidden)
  assert (hidden > 0.08).mean() >= 0.2
  assert hidden.max() < 0.5
  assert ((hidden == 0) | (hidden > 0.05)).all()


def test_parts_stand_out_from_their_parent_and_from_the_background():
  data = PartWorld("train", num_examples=320)
  for i in range(len(data)):
    scene = data.scene(i)
    colours = scene.materials.colours[None, :, 0].astype(np.float32)
    lab = cv2.cvtColor(colours, cv2.COLOR_RGB2LAB)[0]
    first = 1 + len(scene.clutter)
    parts = CLASSES[data.class_names[scene.label]]
    painted = sorted(range(len(parts)), key=lambda i: parts[i].layer)
    for row, part in enumerate(painted, start=first):
      assert np.linalg.norm(lab[row] - lab[0]) > 20
      if (parent := parts[part].parent) is not None:
        assert np.linalg.norm(lab[row] - lab[first + painted.index(parent)]) > 20


def test_objects_face_left_as_often_as_right():
  """Mirroring is part of the pose, so an augmentation that flips changes no class."""
  data = PartWorld("train", num_examples=800)
  right = []
  for i in range(len(data)):
    scene = data.scene(i)
    if data.class_names[scene.label] in ("hound", "goat", "griffin", "bird", "beetle"):
      head, body = (scene.kinds.index(1 + PART_NAMES.index(kind)) for kind in ("head", "body"))
      right.append(scene.parts[head].mean().real > scene.parts[body].mean().real)
  assert len(right) == 250 and 0.4 < np.mean(right) < 0.6


def test_no_class_is_told_by_one_part():
  for kind in PART_NAMES:
    assert sum(any(part.kind == kind for part in parts) for parts in CLASSES.values()) >= 2, kind
  for name in CLASSES:
    assert min(num_differing_parts(name, other) for other in CLASSES if other != name) <= 1, name


def test_confusable_pairs_differ_by_one_part_in_the_same_place():
  """All the parts they share are hung alike, so nothing but the one part tells them apart."""
  pairs = [
    *(("hound", "goat"), ("griffin", "chimera"), ("hound", "griffin"), ("goat", "chimera")),
    *(("bird", "beetle"), ("wagon", "crane"), ("yacht", "reaper"), ("sloop", "junk")),
    *(("axe", "halberd"), ("halberd", "pickaxe")),
  ]
  for a, b in pairs:
    assert num_differing_parts(a, b) == 1
    first, second = set(CLASSES[a]), set(CLASSES[b])
    assert max(len(first - second), len(second - first)) == 1, (a, b)
  assert num_differing_parts("hound", "kangaroo") == 0


@pytest.mark.parametrize(
  "arguments, remedy",
  [
    (dict(split="validation"), "train, val, test"),
    (dict(split="train", size=16), "32 pixels"),
    (dict(split="train", seed=-1), "non-negative"),
    (dict(split="train", num_examples=0), "at least 1"),
  ],
)
def test_a_mistake_is_named_with_its_remedy(arguments, remedy):
  with pytest.raises(UserError, match=remedy):
    PartWorld(**arguments)


@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_out_of_range_is_an_index_error(index):
  with pytest.raises(IndexError, match="10 examples"):
    PartWorld("train", num_examples=10)[index]


@pytest.mark.slow
def test_neither_colours_nor_raw_pixels_tell_the_classes():
  """The difficulty, fixed before any model was trained: chance is 6.25 %."""
  images, labels = {}, {}
  for split, count in (("train", 4000), ("val", 1000)):
    examples = list(PartWorld(split, num_examples=count))
    images[split] = np.stack([example["image"] for example in examples])
    labels[split] = np.array([example["label"] for example in examples])

  def histograms(batch):
    return np.stack(
      [cv2.calcHist([image], [0, 1, 2], None, [4] * 3, [0, 256] * 3).ravel() for image in batch]
    )

  def pixels(batch):
    return batch.reshape(len(batch), -1).astype(np.float32)

  def top1(classifier, features):
    classifier.fit(features(images["train"]), labels["train"])
    return classifier.score(features(images["val"]), labels["val"])

  logistic = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
  assert top1(logistic, histograms) < 0.15
  for k in (1, 10):
    assert top1(KNeighborsClassifier(k), pixels) < 0.25
