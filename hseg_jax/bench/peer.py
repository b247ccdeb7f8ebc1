"""Models of timm in PyTorch, measured beside ours; the only file that imports timm."""

import jax
import numpy as np

from hseg_jax import preprocessing, processes
from hseg_jax.bench.inputs import NUM_CLASSES, Inputs
from hseg_jax.bench.programs import Program, Task
from hseg_jax.errors import UserError

_PREFIX = "timm:"


def build(name: str, task: Task, inputs: Inputs) -> Program:
  """Prepares a model of timm, with random weights, for the same task on the same batch.

  Args:
    name: such as "timm:vit_small_patch16_224".
    task: what it is to do; superpixels it sees none. Training is supervised, with AdamW.
    inputs: the batch.

  Raises:
    UserError: there is no such model, torch or timm are not installed, or the task is none of
      theirs.
  """
  if not name.startswith(_PREFIX):
    raise UserError(f"--peer {name} is none; name a model of timm, as in {_PREFIX}vit_small_....")
  try:
    import timm
    import torch
  except ImportError as error:
    raise UserError(
      f"--peer {name} takes PyTorch and timm: pip install 'hseg_jax[peer]'."
    ) from error
  try:
    model = timm.create_model(name.removeprefix(_PREFIX), num_classes=NUM_CLASSES)
  except (RuntimeError, ValueError) as error:
    raise UserError(f"timm has no model {name.removeprefix(_PREFIX)!r}: {error}") from error
  expected = model.default_cfg["input_size"][-1]
  if model.default_cfg.get("fixed_input_size") and expected != inputs.size:
    raise UserError(f"{name} takes images of {expected} pixels, not of {inputs.size}.")
  if task.what == "train" and task.objective != "supervised":
    raise UserError(f"{name} is trained supervised; leave out --objective {task.objective}.")
  backend = jax.default_backend()
  if backend == "tpu" or (backend == "gpu" and not torch.cuda.is_available()):
    raise UserError(
      f"jax runs on a {backend.upper()}, where this PyTorch cannot; leave out --peer."
    )
  device = "cuda" if backend == "gpu" else "cpu"
  torch.set_num_threads(processes.count_cores())  # as many as XLA takes
  image = np.moveaxis(np.asarray(preprocessing.normalize(inputs.image)), -1, 1)
  image = torch.from_numpy(np.ascontiguousarray(image)).to(device)
  label = torch.from_numpy(inputs.label.astype(np.int64)).to(device)
  model = model.to(device)
  lower = lambda: torch.autocast(device, torch.bfloat16, enabled=task.dtype == "bfloat16")

  def infer() -> None:
    with torch.inference_mode(), lower():
      model(image).sum().item()  # which waits for it

  def train() -> None:
    optimizer.zero_grad(set_to_none=True)
    with lower():
      loss = torch.nn.functional.cross_entropy(model(image), label, label_smoothing=0.1)
    loss.backward()
    optimizer.step()
    loss.item()

  if task.what == "infer":
    model.eval()
    return Program(infer)
  model.train()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
  return Program(train)
