"""Figure and ground by attention and by regions, of a finished run or of exported weights.

  hseg evaluate --config configs/figure_ground.py:EXPERIMENT --workdir runs/EXPERIMENT --out DIR

EXPERIMENT is the name of a config file beside this one; give the same overrides as in training.

Must reach: see README.md, "Figure and ground".
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config of the experiment `arg`, with other evaluators."""
  config = common.evaluation_of(arg)
  config.evaluators.figure_ground = common.figure_ground()
  return common.finish(config, "")
