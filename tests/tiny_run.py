"""The smallest run that has everything a run can have: what tests of the loop train."""

from ml_collections import ConfigDict

from configs import common


def config(objective: str = "contrastive", **fields) -> ConfigDict:
  """A ViT of one block on PartWorld; `fields` are dotted names with "__" for the dots."""
  c = common.base()
  c.batch_size, c.num_steps = 8, 4
  c.log_every_steps, c.eval_every_steps, c.checkpoint.every_steps = 1, 4, 2
  c.model.name, c.superpixels.method = "vit_conv_tiny", "none"
  c.model.dim, c.model.depths, c.model.num_heads, c.model.position_grid = 16, (1,), 2, (4, 4)
  c.model.drop_path = 0.5  # so that a step depends on its key
  c.data.image_size, c.data.num_train, c.data.num_val, c.data.num_workers = 32, 32, 12, 0
  c.objective.name, c.objective.projection_dim, c.objective.hidden_dim = objective, 8, 16
  if objective == "contrastive":
    c.data.augment = "moco"
  else:
    c.evaluators.classification = {}
  c.optimizer.ema = 0.9
  c.update_from_flattened_dict({name.replace("__", "."): v for name, v in fields.items()})
  return c.lock()
