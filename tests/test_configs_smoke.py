"""Every config in its smoke form: real superpixels, both views, the real optimizer, two steps."""

import functools
import json

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from hseg_jax import train
from hseg_jax.training import checkpoint, sharding
from hseg_jax.training import state as states
from tests.test_configs import CONFIGS, load

# Those with "path" differ in one field; it is run at one size, and lowered at full size elsewhere.
SMOKED = [name for name in CONFIGS if not name.endswith("_graph") or "partworld" in name]
# Of models for images of 224 pixels, which would only compute longer: the narrowest that has their
# twelve heads, on smaller images. What runs at full size is their lowering.
NARROW = {
  "model__dim": 48,
  "model__position_grid": (8, 8),
  "data__image_size": 64,
  "superpixels__num_segments": 64,
}


def make_folder(root, num_classes=16, num_images=1):
  rng = np.random.default_rng(0)
  for split in ("train", "val"):
    for label in range(num_classes):
      folder = root / split / f"class_{label}"
      folder.mkdir(parents=True)
      for i in range(num_images):
        pixels = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((80, 64)).save(folder / f"{i}.png")
  return root


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOKED)
def test_smoke_trains(name, tmp_path, monkeypatch):
  config = load(name, arg="smoke", **(NARROW if "_small_" in name else {}))
  if config.data.source == "folder":
    config.data.root = str(make_folder(tmp_path / "data"))
  # One device: what sharding does is tested elsewhere, and here it would only cost time.
  one = functools.partial(sharding.make_mesh, jax.devices()[:1])
  monkeypatch.setattr(sharding, "make_mesh", one)
  create, first = states.create, []
  keep = lambda state: first.append(jax.device_get(state.params)) or state
  monkeypatch.setattr(states, "create", lambda *args: keep(create(*args)))
  with tfds.testing.mock_data(num_examples=20):
    state = train.train_and_evaluate(config, tmp_path)
  assert state.step == 2
  saved = checkpoint.load(tmp_path)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved))
  moved = jax.tree.map(lambda old, new: bool(np.any(old != new)), *first, saved["params"])
  assert sum(jax.tree.leaves(moved)) > 0.7 * len(jax.tree.leaves(moved))
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [line["step"] for line in lines] == [0, 1, 2, 2]
