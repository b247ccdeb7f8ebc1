"""ViT-conv-tiny on PartWorld, supervised: the baseline of cast_tiny_partworld.py.

  hseg train --config configs/vit_conv_tiny_partworld.py --workdir runs/vit_conv_tiny_partworld

Everything but the model is cast_tiny_partworld.py's; a ViT with as many parameters as CAST is
`--config.model.dim=160`.

Must reach: not measured yet.
Cost: not measured yet.
"""

from configs import cast_tiny_partworld, common


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = cast_tiny_partworld.get_config()
  common.as_vit(config, "vit_conv_tiny")
  config.evaluators.hierarchy.baselines = ()  # cast_tiny_partworld.py's run scores them
  return common.finish(config, arg)
