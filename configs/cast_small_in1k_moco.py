"""CAST-S pretrained on ImageNet-1K in the manner of MoCo v3, with the paper's hyperparameters.

  hseg train --config configs/cast_small_in1k_moco.py --workdir runs/cast_small_in1k_moco

TFDS's imagenet2012, prepared as array_record by launch/prepare_tfds.py.

Must reach: 68.1 % in the linear probe (the paper's repository, 100 epochs). Not yet run here.
Cost: 100 epochs of 1.28 million images at two views; not yet measured.

As the reference, decay covers biases, norms and tokens, and nothing is clipped. Two differences:
bfloat16 instead of float16 with a loss scaler, and empty segments are masked.
"""

from configs import common

NUM_IMAGES = 1_281_167


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = common.base()
  common.imagenet_moco(config, num_images=NUM_IMAGES, num_epochs=100, warmup_epochs=10)
  config.model.name = "cast_small"
  config.data.source = "tfds"
  config.data.name = "imagenet2012"
  config.data.val_split = "validation"
  return common.finish(config, arg)
