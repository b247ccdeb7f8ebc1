"""CAST-tiny on a folder of small photographs, supervised.

  hseg train --config configs/cast_tiny_folder.py --workdir runs/cast_tiny_folder \
    --config.data.root=FOLDER

The folder holds train/CLASS/IMAGE and val/CLASS/IMAGE; made for 50 classes of
Tiny-ImageNet, 500 training images of 64 x 64 pixels each.

Must reach: 52.3 % val/top1 on those classes (chance 2 %; one seed).
Cost: 100 minutes on one CPU core.
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = common.base()
  config.batch_size = 64
  config.num_epochs = 8.0
  config.eval_every_steps = 390  # once per pass over 25,000 images
  config.checkpoint.every_steps = 390
  config.model.name = "cast_tiny"
  config.model.train_last_pool = True
  config.model.pool_dropout = 0.0
  config.data.source = "folder"
  config.data.min_scale = 0.35
  config.optimizer.name = "muon"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.warmup_steps = 200
  config.evaluators.classification = {}
  return common.finish(config, arg)
