"""Every config: what its header says, what it shares with others, and that its full size lowers."""

import importlib
import pathlib

import jax
import numpy as np
import pytest

from hseg_jax import experiment, train
from hseg_jax.models import VARIANTS
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
# The step on ImageNet-100 is that on ImageNet-1K.
FULL_SIZE = [name for name in CONFIGS if "_small_" in name and "in100" not in name]


def load(name, **fields):
  config = importlib.import_module(f"configs.{name}").get_config(fields.pop("arg", ""))
  config.update_from_flattened_dict({key.replace("__", "."): v for key, v in fields.items()})
  return config


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
  settings["model"] = experiment.complete_model(
    settings["model"], settings["superpixels"]["method"]
  )
  model = experiment.make_model(settings)
  objective = experiment.make_objective(settings, model, num_steps=100)
  tx, _ = experiment.make_optimizer(settings, objective, num_steps=100)
  ema = settings["optimizer"]["ema"]
  batch = experiment.example_batch(settings)
  init = states.make_init(objective, tx, batch, ema=ema > 0)
  state = jax.eval_shape(init, jax.ShapeDtypeStruct((2,), np.uint32))
  step = train.make_train_step(objective, tx, ema=ema)
  traced = step.trace(state, batch)
  lowered = traced.lower(lowering_platforms=("tpu", "cuda"))
  assert "stablehlo.convolution" in lowered.as_text()


def test_no_variant_is_out_of_reach():
  assert {load(name).model.name for name in CONFIGS} <= VARIANTS.keys()
