"""CAST-S pretrained on ImageNet-1K in the manner of MoCo v3, with regions that hang together.

  hseg train --config configs/cast_small_in1k_moco_graph.py \
    --workdir runs/cast_small_in1k_moco_graph

`configs/cast_small_in1k_moco.py` with poolings that follow the graph of the segments, where the
contrast across borders counts, and the published cosines in the soft assignment; all poolings are
trained, and superpixels are made on the device, each of them in one piece.

Must reach: not known; only its smoke form was run.
Cost: not yet measured.
"""

from configs import cast_small_in1k_moco


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = cast_small_in1k_moco.get_config(arg)
  config.model.assignment = "path"
  config.model.path_contrast = config.model.path_cosine = True
  config.model.train_last_pool = True
  config.superpixels.method = "device"
  return config
