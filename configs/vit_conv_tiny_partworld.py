"""ViT-conv-tiny on PartWorld, supervised: the baseline of cast_tiny_partworld.py.

  hseg train --config configs/vit_conv_tiny_partworld.py --workdir runs/vit_conv_tiny_partworld

Everything but the model is cast_tiny_partworld.py's; a ViT with as many parameters as CAST is
`--config.model.dim=160`.

Must reach: 85.5 % val/top1 (three seeds, standard deviation 1.4; chance 6.25 %), 86.8 % (1.6) at
width 160.
Cost: 34 ms of one CPU core an image, 14 minutes in all.
"""

from configs import cast_tiny_partworld, common


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = cast_tiny_partworld.get_config()
  common.as_vit(config, "vit_conv_tiny")
  config.evaluators.hierarchy.baselines = ()  # cast_tiny_partworld.py's run scores them
  return common.finish(config, arg)
