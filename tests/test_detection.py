"""Models are known by the names and shapes of their tensors, and what these do not tell is said."""

import json
import re

import numpy as np
import pytest
from torch_states import TINY, state_of

from hseg_jax import create_model
from hseg_jax.errors import UserError
from hseg_jax.interop import torch_weights
from hseg_jax.interop.detection import UNSEEN, detect
from hseg_jax.models import VARIANTS

FINE = dict(output="segments", segment_mean="bilinear", num_segments=1024)
FINE |= dict(num_clusters=(320, 160, 80, 40), position_grid=(64, 64))
CASES = [
  *((name, {}) for name in VARIANTS),
  ("cast_small", dict(position="learned", init="deit")),
  ("cast_small", dict(head_kind="projector", head_hidden_dim=32, num_classes=8)),
  ("cast_base", dict(num_classes=0)),
  ("vit_small", dict(head_kind="projector", head_hidden_dim=32, num_classes=8)),
  ("cast_small_seg", dict(num_classes=0, **FINE)),
  ("cast_small_seg", dict(head_kind="projector", num_classes=256, **FINE)),
  ("cast_small_seg", dict(head_kind="classifier", head_hidden_dim=384, num_classes=21, **FINE)),
  (
    "cast_base_seg",
    dict(head_kind="mask_transformer", num_classes=60, position="learned", init="deit", **FINE),
  ),
]


def model_found(state, **options):
  name, fields = detect(torch_weights.encoder_state(state) | state, **options)
  return create_model(name, **fields)


@pytest.mark.parametrize("name, fields", CASES)
def test_models_are_found_by_their_tensors(name, fields):
  model = create_model(name, **fields)
  assert model_found(state_of(model)) == model


def test_what_tensors_do_not_tell_goes_by_the_size_of_the_image():
  cast = state_of(create_model("cast_small"))
  assert model_found(cast, image_size=512).num_clusters == (320, 160, 80, 40)
  assert model_found(cast, image_size=512).num_segments == 1024
  assert model_found(cast, image_size=480).num_segments == 900
  seg = model_found(state_of(create_model("cast_small_seg")), image_size=512)
  assert (seg.output, seg.segment_mean, seg.num_clusters[0]) == ("segments", "bilinear", 320)
  # cast_seg_deit is built for images of 224 pixels, but never pools to as few segments as those.
  fine_tuned = create_model("cast_small_seg", position="learned", num_classes=0)
  assert model_found(state_of(fine_tuned)).num_clusters == (320, 160, 80, 40)


def test_tensors_depend_on_no_unseen_field():
  # Otherwise the command would call something a guess that it can read.
  changed = dict(num_heads=2, pool_num_heads=2, num_segments=9, num_clusters=(9, 7, 5, 3))
  changed |= dict(empty_segments="attend", segment_mean="bilinear", output="segments")
  changed |= dict(stem_strides=(2, 1, 2, 1))
  assert set(UNSEEN) == {*changed, "num_merged"}
  shapes = lambda model: {key: x.shape for key, x in state_of(model).items()}
  plain, other = (create_model("cast_small_seg", **TINY | fields) for fields in ({}, changed))
  assert shapes(plain) == shapes(other)


def test_blocks_that_are_stored_once_are_enough():
  model = create_model("cast_small_deep")
  state = state_of(model)
  for pattern in (r"blocks\.", r"blocks\d\."):
    once = {key: x for key, x in state.items() if not re.match(pattern, key)}
    assert model_found(once) == model


def test_positions_of_a_plain_vit_are_fixed_if_zero_at_cls():
  state = state_of(create_model("vit_small"))
  state["pos_embed"] = np.ones_like(state["pos_embed"])
  assert model_found(state).position == "learned"


def test_heads_that_are_never_applied_are_none():
  state = state_of(create_model("cast_small_seg", position="learned", num_classes=7))
  assert model_found(state).num_classes == 7
  assert model_found(state, head="drop").num_classes == 0
  assert model_found({**state, "norm.weight": np.zeros(384, np.float32)}).num_classes == 0


def test_a_name_outweighs_width_and_depth():
  state = state_of(create_model("cast_small", num_classes=5))
  model = model_found(state, name="cast_base")
  assert model == create_model("cast_base", num_classes=5)
  with pytest.raises(UserError, match="did you mean 'cast_base'"):
    detect(state, name="cast_bas")


def test_other_weights_are_refused():
  with pytest.raises(UserError, match=r"no weights of a CAST.*conv1\.weight"):
    detect({"conv1.weight": np.zeros((64, 3, 7, 7)), "fc.weight": np.zeros((10, 64))})
  with pytest.raises(UserError, match="no weights.*nothing"):
    detect({})
  state = state_of(create_model("cast_tiny"))
  with pytest.raises(UserError, match="cls_token is a single number"):
    detect({"cls_token": np.zeros(()), "pos_embed": np.zeros((1, 4, 8))})
  with pytest.raises(UserError, match="-1 positions"):
    detect({"cls_token": np.zeros((1, 1, 8)), "pos_embed": np.zeros((1, 0, 8))})
  with pytest.raises(UserError, match="255 positions"):
    detect({**state, "pos_embed": state["pos_embed"][:, 1:]})


@pytest.mark.slow
def test_every_published_class_goes_in_and_out_bit_for_bit(shared):
  published = json.loads((shared / "golden" / "full_shapes.json").read_text())
  for i, (name, listed) in enumerate(published.items()):
    rng = np.random.default_rng(i)
    state = {key: rng.random(shape, np.float32) for key, shape in listed["state_dict"]}
    for key in state:
      twice = re.sub(r"blocks\d\.(\d+)", r"blocks.\1", key)
      state[key] = state.get(twice, state[key])
    state |= {key: np.int64(0) for key in state if key.endswith("num_batches_tracked")}
    model = model_found(state)
    exported = torch_weights.export_torch(torch_weights.convert(state, model), model)
    assert exported.keys() == state.keys(), name
    for key, value in exported.items():
      np.testing.assert_array_equal(value, state[key], err_msg=f"{name} {key}", strict=True)
