"""Segment retrieval with a finished run, or exported weights, on any images with masks.

  hseg evaluate --config configs/retrieval.py:EXPERIMENT --workdir runs/EXPERIMENT --out DIR \
    --config.data.root=FOLDER

EXPERIMENT is the name of a config file beside this one. The folder holds images/NAME.jpg and
masks/NAME.png, in subfolders train and val of both or listed by train.txt and val.txt; where there
is but one list of images, cut it:

  "--config.data.train_split=all[:200]" "--config.data.val_split=all[200:]"

Must reach: see README.md, "Evaluate what a model has learnt".
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config of the experiment `arg`, with other data and evaluators."""
  config = common.evaluation_of(arg)
  common.use_masks(config)
  config.evaluators.retrieval = common.retrieval()
  return common.finish(config, "")
