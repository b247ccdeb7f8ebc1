"""The adaptation evaluator: independent images, both modes, groups, scores and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax import adaptation
from hseg_jax.data.corruptions import Corrupted
from hseg_jax.data.partworld import PartWorld
from hseg_jax.errors import UserError
from hseg_jax.evaluators.adaptation import Evaluator
from hseg_jax.evaluators.hierarchy import Evaluator as HierarchyEvaluator
from hseg_jax.models.output import CastOutput, Level
from hseg_jax.preprocessing import normalize
from hseg_jax.training import sharding

SIZE = 32
SUPERPIXELS = {"method": "grid", "num_segments": 16}
RATE = 0.5


class Scale:
  """Logits are mean colours times a scale plus a bias; regions follow from the sign of a logit."""

  num_classes, num_segments, num_clusters, stride = 3, 16, (4, 2), 8

  def __hash__(self):
    return 0

  def frozen(self, params):
    return jax.tree.map(lambda leaf: False, params)

  def apply(self, variables, image, segments, train):
    norm = variables["params"]["norm"]
    logits = image.mean((1, 2)) * norm["scale"][None] + norm["bias"][None]
    logits = logits @ variables["params"]["head"]
    shift = (logits[:, 0] > 0).astype(int)[:, None]
    levels = []
    for n, k in ((16, 4), (4, 2)):
      ones = jnp.ones((len(image), k), bool)
      assignment = jax.nn.one_hot((jnp.arange(n)[None] + shift) * k // (n + 1), k)
      tokens, centroids = jnp.zeros((len(image), n, 2)), jnp.zeros((len(image), k, 2))
      mask = jnp.ones((len(image), n), bool)
      levels.append(Level(tokens, mask, assignment, assignment, ones.astype(int), ones, centroids))
    return CastOutput(logits=logits, features=logits, levels=tuple(levels))


VARIABLES = {
  "params": {
    "norm": {"scale": jnp.array([1.0, 0.5, -1.0]), "bias": jnp.array([0.1, 0.0, -0.1])},
    "head": jnp.array([[1.0, 0.2, 0.0], [0.0, 0.8, 0.1], [0.3, 0.0, 1.0]]),
  },
  "batch_stats": {},
}


class ThreeClasses:
  """PartWorld with its classes taken together."""

  def __init__(self, count):
    self._source, self.class_names = PartWorld("val", size=SIZE, num_examples=count), "abc"

  def __len__(self):
    return len(self._source)

  def __getitem__(self, i):
    return {**self._source[i], "label": self._source[i]["label"] % 3}


def make(source, **options):
  defaults = dict(
    source=source,
    batch_size=4,
    image_size=SIZE,
    superpixels=SUPERPIXELS,
    num_workers=0,
    to_global=functools.partial(sharding.to_global, mesh=sharding.make_mesh()),
    num_examples=6,
    mode="episodic",
    group_size=1,
    parameters="norm",
    statistics="running",
    optimizer="sgd",
    steps=3,
    learning_rate=RATE,
    corruption="noise",
    severity=2,
    seed=7,
  )
  return Evaluator(Scale(), **{**defaults, **options})


@pytest.fixture(scope="module")
def source():
  return ThreeClasses(6)


def by_hand(source, size, options):
  """Top-1 and entropy after adaptation to each group of so many, one after the other."""
  noisy = Corrupted(source, name="noise", severity=2, image_size=SIZE, seed=7)
  adapter = adaptation.Adapter(Scale(), parameters=options.get("parameters", "norm"))
  update = jax.jit(functools.partial(adapter.update, steps=3, learning_rate=RATE))
  start = state = adapter.start(VARIABLES)
  right, entropies = [], []
  for first in range(0, 6, size):
    examples = [noisy[i] for i in range(first, first + size)]
    image = normalize(np.stack([example["image"] for example in examples]))
    state = update(state if options.get("mode") == "online" else start, image, None)
    out = Scale().apply(state.variables, image, None, train=False)
    right += (out.logits.argmax(axis=1) == np.array([e["label"] for e in examples])).tolist()
    entropies += adaptation.entropy(out).tolist()
  return np.mean(right), np.mean(entropies)


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"batch_size": 8, "parameters": "all"},
    {"group_size": 2},
    {"group_size": 2, "mode": "online"},
  ],
)
def test_scores_are_those_of_adapting_one_by_one_by_hand(source, options):
  found = dict(make(source, **options).run(VARIABLES))
  expected = by_hand(source, options.get("group_size", 1), options)
  names = "val/adaptation/after/top1", "val/adaptation/after/entropy"
  np.testing.assert_allclose([found[name] for name in names], expected, rtol=1e-4)
  assert found[names[1]] < found["val/adaptation/before/entropy"] - 0.05


def test_without_steps_nothing_changes_and_segmentation_is_the_hierarchy_evaluators(source):
  found = dict(make(source, steps=0, corruption="none").run(VARIABLES))
  scores = {name.split("/", 3)[3] for name in found}
  for score in scores:
    assert found[f"val/adaptation/before/{score}"] == found[f"val/adaptation/after/{score}"]
  plain = HierarchyEvaluator(
    Scale(),
    source=source,
    batch_size=4,
    image_size=SIZE,
    superpixels=SUPERPIXELS,
    num_workers=0,
    to_global=functools.partial(sharding.to_global, mesh=sharding.make_mesh()),
    num_examples=6,
    num_pictures=0,
    num_regions=(4, 2),
    baselines=(),
    tolerance=1.5,
    seed=0,
  )
  expected = {name.removeprefix("val/hierarchy/"): value for name, value in plain.run(VARIABLES)}
  assert scores == {"top1", "entropy", *expected}
  for name, value in expected.items():
    assert found[f"val/adaptation/after/{name}"] == pytest.approx(value)


def test_segmentation_follows_the_adapted_model(source):
  found = dict(make(source, learning_rate=20.0).run(VARIABLES))
  name = "level_1/covering"
  assert found[f"val/adaptation/before/{name}"] != found[f"val/adaptation/after/{name}"]


def test_data_without_masks_are_scored_by_recognition_alone(source):
  plain = [{name: source[i][name] for name in ("image", "label")} for i in range(6)]
  listed = type("Plain", (list,), {"class_names": "abc"})(plain)
  found = dict(make(listed).run(VARIABLES))
  assert {name.split("/")[-1] for name in found} == {"top1", "entropy"} and len(found) == 4


def test_refuses_options_that_make_no_sense(source):
  for options, words in (
    ({"mode": "offline"}, "'offline'"),
    ({"group_size": 3}, "must divide batch_size"),
    ({"group_size": 4}, "number of examples, 6"),
    ({"group_size": 0}, "must divide"),
    ({"num_examples": 0}, "num_examples is 0"),
    ({"steps": -1}, "steps -1"),
    ({"learning_rate": float("nan")}, "learning_rate nan"),
    ({"corruption": "fog"}, "'fog'"),
    ({"severity": 9}, "severity"),
    ({"parameters": "most"}, "'most'"),
  ):
    with pytest.raises(UserError, match=words):
      make(source, **options)
