"""ViT-conv-tiny on a folder of small photographs, supervised: cast_tiny_folder.py's baseline.

  hseg train --config configs/vit_conv_tiny_folder.py --workdir runs/vit_conv_tiny_folder \
    --config.data.root=FOLDER

Everything but the model is cast_tiny_folder.py's; a ViT with as many parameters as CAST is
`--config.model.dim=160`.

Must reach: 49.9 % val/top1 on 50 classes of Tiny-ImageNet, 51.5 % at width 160 (one seed).
Cost: 105 minutes on one CPU core.
"""

from configs import cast_tiny_folder, common


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = cast_tiny_folder.get_config()
  common.as_vit(config, "vit_conv_tiny")
  return common.finish(config, arg)
