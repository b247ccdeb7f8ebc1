"""Every config in its smoke form: real superpixels, both views, the real optimizer, two steps."""

import functools
import importlib
import json
import pathlib

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from hseg_jax import experiment, train
from hseg_jax.models import VARIANTS
from hseg_jax.training import checkpoint, sharding
from hseg_jax.training import state as states

FOLDER = pathlib.Path(__file__).parent.parent / "configs"
# Evaluations of what other configs train.
EVALUATIONS = (
  "adaptation",
  "figure_ground",
  "hierarchy",
  "linear_probe",
  "part_whole",
  "retrieval",
)
CONFIGS = sorted(
  p.stem for p in FOLDER.glob("*.py") if p.stem not in ("common", "__init__", *EVALUATIONS)
)
# Those with "path" differ in one field; it is run at one size, and lowered at full size below.
SMOKED = [name for name in CONFIGS if not name.endswith("_graph") or "partworld" in name]
FULL_SIZE = [name for name in CONFIGS if "_small_" in name]


def load(name, **fields):
  config = importlib.import_module(f"configs.{name}").get_config(fields.pop("arg", ""))
  config.update_from_flattened_dict({key.replace("__", "."): v for key, v in fields.items()})
  return config


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
  config = load(name, arg="smoke")
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


def test_every_config_says_what_it_is_for():
  for name in CONFIGS:
    header = importlib.import_module(f"configs.{name}").__doc__
    assert f"hseg train --config configs/{name}.py --workdir" in " ".join(header.split()).replace(
      "\\ ", ""
    ), name
    assert "Must reach:" in header and "Cost:" in header, name


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluations_change_nothing_of_the_model(name):
  module = importlib.import_module(f"configs.{name}")
  assert f"hseg evaluate --config configs/{name}.py:EXPERIMENT" in module.__doc__
  config, trained = module.get_config("vit_conv_tiny_folder"), load("vit_conv_tiny_folder")
  assert name in config.evaluators and "classification" not in config.evaluators
  for part in ("model", "superpixels", "objective", "optimizer"):
    assert config[part].to_dict() == trained[part].to_dict()
  with pytest.raises(ValueError, match="name the experiment"):
    module.get_config()
  with pytest.raises(ValueError, match="no experiment 'smoke'"):
    module.get_config("smoke")


def test_ratios_follow_overrides():
  config = load("cast_small_in1k_moco")
  np.testing.assert_allclose(config.optimizer.learning_rate, 1.5e-4)
  assert config.optimizer.warmup_steps == 10 * 5004
  config.batch_size = 4096
  np.testing.assert_allclose(config.optimizer.learning_rate, 16 * 1.5e-4)
  assert config.optimizer.warmup_steps == 10 * 312


def test_the_baselines_differ_in_the_model_only():
  for ours in ("tiny_partworld", "tiny_folder", "small_in1k_moco"):
    cast, vit = (load(f"{kind}_{ours}").to_dict() for kind in ("cast", "vit_conv"))
    for config in (cast, vit):
      config.pop("model"), config.pop("superpixels"), config.pop("evaluators")
    assert cast == vit


def test_the_supervised_header_lists_what_is_absent():
  header = importlib.import_module("configs.cast_small_in1k_supervised").__doc__
  for part in ("RandAugment", "mixup", "cutmix", "random erasing", "repeated augmentation"):
    assert part in header.replace("\n", " ")


def test_imagenet100_lists_a_hundred_classes():
  names = (FOLDER / "imagenet100.txt").read_text().split()
  assert len(set(names)) == len(names) == 100 and names == sorted(names)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_steps_lower_without_a_device(name):
  settings = load(name).to_dict()
  settings["model"] |= {"num_classes": 1000 if settings["objective"]["name"] == "supervised" else 0}
  settings["model"] = {k: v for k, v in settings["model"].items() if v is not None}
  model = experiment.make_model(settings)
  objective = experiment.make_objective(settings, model, num_steps=100)
  tx, _ = experiment.make_optimizer(settings, objective, num_steps=100)
  ema = settings["optimizer"]["ema"]
  batch = experiment.example_batch(settings)
  init = states.make_init(objective, tx, batch, ema=ema > 0)
  state = jax.eval_shape(init, jax.ShapeDtypeStruct((2,), np.uint32))
  step = train.make_train_step(objective, tx, ema=ema)
  traced = step.trace(state, batch)
  for platform in ("tpu", "cuda"):
    lowered = traced.lower(lowering_platforms=(platform,))
    assert "stablehlo.convolution" in lowered.as_text()


def test_no_variant_is_out_of_reach():
  assert {load(name).model.name for name in CONFIGS} <= VARIANTS.keys()
