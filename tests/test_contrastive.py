"""The contrastive objective against the PyTorch reference, and what it promises by itself."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hseg_jax import create_model
from hseg_jax.interop import torch_weights
from hseg_jax.objectives import contrastive
from hseg_jax.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from hseg_jax.training.state import TrainState

TEMPERATURE, MOMENTUM = 0.2, 0.99
SIZES = [32, 16, 8, 8]  # of the stem's grids, rows and columns alike


def reference_model(**fields):
  """The encoder of the golden arrays."""
  return create_model(
    "cast_small",
    num_classes=0,
    dim=48,
    depths=(1, 1, 1, 1),
    num_clusters=(16, 8, 4, 2),
    position_grid=(8, 8),
    num_segments=64,
    pool_dropout=0.0,
    **fields,
  )


def loss_of(model):
  return contrastive.make_loss(
    model, temperature=TEMPERATURE, momentum=MOMENTUM, projection_dim=32, hidden_dim=64
  )


def make_state(trees):
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=trees["params"],
    batch_stats=trees["batch_stats"],
    opt_state=(),
    target=trees["target"],
    ema=None,
    rng=jax.random.PRNGKey(0),
  )


def uint8(arrays, view):
  if f"x_uint8_{view}" in arrays:
    return arrays[f"x_uint8_{view}"]
  x = arrays[f"x{view}"].transpose(0, 2, 3, 1)
  return np.round((x * np.float32(IMAGENET_STD) + np.float32(IMAGENET_MEAN)) * 255).astype(np.uint8)


def state_dict(arrays):
  """The published tensors; the trimmed arrays hold blocks once that the reference stores twice."""
  weights = {k.removeprefix("param/"): v for k, v in arrays.items() if k.startswith("param/")}
  twice = lambda name: re.sub(r"blocks\.(\d)", lambda m: f"blocks{int(m[1]) + 1}.{m[1]}", name)
  return {twice(name): value for name, value in weights.items()} | weights


def torch_head(params, stats, prefix):
  """A projection MLP's tensors under their published names."""
  found = {}
  for i in range(len([name for name in stats if name.startswith("norm_")])):
    if params is not None:
      found[f"{prefix}.{3 * i}.weight"] = params[f"fc_{i}"]["kernel"].T
      for ours, theirs in (("scale", "weight"), ("bias", "bias")):
        if f"norm_{i}" in params:
          found[f"{prefix}.{3 * i + 1}.{theirs}"] = params[f"norm_{i}"][ours]
    for name in ("mean", "var"):
      found[f"{prefix}.{3 * i + 1}.running_{name}"] = stats[f"norm_{i}"][name]
  return found


def torch_names(params, stats, model, prefix):
  """All tensors of an encoder with its projector under their published names."""
  variables = {"params": params["encoder"], "batch_stats": stats["encoder"]}
  found = torch_weights.export_torch(variables, model)
  found |= torch_head(params["projector"], stats["projector"], "head")
  return {f"{prefix}.{name}": np.asarray(value) for name, value in found.items()}


def unbiased(name, after, before):
  """Two updates' running variance as PyTorch keeps it, from the biased one kept here."""
  if not name.endswith("running_var"):
    return after
  stem = [f"patch_embed.proj.{i}.running_var" for i in (1, 4, 7, 10)]
  layer = [i for i, ending in enumerate(stem) if name.endswith(ending)]
  n = 8 * SIZES[layer[0]] ** 2 if layer else 8
  return 0.81 * before + (after - 0.81 * before) * n / (n - 1)


def close(found, wanted, tolerance, name):
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.fixture(scope="module")
def run():
  """The encoder of the golden arrays, and its loss, embeddings and gradients, compiled once."""
  model = reference_model(empty_segments="attend")
  loss_fn = loss_of(model)
  cls, embed = type(loss_fn), type(loss_fn).embed

  def told(*args):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(cls, "embed", lambda *inputs: seen.append(embed(*inputs)) or seen[0])
      loss, (after, _) = loss_fn(*args)
    return loss, (after, seen[0][0])

  return model, jax.jit(jax.value_and_grad(told, has_aux=True))


