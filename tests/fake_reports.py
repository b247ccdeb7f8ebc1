"""Reports of a benchmark that takes no time, for tests of what reads reports."""

import json
import types

import numpy as np

from hseg_jax import score


def summarize(tallies):
  hits, total = tallies["hits"].sum(0), tallies["total"].sum()
  found = {"accuracy": hits[0] / total, "errors": total - hits[0], "best_level/accuracy": 1.0}
  found |= {f"level_{i}/accuracy": value / total for i, value in enumerate(hits)}
  return {name: float(value) for name, value in found.items()}


BENCHMARK = types.SimpleNamespace(
  TITLE="Hits",
  SCORES={"accuracy": "share of hits", "errors": "misses"},
  LOWER=("errors",),
  summarize=summarize,
  pictures=lambda prediction, truth, *, size: {},
)


def write(folder, hits, names, *, total=10, **fields):
  """A report of images with so many hits of ten at two levels each, `[n, 2]`."""
  folder.mkdir(parents=True, exist_ok=True)
  hits = np.asarray(hits)
  tallies = {"hits": hits, "total": np.full(len(names), total)}
  found = {
    "benchmark": "fake",
    "options": {"size": 4},
    "predictions": str(folder / "nowhere"),
    "ground_truth": "truth",
    "num_images": len(names),
    "summary": summarize(tallies),
    "images": {
      name: summarize({key: rows[i : i + 1] for key, rows in tallies.items()})
      for i, name in enumerate(names)
    },
  }
  found = json.loads(json.dumps(found | fields))
  (folder / score.SCORES).write_text(json.dumps(found))
  np.savez(folder / score.TALLIES, names=np.array(names), **tallies)
  return folder
