"""State dicts under the published names, made of the shapes that a model's variables have."""

import numpy as np

from hseg_jax.interop import torch_weights
from hseg_jax.interop.exported import unflatten

# The smallest pooling model whose width still has twelve heads.
TINY = dict(dim=48, depths=(1, 1, 1, 1), num_clusters=(16, 8, 4, 2), position_grid=(8, 8))


def state_of(model, seed=None) -> dict[str, np.ndarray]:
  """The state dict of a model: of zeros that take no memory, or of random values."""
  shapes = torch_weights.shapes_of_model(model)
  if seed is None:
    flat = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
  else:
    rng = np.random.default_rng(seed)
    flat = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
  return torch_weights.export_torch(unflatten(flat), model)


def moco_state(model, seed=0) -> dict[str, np.ndarray]:
  """A MoCo checkpoint's state dict, without the predictor's layers but one."""
  state = {"module.predictor.0.weight": np.zeros((4, 4), np.float32)}
  for i, name in enumerate(("base_encoder", "momentum_encoder")):
    inside = state_of(model, seed + i)
    state |= {f"module.{name}.{key}": value for key, value in inside.items()}
  return state
