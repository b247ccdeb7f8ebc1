"""CAST-tiny on a folder of small photographs, supervised, with regions that hang together.

  hseg train --config configs/cast_tiny_folder_graph.py --workdir runs/cast_tiny_folder_graph \
    --config.data.root=FOLDER

`configs/cast_tiny_folder.py` with poolings that follow the graph of the segments, where the
contrast across borders counts, and the published cosines in the soft assignment.

Must reach: 52.0 % val/top1 on 50 classes of Tiny-ImageNet (chance 2 %; one seed). Without paths
it is 52.3 %, and 0.2 less with paths put upon those weights.
Cost: 70 minutes of one CPU core.
"""

from configs import cast_tiny_folder


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = cast_tiny_folder.get_config(arg)
  config.model.assignment = "path"
  config.model.path_contrast = config.model.path_cosine = True
  return config
