"""Published weights in and out, and parity with the arrays that the PyTorch reference computed."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hseg_jax
from hseg_jax.errors import UserError
from hseg_jax.interop import torch_weights
from hseg_jax.interop.exported import unflatten
from hseg_jax.models.segments import (
  compose,
  hard_assignment,
  interpolated_mean,
  segment_mean,
  shrink_labels,
)
from hseg_jax.preprocessing import normalize

TINY = dict(
  dim=48,
  depths=(1, 1, 1, 1),
  num_heads=12,
  pool_num_heads=12,
  num_clusters=(16, 8, 4, 2),
  position_grid=(8, 8),
  num_classes=10,
  empty_segments="attend",
)
SEGMENTS = dict(segment_mean="bilinear", output="segments")
# File -> (variant, fields) of the published class that it was computed with.
CLASSES = {
  "cast": ("cast_small", {}),
  "cast_deit": ("cast_small", dict(position="learned")),
  "cast_seg_pretrain": ("cast_small_seg", {}),
  "cast_seg_segmentation": ("cast_small_seg", SEGMENTS),
  "cast_seg_deit": ("cast_small_seg", dict(position="learned", num_classes=0, **SEGMENTS)),
}


def state_dict_of(arrays, prefix="param/"):
  """The state dict of a golden file; the trimmed ones hold blocks once, as safetensors would."""
  return {key.removeprefix(prefix): x for key, x in arrays.items() if key.startswith(prefix)}


def image_of(arrays, suffix=""):
  if f"x{suffix}" in arrays:
    return arrays[f"x{suffix}"].transpose(0, 2, 3, 1)
  return np.asarray(normalize(arrays[f"x_uint8{'_' * bool(suffix)}{suffix}"]))


def assert_close(ours, theirs, name, tolerance=1e-5):
  """Within `tolerance` of the array's largest magnitude."""
  ours = np.asarray(ours, np.float64).reshape(theirs.shape)
  error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)
  assert error < tolerance, f"{name} is off by {error:.1e} of its largest value"


@functools.cache
def forward(name, num_segments):
  variant, fields = CLASSES[name]
  model = hseg_jax.create_model(variant, **{**TINY, **fields, "num_segments": num_segments})
  apply = functools.partial(
    model.apply, train=False, capture_intermediates=True, mutable=["intermediates"]
  )
  return model, jax.jit(apply)


def interpolated(grid, size, method):
  """A grid interpolated to `size`, by the model's own taps."""
  rows, columns = np.indices(size)
  labels = jnp.broadcast_to((rows * size[1] + columns).astype(np.int32), (len(grid), *size))
  return interpolated_mean(jnp.asarray(grid), labels, size[0] * size[1], method)[0]


def segment_means(name, grids, labels, num_segments):
  """The label map that the model averages over, and the means of features and positions."""
  if CLASSES[name][1].get("segment_mean") == "bilinear":
    means = [
      interpolated_mean(grid, labels, num_segments, method)[0]
      for grid, method in zip(grids, ("bilinear", "bicubic"), strict=True)
    ]
    return {"y_used": labels, "seg_x": means[0], "seg_pos": means[1]}
  labels = shrink_labels(labels, *grids[0].shape[1:3])
  grids = [jnp.broadcast_to(grid, grids[0].shape) for grid in grids]
  means = [segment_mean(grid, labels, num_segments)[0] for grid in grids]
  return {"y_used": labels, "seg_x": means[0], "seg_pos": means[1]}


