"""CAST-tiny on a folder of small photographs, contrastive: the labels serve to evaluate only.

  hseg train --config configs/cast_tiny_folder_moco.py --workdir runs/cast_tiny_folder_moco \
    --config.data.root=FOLDER

The folder holds train/CLASS/IMAGE and val/CLASS/IMAGE; made for 50 classes of
Tiny-ImageNet. The untrained network is evaluated at step 0.

Must reach: 18.6 % val/knn_features on those classes (one seed); on the same bank the untrained
network has 3.8 %, raw pixels 11.0 %, colour histograms 16.2 %, all of which it reports.
Cost: 82 minutes on one CPU core.
"""

from configs import common


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = common.base()
  config.batch_size = 64
  config.num_steps = 900
  config.eval_every_steps = 150
  config.checkpoint.every_steps = 150
  config.model.name = "cast_tiny"
  config.model.train_last_pool = True
  config.model.pool_dropout = 0.0
  config.data.source = "folder"
  config.data.augment = "moco"
  config.data.min_scale = 0.2
  config.objective.name = "contrastive"
  config.objective.projection_dim = 128
  config.objective.hidden_dim = 512
  config.optimizer.name = "muon"
  config.optimizer.learning_rate = 1e-3
  config.optimizer.warmup_steps = 100
  config.optimizer.decay = "all"
  config.evaluators.knn = common.knn(bank_size=5000)
  return common.finish(config, arg)
