"""ViT-S with a convolutional stem, pretrained on ImageNet-1K: cast_small_in1k_moco.py's baseline.

  hseg train --config configs/vit_conv_small_in1k_moco.py \
    --workdir runs/vit_conv_small_in1k_moco

Everything but the model is cast_small_in1k_moco.py's.

Must reach: 67.9 % in the linear probe (the paper's repository, 100 epochs). Not yet run here.
Cost: 100 epochs of 1.28 million images at two views; not yet measured.
"""

from configs import cast_small_in1k_moco, common


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = cast_small_in1k_moco.get_config()
  common.as_vit(config, "vit_conv_small")
  return common.finish(config, arg)
