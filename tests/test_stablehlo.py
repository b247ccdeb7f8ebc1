"""The program that runs alone says what the model says."""

import functools
import subprocess
import sys

import jax
import numpy as np

import hseg_jax
from hseg_jax.interop import stablehlo
from hseg_jax.preprocessing import normalize

FIELDS = dict(dim=16, depths=(1, 1), num_heads=2, num_classes=5, stem_strides=(2, 2))
CAST = dict(pool_num_heads=2, num_segments=16, num_clusters=(6, 3), position_grid=(8, 8))
ALONE = """
import sys
for name in ("hseg_jax", "flax", "optax", "safetensors"): sys.modules[name] = None
import pathlib, jax.export, numpy as np
program = jax.export.deserialize(bytearray(pathlib.Path("model.stablehlo").read_bytes()))
assert program.platforms == ("cpu", "cuda", "tpu")
for batch in (1, 5):
  inputs = np.load(f"inputs_{batch}.npz")
  np.savez(f"outputs_{batch}", **program.call(*inputs.values()))
"""


def build(name, **fields):
  model = hseg_jax.create_model(name, **fields)
  segments = np.zeros((1, 32, 32), np.int32)
  init = jax.jit(functools.partial(model.init, train=False))
  return model, init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), segments)


def inputs(batch):
  """Noise, and superpixels of which the later images lack some."""
  image = np.random.default_rng(batch).integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8)
  cells = np.add.outer(np.arange(32) // 8 * 4, np.arange(32) // 8).astype(np.int32)
  return image, np.stack([np.maximum(cells, i) for i in range(batch)])


def test_runs_without_this_package(tmp_path):
  model, variables = build("cast_tiny", **FIELDS, **CAST)
  data, info = stablehlo.serialize(model, variables, 32)
  (tmp_path / info["file"]).write_bytes(data)
  for batch in (1, 5):
    image, segments = inputs(batch)
    np.savez(tmp_path / f"inputs_{batch}", image=image, segments=segments)
  command = [sys.executable, "-c", ALONE]
  alone = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
  assert alone.returncode == 0, alone.stderr
  apply = jax.jit(functools.partial(model.apply, train=False))
  for batch in (1, 5):
    outputs = dict(np.load(tmp_path / f"outputs_{batch}.npz"))
    assert outputs.keys() == info["outputs"].keys()
    image, segments = inputs(batch)
    out = apply(variables, normalize(image), segments)
    np.testing.assert_allclose(outputs["logits"], out.logits, atol=1e-5, rtol=0)
    np.testing.assert_allclose(outputs["features"], out.features, atol=1e-5, rtol=0)
    first, second = (np.asarray(level.assignment).argmax(-1) for level in out.levels)
    absent = np.array([[s not in labels for s in range(16)] for labels in segments])
    composed = np.take_along_axis(second, first, axis=1)
    np.testing.assert_array_equal(outputs["level_1"], np.where(absent, -1, first))
    np.testing.assert_array_equal(outputs["level_2"], np.where(absent, -1, composed))
  assert info["inputs"] == {
    "image": "uint8 [b, 32, 32, 3], RGB, not normalised",
    "segments": "int32 [b, 32, 32], superpixel of each pixel",
  }
  assert info["outputs"]["logits"] == "float32 [b, 5]"
  assert info["outputs"]["level_2"] == "int32 [b, 16], region of each superpixel, -1 for none"


def test_a_plain_vit_takes_only_images():
  model, variables = build("vit_conv_tiny", **FIELDS | {"depths": (1,)}, position_grid=(8, 8))
  data, info = stablehlo.serialize(model, variables, 32)
  assert list(info["inputs"]) == ["image"] and list(info["outputs"]) == ["features", "logits"]
  image, _ = inputs(3)
  found = jax.export.deserialize(bytearray(data)).call(image)
  out = jax.jit(functools.partial(model.apply, train=False))(variables, normalize(image), None)
  np.testing.assert_allclose(found["logits"], out.logits, atol=1e-5, rtol=0)


def test_paths_are_part_of_the_program():
  _, variables = build("cast_tiny", **FIELDS, **CAST)
  model = hseg_jax.create_model("cast_tiny", **FIELDS, **CAST, assignment="path")
  _, info = stablehlo.serialize(model, variables, 32)
  assert info["outputs"]["level_2"].startswith("int32 [b, 16]")
