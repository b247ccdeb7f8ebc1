"""Objects and parts by name, of a finished run or of exported weights.

  hseg evaluate --config configs/part_whole.py:EXPERIMENT --workdir runs/EXPERIMENT --out DIR

EXPERIMENT is the name of a config file beside this one; give the same overrides as in training. An
image-text model names the regions, besides the oracle, with

  --config.evaluators.part_whole.labellings="('oracle', 'clip')"

Must reach: see README.md, "Objects and parts by name".
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config of the experiment `arg`, with other evaluators."""
  config = common.evaluation_of(arg)
  config.evaluators.part_whole = common.part_whole()
  return common.finish(config, "")
