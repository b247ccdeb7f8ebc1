"""The weights that come with the package: small, told of, installed, and fit for the model."""

import functools
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np

import hseg_jax
from hseg_jax.interop import exported, hub, model_card

ROOT = pathlib.Path(hseg_jax.__file__).parent.parent


def test_are_a_small_folder_with_a_card():
  files = {path.name: path.stat().st_size for path in hub.SHIPPED.iterdir()}
  assert files.keys() == {"model.safetensors", "model.json", "README.md"}
  assert sum(files.values()) <= 5_000_000


def test_fit_the_model_and_tell_data_terms_and_scores():
  flat, info = hseg_jax.load_exported(hub.SHIPPED)
  model = hseg_jax.create_model(**info["model"])
  init = functools.partial(model.init, train=False)
  image, labels = np.zeros((1, 64, 64, 3), np.float32), np.zeros((1, 64, 64), np.int32)
  wanted = jax.eval_shape(init, jax.random.key(0), image, labels)
  shapes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
  assert shapes(exported.unflatten(flat)) == shapes(wanted)
  assert all(value.dtype == np.float32 for value in flat.values())
  assert len(set(info["class_names"])) == model.num_classes == 50
  assert info["half"] and info["metrics"]["val/top1"] > 0.4
  assert "non-commercial" in info["terms"]
  card = (hub.SHIPPED / "README.md").read_text()
  assert card == model_card.render(info)
  assert info["terms"] in card and "val/top1" in card and "Tiny-ImageNet" in card
  # Paths of whoever trained it are nobody's business.
  assert ': "/' not in json.dumps(info)


def test_are_installed_with_the_package(tmp_path):
  shutil.copytree(ROOT / "hseg_jax", tmp_path / "hseg_jax")
  shutil.copy(ROOT / "setup.py", tmp_path)
  command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", "built"]
  subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
  built = tmp_path / "built" / hub.SHIPPED.relative_to(ROOT)
  assert {path.name for path in built.iterdir()} == {path.name for path in hub.SHIPPED.iterdir()}


def test_segment_a_photograph_at_once():
  segmenter = hseg_jax.Segmenter.from_pretrained()
  ramp = np.add.outer(np.arange(90), np.arange(120)).astype(np.uint8)
  hierarchy = segmenter(np.stack([ramp, ramp[::-1], 255 - ramp], axis=-1))
  assert hierarchy.num_levels == 5 and hierarchy.segments.shape == (90, 120)
  assert hierarchy.probabilities.shape == (50,) == (len(segmenter.class_names),)
