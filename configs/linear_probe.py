"""Linear probe and k-NN of a finished run, or of exported weights, on the data it was trained on.

  hseg evaluate --config configs/linear_probe.py:EXPERIMENT --workdir runs/EXPERIMENT --out DIR

EXPERIMENT is the name of a config file beside this one; give the same overrides as in
training, such as --config.data.root=FOLDER. Raw pixels beside the features:

  --config.evaluators.linear_probe.inputs="('features', 'pixels')"

Must reach: see README.md, "Evaluate what a model has learnt".
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config of the experiment `arg`, with other evaluators."""
  config = common.evaluation_of(arg)
  config.evaluators.linear_probe = common.linear_probe()
  config.evaluators.knn = common.knn(bank_size=5000)
  return common.finish(config, "")