def check_case(name, arrays, case):
  """Compares everything that a case stores and the port computes; returns what was compared."""
  here = {key[2:]: x for key, x in arrays.items() if key.startswith(f"{case}/")}
  num_segments = here["padding_mask1"].shape[1]
  model, apply = forward(name, num_segments)
  state = state_dict_of(arrays)
  variables = torch_weights.convert(state, model)
  trained = {key: variables[key] for key in ("params", "batch_stats")}
  out, extra = apply(trained, image_of(arrays), here["y"])
  inside = extra["intermediates"]
  called = lambda *path: functools.reduce(lambda tree, key: tree[key], path, inside)["__call__"][0]

  last = variables["params"]["stem"]["projection"]
  stem = called("stem") @ last["kernel"] + jnp.asarray(last["bias"])[None, None, None]
  table = jnp.asarray(variables["params"]["position"]["table"])[None]
  ours = {"stem": stem}
  ours |= segment_means(name, (stem, table), jnp.asarray(here["y"]), num_segments)
  ours["in_tokens1"] = ours["seg_x"] + ours["seg_pos"]
  for i, (level, cls) in enumerate(zip(out.levels, out.cls_tokens, strict=True)):
    n = i + 1
    ours |= {f"block{n}": level.tokens, f"logit{n}": level.logits, f"centroid{n}": level.centroids}
    ours |= {f"cls{n}": cls, f"cls_x{n}": called(f"stage_{i}")}
    label = hard_assignment(level.logits, level.cluster_mask)
    ours[f"label{n}_{n + 1}"] = label
    ours[f"label1_{n + 1}"] = compose(ours[f"label1_{n}"], label) if i else label
    ours |= {f"node_features{n}": called(f"pool_{i}", "nodes")}
    ours |= {f"fc1_{n}": called(f"pool_{i}", "expand"), f"padding_mask{n}": ~level.mask}
    if i:
      ours |= {f"in_tokens{n}": out.levels[i - 1].centroids, f"in_cls{n}": out.cls_tokens[i - 1]}
    if f"sampled_inds{n}" in here:
      sure = here[f"fps_margin{n}"] > 1e-5
      np.testing.assert_array_equal(level.sampled[sure], here[f"sampled_inds{n}"][sure])
  ours["out"] = out.logits
  if name.startswith("cast_seg"):
    fused = called("fusion")
    ours |= {"fusion_cls": fused[:, 0], "fusion_block": fused[:, 1:]}
  else:
    ours["out4"] = out.features
  if name == "cast_seg_deit":
    ours["out"] = np.concatenate([out.features[:, None], out.logits], axis=1)
  if "stem_up_c4" in here and here["stem_up_c4"].shape[1] != stem.shape[1]:
    size = here["stem_up_c4"].shape[1:3]
    ours["stem_up_c4"] = interpolated(stem[..., :4], size, "bilinear")
    ours["pos_up_c4"] = interpolated(table[..., :4], size, "bicubic")
  compared = sorted(set(ours) & set(here))
  for key in compared:
    assert_close(ours[key], here[key], f"{name} {case}/{key}")
  return compared


@pytest.mark.parametrize("name", CLASSES)
def test_forward_equals_the_reference(golden, name):
  arrays = golden(name)
  cases = sorted({key.split("/")[0] for key in arrays if re.match(r"[abc]/", key)})
  for case in cases:
    compared = check_case(name, arrays, case)
    assert {"out", "logit1", "logit2", "logit3"} <= set(compared)


@pytest.mark.parametrize("name", ["cast", "cast_seg_deit"])
def test_fewer_ids_give_the_reference_fewer_tokens(shared, name):
  # Alone in its batch, an image whose ids end at 39 has 40 tokens.
  with np.load(shared / "golden" / f"{name}_tiny.npz") as archive:
    arrays = dict(archive)
  model, apply = forward(name, 40)
  variables = torch_weights.convert(state_dict_of(arrays), model)
  variables.pop("unused", None)
  out, _ = apply(variables, image_of(arrays)[:1], arrays["b/y"][:1])
  found = out.logits
  if name == "cast_seg_deit":
    found = np.concatenate([out.features[:, None], out.logits], axis=1)
  assert_close(found, arrays["b0_alone/out"], name)


@pytest.mark.parametrize("name", CLASSES)
def test_export_is_the_inverse_of_convert(golden, name):
  arrays = golden(name)
  variant, fields = CLASSES[name]
  model = hseg_jax.create_model(variant, **{**TINY, **fields})
  state = state_dict_of(arrays)
  exported = torch_weights.export_torch(torch_weights.convert(state, model), model)
  for key, x in exported.items():
    if key not in state:  # the trimmed arrays hold blocks once
      key = re.sub(r"blocks\d\.(\d+)", r"blocks.\1", key)
    np.testing.assert_array_equal(x, state[key], err_msg=key)
  assert set(state) <= set(exported)


def small_state(**fields):
  model = hseg_jax.create_model("cast_small", **{**TINY, **fields})
  rng = np.random.default_rng(0)
  shapes = torch_weights.shapes_of_model(model)
  variables = unflatten({name: rng.random(shape, np.float32) for name, shape in shapes.items()})
  return model, variables, torch_weights.export_torch(variables, model)


def test_every_container_is_understood():
  model, variables, state = small_state()
  decoder = {"decoder.cls_emb": np.zeros((1, 3, 48), np.float32)}
  for container in (
    {f"module.{key}": x for key, x in state.items()},
    {f"vit_backbone.{key}": x for key, x in state.items()},
    {**{f"encoder.{key}": x for key, x in state.items()}, **decoder},
    {f"module.base_encoder.{key}": x for key, x in state.items()},
  ):
    converted = torch_weights.convert(container, model)
    jax.tree.map(np.testing.assert_array_equal, converted, variables)


