"""CAST-tiny on PartWorld, supervised, with the published pooling.

  hseg train --config configs/cast_tiny_partworld.py --workdir runs/cast_tiny_partworld

Must reach: 80 % val/top1; three seeds reach 85.9 % (standard deviation 1.1; chance 6.25 %).
Cost: 9.5 minutes on two CPU cores, with evaluation and report.
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = common.base()
  config.batch_size = 32
  config.num_steps = 750
  config.eval_every_steps = 750
  config.checkpoint.every_steps = 150
  config.model.name = "cast_tiny"
  config.model.train_last_pool = True
  config.model.pool_dropout = 0.0
  config.data.source = "partworld"
  # Drawing an image costs no more than cropping one: every step gets new ones.
  config.data.num_train = config.get_ref("num_steps") * config.get_ref("batch_size")
  config.data.augment = "none"
  config.optimizer.name = "muon"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.warmup_steps = 50
  config.evaluators.classification = {}
  config.evaluators.hierarchy = common.hierarchy()
  config.evaluators.hierarchy.num_examples = 100
  return common.finish(config, arg)
