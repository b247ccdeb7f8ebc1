"""Every level of a finished run's hierarchies, or of exported weights, on any images with masks.

  hseg evaluate --config configs/hierarchy.py:EXPERIMENT --workdir runs/EXPERIMENT --out DIR \
    --config.data.root=FOLDER

EXPERIMENT is the name of a config file beside this one. The folder holds images/NAME.jpg,
masks/NAME.png and a labels.csv that tells which labels are background: its column whole_id is 0
there. Subfolders val of both, or a list val.txt, are the images that count; all of them are

  --config.data.train_split=all --config.data.val_split=all

Must reach: see README.md, "Evaluate what a model has learnt".
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config of the experiment `arg`, with other data and evaluators."""
  config = common.evaluation_of(arg)
  common.use_masks(config)
  config.evaluators.hierarchy = common.hierarchy()
  return common.finish(config, "")
