"""The hierarchy evaluator: what it sums, names and refuses, on models that need no training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax import create_model
from hseg_jax.baselines import kmeans, methods, slic, spectral
from hseg_jax.data.partworld import PartWorld
from hseg_jax.errors import UserError
from hseg_jax.evaluators import hierarchy
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.models.output import CastOutput, Level
from hseg_jax.scoring import bsds, part_whole
from hseg_jax.superpixels import seeds
from hseg_jax.training import sharding

SUPERPIXELS = {"method": "seeds", "num_segments": 16, "bins": 5, "iterations": 4}
SIZE = 32


class ModuloCast:
  """A model with levels: cluster of token i is i modulo the number of clusters; 3 is invalid."""

  num_classes, num_segments, num_clusters, stride = 16, 16, (8, 4), 8

  def apply(self, variables, image, segments, train):
    assert not train and segments.shape == image.shape[:-1]
    batch, levels = image.shape[0], []
    for n, k in zip((16, 8), self.num_clusters, strict=True):
      mask = jnp.broadcast_to((jnp.arange(n) != 3) | (n == 8), (batch, n))
      assignment = jax.nn.one_hot(jnp.arange(n) % k, k)[None] * mask[..., None]
      ones = jnp.ones((batch, k), bool)
      tokens, centroids = jnp.zeros((batch, n, 2)), jnp.zeros((batch, k, 2))
      levels.append(Level(tokens, mask, assignment, assignment, ones.astype(int), ones, centroids))
    logits = jnp.tile(variables["logits"], (batch, 1))
    return CastOutput(logits=logits, features=logits, levels=tuple(levels))


class PixelVit:
  """A model without levels whose tokens are mean colours, rounded beyond numerical doubt."""

  num_classes, num_segments, num_clusters, stride = 0, 0, (), 8

  def apply(self, variables, image, segments, train):
    batch, side = image.shape[0], image.shape[1] // self.stride
    cells = image.reshape(batch, side, self.stride, side, self.stride, 3).mean((2, 4))
    cells = jnp.round(8 * cells) / 8
    return CastOutput(
      logits=cells[:, 0, 0], features=cells[:, 0, 0], tokens=cells.reshape(batch, -1, 3)
    )


def make(model, source, **options):
  defaults = dict(
    source=source,
    batch_size=4,
    image_size=SIZE,
    superpixels=SUPERPIXELS,
    num_workers=0,
    to_global=functools.partial(sharding.to_global, mesh=sharding.make_mesh()),
    num_examples=6,
    num_pictures=2,
    num_regions=(8, 4),
    baselines=("grid", "slic", "ward", "felzenszwalb"),
    tolerance=1.0,
    seed=0,
  )
  return hierarchy.Evaluator(model, **{**defaults, **options})


@pytest.fixture(scope="module")
def source():
  return PartWorld("val", size=SIZE, num_examples=6)


def truths(source):
  """Examples with their SEEDS superpixels, as the pipeline makes them."""
  for i in range(len(source)):
    options = {key: SUPERPIXELS[key] for key in ("bins", "iterations")}
    yield source[i], seeds.segment(source[i]["image"], SUPERPIXELS["num_segments"], **options)


def test_scores_are_those_of_scoring_over_all_images_and_padding_counts_nothing(source):
  values = dict(make(ModuloCast(), source).run({"logits": jnp.arange(16.0)}))
  covering, objects, parts, counts = [], [], [], []
  for example, segments in truths(source):
    clusters = [np.arange(16) % 8, np.arange(8) % 4]
    clusters[0][3] = -1
    maps = Hierarchy.from_assignments(segments, clusters)
    labels = [maps.labels(level) for level in range(3)]
    covering.append([bsds.covering(example["parts"], each) for each in labels])
    objects.append([part_whole.best_ious(example["object"], each) for each in labels])
    parts.append([part_whole.best_ious(example["parts"], each) for each in labels])
    counts.append([bsds.boundary_counts(example["parts"], each, 1.0) for each in labels])
  objects, parts = np.concatenate(objects, axis=1), np.concatenate(parts, axis=1)
  for level in range(3):
    f = bsds.precision_recall_f(bsds.BoundaryCounts(*np.sum(counts, axis=0)[level].tolist()))
    for name, expected in {
      "covering": np.mean(covering, axis=0)[level],
      "object_iou": objects[level].mean(),
      "part_iou": parts[level].mean(),
      "boundary_precision": f[0],
      "boundary_recall": f[1],
      "boundary_f": f[2],
    }.items():
      assert values[f"val/hierarchy/level_{level}/{name}"] == pytest.approx(expected, abs=1e-6)
  for name, expected in {
    "covering": np.mean(np.max(np.array(covering)[:, 1:], axis=1)),
    "object_iou": objects[1:].max(axis=0).mean(),
    "part_iou": parts[1:].max(axis=0).mean(),
  }.items():
    assert values[f"val/hierarchy/best/{name}"] == pytest.approx(expected, abs=1e-6)
  assert values["val/hierarchy/level_2/regions"] == pytest.approx(4, abs=0.5)
  assert "val/hierarchy/best/boundary_f" not in values


def test_a_mesh_may_order_the_examples_as_it_likes(source):
  place = functools.partial(sharding.to_global, mesh=sharding.make_mesh())
  turned = lambda batch: place({name: values[::-1] for name, values in batch.items()})
  options = dict(superpixels={"method": "none"}, baselines=())
  found = dict(make(PixelVit(), source, to_global=turned, **options).run({}))
  assert found == pytest.approx(dict(make(PixelVit(), source, **options).run({})))


def test_baselines_are_scored_at_the_same_numbers_of_regions(source):
  values = dict(make(ModuloCast(), source).run({"logits": jnp.arange(16.0)}))
  for name in ("grid", "slic", "ward", "felzenszwalb"):
    for count in (8, 4):
      assert values[f"val/hierarchy/{name}/{count}/regions"] == count
    assert (
      values[f"val/hierarchy/{name}/best/covering"] >= values[f"val/hierarchy/{name}/8/covering"]
    )
  expected = [
    bsds.covering(source[i]["parts"], slic.segment(source[i]["image"], 4)) for i in range(6)
  ]
  assert values["val/hierarchy/slic/4/covering"] == pytest.approx(np.mean(expected), abs=1e-6)
  assert all(0 <= v <= 1 for name, v in values.items() if not name.endswith("regions"))


def test_baselines_are_scored_once(source, monkeypatch):
  calls = []
  grid = methods.METHODS["grid"]
  count = grid._replace(segment=lambda *a: calls.append(1) or grid.segment(*a))
  monkeypatch.setitem(methods.METHODS, "grid", count)
  evaluator = make(ModuloCast(), source, baselines=("grid",))
  first, second = (dict(evaluator.run({"logits": jnp.arange(16.0)})) for _ in range(2))
  assert first == second and len(calls) == 8  # six images and the padding of two


@pytest.mark.parametrize("name, cluster", [("kmeans", kmeans), ("spectral", spectral)])
def test_a_vit_is_scored_by_clusters_of_its_tokens(source, name, cluster):
  baselines = () if name == "kmeans" else (name,)
  evaluator = make(PixelVit(), source, superpixels={"method": "none"}, baselines=baselines)
  values = dict(evaluator.run({}))
  assert {each.split("/")[2] for each in values} == {"kmeans", name}
  expected = []
  for i in range(6):
    image = (source[i]["image"] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    tokens = np.round(8 * image.reshape(4, 8, 4, 8, 3).mean((1, 3))) / 8
    maps = cluster.segment(tokens.astype(np.float32), (SIZE, SIZE), (8, 4), seed=0)
    expected.append([bsds.covering(source[i]["parts"], labels) for labels in maps])
  for column, count in enumerate((8, 4)):
    value = values[f"val/hierarchy/{name}/{count}/covering"]
    assert value == pytest.approx(np.mean(expected, axis=0)[column], abs=1e-6)
  assert values[f"val/hierarchy/{name}/best/covering"] >= value


def test_keeps_examples_and_draws_them(source):
  evaluator = make(ModuloCast(), source, baselines=())
  dict(evaluator.run({"logits": jnp.arange(16.0)}))
  assert len(evaluator.examples) == 2
  for i, example in enumerate(evaluator.examples):
    np.testing.assert_array_equal(example.image, source[i]["image"])
    assert example.label == source.class_names[source[i]["label"]]
    assert example.prediction == source.class_names[15]
    assert example.hierarchy.num_levels == 3
  figures = evaluator.figures()
  assert list(figures) == ["val/hierarchy/0", "val/hierarchy/1"]
  assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in figures.values())


def test_images_need_no_class(source):
  class Unnamed:
    class_names = ()

    def __len__(self):
      return 2

    def __getitem__(self, i):
      return {**source[i], "label": -1}

  evaluator = make(ModuloCast(), Unnamed(), baselines=(), num_examples=2)
  dict(evaluator.run({"logits": jnp.arange(16.0)}))
  assert [(e.label, e.prediction) for e in evaluator.examples] == [("", "")] * 2


def test_refuses_what_it_cannot_score(source):
  with pytest.raises(UserError, match="no object and no parts"):
    make(ModuloCast(), [{"image": source[0]["image"], "label": 0}])
  for numbers in ((4, 8), (8, 8), (8, 0), ()):
    with pytest.raises(UserError, match="finest first"):
      make(ModuloCast(), source, num_regions=numbers)
  for name in ("turbo", "spectral"):  # the latter without tokens
    with pytest.raises(UserError, match=f"no baseline '{name}'"):
      make(ModuloCast(), source, baselines=(name,))
  with pytest.raises(UserError, match="'seeds' makes no fewer than 10"):
    make(ModuloCast(), source, baselines=("seeds",))
  with pytest.raises(UserError, match="merges superpixels"):
    make(PixelVit(), source, superpixels={"method": "none"}, baselines=("ward",))
  with pytest.raises(UserError, match="Tome"):
    make(create_model("tome_small"), source)


def test_runs_a_real_model(source):
  fields = dict(depths=(1, 1), dim=32, num_classes=16, num_segments=16, num_clusters=(6, 1))
  model = create_model("cast_tiny", **fields)
  inputs = jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, SIZE, SIZE), int)
  shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *inputs)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(lambda leaf: 0.1 * rng.random(leaf.shape, np.float32), shapes)
  evaluator = make(model, source, num_regions=(6, 1), baselines=("ward",), num_examples=4)
  values = dict(evaluator.run(variables))
  assert 3 < values["val/hierarchy/level_1/regions"] <= 6
  assert values["val/hierarchy/level_2/regions"] == 1
  # One region is the whole image, whoever found it.
  for name in ("covering", "object_iou", "part_iou", "boundary_f"):
    assert values[f"val/hierarchy/level_2/{name}"] == values[f"val/hierarchy/ward/1/{name}"]


def test_pixels_of_which_nothing_is_known_count_nowhere():
  rng = np.random.default_rng(0)
  parts, labels = rng.integers(0, 4, (8, 8)).astype(np.uint8), rng.integers(0, 5, (8, 8))
  example = {"object": (parts > 0).astype(np.uint8), "parts": parts}
  kept = np.s_[:, :5]
  known = {name: mask[kept] for name, mask in example.items()}
  example["semantic"] = np.full((8, 8), 255, np.uint8)
  example["semantic"][kept] = parts[kept]
  found = hierarchy.tally_levels(example, {"level_1": labels}, 0.0)["level_1"]
  expected = hierarchy.tally_levels(known, {"level_1": labels[kept]}, 0.0)["level_1"]
  for name in ("images", "covering", "objects", "object_iou", "parts", "part_iou"):
    assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
  example["semantic"][:] = 255
  assert set(hierarchy.tally_levels(example, {"level_1": labels}, 0.0).values()) == {
    hierarchy.Tally()
  }
