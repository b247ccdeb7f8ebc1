"""Images and hierarchies for the tests of the explorer."""

import numpy as np

from hseg_jax.hierarchy import Hierarchy
from hseg_jax.viz import explorer

HOSTILE = """</script><script>document.title = 'owned'</script><img src=x onerror="alert(1)">'&"""


def quarters():
  """Sixteen cells of 12x12 pixels, of which four each make quadrants, of which two make halves."""
  cells = np.arange(16).reshape(4, 4)
  quadrants = np.kron([[0, 1], [2, 3]], np.ones((2, 2), int))
  halves = np.kron([[0, 1]], np.ones((4, 2), int))
  return Hierarchy.from_labels(
    [np.kron(m, np.ones((12, 12), int)) for m in (cells, quadrants, halves)]
  )


def random_hierarchy(seed, shape=(60, 80), counts=(40, 17, 6), features=True):
  rng = np.random.default_rng(seed)
  segments = np.kron(rng.integers(0, counts[0], np.array(shape) // 5), np.ones((5, 5), int))
  assignments = [rng.integers(0, k, n) for n, k in zip(counts, (*counts[1:], 3), strict=True)]
  tokens = [rng.normal(size=(n, 5)).astype(np.float32) for n in (*counts, 3)] if features else ()
  return Hierarchy.from_assignments(segments, assignments, tokens)


def photograph(shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def entry_of(hierarchy, name="photo.jpg", **fields):
  return explorer.Entry(name, photograph(hierarchy.segments.shape), hierarchy, **fields)