@pytest.fixture
def step(golden, run):
  """The golden arrays, and what one step of ours makes of the same weights and images."""
  arrays = golden("moco")
  model, run = run
  state = make_state(torch_weights.convert_moco(state_dict(arrays), model))
  batch = {f"image_{i}": uint8(arrays, i) for i in (1, 2)}
  batch |= {f"segments_{i}": arrays[f"y{i}"] for i in (1, 2)}
  (loss, (after, embeddings)), grads = run(state.params, state, batch, state.rng)
  return arrays, model, state, embeddings, loss, after, grads


@pytest.mark.slow
def test_step_equals_the_reference(step):
  arrays, model, state, embeddings, loss, after, grads = step
  for name in ("z1", "z2", "q1", "q2", "k1", "k2"):
    close(getattr(embeddings, name), arrays[name], 5e-5, name)
  close(loss, arrays["loss"], 1e-5, "loss")

  found = torch_names(grads, after.batch_stats, model, "base_encoder")
  predictor = torch_head(grads["predictor"], after.batch_stats["predictor"], "predictor")
  found |= {name: np.asarray(value) for name, value in predictor.items()}
  zero = json.loads(str(arrays["meta_json"]))["analytically_zero_grads"]
  wanted = {k.removeprefix("grad/"): v for k, v in arrays.items() if k.startswith("grad/")}
  largest = max(np.abs(value).max() for value in wanted.values())
  for name, value in wanted.items():
    if name in zero:
      assert np.abs(found[name]).max() < 1e-6 * largest, name
    else:
      close(found[name], value, 2e-4, name)

  before = torch_names(state.params, state.batch_stats, model, "base_encoder")
  before |= torch_names(
    state.target["params"], state.target["batch_stats"], model, "momentum_encoder"
  )
  before |= torch_head(None, state.batch_stats["predictor"], "predictor")
  found |= torch_names(
    after.target["params"], after.target["batch_stats"], model, "momentum_encoder"
  )
  for key, value in arrays.items():
    name = key.removeprefix("after/")
    if key.startswith("after/") and not name.endswith("num_batches_tracked"):
      ours = unbiased(name, found[name], np.asarray(before.get(name, 0)))
      close(ours, value, 2e-4, name)


def test_info_nce_finds_each_query_its_own_key():
  key = jnp.eye(4)
  loss, top1 = contrastive.info_nce(3.0 * key, 0.5 * key, 0.2)
  assert top1 == 1
  np.testing.assert_allclose(loss, 0.4 * np.log(1 + 3 * np.exp(-5.0)), rtol=1e-5)
  assert contrastive.info_nce(jnp.roll(key, 1, axis=0), key, 0.2)[1] == 0


def test_unit_has_a_finite_gradient_at_zero():
  grad = jax.grad(lambda x: contrastive.unit(x).sum())(jnp.zeros((2, 3)))
  assert np.isfinite(grad).all()


def test_target_moves_by_the_schedule_and_gets_no_gradient():
  model = create_model("vit_conv_tiny", num_classes=0, dim=16, depths=(1,), num_heads=2)
  momentum = lambda step: 0.5 + 0.25 * step
  loss_fn = contrastive.make_loss(
    model, temperature=0.2, momentum=momentum, projection_dim=4, hidden_dim=8
  )
  rng = np.random.default_rng(0)
  batch = {f"image_{i}": rng.integers(0, 256, (4, 64, 64, 3), np.uint8) for i in (1, 2)}
  first = jax.jit(loss_fn.init)(jax.random.PRNGKey(0), batch)
  state = make_state(first).replace(step=jnp.ones((), int))
  params = jax.tree.map(lambda x: x + 1.0, state.params)

  @jax.jit
  def run(target_params):
    target = state.target | {"params": target_params}
    return loss_fn(params, state.replace(target=target), batch, state.rng)

  grads, (after, _) = jax.grad(run, has_aux=True)(state.target["params"])
  assert all(not np.any(g) for g in jax.tree.leaves(grads))
  old, new = state.target["params"], after.target["params"]
  for path in (("encoder", "position", "table"), ("projector", "fc_0", "kernel")):
    for key in path:
      old, new = old[key], new[key]
    np.testing.assert_allclose(new, old + 0.25, atol=1e-5)  # a frozen leaf as well
    old, new = state.target["params"], after.target["params"]
  frozen = loss_fn.frozen(params)
  assert frozen["encoder"]["position"]["table"] and not frozen["projector"]["fc_0"]["kernel"]


def test_a_model_with_a_head_is_refused():
  with pytest.raises(ValueError, match="num_classes=0"):
    loss_of(create_model("vit_conv_tiny", num_classes=3))