def test_online_and_target_encoders_are_told_apart():
  model, _, state = small_state()
  container = {f"module.base_encoder.{key}": x for key, x in state.items()}
  container |= {f"module.momentum_encoder.{key}": x + 1 for key, x in state.items()}
  online = torch_weights.convert(container, model)
  target = torch_weights.convert(container, model, encoder="target")
  np.testing.assert_array_equal(
    target["params"]["cls_token"], online["params"]["cls_token"] + np.float32(1)
  )
  with pytest.raises(UserError, match="momentum"):
    torch_weights.convert(state, model, encoder="target")


def test_head_may_be_dropped():
  model, _, state = small_state()
  assert "head" not in torch_weights.convert(state, model, head="drop")["params"]
  headless, _, _ = small_state(num_classes=0)
  assert "head" not in torch_weights.convert(state, headless, head="drop")["params"]
  with pytest.raises(UserError, match=r"unexpected: head\.bias, head\.weight"):
    torch_weights.convert(state, headless)


def test_every_wrong_key_is_named():
  model, _, state = small_state()
  state["cls_token"] = state["cls_token"][..., :3]
  del state["norm.bias"], state["blocks.2.attn.qkv.weight"], state["blocks3.2.attn.qkv.weight"]
  state["surprise"] = np.zeros(1)
  with pytest.raises(UserError) as caught:
    torch_weights.convert(state, model)
  for word in ("norm.bias", "blocks.2.attn.qkv.weight", "surprise", "cls_token (1, 1, 3)"):
    assert word in str(caught.value)


def test_a_wrong_projector_is_named():
  model, _, state = small_state(num_classes=0)
  widths = {"head": (48, 6, 6, 4), "predictor": (4, 6, 4)}
  heads = {}
  for key, sizes in widths.items():
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
      heads[f"{key}.{3 * i}.weight"] = np.zeros((outputs, inputs), np.float16)
      last = i == len(sizes) - 2
      for name in ("running_mean", "running_var") + ("weight", "bias") * (not last):
        heads[f"{key}.{3 * i + 1}.{name}"] = np.zeros(outputs, np.float16)
  container = {key: x for key, x in heads.items() if key.startswith("predictor")}
  encoder = state | {key: x for key, x in heads.items() if key.startswith("head")}
  for name in ("base_encoder", "momentum_encoder"):
    container |= {f"module.{name}.{key}": x for key, x in encoder.items()}
  trees = torch_weights.convert_moco(container, model)
  assert {x.dtype for x in jax.tree.leaves(trees)} == {np.dtype(np.float32)}
  for key, value, words in (
    ("predictor.4.running_var", None, "missing: predictor.4.running_var"),
    ("predictor.6.weight", np.zeros((2, 2)), "unexpected: predictor.6.weight"),
    ("predictor.0.weight", np.zeros((6, 5)), r"predictor.0.weight \(6, 5\) instead of \(6, 4\)"),
    ("module.momentum_encoder.head.3.weight", np.zeros((6, 7)), r"\(6, 7\) instead of \(6, 6\)"),
  ):
    wrong = {**container, key: value}
    wrong = {name: x for name, x in wrong.items() if x is not None}
    with pytest.raises(UserError, match=words):
      torch_weights.convert_moco(wrong, model)


@pytest.mark.parametrize(
  "name, published",
  [
    ("vit_conv_small", "vits.vit_conv_small"),
    ("vit_small", "vits.vit_small"),
    ("vit_conv_base", "vits.vit_conv_base"),
    ("cast_small", "cast.cast_small"),
    ("cast_base_deep", "cast.cast_base_deep"),
    ("cast_base_seg", "cast_seg.cast_base_pretrain"),
  ],
)
def test_full_size_keys_and_shapes(shared, name, published):
  listed = json.loads((shared / "golden" / "full_shapes.json").read_text())[published]
  wanted = {key: tuple(shape) for key, shape in listed["state_dict"]}
  model = hseg_jax.create_model(name)
  table = torch_weights.key_table(model)
  expected = torch_weights._expected_shapes(model, table)
  got = {k: v for k, v in wanted.items() if not k.endswith("num_batches_tracked")}
  assert {key: tuple(shape) for key, shape in expected.items()} == got
