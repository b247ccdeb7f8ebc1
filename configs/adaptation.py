"""Test-time adaptation of a finished run, or of exported weights, on the data it was trained on.

  hseg evaluate --config configs/adaptation.py:EXPERIMENT --workdir runs/EXPERIMENT --out DIR

EXPERIMENT is the name of a config file beside this one; give the same overrides as in
training, such as --config.data.root=FOLDER. On images worse than those of training:

  --config.evaluators.adaptation.corruption=noise --config.evaluators.adaptation.severity=3

Must reach: see README.md, "Adapt to the images at hand".
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config of the experiment `arg`, with other evaluators."""
  config = common.evaluation_of(arg)
  config.evaluators.adaptation = common.adaptation()
  return common.finish(config, "")
