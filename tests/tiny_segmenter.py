"""The smallest model that makes hierarchies, and photographs for it."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np

import hseg_jax
from hseg_jax.interop import exported

FIELDS = dict(
  num_classes=5,
  dim=16,
  depths=(1, 1),
  num_heads=2,
  pool_num_heads=2,
  num_segments=16,
  num_clusters=(6, 3),
  stem_strides=(2, 2),
  position_grid=(8, 8),
)
SEEDS = dict(method="seeds", num_segments=16, bins=5, iterations=5)
NAMES = ("ant", "bee", "cat", "dog", "elk")


def photograph(seed, height, width):
  """Smooth blobs of colour with some noise."""
  rng = np.random.default_rng(seed)
  blobs = cv2.resize(rng.integers(0, 256, (4, 5, 3)).astype(np.float32), (width, height))
  return np.clip(blobs + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


@functools.cache
def built():
  model = hseg_jax.create_model("cast_tiny", **FIELDS)
  labels = np.zeros((1, 32, 32), np.int32)
  init = jax.jit(functools.partial(model.init, train=False))
  return model, init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), labels)


def save(folder):
  info = {
    "model": {"name": "cast_tiny", **FIELDS},
    "preprocessing": {"image_size": 32, "superpixels": SEEDS},
    "class_names": NAMES,
  }
  exported.save(folder, built()[1], info)
  return folder


def quick_forward(shapes):
  """In the place of a model: one that sees mean colours, and notes what it is compiled for."""

  def forward(model, variables, image, segments):
    shapes.append(image.shape)
    count, (k, top) = len(image), model.num_clusters
    color = image.mean((1, 2))
    rows = lambda n: jnp.broadcast_to(color[:, None], (count, n, 3))
    cycle = lambda n, size: jnp.broadcast_to(jnp.arange(n) % size, (count, n))
    return {
      "assignments": (cycle(model.num_segments, k), cycle(k, top)),
      "features": (rows(model.num_segments), rows(k), rows(top)),
      "image_features": color,
      "probabilities": jax.nn.softmax(jnp.pad(color, ((0, 0), (0, 2)))),
    }

  return forward
