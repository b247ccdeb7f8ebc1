"""Images of 32x32 pixels made of four quarters, and models that segment them into just these."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from hseg_jax.models.output import CastOutput, Level
from hseg_jax.training import sharding

SIZE = 32
GRID = {"method": "grid", "num_segments": 16}
# The quarter of every pixel: 0 and 1 above, 2 and 3 below.
QUARTERS = np.arange(SIZE)[:, None] // 16 * 2 + np.arange(SIZE) // 16


class QuarterCast:
  """Sixteen squares become four quarters and these a left and a right half.

  Where "intermediates" are asked for, the class token attends to all squares alike and to the
  quarters as `attention`, `[heads, 4]`, says.
  """

  num_classes, num_segments, num_clusters, depths, stride = 0, 16, (4, 2), (1, 1), 8

  def __init__(self, attention=((0.25,) * 4,)):
    self._attention = np.array(attention, np.float32)

  def apply(self, variables, image, segments, train, mutable=()):
    assert not train and segments.shape == image.shape[:-1]
    batch = image.shape[0]
    squares = jnp.arange(16)
    quarters = squares // 8 * 2 + squares % 4 // 2
    levels = []
    for clusters, k in ((quarters, 4), (jnp.arange(4) % 2, 2)):
      assignment = jnp.tile(jax.nn.one_hot(clusters, k), (batch, 1, 1))
      n, ones = len(clusters), jnp.ones((batch, k), bool)
      tokens, centroids = jnp.zeros((batch, n, 2)), jnp.zeros((batch, k, 2))
      mask = jnp.ones((batch, n), bool)
      levels.append(Level(tokens, mask, assignment, assignment, ones.astype(int), ones, centroids))
    features = jnp.zeros((batch, 2))
    out = CastOutput(logits=features, features=features, levels=tuple(levels))
    heads = len(self._attention)
    rows = np.full((heads, 16), 1 / 16), self._attention
    return (out, {"intermediates": sown(rows, batch)}) if mutable else out


class QuarterVit:
  """Four patches, whose tokens are all different; attention as in `QuarterCast`."""

  num_classes, num_segments, num_clusters, depths, stride = 0, 0, (), (1,), 16

  def __init__(self, attention=((0.25,) * 4,)):
    self._attention = np.array(attention, np.float32)

  def apply(self, variables, image, segments, train, mutable=()):
    batch = image.shape[0]
    tokens = jnp.tile(jnp.eye(4), (batch, 1, 1))
    out = CastOutput(logits=tokens[:, 0], features=tokens[:, 0], tokens=tokens)
    return (out, {"intermediates": sown((self._attention,), batch)}) if mutable else out


def sown(rows, batch):
  """What blocks sow: weights `[b, heads, n + 1, n + 1]`, of which only those of CLS matter."""
  stages = {}
  for i, row in enumerate(rows):
    heads, n = row.shape
    weights = np.full((heads, n + 1, n + 1), np.nan, np.float32)
    weights[:, 0, 1:] = row
    weights = jnp.tile(jnp.asarray(weights), (batch, 1, 1, 1))
    stages[f"stage_{i}"] = {"block_00": {"attention": {"weights": (weights,)}}}
  return stages


def options(model, source):
  """What every evaluator of regions is handed."""
  return dict(
    source=source,
    batch_size=8,
    image_size=SIZE,
    superpixels=GRID if model.num_segments else {"method": "none"},
    num_workers=0,
    to_global=functools.partial(sharding.to_global, mesh=sharding.make_mesh()),
    num_examples=20,
    num_regions=(4, 2),
    seed=0,
  )


class Examples(list):
  """A list of examples that is a source."""

  class_names = ("Fox", "Crow")
  vocabulary = None
