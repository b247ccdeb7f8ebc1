"""The supervised objective against the PyTorch reference, and what it promises by itself."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax import create_model, metrics
from hseg_jax.interop import torch_weights
from hseg_jax.objectives import supervised
from hseg_jax.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from hseg_jax.training.state import TrainState

SIZES = {1: 32, 4: 16, 7: 8, 10: 8}  # rows and columns of the stem's grids, by PyTorch's index


def make_state(trees):
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=trees["params"],
    batch_stats=trees["batch_stats"],
    opt_state=(),
    target=None,
    ema=None,
    rng=jax.random.PRNGKey(0),
  )


def uint8(arrays):
  if "x_uint8" in arrays:
    return arrays["x_uint8"]
  x = arrays["x"].transpose(0, 2, 3, 1)
  return np.round((x * np.float32(IMAGENET_STD) + np.float32(IMAGENET_MEAN)) * 255).astype(np.uint8)


def state_dict(arrays):
  """The published tensors; the trimmed arrays hold blocks once that the reference stores twice."""
  weights = {k.removeprefix("param/"): v for k, v in arrays.items() if k.startswith("param/")}
  twice = lambda name: re.sub(r"blocks\.(\d)", lambda m: f"blocks{int(m[1]) + 1}.{m[1]}", name)
  return {twice(name): value for name, value in weights.items()} | weights


@functools.cache
def reference():
  """The model of the golden arrays, and its loss with its gradient, compiled once."""
  model = create_model(
    "cast_small",
    num_classes=10,
    dim=48,
    depths=(1, 1, 1, 1),
    num_clusters=(16, 8, 4, 2),
    position_grid=(8, 8),
    position="learned",
    num_segments=64,
    pool_dropout=0.0,
    empty_segments="attend",
  )
  loss_fn = supervised.make_loss(model, label_smoothing=0.0)
  return model, jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


@pytest.mark.slow
def test_step_equals_the_reference(golden):
  arrays = golden("cast_deit_grad_train")
  model, grad_fn = reference()
  state = make_state(torch_weights.convert(state_dict(arrays), model))
  batch = {"image": uint8(arrays), "segments": arrays["y"], "label": arrays["target"]}
  (loss, (after, _)), grads = grad_fn(state.params, state, batch, state.rng)
  np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-5)

  found = torch_weights.export_torch({"params": grads, "batch_stats": after.batch_stats}, model)
  before = torch_weights.export_torch({"params": grads, "batch_stats": state.batch_stats}, model)
  zero = json.loads(str(arrays["meta_json"]))["analytically_zero_grads"]
  wanted = {k.removeprefix("grad/"): v for k, v in arrays.items() if k.startswith("grad/")}
  largest = max(np.abs(value).max() for value in wanted.values())
  for name, value in wanted.items():
    ours = np.asarray(found[name])
    if name in zero:
      assert np.abs(ours).max() < 1e-6 * largest, name
    else:
      atol = 2e-4 * np.abs(value).max()
      np.testing.assert_allclose(ours, value, rtol=0, atol=atol, err_msg=name)
  for layer, size in SIZES.items():
    prefix = f"patch_embed.proj.{layer}.running_"
    n = len(arrays["target"]) * size**2
    for name, factor in (("mean", 1.0), ("var", n / (n - 1))):  # PyTorch's variance is unbiased
      old = 0.9 * np.asarray(before[prefix + name])
      ours = old + (np.asarray(found[prefix + name]) - old) * factor
      np.testing.assert_allclose(ours, arrays[f"after/{prefix}{name}"], rtol=2e-4, atol=2e-6)


@pytest.fixture(scope="module")
def small():
  model = create_model("vit_conv_tiny", num_classes=5, dim=16, depths=(1,), num_heads=2)
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.integers(0, 256, (4, 64, 64, 3), np.uint8),
    "label": np.array([0, 4, 2, 1], np.int32),
  }
  loss_fn = supervised.make_loss(model, label_smoothing=0.1)
  state = make_state(jax.jit(loss_fn.init)(jax.random.PRNGKey(0), batch))
  return jax.jit(loss_fn), state, batch


def test_loss_is_the_smoothed_cross_entropy_of_valid_examples(small):
  loss_fn, state, batch = small
  valid = np.array([True, False, True, True])
  logits = jnp.array([2.0, 0.0, -1.0, 0.5, 1.0])
  head = {"kernel": jnp.zeros((16, 5)), "bias": logits}  # whatever the image shows
  loss, _ = loss_fn(state.params | {"head": head}, state, batch | {"valid": valid}, state.rng)
  target = 0.9 * np.eye(5)[batch["label"]] + 0.1 / 5
  losses = -target @ np.asarray(jax.nn.log_softmax(logits))
  np.testing.assert_allclose(loss, losses[valid].mean(), rtol=1e-6)


def test_cross_entropy_of_a_smoothed_label():
  logits = np.array([[2.0, 0.0, -1.0]], np.float32)
  log_p = logits[0] - np.log(np.exp(logits[0]).sum())
  wanted = -(np.array([0.8, 0.1, 0.1]) * log_p).sum()  # 0.3 of the mass spread over three
  smoothed = metrics.cross_entropy(jnp.asarray(logits), jnp.zeros(1, int), 0.3)
  np.testing.assert_allclose(smoothed[0], wanted, rtol=1e-6)


def test_the_step_updates_statistics_and_leaves_the_rest(small):
  loss_fn, state, batch = small
  _, (after, shown) = loss_fn(state.params, state, batch, state.rng)
  assert 0 <= shown["top1"] <= 1
  changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), after.batch_stats, state.batch_stats)
  assert all(jax.tree.leaves(changed))
  assert after.target is None
